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

// patient is a body of 40 HU with lungs, on a thin table, in air: an ellipse across, from z 40 to 160 mm.
func patient(p [3]float64) float64 {
	x, y, z := p[0]-200, p[1]-180, p[2]
	switch {
	case z > 40 && z < 160 && x*x/(80*80)+y*y/(60*60) < 1 && math.Hypot(math.Abs(x)-35, y) > 25:
		return 40
	case p[1] > 250 && p[1] < 252: // the shell of a table, across the whole picture
		return 300
	}
	return -1000
}

func TestCropBody(t *testing.T) {
	size := [3]int{50, 100, 100}
	affine := [4][4]float64{{4, 0, 0, 2}, {0, 3.5, 0, 1}, {0, 0, 4, 2}, {0, 0, 0, 1}}
	v := paint(size, affine, patient)
	p := asStored([3]int{30, 35, 40})
	p.Orientation, p.Crop, p.CropMarginMM, p.Fit = "LPS", "body", 0, "resize"
	r := apply(t, v, p)
	// The box begins and ends where the body does, to a cell of 4 mm and the one of the layer that was taken off.
	first, last := volume.Transform(r.ToSource, -0.5, -0.5, -0.5), volume.Transform(r.ToSource, 39.5, 34.5, 29.5)
	for i, want := range [][2]float64{{120, 280}, {120, 240}, {40, 160}} {
		if math.Abs(first[i]-want[0]) > 8 || math.Abs(last[i]-want[1]) > 8 {
			t.Errorf("axis %c: from %.0f to %.0f mm, want %v", "xyz"[i], first[i], last[i], want)
		}
	}
	if r.Data[0] > -500 || r.Data[(15*35+17)*40+20] != 40 {
		t.Errorf("corner %v, middle %v", r.Data[0], r.Data[(15*35+17)*40+20])
	}
	p.CropMarginMM = 20
	wide := apply(t, v, p)
	if got := volume.Transform(wide.ToSource, -0.5, -0.5, -0.5); math.Abs(first[0]-got[0]-20) > 4 || math.Abs(first[2]-got[2]-20) > 4 {
		t.Errorf("a margin of 20 mm moves the corner from %v to %v", first, got)
	}
	// Whatever the storage, the same patient is cut out.
	stored, err := volume.Reorient(v, "SRA")
	if err != nil {
		t.Fatal(err)
	}
	if got := apply(t, stored, p); !slices.Equal(got.Data, wide.Data) {
		t.Error("the order of storage shows")
	}
	air := paint(size, affine, func([3]float64) float64 { return -1000 })
	if _, _, err := Apply(air, p); err == nil || !strings.Contains(err.Error(), "nothing above -500 HU") {
		t.Errorf("air: %v", err)
	}
}

// Besides the volume and the result only a few planes are taken, whatever the order of storage.
func TestMemoryIsBounded(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	v := grid([3]int{100, 128, 128}, [3]float64{2, 1, 1}, 1, -700, 33)
	turned, err := volume.Reorient(v, "SLP")
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]config.Preprocess{
		"resize": {Orientation: "LPS", Intensity: "window", HUWindow: [2]float64{-1000, 400}, ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{32, 48, 48}, Fit: "resize"},
		"recipe": {Orientation: "LPS", Intensity: "window", HUWindow: [2]float64{-1000, 400}, ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{32, 48, 48}, SpacingMM: config.Spacing{MM: [3]float64{1, 1, 1}}, Recipe: "ct_rate_classifier"},
	} {
		for storage, v := range map[string]*volume.Volume{"": v, ", turned": turned} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			apply(t, v, p)
			runtime.ReadMemStats(&after)
			// 32·48·48 floats of result; two workers with up to 32 planes each.
			if got, most := after.TotalAlloc-before.TotalAlloc, uint64(4*32*48*48+2*40*4*128*128); got > most {
				t.Errorf("%s%s: %d bytes were taken, want at most %d", name, storage, got, most)
			}
		}
	}
}
