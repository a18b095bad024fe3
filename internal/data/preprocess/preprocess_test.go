package preprocess

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/volume"
)

// asStored changes nothing but the shape, by cutting or padding.
func asStored(shape [3]int) config.Preprocess {
	return config.Preprocess{
		Orientation: "stored", SpacingMM: config.Spacing{Keep: true}, Intensity: "raw", ShapeDHW: shape, Fit: "crop_pad",
	}
}

// grid makes a volume with axes along LPS; hu repeats when it is shorter than the volume.
func grid(size [3]int, spacing [3]float64, hu ...float32) *volume.Volume {
	voxels := make([]float32, size[0]*size[1]*size[2])
	for i := range voxels {
		voxels[i] = hu[i%len(hu)]
	}
	v, err := volume.FromAffine(size, voxels, [4][4]float64{{spacing[2], 0, 0, 0}, {0, spacing[1], 0, 0}, {0, 0, spacing[0], 0}, {0, 0, 0, 1}})
	if err != nil {
		panic(err)
	}
	return v
}

func apply(t testing.TB, v *volume.Volume, p config.Preprocess) Result {
	t.Helper()
	r, _, err := Apply(v, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Data) != r.Channels*p.ShapeDHW[0]*p.ShapeDHW[1]*p.ShapeDHW[2] || r.Shape != p.ShapeDHW {
		t.Fatalf("%d voxels of shape %v, want %v", len(r.Data), r.Shape, p.ShapeDHW)
	}
	return r
}

func wantClose(t testing.TB, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	for i := range got {
		if !(math.Abs(float64(got[i])-want[i]) <= tolerance) {
			t.Fatalf("value %d is %v, want %v\nall: %v", i, got[i], want[i], got)
		}
	}
}

func TestOneAxisByHand(t *testing.T) {
	tests := []struct {
		in   []float32
		want []float64
	}{
		{[]float32{0, 10}, []float64{0, 2.5, 7.5, 10}},             // centres at -1/4, 1/4, 3/4, 5/4
		{[]float32{0, 10, 20, 30}, []float64{6.25, 23.75}},         // weights 4 3 1 and 1 3 4 of 8
		{[]float32{3, 6, 9}, []float64{4, 8}},                      // weights 2 1 and 1 2 of 3
		{[]float32{5}, []float64{5, 5, 5}},                         // a single voxel
		{[]float32{1, 2, 3}, []float64{1, 2, 3}},                   // unchanged
		{[]float32{0, 0, 0, 9, 0, 0, 0, 0, 0}, []float64{1, 2, 0}}, // half-width 3; the peak is 2, 1 and 4 from the centres 1, 4, 7
	}
	for _, tt := range tests {
		for axis := range 3 {
			size, shape := [3]int{1, 1, 1}, [3]int{1, 1, 1}
			size[axis], shape[axis] = len(tt.in), len(tt.want)
			p := asStored(shape)
			p.Fit = "resize"
			r := apply(t, grid(size, [3]float64{1, 1, 1}, tt.in...), p)
			wantClose(t, r.Data, tt.want, 1e-6)
		}
	}
}

// Enlarging agrees with scipy.ndimage.zoom(order=1, mode="nearest", grid_mode=True).
func TestTrilinearAgainstSciPy(t *testing.T) {
	v := grid([3]int{2, 3, 2}, [3]float64{1, 1, 1}, -1000, -50, 40, 300, -700, 80, 120, -900, 10, 55, -30, 1000)
	p := asStored([3]int{3, 5, 4})
	p.Fit = "resize"
	wantClose(t, apply(t, v, p).Data, []float64{
		-1000, -762.5, -287.5, -50, -584, -415.5, -78.5, 90, 40, 105, 235, 300, -404, -261, 25, 168, -700, -505, -115, 80,
		-440, -448.75, -466.25, -475, -254, -244, -224, -214, 25, 63.125, 139.375, 177.5, -209, -58, 244, 395, -365, -138.75, 313.75, 540,
		120, -135, -645, -900, 76, -72.5, -369.5, -518, 10, 21.25, 43.75, 55, -14, 145, 463, 622, -30, 227.5, 742.5, 1000,
	}, 1e-4)
}

