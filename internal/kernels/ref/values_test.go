package ref

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// close64 reports whether two slices agree to within 1e-12 per element, NaN nowhere.
func close64(got, want []float64) bool {
	return slices.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*(1+math.Abs(b)) })
}

// at returns an element of a map, 0 outside.
func at(x []float64, s Shape, n, c, d, h, w int) float64 {
	if d < 0 || d >= s.D || h < 0 || h >= s.H || w < 0 || w >= s.W {
		return 0
	}
	return x[(((n*s.C+c)*s.D+d)*s.H+h)*s.W+w]
}

// TestConvDefinition compares Conv3D and AvgPool3D with the sums of their comments, written out.
func TestConvDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDraws(t)
		s := d.shape()
		s.C = d.size("C", 1, 6)
		win, outC := d.window(s, true), d.size("outC", 1, 3)
		x, w := d.values(s.Len()), d.values(outC*s.C*win.Taps())
		var want []float64
		forOutputs(win.Out(s, outC), func(n, o, od, oh, ow int) {
			sum := 0.0
			for c := range s.C {
				forTaps(win, func(tap, kd, kh, kw int) {
					sum += w[(o*s.C+c)*win.Taps()+tap] * at(x, s, n, c, od*win.Stride[0]+kd-win.Pad[0],
						oh*win.Stride[1]+kh-win.Pad[1], ow*win.Stride[2]+kw-win.Pad[2])
				})
			}
			want = append(want, sum)
		})
		y := like(want)
		Conv3D(y, x, w, s, outC, win)
		if !close64(y, want) {
			t.Fatalf("convolution of %v with %v: %v, want %v", s, win, y, want)
		}

		win.Pad = [3]int{}
		for axis, n := range [3]int{s.D, s.H, s.W} {
			win.Kernel[axis] = min(win.Kernel[axis], n)
		}
		want = nil
		forOutputs(win.Out(s, s.C), func(n, c, od, oh, ow int) {
			sum := 0.0
			forTaps(win, func(_, kd, kh, kw int) {
				sum += at(x, s, n, c, od*win.Stride[0]+kd, oh*win.Stride[1]+kh, ow*win.Stride[2]+kw)
			})
			want = append(want, sum/float64(win.Taps()))
		})
		y = like(want)
		AvgPool3D(y, x, s, win)
		if !close64(y, want) {
			t.Fatalf("average of %v over %v: %v, want %v", s, win, y, want)
		}
	})
}

func forOutputs(s Shape, f func(n, c, d, h, w int)) {
	for i := range s.Len() {
		w, h, d := i%s.W, i/s.W%s.H, i/(s.W*s.H)%s.D
		f(i/s.Spatial()/s.C, i/s.Spatial()%s.C, d, h, w)
	}
}

func forTaps(win Window, f func(tap, kd, kh, kw int)) {
	k := win.Kernel
	for tap := range win.Taps() {
		f(tap, tap/(k[1]*k[2]), tap/k[2]%k[1], tap%k[2])
	}
}

// TestPatchConvolution: a convolution whose stride is its kernel is Linear on the patches.
func TestPatchConvolution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDraws(t)
		patch := [3]int{d.size("pd", 1, 3), d.size("ph", 1, 3), d.size("pw", 1, 3)}
		s := Shape{d.size("N", 1, 2), d.size("C", 1, 3), 2 * patch[0], 3*patch[1] + patch[1]/2, 2 * patch[2]}
		win := Window{Kernel: patch, Stride: patch}
		out := win.Out(s, 4)
		x, w := d.values(s.Len()), d.values(4*s.C*win.Taps())
		y := make([]float64, out.Len())
		Conv3D(y, x, w, s, 4, win)

		rows, width := s.N*out.Spatial(), s.C*win.Taps()
		tokens, z := make([]float64, rows*width), make([]float64, rows*4)
		Patches(tokens, x, s, patch)
		Linear(z, tokens, w, nil, rows, width, 4)
		for i, v := range y {
			n, o, voxel := i/out.Spatial()/4, i/out.Spatial()%4, i%out.Spatial()
			if got := z[(n*out.Spatial()+voxel)*4+o]; math.Abs(got-v) > 1e-12 {
				t.Fatalf("sample %d, channel %d, token %d: %g, convolution %g", n, o, voxel, got, v)
			}
		}
	})
}

