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

// gemmTaskFloats is the memory of a worker: where the kernel reads A, and a tile of C whose width is no multiple of 16.
const gemmTaskFloats = gemmDepth/Block*gatherTapFloats + maxTileRows*panelWidth

// GEMM is a product C = op(A) op(B) plus Bias of row-major matrices, C[M][N] with rows LDC floats apart. op(A) is A[M][K]
// or, with TransA, the transpose of A[K][M]; likewise op(B) is B[K][N] or the transpose of B[N][K]; with Packed, B is what
// PackB made of it. Bias has a value for each column, or is nil. From, unless it is nil, is a matrix like C that is added;
// it may be C itself.
type GEMM struct {
	TransA, TransB, Packed bool
	M, N, K                int
	A, B, C, Bias, From    []float32
	LDA, LDB, LDC          int
	// Lines, if it is not nil, says where A lies, in place of TransA and LDA; K is then a multiple of 16.
	Lines *Lines
}

// Lines says where a matrix lies whose rows consist of lines of 16 floats: line j of row i begins at Row[i]+Line[j].
type Lines struct{ Row, Line []int }

// GEMMWorkspace returns the floats of workspace that GEMM needs; it takes the sizes of g alone.
func (m *Machine) GEMMWorkspace(g GEMM) int {
	n := g.packedA() + m.Threads()*gemmTaskFloats + 3*Block
	if !g.Packed {
		n += g.panelFloats(g.depth())
	}
	return n
}

// PackedLen returns the floats of what PackB makes of B; it takes the sizes of g alone.
func (g GEMM) PackedLen() int { return g.panelFloats(gemmRound(g.K)) }

// PackB writes B of a product in the form that the kernel reads. To keep it pays: packing waits for memory, and for few rows
// of A takes longer than the product.
func (m *Machine) PackB(product GEMM, packed []float32) {
	g := &gemmRun{GEMM: product, kernels: convKernelsFor(m.ISA)}
	for ; g.k0 < g.K; g.k0 += gemmDepth {
		g.kn = min(gemmDepth, g.K-g.k0)
		g.pb = packed[g.panelFloats(g.k0):]
		m.Run(g.panelPairs(), func(_, i int) { g.packPair(i) })
	}
}

// gemmRound rounds a part of the inner dimension up to what the kernel takes.
func gemmRound(k int) int { return ceilDiv(k, Block) * Block }

// depth is the largest part that is summed up at a time.
func (g *GEMM) depth() int { return min(gemmDepth, gemmRound(g.K)) }

// panelFloats is the size of the panels of B for a part of the inner dimension.
func (g *GEMM) panelFloats(depth int) int { return depth * ceilDiv(g.N, Block) * Block }

// panelPairs counts the pairs of panels of B: packing one asks for the rows of the other.
func (g *GEMM) panelPairs() int { return ceilDiv(ceilDiv(g.N, panelWidth), 2) }

// gemmWay is how many floats apart what meets in one set of the first cache is.
const gemmWay = 1024

