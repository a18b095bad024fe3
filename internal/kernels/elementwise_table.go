package kernels

//go:generate go -C gen run ./elementwise -pkg kernels -out ../elementwise_amd64.s -stubs ../elementwise_stubs_amd64.go

// ewTable holds the inner loops of the memory-bound kernels for one instruction set. Slices are spans of
// whole voxels (16 lanes each) or, for flat loops, a multiple of 16 floats; scale, shift, mean, kx and dmean
// are 16 lanes; floor is 0 for a ReLU and -Inf for none; stream asks to write around the caches. The plain
// Go loops in elementwise_generic.go and norm_generic.go say what each entry computes.
type ewTable struct {
	stats      func(x []float32, out *[48]float32)
	sum        func(x []float32, out *[16]float32)
	norm       func(y, x, scale, shift []float32, floor float32, stream bool)
	normAdd    func(y, x, add, scale, shift []float32, floor float32, stream bool)
	reduce     func(x, dy, mean []float32, out *[32]float32)
	reduceMask func(x, dy, mask, mean []float32, out *[32]float32)
	bnBack     [8]func(dx, dy, mask, x, scale, kx, mean, dmean []float32, stream bool) // index: bnMasked | bnFull | bnAccumulate

	relu     func(y, x []float32, stream bool)
	reluBack func(dx, dy, y []float32)
	add      func(y, a, b []float32, floor float32, stream bool)
	scale    func(y, x []float32, a float32)
	axpy     func(y, x []float32, a float32)
	sumSq    func(x []float32, out *[16]float32)

	maxRow     func(y, x []float32, w *poolWindow)
	maxRowBack func(dx, x, dy []float32, w *poolWindow)
	avgRow     func(y, x []float32, w *poolWindow, scale float32)
	spread     func(dx, dy []float32, step int, a float32)

	adamW func(w, g, mom, vel []float32, c *adamConstants)
	sgd   func(w, g, mom []float32, c *sgdConstants)

	gelu     func(y, x []float32)
	geluBack func(dx, dy, x []float32)
	rowNorm  func(y, x, gamma, beta []float32, mean, invstd float32)
	rowSums  func(x, dy, gamma []float32, mean, invstd float32, dgamma, dbeta []float32, out *[32]float32)
	rowBack  func(dx, x, dy, gamma []float32, c *rowConstants)

	tileProduct func(c, a, b []float32, g *tileProduct)
	softmaxTile func(s, m, l, corr []float32, rows int, scale float32)
	softmaxBack func(s, ds []float32, scale, lse, delta float32)

	widen  func(y []float32, x []uint16)
	narrow func(y []uint16, x []float32)
}

// Bits of the index into ewTable.bnBack.
const (
	bnMasked     = 1 // the gradient passes where mask > 0
	bnFull       = 2 // x, kx, mean and dmean take part
	bnAccumulate = 4 // dx is added to
)

// ewGenericTable returns the plain Go loops.
func ewGenericTable() ewTable {
	t := ewTable{
		stats: ewStats, sum: ewSum, norm: ewNorm, normAdd: ewNormAdd, reduce: ewReduce, reduceMask: ewReduceMask,
		relu: ewReLU, reluBack: ewReLUBack, add: ewAdd, scale: ewScale, axpy: ewAxpy, sumSq: ewSumSq,
		maxRow: ewMaxRow, maxRowBack: ewMaxRowBack, avgRow: ewAvgRow, spread: ewSpread,
		adamW: ewAdamW, sgd: ewSGD,
		gelu: ewGELU, geluBack: ewGELUBack, rowNorm: ewRowNorm, rowSums: ewRowSums, rowBack: ewRowBack,
		tileProduct: ewTileProduct, softmaxTile: ewSoftmaxTile, softmaxBack: ewSoftmaxBack,
		widen: ewWiden, narrow: ewNarrow,
	}
	for i := range t.bnBack {
		t.bnBack[i] = func(dx, dy, mask, x, scale, kx, mean, dmean []float32, _ bool) {
			ewBNBack(i, dx, dy, mask, x, scale, kx, mean, dmean)
		}
	}
	return t
}

// ewTable returns the inner loops for the machine's instruction set.
func (m *Machine) ewTable() *ewTable { return &ewTables[m.ISA] }