func TestMaxPoolSpecialValues(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		name  string
		x     []float64 // a row
		win   Window
		y, dx []float64 // dx for dy = 1, 2, 4, ...
	}{
		{"ties go to the first", []float64{5, 5, 5, 5}, row(2, 2, 0), []float64{5, 5}, []float64{1, 0, 2, 0}},
		{"padding is below everything", []float64{-3, -2, -9}, row(3, 2, 1), []float64{-2, -2}, []float64{0, 3, 0}},
		{"-inf is found", []float64{-inf, -inf}, row(2, 1, 0), []float64{-inf}, []float64{1, 0}},
		{"NaN wins, the last of them", []float64{1, nan, 3, nan, 0}, row(5, 1, 0), []float64{nan}, []float64{0, 0, 0, 1, 0}},
		{"a window in the padding", []float64{7}, row(1, 1, 1), []float64{-inf, 7, -inf}, []float64{2}},
		{"overlap adds up", []float64{0, 9, 0}, row(2, 1, 0), []float64{9, 9}, []float64{0, 3, 0}},
	} {
		s := Shape{1, 1, 1, 1, len(c.x)}
		y, dx, dy := like(c.y), like(c.x), like(c.y)
		for i := range dy {
			dy[i] = float64(int(1) << i)
		}
		MaxPool3D(y, c.x, s, c.win)
		MaxPool3DBackward(dx, c.x, dy, s, c.win)
		same := func(a, b float64) bool { return a == b || a != a && b != b }
		if !slices.EqualFunc(y, c.y, same) || !slices.Equal(dx, c.dx) {
			t.Errorf("%s: got %v and gradient %v, want %v and %v", c.name, y, dx, c.y, c.dx)
		}
	}
}

// row returns a window along w only.
func row(kernel, stride, pad int) Window {
	return Window{Kernel: [3]int{1, 1, kernel}, Stride: [3]int{1, 1, stride}, Pad: [3]int{0, 0, pad}}
}

func TestReLUKeepsNaN(t *testing.T) {
	x := []float64{-1, 0, 2, math.NaN()}
	ReLU(x, x)
	if x[0] != 0 || x[1] != 0 || x[2] != 2 || x[3] == x[3] {
		t.Errorf("got %v, want [0 0 2 NaN]", x)
	}
}

func TestBNRunning(t *testing.T) {
	mean, variance := []float64{1}, []float64{2}
	BNRunning(mean, variance, []float64{3}, []float64{4}, 5, 0.1)
	// 0.9*1 + 0.1*3 and 0.9*2 + 0.1*4*5/4
	if !close64(mean, []float64{1.2}) || !close64(variance, []float64{2.3}) {
		t.Errorf("got mean %v and variance %v, want 1.2 and 2.3", mean, variance)
	}
}

func TestAttentionLogSumExp(t *testing.T) {
	s := AttentionShape{N: 1, T: 2, Heads: 1, HeadDim: 1}
	// q = (1, 2), k = (3, -1), v = (10, 20)
	qkv := []float64{1, 3, 10, 2, -1, 20}
	out, lse := make([]float64, 2), make([]float64, 2)
	Attention(out, lse, qkv, s)
	a, b := math.Exp(3.0)+math.Exp(-1.0), math.Exp(6.0)+math.Exp(-2.0)
	if !close64(lse, []float64{math.Log(a), math.Log(b)}) {
		t.Errorf("lse is %v", lse)
	}
	want := []float64{(10*math.Exp(3.0) + 20*math.Exp(-1.0)) / a, (10*math.Exp(6.0) + 20*math.Exp(-2.0)) / b}
	if !close64(out, want) {
		t.Errorf("out is %v, want %v", out, want)
	}
}

