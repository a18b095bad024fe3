package augment

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/preprocess"
)

func newAugmenter(t testing.TB, c config.Augment, o Options) *Augmenter {
	t.Helper()
	if o.Channels == 0 {
		o.Channels = 1
	}
	a, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// unchanged is a draw that does nothing.
func unchanged() *Draw { return &Draw{Scale: 1, Zoom: 1, Contrast: 1, Gamma: 1} }

// drawn applies one draw to one channel.
func drawn(t testing.TB, a *Augmenter, src []float32, change func(*Draw)) []float32 {
	t.Helper()
	d := unchanged()
	change(d)
	dst := make([]float32, len(src))
	a.apply(dst, src, d, &Workspace{})
	return dst
}

// noisy is voxels without any pattern, between 0 and 1.
func noisy(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.Abs(math.Sin(float64(i*i%997) * 12.9898)))
	}
	return x
}

func wantClose(t testing.TB, got []float32, want []float64, tolerance float64) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i])-want[i]) <= tolerance) {
			t.Fatalf("value %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func full() config.Augment {
	a := config.Default().Data.Augment
	a.FlipP = [3]float64{0.5, 0.5, 0.5}
	for _, p := range []*float64{&a.Affine.P, &a.Crop.P, &a.Elastic.P, &a.Blur.P, &a.LowRes.P, &a.Contrast.P, &a.Shift.P, &a.Gamma.P, &a.Noise.P, &a.Cutout.P} {
		*p = 1
	}
	return a
}

func TestNothingIsDrawn(t *testing.T) {
	a := newAugmenter(t, config.Default().Data.Augment, Options{Shape: [3]int{3, 4, 5}, Channels: 2, Hi: 1})
	src, dst := noisy(120), make([]float32, 120)
	for id := range uint64(20) {
		a.Apply(dst, src, 3, id, &Workspace{})
		if !slices.Equal(dst, src) || a.Draw(3, id).Describe() != nil {
			t.Fatalf("sample %d changed: %v", id, a.Draw(3, id).Describe())
		}
	}
}

// The result depends on the seed, the epoch and the sample, and on nothing else.
func TestDeterminism(t *testing.T) {
	o := Options{Shape: [3]int{9, 12, 10}, Channels: 2, Hi: 1, Seed: 4}
	a, again := newAugmenter(t, full(), o), newAugmenter(t, full(), o)
	src := noisy(2 * 9 * 12 * 10)
	one, two := make([]float32, len(src)), make([]float32, len(src))
	used := &Workspace{}
	a.Apply(one, src, 1, 1, used)
	a.Apply(one, src, 0, 7, used)
	again.Apply(two, src, 0, 7, &Workspace{})
	if !slices.Equal(one, two) {
		t.Error("the same sample in the same epoch came out differently")
	}
	o.Seed = 5
	for what, other := range map[string]func(){
		"epoch":  func() { a.Apply(two, src, 1, 7, used) },
		"sample": func() { a.Apply(two, src, 0, 8, used) },
		"seed":   func() { newAugmenter(t, full(), o).Apply(two, src, 0, 7, used) },
	} {
		if other(); slices.Equal(one, two) {
			t.Errorf("another %s makes no difference", what)
		}
	}
	for i, v := range one {
		if !(v >= 0 && v <= 1) {
			t.Fatalf("voxel %d is %v, outside 0 to 1", i, v)
		}
	}
}

// Turning a change off leaves the draws of the others as they were; probabilities and ranges hold.
func TestDraws(t *testing.T) {
	o := Options{Shape: [3]int{20, 30, 40}, Hi: 1, Seed: 2}
	c := full()
	c.Noise.P, c.FlipP = 0.25, [3]float64{0, 0.5, 1}
	all := newAugmenter(t, c, o)
	c.Affine.P = 0
	without := newAugmenter(t, c, o)
	noise, flips := 0, [3]int{}
	const n = 4000
	low, high := 9.0, -9.0
	for id := range uint64(n) {
		d := all.Draw(1, id)
		if d.Noise > 0 {
			noise++
		}
		for i, f := range d.Flip {
			if f {
				flips[i]++
			}
		}
		low, high = min(low, d.Scale), max(high, d.Scale)
		for i := range 3 {
			if math.Abs(d.Rotate[i]) > 10 || math.Abs(d.Move[i]) > 0.05 {
				t.Fatalf("drew %+v", d)
			}
			start, length := d.Crop[i][0], d.Crop[i][1]
			if side := float64(o.Shape[i]); length < 0.8*side || length > side || start < 0 || start+length > side {
				t.Fatalf("drew the crop %v", d.Crop)
			}
			if b := d.Boxes[0]; b.From[i] < 0 || b.To[i] > o.Shape[i] || b.To[i]-b.From[i] < o.Shape[i]/10 {
				t.Fatalf("drew the box %v", b)
			}
		}
		e := without.Draw(1, id)
		if e.Rotate != [3]float64{} || e.Scale != 1 {
			t.Fatalf("affine is off, but drew %+v", e)
		}
		d.Rotate, d.Scale, d.Move = e.Rotate, e.Scale, e.Move
		if got, want := strings.Join(e.Describe(), " "), strings.Join(d.Describe(), " "); got != want {
			t.Fatalf("without affine: %s, with it: %s", got, want)
		}
	}
	if math.Abs(float64(noise)/n-0.25) > 0.03 || flips[0] != 0 || math.Abs(float64(flips[1])/n-0.5) > 0.03 || flips[2] != n {
		t.Errorf("%d of %d with noise, flips %v", noise, n, flips)
	}
	if low > 0.901 || high < 1.099 || low < 0.9 || high > 1.1 {
		t.Errorf("scales from %v to %v", low, high)
	}
}

func TestFlipsAreExact(t *testing.T) {
	shape := [3]int{4, 3, 5}
	a := newAugmenter(t, config.Augment{}, Options{Shape: shape, Hi: 1})
	src := noisy(60)
	for axes := range 8 {
		flip := [3]bool{axes&1 > 0, axes&2 > 0, axes&4 > 0}
		want := slices.Clone(src)
		preprocess.Flip(want, shape, flip)
		if got := drawn(t, a, src, func(d *Draw) { d.Flip = flip }); !slices.Equal(got, want) {
			t.Errorf("flip %v differs", flip)
		}
		// Through the interpolation, where a rotation by nothing measurable asks for it, too.
		got := drawn(t, a, src, func(d *Draw) { d.Flip, d.Rotate = flip, [3]float64{1e-12} })
		for i := range got {
			if math.Abs(float64(got[i]-want[i])) > 1e-5 {
				t.Fatalf("interpolated flip %v: voxel %d is %v, want %v", flip, i, got[i], want[i])
			}
		}
	}
}

// A quarter turn of a cube moves every voxel to another place: out[d][h][w] = in[d][n-1-w][h] about d, and so on
// round the axes.
func TestQuarterTurns(t *testing.T) {
	const n = 5
	a := newAugmenter(t, config.Augment{}, Options{Shape: [3]int{n, n, n}, Hi: 1})
	src := noisy(n * n * n)
	at := func(d, h, w int) float64 { return float64(src[(d*n+h)*n+w]) }
	for axis, from := range []func(d, h, w int) float64{
		func(d, h, w int) float64 { return at(d, n-1-w, h) },
		func(d, h, w int) float64 { return at(w, h, n-1-d) },
		func(d, h, w int) float64 { return at(n-1-h, d, w) },
	} {
		var want []float64
		for i := range n * n * n {
			want = append(want, from(i/n/n, i/n%n, i%n))
		}
		got := drawn(t, a, src, func(d *Draw) { d.Rotate[axis] = 90 })
		wantClose(t, got, want, 2e-5)
	}
}

// In a volume that rises evenly along the axes, the value says where a voxel comes from.
func TestPlaces(t *testing.T) {
	shape := [3]int{11, 13, 17}
	a := newAugmenter(t, config.Augment{}, Options{Shape: shape, Hi: 1, VoxelMM: [3]float64{3, 1, 1}})
	ramp := func(axis int) []float32 {
		x := make([]float32, 11*13*17)
		for i := range x {
			x[i] = float32([3]int{i / 17 / 13, i / 17 % 13, i % 17}[axis]) / 100
		}
		return x
	}
	for _, tt := range []struct {
		name   string
		change func(*Draw)
		// from is the place that the voxel 2, 1, 2 right of the centre 5, 6, 8 comes from.
		from [3]float64
	}{
		{"scale", func(d *Draw) { d.Scale = 2 }, [3]float64{6, 6.5, 9}},
		{"move", func(d *Draw) { d.Move = [3]float64{2. / 11, -1. / 13, 0} }, [3]float64{5, 8, 10}},
		{"crop", func(d *Draw) { d.Crop = [3][2]float64{{0, 11}, {0, 6.5}, {8.5, 8.5}} }, [3]float64{7, 3.25, 13.25}},
		{"crop and flip", func(d *Draw) {
			d.Crop, d.Flip = [3][2]float64{{0, 11}, {0, 6.5}, {8.5, 8.5}}, [3]bool{true, true, false}
		}, [3]float64{3, 8.75, 13.25}},
		// About h by 30 degrees; a step along d is 3 mm, along w 1 mm.
		{"rotation keeps the proportions", func(d *Draw) { d.Rotate[1] = 30 }, [3]float64{5 + (6*math.Cos(math.Pi/6)+2*0.5)/3, 7, 8 + 2*math.Cos(math.Pi/6) - 6*0.5}},
	} {
		for axis := range 3 {
			got := drawn(t, a, ramp(axis), tt.change)[(7*13+7)*17+10]
			if math.Abs(float64(got)*100-tt.from[axis]) > 1e-3 {
				t.Errorf("%s: comes from %v along %c, want %v", tt.name, got*100, "dhw"[axis], tt.from[axis])
			}
		}
	}
}

func TestOutsideIsFilled(t *testing.T) {
	a := newAugmenter(t, config.Augment{}, Options{Shape: [3]int{4, 4, 4}, Lo: -1, Hi: 1})
	src := make([]float32, 64)
	for i := range src {
		src[i] = 1
	}
	got := drawn(t, a, src, func(d *Draw) { d.Move[2] = 0.375 }) // 1.5 voxels to the right
	for i, v := range got {
		if want := []float32{-1, 0, 1, 1}[i%4]; math.Abs(float64(v-want)) > 1e-6 {
			t.Fatalf("voxel %d is %v, want %v", i, v, want)
		}
	}
}

func TestElastic(t *testing.T) {
	shape := [3]int{24, 28, 32}
	c := config.Augment{Elastic: config.AugmentElastic{P: 1, GridVoxels: 8, Displacement: [2]float64{1.5, 1.5}}}
	a := newAugmenter(t, c, Options{Shape: shape, Hi: 1, Seed: 3})
	src := make([]float32, 24*28*32)
	for i := range src {
		src[i] = float32(i/32%28) / 100
	}
	sum, n, steepest := 0.0, 0, 0.0
	for id := range uint64(12) {
		got := make([]float32, len(src))
		a.Apply(got, src, 0, id, &Workspace{})
		for i, v := range got {
			d, h, w := i/32/28, i/32%28, i%32
			if d < 7 || d > 16 || h < 7 || h > 20 || w < 7 || w > 24 { // where nothing comes from outside
				continue
			}
			moved := float64(v)*100 - float64(h)
			sum += moved * moved
			n++
			steepest = max(steepest, math.Abs(float64(v-got[i-1])*100))
		}
	}
	if rms := math.Sqrt(sum / float64(n)); math.Abs(rms-1.5) > 0.2 {
		t.Errorf("the displacement is %v voxels, want 1.5", rms)
	}
	if steepest > 1.5 {
		t.Errorf("neighbours are displaced %v voxels apart: not smooth", steepest)
	}
}

func TestIntensity(t *testing.T) {
	a := newAugmenter(t, config.Augment{}, Options{Shape: [3]int{1, 2, 3}, Lo: -1, Hi: 3})
	src := []float32{-1, -0.5, 0, 1, 2, 3} // mean 0.75
	for _, tt := range []struct {
		name   string
		change func(*Draw)
		want   func(x float64) float64
	}{
		{"contrast", func(d *Draw) { d.Contrast = 1.2 }, func(x float64) float64 { return 0.75 + 1.2*(x-0.75) }},
		{"shift", func(d *Draw) { d.Shift = -0.1 }, func(x float64) float64 { return x - 0.4 }},
		{"gamma", func(d *Draw) { d.Gamma = 2 }, func(x float64) float64 { return -1 + 4*math.Pow((x+1)/4, 2) }},
		{"both", func(d *Draw) { d.Shift, d.Gamma = 0.25, 0.5 }, func(x float64) float64 { return -1 + 4*math.Sqrt(min(1, (x+2)/4)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want []float64
			for _, x := range src {
				want = append(want, min(max(tt.want(float64(x)), -1), 3))
			}
			wantClose(t, drawn(t, a, src, tt.change), want, 1e-4)
		})
	}
	// Without a window the range is the sample's own.
	raw := newAugmenter(t, config.Augment{}, Options{Shape: [3]int{1, 2, 3}})
	wantClose(t, drawn(t, raw, []float32{10, 20, 30, 40, 50, 60}, func(d *Draw) { d.Shift = 0.1 }), []float64{15, 25, 35, 45, 55, 60}, 1e-5)
}

func TestNoise(t *testing.T) {
	shape := [3]int{30, 31, 32}
	n := 30 * 31 * 32
	c := config.Augment{Noise: config.AugmentNoise{P: 1, Std: [2]float64{0.05, 0.05}}}
	a := newAugmenter(t, c, Options{Shape: shape, Channels: 2, Lo: -1, Hi: 3})
	src := make([]float32, 2*n)
	got := make([]float32, 2*n)
	a.Apply(got, src, 0, 1, &Workspace{})
	var sum, squares, quads, neighbours, channels float64
	for i, v := range got {
		x := float64(v) / 0.2 // 0.05 of the range of 4
		sum += x
		squares += x * x
		quads += x * x * x * x
		if i > 0 {
			neighbours += x * float64(got[i-1]) / 0.2
		}
		if i < n {
			channels += x * float64(got[i+n]) / 0.2
		}
	}
	N := float64(2 * n)
	for _, m := range []struct {
		what                 string
		got, want, tolerance float64
	}{
		{"mean", sum / N, 0, 0.02},
		{"variance", squares / N, 1, 0.03},
		{"fourth moment", quads / N, 3, 0.15},
		{"covariance of neighbours", neighbours / N, 0, 0.02},
		{"covariance of channels", 2 * channels / N, 0, 0.03},
	} {
		if math.Abs(m.got-m.want) > m.tolerance {
			t.Errorf("%s %v, want %v", m.what, m.got, m.want)
		}
	}
}

func TestCutout(t *testing.T) {
	shape := [3]int{4, 5, 6}
	a := newAugmenter(t, config.Augment{}, Options{Shape: shape, Lo: -1, Hi: 1})
	src := noisy(120)
	got := drawn(t, a, src, func(d *Draw) { d.Boxes = []Box{{[3]int{1, 0, 2}, [3]int{3, 4, 6}}} })
	for i := range got {
		d, h, w := i/30, i/6%5, i%6
		want := src[i]
		if d >= 1 && d < 3 && h < 4 && w >= 2 {
			want = -1
		}
		if got[i] != want {
			t.Fatalf("voxel %d %d %d is %v, want %v", d, h, w, got[i], want)
		}
	}
}

// Blur agrees with scipy.ndimage.gaussian_filter1d(x, 0.8, mode="nearest", radius=3), low resolution with a hand
// calculation: the means 1.5 and 5.5 of pairs lie a quarter from the voxels.
func TestFilterAlongEachAxis(t *testing.T) {
	for axis := range 3 {
		shape := [3]int{1, 1, 1}
		shape[axis] = 7
		a := newAugmenter(t, config.Augment{}, Options{Shape: shape, Hi: 10})
		got := drawn(t, a, []float32{1, 8, 0, 3, 9, 2, 5}, func(d *Draw) { d.Sigma = 0.8 })
		wantClose(t, got, []float64{2.5771462, 4.309771, 2.7318433, 3.7725734, 5.7449229, 4.3711892, 4.4018276}, 1e-5)
		shape[axis] = 4
		a = newAugmenter(t, config.Augment{}, Options{Shape: shape, Hi: 10})
		got = drawn(t, a, []float32{1, 2, 4, 7}, func(d *Draw) { d.Zoom = 0.5 })
		wantClose(t, got, []float64{1.5, 2.5, 4.5, 5.5}, 1e-6)
	}
	// A constant stays as it is, whatever is drawn.
	a := newAugmenter(t, config.Augment{}, Options{Shape: [3]int{9, 8, 11}, Hi: 10})
	src := make([]float32, 9*8*11)
	for i := range src {
		src[i] = 7
	}
	for _, v := range drawn(t, a, src, func(d *Draw) { d.Sigma, d.Zoom = 1.7, 0.37 }) {
		if math.Abs(float64(v)-7) > 1e-5 {
			t.Fatalf("a constant of 7 became %v", v)
		}
	}
}

// With the axes of the array reversed, what is said of d holds for the last one.
func TestReversed(t *testing.T) {
	c := config.Augment{FlipP: [3]float64{1, 0, 0}, Affine: config.AugmentAffine{P: 1, RotateDeg: [3]float64{0, 0, 20}, Scale: [2]float64{1, 1}}}
	d := newAugmenter(t, c, Options{Shape: [3]int{4, 4, 4}, Hi: 1, Reversed: true}).Draw(0, 0)
	if d.Flip != [3]bool{false, false, true} || d.Rotate[0] == 0 || d.Rotate[2] != 0 {
		t.Errorf("drew %+v", d)
	}
}

func BenchmarkApply(b *testing.B) {
	src, dst := noisy(64*64*64), make([]float32, 64*64*64)
	only := func(set func(c, all *config.Augment)) config.Augment {
		c, all := config.Default().Data.Augment, full()
		set(&c, &all)
		return c
	}
	for _, tt := range []struct {
		name string
		c    config.Augment
	}{
		{"all", full()},
		{"affine", only(func(c, all *config.Augment) { c.Affine = all.Affine })},
		{"elastic", only(func(c, all *config.Augment) { c.Elastic = all.Elastic })},
		{"blur", only(func(c, all *config.Augment) { c.Blur = all.Blur })},
		{"gamma", only(func(c, all *config.Augment) { c.Gamma = all.Gamma })},
		{"noise", only(func(c, all *config.Augment) { c.Noise = all.Noise })},
	} {
		b.Run("64x64x64 "+tt.name, func(b *testing.B) {
			a := newAugmenter(b, tt.c, Options{Shape: [3]int{64, 64, 64}, Hi: 1, Seed: 1})
			w := &Workspace{}
			for id := uint64(0); b.Loop(); id++ {
				a.Apply(dst, src, 0, id, w)
			}
		})
	}
}
