package kernels

import "unsafe"

// GEMM blocking: a task packs gemmDepth x gemmCols of op(B) into panels that stay in the second-level cache
// and takes the rows of op(A) tile by tile. gemmDepth also fixes the order of the sums.
const (
	gemmDepth = 384
	gemmCols  = 384
	gemmPad   = Block // keeps rows of a packed A tile off one cache set
)

const (
	gemmAFloats    = Block * (gemmDepth + gemmPad) // a tile, or the 16 rows of a transposed block
	gemmBFloats    = gemmDepth * gemmCols
	gemmCFloats    = maxTileRows * panelWidth
	gemmTaskFloats = gemmAFloats + gemmBFloats + gemmCFloats + gatherTapFloats
)

// GEMMWorkspace returns the floats of workspace that GEMM needs.
func (m *Machine) GEMMWorkspace(transA, transB bool, M, N, K int) int {
	return m.Threads()*gemmTaskFloats + Block
}

// GEMM computes C = op(A) op(B), or C += op(A) op(B) when accumulate is set, for row-major C[M][N] with rows
// ldc floats apart. op(A) is A[M][K] or, with transA, the transpose of A[K][M]; likewise op(B) is B[K][N] or
// the transpose of B[N][K]. A row of C is the same to the last bit whatever M is.
func (m *Machine) GEMM(transA, transB bool, M, N, K int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, accumulate bool, ws []float32) {
	if M == 0 || N == 0 {
		return
	}
	g := &gemm{
		transA: transA, transB: transB, m: M, n: N, k: K, a: a, lda: lda, b: b, ldb: ldb, c: c, ldc: ldc,
		accumulate: accumulate, kernels: convKernelsFor(m.ISA),
	}
	rows, cols := g.split(3 * m.Threads())
	mTasks, nTasks := ceilDiv(M, rows), ceilDiv(N, cols)
	all := alignedSlice[float32](ws, m.Threads()*gemmTaskFloats)
	m.Run(mTasks*nTasks, func(worker, i int) {
		i0, j0 := i%mTasks*rows, i/mTasks*cols
		g.task(all[worker*gemmTaskFloats:][:gemmTaskFloats], i0, min(i0+rows, M), j0, min(j0+cols, N))
	})
}

type gemm struct {
	transA, transB bool
	m, n, k        int
	a, b, c        []float32
	lda, ldb, ldc  int
	accumulate     bool
	kernels        *convKernels
}

// split chooses how many rows and columns a task takes so that there are at least target tasks where the
// matrix allows it. It does not affect results.
func (g *gemm) split(target int) (rows, cols int) {
	tile := g.kernels.tiles[0]
	rows, cols = g.m, min(gemmCols, ceilDiv(g.n, panelWidth)*panelWidth)
	for ceilDiv(g.m, rows)*ceilDiv(g.n, cols) < target {
		switch {
		case rows >= 16*maxTileRows:
			rows = ceilDiv(ceilDiv(rows, 2), tile) * tile
		case cols > panelWidth:
			cols = ceilDiv(cols/2, panelWidth) * panelWidth
		default:
			return rows, cols
		}
	}
	return rows, cols
}

// task computes C[i0:i1][j0:j1].
func (g *gemm) task(ws []float32, i0, i1, j0, j1 int) {
	tab := (*gatherTap)(unsafe.Pointer(&ws[0]))
	pa := ws[gatherTapFloats:][:gemmAFloats]
	pb := ws[gatherTapFloats+gemmAFloats:][:gemmBFloats]
	pc := ws[gatherTapFloats+gemmAFloats+gemmBFloats:][:gemmCFloats]
	*tab = gatherTap{}
	if g.k == 0 && !g.accumulate {
		for i := i0; i < i1; i++ {
			clear(g.c[i*g.ldc+j0 : i*g.ldc+j1])
		}
	}
	for k0 := 0; k0 < g.k; k0 += gemmDepth {
		kn := min(gemmDepth, g.k-k0)
		blocks := ceilDiv(kn, Block)
		g.packB(pb, k0, kn, j0, j1)
		for i := i0; i < i1; i += g.kernels.tiles[0] {
			n := min(g.kernels.tiles[0], i1-i)
			rows := g.kernels.tileFor(n)
			g.packA(pa, i, n, k0, kn)
			args := gatherArgs{X: unsafe.Pointer(&pa[0]), Tab: unsafe.Pointer(tab), Taps: 1, InBlocks: blocks, XStep: Block * 4}
			for r := range rows { // rows beyond n repeat the last one
				tab.Row[r] = min(r, n-1) * (gemmDepth + gemmPad) * 4
			}
			for j := j0; j < j1; j += panelWidth {
				g.panel(args, pb[(j-j0)*blocks*Block:], pc, rows, n, i, j, min(panelWidth, j1-j), k0 > 0 || g.accumulate)
			}
		}
	}
}

