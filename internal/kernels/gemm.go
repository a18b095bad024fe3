package kernels

import "unsafe"

// GEMM blocking. gemmDepth is how much of the inner dimension is summed up at a time; it fixes the order of the sums. A
// task takes gemmRows rows, tile by tile, and gemmPanels panels of packed B, which stay in the second-level cache.
const (
	gemmDepth  = 384
	gemmRows   = 48
	gemmPanels = 6
	gemmPad    = Block // keeps rows of packed A off one cache set
)

// gemmTaskFloats is the memory of a worker: what the kernel reads of A, and a tile of C whose width is no multiple of 16.
const gemmTaskFloats = gatherTapFloats + maxTileRows*panelWidth

// GEMM is a product C = op(A) op(B) plus Bias of row-major matrices, C[M][N] with rows LDC floats apart. op(A) is A[M][K]
// or, with TransA, the transpose of A[K][M]; likewise op(B) is B[K][N] or the transpose of B[N][K]. Bias has a value for
// each column, or is nil.
type GEMM struct {
	TransA, TransB bool
	M, N, K        int
	A, B, C, Bias  []float32
	LDA, LDB, LDC  int
}

// GEMMWorkspace returns the floats of workspace that GEMM needs; it takes the sizes of g alone.
func (m *Machine) GEMMWorkspace(g GEMM) int {
	return g.packedB() + g.packedA() + m.Threads()*gemmTaskFloats + 3*Block
}

// gemmRound rounds a part of the inner dimension up to what the kernel takes.
func gemmRound(k int) int { return ceilDiv(k, Block) * Block }

// depth is the largest part that is summed up at a time.
func (g *GEMM) depth() int { return min(gemmDepth, gemmRound(g.K)) }

// packedB is the size of the panels of B.
func (g *GEMM) packedB() int { return g.depth() * ceilDiv(g.N, Block) * Block }

// gemmWay is how many floats apart what meets in one set of the first cache is.
const gemmWay = 1024

// packsA says whether A is read from a copy: where it is transposed, has rows that the kernel would read past, or rows that
// meet in one set of the first cache.
func (g *GEMM) packsA() bool { return g.TransA || g.K%Block != 0 || g.LDA%gemmWay == 0 }

// packedA is the size of that copy.
func (g *GEMM) packedA() int {
	if !g.packsA() {
		return 0
	}
	return ceilDiv(g.M, Block) * Block * (g.depth() + gemmPad)
}

// GEMM computes a product. A row of C is the same to the last bit whatever M is.
func (m *Machine) GEMM(product GEMM, ws []float32) {
	if product.M == 0 || product.N == 0 {
		return
	}
	g := &gemmRun{GEMM: product, kernels: convKernelsFor(m.ISA)}
	g.pb, ws = takeAligned(ws, g.packedB())
	g.pa, ws = takeAligned(ws, g.packedA())
	tasks := alignedSlice[float32](ws, m.Threads()*gemmTaskFloats)
	panels := ceilDiv(g.N, panelWidth)
	pairs := ceilDiv(panels, 2) // of panels: packing one asks for the rows of the other
	blocks := 0                 // of 16 rows of packed A
	if g.packsA() {
		blocks = ceilDiv(g.M, Block)
	}
	chunks := ceilDiv(g.M, gemmRows)
	group := min(gemmPanels, max(1, panels*chunks/(8*m.Threads()))) // panels of a task
	for first := true; first || g.k0 < g.K; first = false {
		g.kn = min(gemmDepth, g.K-g.k0)
		m.Run(pairs+blocks, func(_, i int) {
			if i >= pairs {
				g.packA((i - pairs) * Block)
				return
			}
			for p := 2 * i; p < min(2*i+2, panels); p++ {
				g.packB(p)
			}
		})
		m.Run(chunks*ceilDiv(panels, group), func(worker, i int) {
			row, panel := i%chunks*gemmRows, i/chunks*group
			g.task(tasks[worker*gemmTaskFloats:][:gemmTaskFloats], row, min(row+gemmRows, g.M), panel, min(panel+group, panels))
		})
		g.k0 += gemmDepth
	}
}

// gemmRun is a product under way: elements [k0, k0+kn) of the inner dimension.
type gemmRun struct {
	GEMM
	kernels *convKernels
	k0, kn  int
	pa, pb  []float32 // rows of A gemmRound(kn)+gemmPad apart; panels of B
}

// rowsOfA returns the part of A's rows from i on that is multiplied, and the floats between rows.
func (g *gemmRun) rowsOfA(i int) (rows unsafe.Pointer, stride int) {
	if !g.packsA() {
		return unsafe.Pointer(&g.A[i*g.LDA+g.k0]), g.LDA
	}
	stride = gemmRound(g.kn) + gemmPad
	return unsafe.Pointer(&g.pa[i*stride]), stride
}

