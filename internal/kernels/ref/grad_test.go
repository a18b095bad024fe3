package ref

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// wanted is an analytic gradient to be checked: of the argument x, in place.
type wanted struct {
	name string
	x    []float64
	dx   []float64
}

// checkGradients compares analytic gradients with central differences of f, which depends on every x. The
// step 1e-5 leaves an error of about 1e-10 for values and derivatives near 1.
func checkGradients(t *rapid.T, f func() float64, gradients ...wanted) {
	const step = 1e-5
	for _, g := range gradients {
		var squares float64
		for _, v := range g.dx {
			squares += v * v
		}
		bound := 1e-7 * (1 + math.Sqrt(squares/float64(len(g.dx))))
		every := 1 + len(g.x)/40 // of large tensors some 40 elements
		for i := 0; i < len(g.x); i += every {
			kept := g.x[i]
			g.x[i] = kept + step
			up := f()
			g.x[i] = kept - step
			down := f()
			g.x[i] = kept
			if d := (up - down) / (2 * step); !(math.Abs(d-g.dx[i]) <= bound) {
				t.Fatalf("%s[%d]: gradient %.12g, central difference %.12g", g.name, i, g.dx[i], d)
			}
		}
	}
}

// draws makes random shapes and values of one rapid case.
type draws struct {
	t    *rapid.T
	seed uint64
}

func newDraws(t *rapid.T) *draws { return &draws{t, rapid.Uint64().Draw(t, "seed")} }

func (d *draws) size(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(d.t, name) }

// values returns n values in [-1, 1).
func (d *draws) values(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		d.seed = d.seed*6364136223846793005 + 1442695040888963407
		x[i] = float64(d.seed>>11)*0x1p-52 - 1
	}
	return x
}

// distinct returns n values in [-1, 1) that lie at least 1/n apart and from zero: kinks are out of reach of
// a small step.
func (d *draws) distinct(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = (2*float64(i)+1)/float64(n) - 1
		if math.Abs(x[i]) < 1e-9 {
			x[i] = 0.5 / float64(n)
		}
	}
	for i, u := range d.values(n) {
		j := int((u + 1) / 2 * float64(n))
		x[i], x[j] = x[j], x[i]
	}
	return x
}

func (d *draws) shape() Shape {
	return Shape{
		N: d.size("N", 1, 3), C: d.size("C", 1, 4),
		D: d.size("D", 1, 5), H: d.size("H", 1, 5), W: d.size("W", 1, 6),
	}
}

// window returns a window that fits shape s; pad < kernel as everywhere in practice, 0 if padded is false.
func (d *draws) window(s Shape, padded bool) Window {
	var w Window
	for axis, n := range [3]int{s.D, s.H, s.W} {
		w.Kernel[axis] = d.size("kernel", 1, 4)
		w.Stride[axis] = d.size("stride", 1, 3)
		if padded {
			w.Pad[axis] = d.size("pad", 0, w.Kernel[axis]-1)
		}
		if short := w.Kernel[axis] - n - 2*w.Pad[axis]; short > 0 {
			w.Kernel[axis] -= short
			w.Pad[axis] = min(w.Pad[axis], w.Kernel[axis]-1)
		}
		if w.Kernel[axis] > n+2*w.Pad[axis] {
			w.Kernel[axis], w.Pad[axis] = 1, 0
		}
	}
	return w
}

// weighted returns Σ y*up, the scalar whose gradient at y is up.
func weighted(y, up []float64) float64 {
	var sum float64
	for i, v := range y {
		sum += v * up[i]
	}
	return sum
}

func like(x []float64) []float64 { return make([]float64, len(x)) }

func TestConvGradients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDraws(t)
		s := d.shape()
		s.C = d.size("C", 1, 6) // fours and what remains of them
		win, outC := d.window(s, true), d.size("outC", 1, 6)
		out := win.Out(s, outC)
		x, w, b, up := d.values(s.Len()), d.values(outC*s.C*win.Taps()), d.values(outC), d.values(out.Len())
		y, dx, dw, db := like(up), like(x), like(w), like(b)
		Conv3DBackwardData(dx, up, w, s, outC, win)
		Conv3DBackwardWeights(dw, up, x, s, outC, win)
		ChannelBiasBackward(db, up, out)
		checkGradients(t, func() float64 {
			Conv3D(y, x, w, s, outC, win)
			ChannelBias(y, b, out)
			return weighted(y, up)
		}, wanted{"x", x, dx}, wanted{"w", w, dw}, wanted{"b", b, db})
	})
}

func TestBatchNormGradients(t *testing.T) {
	const eps = 1e-3
	rapid.Check(t, func(t *rapid.T) {
		d := newDraws(t)
		s := d.shape()
		s.D += 4 // few values a channel make steep, badly scaled functions
		x, up := d.values(s.Len()), d.values(s.Len())
		gamma, beta := d.values(s.C), d.values(s.C)
		y, dx, dgamma, dbeta := like(x), like(x), like(gamma), like(beta)
		mean, variance := like(gamma), like(gamma)
		train := func() float64 {
			BNStats(mean, variance, x, s)
			BNNorm(y, x, mean, variance, gamma, beta, s, eps)
			return weighted(y, up)
		}
		train()
		BNReduce(dbeta, dgamma, x, mean, variance, up, s, eps)
		BNBackward(dx, x, mean, variance, gamma, up, dbeta, dgamma, s, eps)
		checkGradients(t, train, wanted{"x", x, dx}, wanted{"gamma", gamma, dgamma}, wanted{"beta", beta, dbeta})

		// Statistics that are not those of the batch.
		mean, variance = d.values(s.C), d.values(s.C)
		for c := range variance {
			variance[c] += 1.5
		}
		BNReduce(dbeta, dgamma, x, mean, variance, up, s, eps)
		BNBackwardFrozen(dx, variance, gamma, up, s, eps)
		checkGradients(t, func() float64 {
			BNNorm(y, x, mean, variance, gamma, beta, s, eps)
			return weighted(y, up)
		}, wanted{"frozen x", x, dx}, wanted{"frozen gamma", gamma, dgamma}, wanted{"frozen beta", beta, dbeta})
	})
}