// panel computes one tile of n rows and width columns of C.
func (g *gemm) panel(a gatherArgs, pb, pc []float32, rows, n, i, j, width int, accumulate bool) {
	wide := width > Block
	a.W = unsafe.Pointer(&pb[0])
	a.WStep = Block * Block * 4
	if wide {
		a.WStep *= 2
	}
	a.YBlock = Block * 4
	if width%Block == 0 {
		a.Y = unsafe.Pointer(&g.c[i*g.ldc+j])
		if accumulate {
			a.Acc = 1
		}
		for r := range rows {
			a.YOff[r] = min(r, n-1) * g.ldc * 4
		}
		g.kernels.gather(&a, rows, wide)
		return
	}
	a.Y = unsafe.Pointer(&pc[0])
	for r := range rows {
		a.YOff[r] = r * panelWidth * 4
	}
	g.kernels.gather(&a, rows, wide)
	for r := range n {
		to, from := g.c[(i+r)*g.ldc+j:][:width], pc[r*panelWidth:][:width]
		if !accumulate {
			copy(to, from)
			continue
		}
		for l, v := range from {
			to[l] += v
		}
	}
}

// packA copies op(A)[i:i+n][k0:k0+kn] into rows gemmDepth+gemmPad apart, zeros up to a multiple of 16.
func (g *gemm) packA(dst []float32, i, n, k0, kn int) {
	const ld = gemmDepth + gemmPad
	end := ceilDiv(kn, Block) * Block
	k := 0
	if g.transA && i+Block <= g.m {
		for ; k+Block <= kn; k += Block {
			g.kernels.transpose(&dst[k], &g.a[(k0+k)*g.lda+i], ld, g.lda)
		}
	}
	for r := range n {
		row := dst[r*ld:][:end]
		if !g.transA {
			copy(row, g.a[(i+r)*g.lda+k0:][:kn])
		} else {
			for p := k; p < kn; p++ {
				row[p] = g.a[(k0+p)*g.lda+i+r]
			}
		}
		clear(row[kn:])
	}
}

// packB writes op(B)[k0:k0+kn][j0:j1] as panels [k][32] (the last one [k][16] if it fits), zeros where the
// matrix ends and up to a multiple of 16 rows.
func (g *gemm) packB(dst []float32, k0, kn, j0, j1 int) {
	depth := ceilDiv(kn, Block) * Block
	for j := j0; j < j1; j += panelWidth {
		cols := min(panelWidth, j1-j)
		width := ceilDiv(cols, Block) * Block
		panel := dst[(j-j0)*depth:][:depth*width]
		if cols < width {
			clear(panel)
		}
		clear(panel[kn*width:])
		if !g.transB {
			for k := range kn {
				copy(panel[k*width:][:cols], g.b[(k0+k)*g.ldb+j:][:cols])
			}
			continue
		}
		g.packTransposed(panel, width, k0, kn, j, cols)
	}
}

func (g *gemm) packTransposed(panel []float32, width, k0, kn, j, cols int) {
	for c := 0; c < cols; c += Block {
		k := 0
		if c+Block <= cols {
			for ; k+Block <= kn; k += Block {
				g.kernels.transpose(&panel[k*width+c], &g.b[(j+c)*g.ldb+k0+k], width, g.ldb)
			}
		}
		for l := c; l < min(c+Block, cols); l++ {
			for r := k; r < kn; r++ {
				panel[r*width+l] = g.b[(j+l)*g.ldb+k0+r]
			}
		}
	}
}
