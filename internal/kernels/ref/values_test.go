package ref

import (
	"math"
	"slices"
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