// task adds to C[i0:i1] and the given panels.
func (g *gemmRun) task(ws []float32, i0, i1, panel, end int) {
	if g.K == 0 {
		g.clear(i0, i1, panel*panelWidth, min(end*panelWidth, g.N))
		return
	}
	tab := (*gatherTap)(unsafe.Pointer(&ws[0]))
	*tab = gatherTap{}
	depth := gemmRound(g.kn)
	a := gatherArgs{Tab: unsafe.Pointer(tab), Taps: 1, InBlocks: depth / Block, XStep: Block * 4, YBlock: Block * 4}
	if g.k0 > 0 {
		a.Acc = 1
	}
	for i := i0; i < i1; i += g.kernels.tiles[0] {
		n := min(g.kernels.tiles[0], i1-i)
		rows := g.kernels.tileFor(n)
		var stride int
		a.X, stride = g.rowsOfA(i)
		for r := range rows { // rows beyond n repeat the last one
			tab.Row[r], a.YOff[r] = min(r, n-1)*stride*4, min(r, n-1)*g.LDC*4
		}
		for p := panel; p < end; p++ {
			j := p * panelWidth
			width := min(panelWidth, g.N-j)
			a.W = unsafe.Pointer(&g.pb[j*depth])
			a.WStep = Block * ceilDiv(width, Block) * Block * 4
			if width%Block != 0 {
				g.part(a, ws[gatherTapFloats:], rows, n, i, j, width)
				continue
			}
			a.Y, a.Bias = unsafe.Pointer(&g.C[i*g.LDC+j]), nil
			if g.adds() {
				a.Bias = unsafe.Pointer(&g.Bias[j])
			}
			g.kernels.gather(&a, rows, width == panelWidth)
		}
	}
}

// adds says whether the bias is added now: to the last part of the sums.
func (g *gemmRun) adds() bool { return g.Bias != nil && g.k0+gemmDepth >= g.K }

// part adds to a panel that is cut off by the edge of C, by way of pc.
func (g *gemmRun) part(a gatherArgs, pc []float32, rows, n, i, j, width int) {
	a.Y, a.Acc, a.Bias = unsafe.Pointer(&pc[0]), 0, nil
	for r := range rows {
		a.YOff[r] = r * panelWidth * 4
	}
	g.kernels.gather(&a, rows, width > Block)
	for r := range n {
		to, from := g.C[(i+r)*g.LDC+j:][:width], pc[r*panelWidth:][:width]
		for l, v := range from {
			if g.k0 > 0 {
				v += to[l]
			}
			if g.adds() {
				v += g.Bias[j+l]
			}
			to[l] = v
		}
	}
}

// clear makes C[i0:i1][j0:j1] what a product over nothing is.
func (g *gemmRun) clear(i0, i1, j0, j1 int) {
	for i := i0; i < i1; i++ {
		row := g.C[i*g.LDC+j0 : i*g.LDC+j1]
		clear(row)
		if g.Bias != nil {
			copy(row, g.Bias[j0:j1])
		}
	}
}

// packA copies 16 rows of op(A), zeros up to a multiple of 16.
func (g *gemmRun) packA(i int) {
	depth := gemmRound(g.kn)
	ld := depth + gemmPad
	n := min(Block, g.M-i)
	dst := g.pa[i*ld:][:n*ld]
	k := 0
	if g.TransA && n == Block {
		for ; k+Block <= g.kn; k += Block {
			g.kernels.transpose(&dst[k], &g.A[(g.k0+k)*g.LDA+i], ld, g.LDA)
		}
	}
	for r := range n {
		row := dst[r*ld:][:depth]
		if !g.TransA {
			copy(row, g.A[(i+r)*g.LDA+g.k0:][:g.kn])
		} else {
			for p := k; p < g.kn; p++ {
				row[p] = g.A[(g.k0+p)*g.LDA+i+r]
			}
		}
		clear(row[g.kn:])
	}
}

// packB writes a panel of op(B): rows of 32 columns (of 16 the last one, if it fits), zeros where the matrix ends and up
// to a multiple of 16 rows.
func (g *gemmRun) packB(i int) {
	depth, j := gemmRound(g.kn), i*panelWidth
	cols := min(panelWidth, g.N-j)
	width := ceilDiv(cols, Block) * Block
	panel := g.pb[j*depth:][:depth*width]
	if cols < width {
		clear(panel)
	}
	clear(panel[g.kn*width:])
	if g.TransB {
		g.packTransposed(panel, width, j, cols)
		return
	}
	for k := range g.kn {
		copy(panel[k*width:][:cols], g.B[(g.k0+k)*g.LDB+j:][:cols])
	}
}

func (g *gemmRun) packTransposed(panel []float32, width, j, cols int) {
	for c := 0; c < cols; c += Block {
		k := 0
		if c+Block <= cols {
			for ; k+Block <= g.kn; k += Block {
				g.kernels.transpose(&panel[k*width+c], &g.B[(j+c)*g.LDB+g.k0+k], width, g.LDB)
			}
		}
		for l := c; l < min(c+Block, cols); l++ {
			for r := k; r < g.kn; r++ {
				panel[r*width+l] = g.B[(j+l)*g.LDB+g.k0+r]
			}
		}
	}
}