// packsA says whether A is read from a copy: where it is transposed, has rows that the kernel would read past, or rows that
// meet in one set of the first cache.
func (g *GEMM) packsA() bool {
	return g.Lines == nil && (g.TransA || g.K%Block != 0 || g.LDA%gemmWay == 0)
}

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
	pairs, blocks := 0, 0 // what is packed: pairs of panels of B, blocks of 16 rows of A
	if !g.Packed {
		pairs = g.panelPairs()
		g.pb, ws = takeAligned(ws, g.panelFloats(g.depth()))
	}
	if g.packsA() {
		blocks = ceilDiv(g.M, Block)
		g.pa, ws = takeAligned(ws, g.packedA())
	}
	tasks := alignedSlice[float32](ws, m.Threads()*gemmTaskFloats)
	panels, chunks := ceilDiv(g.N, panelWidth), ceilDiv(g.M, gemmRows)
	group := min(gemmPanels, max(1, panels*chunks/(8*m.Threads()))) // panels of a task
	for first := true; first || g.k0 < g.K; first = false {
		g.kn = min(gemmDepth, g.K-g.k0)
		if g.Packed {
			g.pb = g.B[g.panelFloats(g.k0):]
		}
		m.Run(pairs+blocks, func(_, i int) {
			if i < pairs {
				g.packPair(i)
			} else {
				g.packA((i - pairs) * Block)
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

// from is what the part of the sums at hand is added to; nil: nothing.
func (g *gemmRun) from() []float32 {
	if g.k0 > 0 {
		return g.C
	}
	return g.From
}

// last says whether the part of the sums at hand is the last.
func (g *gemmRun) last() bool { return g.k0+gemmDepth >= g.K }

// task computes C[i0:i1] and the given panels.
func (g *gemmRun) task(ws []float32, i0, i1, panel, end int) {
	if g.K == 0 {
		g.clear(i0, i1, panel*panelWidth, min(end*panelWidth, g.N))
		return
	}
	tab, pc := ws[:len(ws)-maxTileRows*panelWidth], ws[len(ws)-maxTileRows*panelWidth:]
	depth, from := gemmRound(g.kn), g.from()
	for i := i0; i < i1; i += g.kernels.tiles[0] {
		n := min(g.kernels.tiles[0], i1-i)
		rows := g.kernels.tileFor(n)
		a := g.rowsOfA(tab, i, n, rows)
		for r := range rows {
			a.YOff[r] = min(r, n-1) * g.LDC * 4
		}
		for p := panel; p < end; p++ {
			j := p * panelWidth
			width := min(panelWidth, g.N-j)
			a.W = unsafe.Pointer(&g.pb[j*depth])
			a.WStep = Block * ceilDiv(width, Block) * Block * 4
			if width%Block != 0 {
				g.part(a, pc, rows, n, i, j, width)
				continue
			}
			a.Y, a.From, a.Bias = unsafe.Pointer(&g.C[i*g.LDC+j]), nil, nil
			if from != nil {
				a.From = unsafe.Pointer(&from[i*g.LDC+j])
			}
			if g.last() && g.Bias != nil {
				a.Bias = unsafe.Pointer(&g.Bias[j])
			}
			g.kernels.gather(&a, rows, width == panelWidth)
		}
	}
}

// rowsOfA returns arguments for n rows of A from i on; the rows of a tile beyond n repeat the last one. tab is scratch.
func (g *gemmRun) rowsOfA(tab []float32, i, n, rows int) gatherArgs {
	blocks := gemmRound(g.kn) / Block
	a := gatherArgs{Tab: unsafe.Pointer(&tab[0]), Taps: 1, InBlocks: blocks, XStep: Block * 4, YBlock: Block * 4}
	if g.Lines != nil {
		a.X, a.Taps, a.InBlocks = unsafe.Pointer(&g.A[0]), blocks, 1
		taps := unsafe.Slice((*gatherTap)(a.Tab), blocks)
		for t := range blocks {
			tap := &taps[t]
			for r := range rows {
				tap.Row[r] = (g.Lines.Row[i+min(r, n-1)] + g.Lines.Line[g.k0/Block+t]) * 4
			}
			tap.Wide, tap.Narrow = t*Block*panelWidth*4, t*Block*Block*4
		}
		return a
	}
	stride := g.LDA
	if g.packsA() {
		stride = gemmRound(g.kn) + gemmPad
		a.X = unsafe.Pointer(&g.pa[i*stride])
	} else {
		a.X = unsafe.Pointer(&g.A[i*g.LDA+g.k0])
	}
	tap := (*gatherTap)(a.Tab)
	*tap = gatherTap{}
	for r := range rows {
		tap.Row[r] = min(r, n-1) * stride * 4
	}
	return a
}

// part adds to a panel that is cut off by the edge of C, by way of pc.
func (g *gemmRun) part(a gatherArgs, pc []float32, rows, n, i, j, width int) {
	a.Y, a.From, a.Bias = unsafe.Pointer(&pc[0]), nil, nil
	for r := range rows {
		a.YOff[r] = r * panelWidth * 4
	}
	g.kernels.gather(&a, rows, width > Block)
	from := g.from()
	for r := range n {
		at := (i+r)*g.LDC + j
		to := g.C[at:][:width]
		for l, v := range pc[r*panelWidth:][:width] {
			if from != nil {
				v += from[at+l]
			}
			if g.last() && g.Bias != nil {
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
		if g.From != nil {
			copy(row, g.From[i*g.LDC+j0:])
		} else {
			clear(row)
		}
		if g.Bias != nil {
			for j, b := range g.Bias[j0:j1] {
				row[j] += b
			}
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

// packPair packs a pair of panels.
func (g *gemmRun) packPair(i int) {
	for p := 2 * i; p < min(2*i+2, ceilDiv(g.N, panelWidth)); p++ {
		g.packB(p)
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