// Reducing agrees with a dense triangle-filter matrix computed with NumPy.
func TestTriangleFilter(t *testing.T) {
	in := []float32{-40, 13, -31, 22, -22, 31, -13}
	for _, want := range [][]float64{
		{-24.1, -11.444444444, 4.363636364, 1.555555556, 0.2},
		{-18.4375, -0.823529412, 1.8125},
		{-13.959183673, 0.551020408},
	} {
		p := asStored([3]int{1, 1, len(want)})
		p.Fit = "resize"
		wantClose(t, apply(t, grid([3]int{1, 1, 7}, [3]float64{1, 1, 1}, in...), p).Data, want, 1e-5)
	}
}

// A pattern finer than the output's voxels must fade, not turn into a coarser one.
func TestNoAliasing(t *testing.T) {
	v := grid([3]int{1, 1, 64}, [3]float64{1, 1, 1}, 1000, -1000)
	p := asStored([3]int{1, 1, 16})
	p.Fit = "resize"
	for i, x := range apply(t, v, p).Data[1:15] {
		if math.Abs(float64(x)) > 1e-3 {
			t.Errorf("voxel %d is %g, want 0", i+1, x)
		}
	}
}

func TestSpacing(t *testing.T) {
	// 10 voxels of 2 mm to 3 mm: round(6.67) = 7 voxels over the same 20 mm.
	ramp := make([]float32, 10)
	for i := range ramp {
		ramp[i] = float32(i)
	}
	v := grid([3]int{1, 1, 10}, [3]float64{1, 1, 2}, ramp...)
	p := asStored([3]int{1, 1, 7})
	p.SpacingMM = config.Spacing{MM: [3]float64{1, 1, 3}}
	r := apply(t, v, p)
	resized := p
	resized.Fit = "resize"
	if got := apply(t, v, resized); !slices.Equal(got.Data, r.Data) || got.ToSource != r.ToSource {
		t.Errorf("seven voxels by spacing %v, by resizing %v", r.Data, got.Data)
	}
	if got := r.ToSource[0]; math.Abs(got[0]-20./7) > 1e-12 || math.Abs(got[3]-(10./7-1)) > 1e-12 {
		t.Errorf("ToSource row x %v, want spacing 20/7 from 10/7-1 mm on", got)
	}
	// With resize the spacing makes no difference: both scale the same extent.
	for _, mm := range []float64{0.1, 1, 40} {
		resized.SpacingMM.MM = [3]float64{mm, mm, mm}
		if got := apply(t, v, resized); !slices.Equal(got.Data, r.Data) {
			t.Errorf("spacing %g changes a resized volume", mm)
		}
	}
	// Then the fit: the middle 4 of the 7.
	p.ShapeDHW = [3]int{1, 1, 4}
	if got := apply(t, v, p); !slices.Equal(got.Data, r.Data[1:5]) {
		t.Errorf("cut %v, want %v", got.Data, r.Data[1:5])
	}
	// And padding by 1 and 2 with the minimum.
	p.ShapeDHW = [3]int{1, 1, 10}
	want := append(append([]float32{0}, r.Data...), 0, 0)
	if got := apply(t, v, p); !slices.Equal(got.Data, want) {
		t.Errorf("padded %v, want %v", got.Data, want)
	}
	// All three axes by different amounts.
	v = grid([3]int{4, 6, 9}, [3]float64{5, 1, 2}, 7)
	p.SpacingMM, p.ShapeDHW = config.Spacing{MM: [3]float64{2.5, 2, 3}}, [3]int{8, 3, 6}
	got := apply(t, v, p)
	for i, x := range got.Data {
		if math.Abs(float64(x)-7) > 1e-6 {
			t.Errorf("voxel %d of a constant volume is %v", i, x)
		}
	}
	wantMap := [4][4]float64{{3, 0, 0, 0.5}, {0, 2, 0, 0.5}, {0, 0, 2.5, -1.25}, {0, 0, 0, 1}}
	if got.ToSource != wantMap {
		t.Errorf("ToSource %v, want %v", got.ToSource, wantMap)
	}
}

