package kernels

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ctclass/ctclass/internal/kernels/ref"
)

// errorTable compares kernels with the reference in float64 and logs for each result the largest error relative to the
// result's rms.
type errorTable struct {
	t   *testing.T
	isa ISA
}

func (e errorTable) row(name string, got []float32, want []float64) {
	e.t.Helper()
	worst := relativeError(got, want)
	e.t.Logf("%-34s %-8v %9.1e", name, e.isa, worst)
	if !(worst <= errorBound) {
		e.t.Errorf("%s, %v: the error exceeds %.0e of the rms", name, e.isa, errorBound)
	}
}

// TestErrors tables the errors of the kernels that round, convolutions excepted (TestConvErrors); -v shows the table.
func TestErrors(t *testing.T) {
	for _, isa := range Supported() {
		e, m := errorTable{t, isa}, testMachine(t, isa, 2)
		e.products(m)
		e.attention(m)
		e.tokens(m)
		e.maps(m)
		e.updates(m)
	}
}

// values returns normal noise in both precisions.
func values(r *rand.Rand, n int) ([]float32, []float64) {
	x := randomSlice(r, n)
	return x, doubles(x)
}

func doubles(x []float32) []float64 {
	d := make([]float64, len(x))
	for i, v := range x {
		d[i] = float64(v)
	}
	return d
}

func (e errorTable) products(m *Machine) {
	const rows, in, out = 61, 1177, 83
	r := rand.New(rand.NewPCG(51, 1))
	x, x64 := values(r, rows*in)
	w, w64 := values(r, out*in)
	dy, dy64 := values(r, rows*out)
	b, b64 := values(r, out)
	got, want := make([]float32, rows*out), make([]float64, rows*out)
	product := func(g GEMM) { m.GEMM(g, filled(m.GEMMWorkspace(g))) }
	product(GEMM{TransB: true, M: rows, N: out, K: in, A: x, B: w, C: got, Bias: b, LDA: in, LDB: in, LDC: out})
	ref.Linear(want, x64, w64, b64, rows, in, out)
	e.row("linear", got, want)
	got, want = make([]float32, rows*in), make([]float64, rows*in)
	product(GEMM{M: rows, N: in, K: out, A: dy, B: w, C: got, LDA: out, LDB: in, LDC: in})
	ref.LinearBackwardData(want, dy64, w64, rows, in, out)
	e.row("linear, by the input", got, want)
	got, want = make([]float32, out*in), make([]float64, out*in)
	product(GEMM{TransA: true, M: out, N: in, K: rows, A: dy, B: x, C: got, LDA: out, LDB: in, LDC: in})
	ref.LinearBackwardWeights(want, dy64, x64, rows, in, out)
	e.row("linear, by the weights", got, want)
	got, want = make([]float32, out), make([]float64, out)
	m.ColumnSum(Floats(dy), rows, out, got)
	ref.LinearBackwardBias(want, dy64, rows, out)
	e.row("linear, by the bias", got, want)
}

func (e errorTable) attention(m *Machine) {
	s := AttentionShape{N: 1, T: 217, Heads: 2, HeadDim: 64}
	rs := ref.AttentionShape(s)
	r := rand.New(rand.NewPCG(52, 1))
	qkv, qkv64 := values(r, s.T*3*rs.E())
	dout, dout64 := values(r, s.T*rs.E())
	out, lse, dqkv := make([]float32, len(dout)), make([]float32, s.Heads*s.T), make([]float32, len(qkv))
	out64, lse64, dqkv64 := make([]float64, len(out)), make([]float64, len(lse)), make([]float64, len(qkv))
	work := make([]float32, m.Threads()*max(s.Workspace(), s.BackwardWorkspace()))
	m.Attention(qkv, s, out, rs.E(), lse, work)
	ref.Attention(out64, lse64, qkv64, rs)
	e.row("attention", out, out64)
	e.row("attention, log-sum-exp", lse, lse64)
	m.AttentionBackward(qkv, s, out, dout, rs.E(), lse, dqkv, work)
	ref.AttentionBackward(dqkv64, qkv64, out64, lse64, dout64, rs)
	e.row("attention, by the input", dqkv, dqkv64)
}

func (e errorTable) tokens(m *Machine) {
	const rows, width, eps = 300, 384, 1e-6
	r := rand.New(rand.NewPCG(53, 1))
	x, x64 := values(r, rows*width)
	dy, dy64 := values(r, rows*width)
	gamma, gamma64 := values(r, width)
	beta, beta64 := values(r, width)
	y, y64 := make([]float32, rows*width), make([]float64, rows*width)
	mean, invstd := make([]float32, rows), make([]float32, rows)
	m.LayerNorm(Floats(x), rows, width, gamma, beta, eps, Floats(y), mean, invstd)
	ref.LayerNorm(y64, x64, gamma64, beta64, rows, width, eps)
	e.row("layer norm", y, y64)
	dgamma, dbeta := make([]float32, width), make([]float32, width)
	dgamma64, dbeta64 := make([]float64, width), make([]float64, width)
	m.LayerNormBackward(Floats(x), Floats(dy), rows, width, gamma, mean, invstd, Floats(y), dgamma, dbeta)
	ref.LayerNormBackward(y64, dgamma64, dbeta64, x64, gamma64, dy64, rows, width, eps)
	e.row("layer norm, by the input", y, y64)
	e.row("layer norm, by gamma", dgamma, dgamma64)
	e.row("layer norm, by beta", dbeta, dbeta64)
	m.GELU(Floats(x), Floats(y))
	ref.GELU(y64, x64)
	e.row("GELU", y, y64)
	m.GELUBackward(Floats(x), Floats(dy), Floats(y))
	ref.GELUBackward(y64, x64, dy64)
	e.row("GELU, by the input", y, y64)
}