// ewStreams tells whether a kernel that reads srcs should write y around the caches: y is too large (16 MiB)
// to be found there later and its lines are not already there from reading.
func ewStreams(y Map, srcs ...Map) bool {
	if y.Half != nil || y.N*y.CB*y.D*y.H*y.W*Block < 4<<20 {
		return false
	}
	for _, s := range srcs {
		if s.Vec().Same(y.Vec()) {
			return false
		}
	}
	return true
}

// ewSpan is the number of voxels (or groups of 16 floats) one task handles: 256 KiB of each operand.
// It is fixed, so the split of a reduction does not depend on the number of threads.
const ewSpan = 4096

// ewChunk is the number of voxels summed in float32 before the sum moves to float64.
const ewChunk = 256

// ewMaps runs f over spans [lo, hi) of values within the samples of maps shaped like x; those of bfloat16 are pieces
// for the stage, which it frees.
func (m *Machine) ewMaps(x Map, f func(s *stage, n, lo, hi int)) {
	l := x.CB * x.D * x.H * x.W * Block
	spans := (l + ewSpan*Block - 1) / (ewSpan * Block)
	m.Run(x.N*spans, func(worker, i int) {
		lo := i % spans * ewSpan * Block
		m.ewPieces(worker, x, lo, min(l, lo+ewSpan*Block), func(s *stage, lo, hi int) { f(s, i/spans, lo, hi) })
	})
}

// ewPieces cuts a span of x where it is bfloat16.
func (m *Machine) ewPieces(worker int, x Map, lo, hi int, f func(s *stage, lo, hi int)) {
	s, piece := m.stage(worker), hi-lo
	if x.Half != nil {
		piece = stagePiece
	}
	for ; lo < hi; lo += piece {
		f(s, lo, min(hi, lo+piece))
		s.done()
	}
}

// ewBlocks runs f over spans [lo, hi) of values within the channel blocks of maps shaped like x.
func (m *Machine) ewBlocks(x Map, f func(s *stage, task, n, cb, lo, hi int)) {
	l := x.D * x.H * x.W * Block
	spans := ewSpans(x)
	m.Run(x.N*x.CB*spans, func(worker, i int) {
		lo := i % spans * ewSpan * Block
		f(m.stage(worker), i, i/spans/x.CB, i/spans%x.CB, lo, min(l, lo+ewSpan*Block))
	})
}

// ewBlockPieces is ewBlocks with pieces, as ewMaps has them.
func (m *Machine) ewBlockPieces(x Map, f func(s *stage, n, cb, lo, hi int)) {
	l := x.D * x.H * x.W * Block
	spans := ewSpans(x)
	m.Run(x.N*x.CB*spans, func(worker, i int) {
		lo := i % spans * ewSpan * Block
		m.ewPieces(worker, x, lo, min(l, lo+ewSpan*Block), func(s *stage, lo, hi int) { f(s, i/spans/x.CB, i/spans%x.CB, lo, hi) })
	})
}

// ewSpans returns the number of spans that ewBlocks cuts each channel block into.
func ewSpans(x Map) int { return (x.D*x.H*x.W + ewSpan - 1) / ewSpan }

// ewFlat runs f over spans [lo, hi) of n floats; all but the last are multiples of 16 long, and so is the
// last but for one more call with the n%16 floats that remain, marked tail.
func (m *Machine) ewFlat(n int, f func(lo, hi int, tail bool)) {
	whole := n / Block * Block
	spans := (whole + ewSpan*Block - 1) / (ewSpan * Block)
	m.Run(spans, func(_, i int) {
		lo := i * ewSpan * Block
		f(lo, min(whole, lo+ewSpan*Block), false)
	})
	if whole < n {
		f(whole, n, true)
	}
}

// ewVec is ewFlat over the values of y with a stage, which it frees; spans of bfloat16 are its pieces.
func (m *Machine) ewVec(y Vec, f func(s *stage, lo, hi int, tail bool)) {
	n, span := y.Len(), ewSpan*Block
	if y.Half != nil {
		span = stagePiece
	}
	whole := n / Block * Block
	m.Run((whole+span-1)/span, func(worker, i int) {
		s := m.stage(worker)
		f(s, i*span, min(whole, (i+1)*span), false)
		s.done()
	})
	if whole < n {
		m.Run(1, func(worker, _ int) {
			s := m.stage(worker)
			f(s, whole, n, true)
			s.done()
		})
	}
}