// TestLossFormulas compares the losses with their plain formulas at a moderate logit.
func TestLossFormulas(t *testing.T) {
	const z = 0.7
	p := 1 / (1 + math.Exp(-z))
	for _, c := range []struct {
		name string
		loss Loss
		y    float64
		want float64
	}{
		{"bce positive", BCE(nil), 1, -math.Log(p)},
		{"bce soft", BCE(nil), 0.25, -0.25*math.Log(p) - 0.75*math.Log(1-p)},
		{"bce weighted", BCE([]float64{3}), 1, -3 * math.Log(p)},
		{"bce weighted negative", BCE([]float64{3}), 0, -math.Log(1 - p)},
		{"focal positive", Focal(0.3, 2), 1, -0.3 * (1 - p) * (1 - p) * math.Log(p)},
		{"focal negative", Focal(0.3, 2), 0, -0.3 * p * p * math.Log(1-p)},
		{"balanced positive", FocalBalanced(0.3, 2), 1, -0.3 * (1 - p) * (1 - p) * math.Log(p)},
		{"balanced negative", FocalBalanced(0.3, 2), 0, -0.7 * p * p * math.Log(1-p)},
		{"asymmetric positive", Asymmetric(1, 4, 0.05), 1, -(1 - p) * math.Log(p)},
		{"asymmetric negative", Asymmetric(1, 4, 0.05), 0, -math.Pow(p-0.05, 4) * math.Log(1-p+0.05)},
		{"asymmetric easy negative", Asymmetric(1, 4, 0.7), 0, 0},
		{"asymmetric no clip", Asymmetric(1, 2, 0), 0, -p * p * math.Log(1-p)},
	} {
		got, _ := c.loss(z, c.y, 0)
		if math.Abs(got-c.want) > 1e-14 {
			t.Errorf("%s: %.16g, want %.16g", c.name, got, c.want)
		}
	}
}

func TestSoftmaxFocalFormula(t *testing.T) {
	x := []float64{0.2, -1, 1.5}
	e := []float64{math.Exp(0.2), math.Exp(-1), math.Exp(1.5)}
	for y := range x {
		p := e[y] / (e[0] + e[1] + e[2])
		want := -2 * (1 - p) * (1 - p) * math.Log(p)
		loss := ClassLoss{Gamma: 2, Weight: []float64{4, 4, 4}}
		if got := SoftmaxLoss(loss, x, []int{y}, 3, 0.5); math.Abs(got-want) > 1e-14 {
			t.Errorf("class %d: %.16g, want %.16g", y, got, want)
		}
	}
}

// TestConfidentGradients: a confident and correct answer has a tiny gradient, not a rounded-off one.
func TestConfidentGradients(t *testing.T) {
	p := math.Exp(-40) / (1 + math.Exp(-40)) // of the wrong answer
	exact := func(got, want float64) bool { return math.Abs(got-want) <= 1e-14*math.Abs(want) }
	dx := make([]float64, 2)
	SoftmaxLossBackward(dx, ClassLoss{}, []float64{40, 0}, []int{0}, 2, 1)
	if !exact(dx[0], -p) || !exact(dx[1], p) {
		t.Errorf("cross-entropy: gradient %v, want ∓%g", dx, p)
	}
	LossBackward(dx, BCE(nil), []float64{40, -40}, []float64{1, 0}, 2, 1)
	if !exact(dx[0], -p) || !exact(dx[1], p) {
		t.Errorf("bce: gradient %v, want ∓%g", dx, p)
	}
	// log(1+exp(-40)) = exp(-40) to 17 digits
	if got := LossValue(Focal(1, 1), []float64{40}, []float64{1}, 1, 1); !exact(got, math.Exp(-80)) {
		t.Errorf("focal: %g, want %g", got, math.Exp(-80))
	}
}

func TestMissingTargets(t *testing.T) {
	x := []float64{1, 2, 3, 4}
	targets := []float64{math.NaN(), 1, -1, 0}
	dx := []float64{9, 9, 9, 9}
	LossBackward(dx, BCE(nil), x, targets, 2, 0.5)
	if dx[0] != 0 || dx[2] != 0 || dx[1] >= 0 || dx[3] <= 0 {
		t.Errorf("gradient %v, want zero at 0 and 2 only", dx)
	}
	want := 0.5 * (math.Log1p(math.Exp(-2)) + math.Log1p(math.Exp(4)))
	if got := LossValue(BCE(nil), x, targets, 2, 0.5); math.Abs(got-want) > 1e-14 {
		t.Errorf("loss %g, want %g", got, want)
	}

	loss := ClassLoss{Weight: []float64{3, 5}}
	if got := loss.TotalWeight([]int{-1, 1, 0, 1}); got != 13 {
		t.Errorf("total weight %g, want 13", got)
	}
	dx = []float64{9, 9, 9, 9}
	SoftmaxLossBackward(dx, loss, x, []int{-1, 1}, 2, 1)
	if dx[0] != 0 || dx[1] != 0 || dx[2] <= 0 || dx[3] >= 0 {
		t.Errorf("softmax gradient %v, want zero in the first row only", dx)
	}
}