func TestCropPad(t *testing.T) {
	tests := []struct {
		in   int
		out  int
		want []float32
	}{
		{5, 5, []float32{1, 2, 3, 4, 5}},
		{5, 3, []float32{2, 3, 4}},
		{5, 2, []float32{2, 3}},
		{4, 1, []float32{2}},
		{3, 5, []float32{1, 1, 2, 3, 1}},
		{3, 6, []float32{1, 1, 2, 3, 1, 1}},
		{3, 4, []float32{1, 2, 3, 1}},
	}
	for _, tt := range tests {
		for axis := range 3 {
			size, shape := [3]int{1, 1, 1}, [3]int{1, 1, 1}
			size[axis], shape[axis] = tt.in, tt.out
			r := apply(t, grid(size, [3]float64{1, 1, 1}, 1, 2, 3, 4, 5), asStored(shape))
			if !slices.Equal(r.Data, tt.want) {
				t.Errorf("%d to %d along axis %d: %v, want %v", tt.in, tt.out, axis, r.Data, tt.want)
			}
		}
	}
}

func TestWindow(t *testing.T) {
	in := []float32{-1500, -1000, -999, 0, 400, 401, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}
	v := grid([3]int{1, 1, 9}, [3]float64{1, 1, 1}, in...)
	p := asStored([3]int{1, 1, 11})
	p.Intensity, p.HUWindow, p.ScaleTo = "window", [2]float64{-1000, 400}, [2]float64{-1, 1}
	r, warnings, err := Apply(v, p)
	if err != nil {
		t.Fatal(err)
	}
	// The padding, first and last, is what the lower bound maps to; so is NaN.
	wantClose(t, r.Data, []float64{-1, -1, -1, -1 + 2./1400, -1 + 2000./1400, 1, 1, 1, -1, -1, -1}, 1e-7)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "1 of 11") {
		t.Errorf("warnings %q, want one about 1 of 11 voxels", warnings)
	}
	p.ScaleTo = [2]float64{1, 0} // inverted
	if r := apply(t, v, p); r.Data[0] != 1 || r.Data[6] != 0 {
		t.Errorf("inverted: %v", r.Data)
	}
	p.Intensity = "raw"
	r, warnings, err = Apply(v, p)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "3 of 11") {
		t.Fatalf("error %v, warnings %q", err, warnings)
	}
	wantClose(t, r.Data, []float64{-1500, -1500, -1000, -999, 0, 400, 401, -1500, -1500, -1500, -1500}, 0)
}

func TestThreadsDoNotShow(t *testing.T) {
	v := grid([3]int{9, 37, 41}, [3]float64{2, 1, 1}, 1, -700, 33, 40, -1000, 250, 3)
	p := config.Preprocess{Orientation: "LPS", SpacingMM: config.Spacing{MM: [3]float64{1.5, 1.5, 0.8}}, Intensity: "window", HUWindow: [2]float64{-1000, 400}, ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{8, 20, 64}, Fit: "crop_pad"}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	before := slices.Clone(v.HU)
	one := apply(t, v, p)
	for _, n := range []int{2, 3, 7} {
		runtime.GOMAXPROCS(n)
		if got := apply(t, v, p); !slices.Equal(got.Data, one.Data) {
			t.Errorf("%d threads give another result than 1", n)
		}
	}
	if !slices.Equal(v.HU, before) {
		t.Error("the volume was changed")
	}
}