func TestPoolGradients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDraws(t)
		s := d.shape()
		x := d.distinct(s.Len())
		dx := like(x)

		win := d.window(s, true)
		up := d.values(win.Out(s, s.C).Len())
		y := like(up)
		MaxPool3DBackward(dx, x, up, s, win)
		checkGradients(t, func() float64 {
			MaxPool3D(y, x, s, win)
			return weighted(y, up)
		}, wanted{"max", x, dx})

		win = d.window(s, false)
		up = d.values(win.Out(s, s.C).Len())
		y = like(up)
		AvgPool3DBackward(dx, up, s, win)
		checkGradients(t, func() float64 {
			AvgPool3D(y, x, s, win)
			return weighted(y, up)
		}, wanted{"average", x, dx})

		up = d.values(s.N * s.C)
		y = like(up)
		GlobalAvgPoolBackward(dx, up, s)
		checkGradients(t, func() float64 {
			GlobalAvgPool(y, x, s)
			return weighted(y, up)
		}, wanted{"global average", x, dx})
	})
}

func TestElementwiseGradients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDraws(t)
		n := d.size("n", 1, 60)
		x, up := d.distinct(n), d.values(n)
		y, dx := like(x), like(x)
		ReLU(y, x)
		ReLUBackward(dx, y, up)
		checkGradients(t, func() float64 {
			ReLU(y, x)
			return weighted(y, up)
		}, wanted{"relu", x, dx})

		for i := range x {
			x[i] *= 5
		}
		GELUBackward(dx, x, up)
		checkGradients(t, func() float64 {
			GELU(y, x)
			return weighted(y, up)
		}, wanted{"gelu", x, dx})

		b := d.values(n)
		checkGradients(t, func() float64 {
			Add(y, x, b)
			return weighted(y, up)
		}, wanted{"first term", x, up}, wanted{"second term", b, up})
	})
}

func TestTokenGradients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDraws(t)
		rows, in, out := d.size("rows", 1, 5), d.size("in", 1, 9), d.size("out", 1, 9)
		x, w, b := d.values(rows*in), d.values(out*in), d.values(out)
		up := d.values(rows * out)
		y, dx, dw, db := like(up), like(x), like(w), like(b)
		LinearBackwardData(dx, up, w, rows, in, out)
		LinearBackwardWeights(dw, up, x, rows, in, out)
		LinearBackwardBias(db, up, rows, out)
		checkGradients(t, func() float64 {
			Linear(y, x, w, b, rows, in, out)
			return weighted(y, up)
		}, wanted{"linear x", x, dx}, wanted{"linear w", w, dw}, wanted{"linear b", b, db})

		const eps = 1e-2
		e := in + 3
		x, up = d.values(rows*e), d.values(rows*e)
		gamma, beta := d.values(e), d.values(e)
		y, dx = like(x), like(x)
		dgamma, dbeta := like(gamma), like(beta)
		LayerNormBackward(dx, dgamma, dbeta, x, gamma, up, rows, e, eps)
		checkGradients(t, func() float64 {
			LayerNorm(y, x, gamma, beta, rows, e, eps)
			return weighted(y, up)
		}, wanted{"layer norm x", x, dx}, wanted{"gamma", gamma, dgamma}, wanted{"beta", beta, dbeta})
	})
}

func TestAttentionGradients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDraws(t)
		s := AttentionShape{
			N: d.size("N", 1, 2), T: d.size("T", 1, 6),
			Heads: d.size("heads", 1, 3), HeadDim: d.size("head_dim", 1, 5),
		}
		qkv, up := d.values(s.N*s.T*3*s.E()), d.values(s.N*s.T*s.E())
		for i := range qkv {
			qkv[i] *= 2
		}
		out, lse, dqkv := like(up), make([]float64, s.N*s.Heads*s.T), like(qkv)
		Attention(out, lse, qkv, s)
		AttentionBackward(dqkv, qkv, out, lse, up, s)
		checkGradients(t, func() float64 {
			Attention(out, lse, qkv, s)
			return weighted(out, up)
		}, wanted{"qkv", qkv, dqkv})
	})
}

func TestPatchesGradients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDraws(t)
		s := d.shape()
		patch := [3]int{d.size("pd", 1, s.D), d.size("ph", 1, s.H), d.size("pw", 1, s.W)}
		tokens := s.N * (s.D / patch[0]) * (s.H / patch[1]) * (s.W / patch[2])
		x, up := d.values(s.Len()), d.values(tokens*s.C*patch[0]*patch[1]*patch[2])
		y, dx := like(up), like(x)
		PatchesBackward(dx, up, s, patch)
		checkGradients(t, func() float64 {
			Patches(y, x, s, patch)
			return weighted(y, up)
		}, wanted{"x", x, dx})
	})
}