// TestExtremeLogits: values and gradients stay finite for every loss, target and type, far beyond what a
// float32 exponential holds.
func TestExtremeLogits(t *testing.T) {
	t.Run("float64", testExtremeLogits[float64])
	t.Run("float32", testExtremeLogits[float32])
}

func testExtremeLogits[T Float](t *testing.T) {
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	logits := []T{-1e4, -800, -100, -40, 0, 40, 100, 800, 1e4}
	losses := map[string]Loss{
		"bce": BCE([]float64{10}), "focal 0": Focal(1, 0), "focal 1": Focal(1, 1), "focal 2": Focal(1, 2),
		"focal 5": Focal(1, 5), "balanced": FocalBalanced(0.25, 2),
		"asymmetric with clip": Asymmetric(1, 4, 0.05), "asymmetric 0": Asymmetric(0, 0, 0),
		"asymmetric 1": Asymmetric(1, 1, 0), "asymmetric 0 with clip": Asymmetric(0, 0, 0.1),
	}
	dx := make([]T, 1)
	for name, loss := range losses {
		for _, z := range logits {
			for _, y := range []T{0, 0.5, 1} {
				x, target := []T{z}, []T{y}
				value := LossValue(loss, x, target, 1, 1)
				LossBackward(dx, loss, x, target, 1, 1)
				if !finite(value) || !finite(float64(dx[0])) || value < 0 {
					t.Errorf("%s at logit %g, target %g: value %g, gradient %g", name, z, y, value, dx[0])
				}
				// A confident error must keep its pull: the slope tends to a constant. Only a clip bounds the
				// loss of a negative, by design.
				wrong := y == 1 && z <= -100 || y == 0 && z >= 100 && !strings.HasSuffix(name, "with clip")
				if wrong && math.Abs(float64(dx[0])) < 0.2 {
					t.Errorf("%s at logit %g, target %g: the gradient %g has vanished", name, z, y, dx[0])
				}
			}
		}
	}

	d3 := make([]T, 3)
	for name, loss := range map[string]ClassLoss{
		"cross-entropy": {Smoothing: 0.1, Weight: []float64{1, 2, 3}}, "focal": {Gamma: 2}, "focal 1": {Gamma: 1},
	} {
		for _, a := range logits {
			for _, b := range logits {
				for y := range 3 {
					x := []T{a, b, 0}
					value := SoftmaxLoss(loss, x, []int{y}, 3, 1)
					SoftmaxLossBackward(d3, loss, x, []int{y}, 3, 1)
					ok := finite(value) && value >= 0
					for _, g := range d3 {
						ok = ok && finite(float64(g))
					}
					if !ok {
						t.Errorf("%s at logits %v, class %d: value %g, gradient %v", name, x, y, value, d3)
					}
				}
			}
		}
	}
}

// BenchmarkConv3D is the second stage of a small residual network: 64 channels, 16x16x16.
func BenchmarkConv3D(b *testing.B) {
	s, win := Shape{1, 64, 16, 16, 16}, Cube(3, 1, 1)
	x, w := make([]float64, s.Len()), make([]float64, 64*64*27)
	y := make([]float64, s.Len())
	macs := float64(s.Spatial() * 64 * 64 * 27)
	for name, f := range map[string]func(){
		"forward": func() { Conv3D(y, x, w, s, 64, win) },
		"data":    func() { Conv3DBackwardData(y, x, w, s, 64, win) },
		"weights": func() { Conv3DBackwardWeights(w, y, x, s, 64, win) },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				f()
			}
			b.ReportMetric(macs*float64(b.N)/b.Elapsed().Seconds()/1e9, "GMAC/s")
		})
	}
}