func (e errorTable) maps(m *Machine) {
	const eps = 1e-5
	s := ref.Shape{N: 2, C: 20, D: 18, H: 17, W: 13}
	ch, size := Channels{s.C}, [3]int{s.D, s.H, s.W}
	r := rand.New(rand.NewPCG(54, 1))
	x, x64 := values(r, s.Len())
	for i := range x { // a mean far from zero
		x[i] += 10
		x64[i] = float64(x[i])
	}
	dy, dy64 := values(r, s.Len())
	gamma, gamma64 := values(r, s.C)
	beta, beta64 := values(r, s.C)
	bx, bdy, by := blockedMap(x, s.N, ch, size, 0), blockedMap(dy, s.N, ch, size, 0), newMap(s.N, ch, size, 0, 0)
	y64 := make([]float64, s.Len())

	mean, variance, mean64, variance64 := make([]float32, s.C), make([]float32, s.C), make([]float64, s.C), make([]float64, s.C)
	m.BNStats(bx, ch, mean, variance)
	ref.BNStats(mean64, variance64, x64, s)
	e.row("batch norm, mean", mean, mean64)
	e.row("batch norm, variance", variance, variance64)

	// The coefficients as the device computes them: in float64, rounded once.
	lanes := ch.Blocks() * Block
	scale, shift, kx, dmean, centre := make([]float32, lanes), make([]float32, lanes), make([]float32, lanes), make([]float32, lanes), make([]float32, lanes)
	invstd := make([]float32, s.C)
	for c, p := range ch.Physical() {
		inv := 1 / math.Sqrt(float64(variance[c])+eps)
		invstd[c] = float32(inv)
		scale[p] = float32(float64(gamma[c]) * inv)
		shift[p] = float32(float64(beta[c]) - float64(mean[c])*float64(gamma[c])*inv)
	}
	m.BNNorm(bx, scale, shift, nil, false, by)
	ref.BNNorm(y64, x64, mean64, variance64, gamma64, beta64, s, eps)
	e.row("batch norm", logicalOf(by, ch), y64)

	dbeta, dgamma, dbeta64, dgamma64 := make([]float32, s.C), make([]float32, s.C), make([]float64, s.C), make([]float64, s.C)
	m.BNReduce(bx, bdy, nil, ch, mean, invstd, dbeta, dgamma)
	ref.BNReduce(dbeta64, dgamma64, x64, mean64, variance64, dy64, s, eps)
	e.row("batch norm, by gamma", dgamma, dgamma64)
	e.row("batch norm, by beta", dbeta, dbeta64)
	count := float64(s.N * s.Spatial())
	for c, p := range ch.Physical() {
		kx[p] = float32(-float64(gamma[c]) * float64(invstd[c]) * float64(invstd[c]) * float64(dgamma[c]) / count)
		centre[p], dmean[p] = mean[c], float32(float64(dbeta[c])/count)
	}
	m.BNBackward(bx, bdy, nil, scale, kx, centre, dmean, by, false)
	ref.BNBackward(y64, x64, mean64, variance64, gamma64, dy64, dbeta64, dgamma64, s, eps)
	e.row("batch norm, by the input", logicalOf(by, ch), y64)

	win := ref.Cube(2, 2, 0)
	o := win.Out(s, s.C)
	pooled, pooled64 := newMap(s.N, ch, [3]int{o.D, o.H, o.W}, 0, 0), make([]float64, o.Len())
	m.AvgPool(bx, pooled, win.Kernel, win.Stride)
	ref.AvgPool3D(pooled64, x64, s, win)
	e.row("average pool", logicalOf(pooled, ch), pooled64)
	all, all64 := make([]float32, s.N*s.C), make([]float64, s.N*s.C)
	m.GlobalAvgPool(bx, ch, all)
	ref.GlobalAvgPool(all64, x64, s)
	e.row("global average pool", all, all64)
}

func (e errorTable) updates(m *Machine) {
	const n = 5000
	r := rand.New(rand.NewPCG(55, 1))
	w, w64 := values(r, n)
	mom, vel, mom64, vel64 := make([]float32, n), make([]float32, n), make([]float64, n), make([]float64, n)
	for step := 1; step <= 10; step++ {
		g, g64 := values(r, n)
		m.AdamW(w, g, mom, vel, 1e-3, 0.9, 0.999, 1e-8, 0.05, step)
		ref.AdamWStep(w64, mom64, vel64, g64, step, ref.AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.05})
	}
	e.row("AdamW, 10 steps", w, w64)
	w, w64 = values(r, n)
	clear(mom)
	clear(mom64)
	for range 10 {
		g, g64 := values(r, n)
		m.SGDNesterov(w, g, mom, 0.1, 0.9, 0.01)
		ref.SGDStep(w64, mom64, g64, ref.SGD{LR: 0.1, Momentum: 0.9, WeightDecay: 0.01, Nesterov: true})
	}
	e.row("SGD, 10 steps", w, w64)
}