func TestRefusals(t *testing.T) {
	good := config.Preprocess{Orientation: "LPS", SpacingMM: config.Spacing{MM: [3]float64{1, 1, 1}}, Intensity: "window", HUWindow: [2]float64{-1000, 400}, ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{4, 4, 4}, Fit: "crop_pad"}
	tests := []struct {
		name  string
		spoil func(*config.Preprocess, *volume.Volume)
		want  string
	}{
		{"orientation", func(p *config.Preprocess, _ *volume.Volume) { p.Orientation = "RAS" }, "preprocess.orientation"},
		{"fit", func(p *config.Preprocess, _ *volume.Volume) { p.Fit = "stretch" }, "preprocess.fit"},
		{"intensity", func(p *config.Preprocess, _ *volume.Volume) { p.Intensity = "" }, "preprocess.intensity"},
		{"window reversed", func(p *config.Preprocess, _ *volume.Volume) { p.HUWindow = [2]float64{400, -1000} }, "preprocess.hu_window"},
		{"window NaN", func(p *config.Preprocess, _ *volume.Volume) { p.HUWindow[0] = math.NaN() }, "preprocess.hu_window"},
		{"scale infinite", func(p *config.Preprocess, _ *volume.Volume) { p.ScaleTo[1] = math.Inf(1) }, "preprocess.hu_window"},
		{"no output", func(p *config.Preprocess, _ *volume.Volume) { p.ShapeDHW[1] = 0 }, "preprocess.shape_dhw"},
		{"huge output", func(p *config.Preprocess, _ *volume.Volume) { p.ShapeDHW = [3]int{2048, 2048, 512} }, "preprocess.shape_dhw"},
		{"spacing zero", func(p *config.Preprocess, _ *volume.Volume) { p.SpacingMM.MM[0] = 0 }, "preprocess.spacing_mm"},
		{"spacing NaN", func(p *config.Preprocess, _ *volume.Volume) { p.SpacingMM.MM[0] = math.NaN() }, "preprocess.spacing_mm"},
		{"too thin", func(p *config.Preprocess, _ *volume.Volume) { p.SpacingMM.MM[0] = 50 }, "50 mm along d"},
		{"too fine", func(p *config.Preprocess, _ *volume.Volume) { p.SpacingMM.MM[2] = 1e-12 }, "along w"},
		{"unsound volume", func(_ *config.Preprocess, v *volume.Volume) { v.HU = v.HU[1:] }, "voxels"},
		{"nothing but NaN, raw", func(p *config.Preprocess, v *volume.Volume) {
			p.Intensity = "raw"
			for i := range v.HU {
				v.HU[i] = float32(math.NaN())
			}
		}, "no voxel with a finite value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, v := good, grid([3]int{4, 4, 4}, [3]float64{5, 1, 1}, 0)
			tt.spoil(&p, v)
			_, _, err := Apply(v, p)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestFlip(t *testing.T) {
	shape := [3]int{2, 3, 2}
	base := []float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	tests := []struct {
		axes [3]bool
		want []float32
	}{
		{[3]bool{}, base},
		{[3]bool{true, false, false}, []float32{6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5}},
		{[3]bool{false, true, false}, []float32{4, 5, 2, 3, 0, 1, 10, 11, 8, 9, 6, 7}},
		{[3]bool{false, false, true}, []float32{1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10}},
		{[3]bool{true, true, true}, []float32{11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
	}
	for _, tt := range tests {
		got := slices.Clone(base)
		Flip(got, shape, tt.axes)
		if !slices.Equal(got, tt.want) {
			t.Errorf("axes %v: %v, want %v", tt.axes, got, tt.want)
		}
		Flip(got, shape, tt.axes)
		if !slices.Equal(got, base) {
			t.Errorf("axes %v twice: %v", tt.axes, got)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a shape that does not fit the data was accepted")
		}
	}()
	Flip(base, [3]int{2, 3, 3}, [3]bool{true, false, false})
}

// The peers are timed by bench/preprocess_peers.py on the same voxels.
func BenchmarkApply(b *testing.B) {
	v := grid([3]int{300, 512, 512}, [3]float64{1, 0.75, 0.75}, -1000, 40, 300, -700, 80)
	for _, filter := range []string{"none", "triangle", "gaussian"} {
		b.Run("512x512x300 to 128x256x256 "+filter, func(b *testing.B) {
			p := config.Preprocess{
				Orientation: "LPS", SpacingMM: config.Spacing{Keep: true}, Intensity: "window", HUWindow: [2]float64{-1000, 400},
				ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{128, 256, 256}, Fit: "resize", Antialias: filter,
			}
			for b.Loop() {
				apply(b, v, p)
			}
		})
	}
	b.Run("512x512x300 at 2 x 1.5 x 1.5 mm to 128x224x224, cut", func(b *testing.B) {
		p := config.Preprocess{
			Orientation: "LPS", SpacingMM: config.Spacing{MM: [3]float64{2, 1.5, 1.5}}, Intensity: "window", HUWindow: [2]float64{-1000, 400},
			ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{128, 224, 224}, Fit: "crop_pad",
		}
		for b.Loop() {
			apply(b, v, p)
		}
	})
}
