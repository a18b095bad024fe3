package report

import (
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/ctclass/ctclass/internal/volume"
)

// cube is a volume whose values tell the place: +100 HU on the patient's left, +40 at the back, +10 at the
// head, each half from -100 HU on.
func cube(t *testing.T, size [3]int, affine [4][4]float64) *volume.Volume {
	t.Helper()
	v, err := volume.FromAffine(size, make([]float32, size[0]*size[1]*size[2]), affine)
	if err != nil {
		t.Fatal(err)
	}
	var center [3]float64
	for i := range 3 {
		center[i] = volume.Transform(affine, float64(size[2]-1)/2, float64(size[1]-1)/2, float64(size[0]-1)/2)[i]
	}
	i := 0
	for d := range size[0] {
		for h := range size[1] {
			for w := range size[2] {
				p := volume.Transform(affine, float64(w), float64(h), float64(d))
				hu := float32(-100)
				for axis, step := range []float32{100, 40, 10} {
					if p[axis] > center[axis] {
						hu += step
					}
				}
				v.HU[i] = hu
				i++
			}
		}
	}
	return v
}

// However a volume is stored, left, back and head are drawn where they belong, in the proportions in mm.
func TestPreview(t *testing.T) {
	for name, v := range map[string]*volume.Volume{
		"LPS": cube(t, [3]int{10, 20, 40}, [4][4]float64{{2, 0, 0, 5}, {0, 2, 0, 6}, {0, 0, 6, 7}, {0, 0, 0, 1}}),
		// w to the feet, h to the front, d to the right.
		"IAR": cube(t, [3]int{40, 20, 10}, [4][4]float64{{0, 0, -2, 5}, {0, -2, 0, 6}, {-6, 0, 0, 7}, {0, 0, 0, 1}}),
	} {
		path := filepath.Join(t.TempDir(), "x.png")
		if err := WritePreview(path, v); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		// 80 x 40 x 60 mm: 256 x 128 x 192 pixels. Three axial tiles, one coronal, one sagittal.
		caption := glyphHeight*letter + gap
		if got, want := m.Bounds().Size(), (struct{ X, Y int }{gap + 4*(256+gap) + 128 + gap, gap + 3*(192+caption+gap)}); got.X != want.X || got.Y != want.Y {
			t.Fatalf("%s: %v, want %v", name, got, want)
		}
		soft := gap + (192 + caption + gap) + caption // the upper edge of the tiles of the second row
		at := func(tile, x, y int) float64 {
			g, _, _, _ := m.At(gap+tile*(256+gap)+x, soft+y).RGBA()
			return float64(g>>8)/255*400 - 160 // HU of the soft tissue window
		}
		for _, p := range []struct {
			tile, x, y int
			hu         float64
		}{
			{0, 60, 30, -100 + 10}, {0, 190, 30, 10}, {0, 60, 100, -50}, {0, 190, 100, 50}, // axial at the head
			{2, 60, 30, -100}, {2, 190, 100, 40}, // axial at the feet
			{3, 60, 40, -50}, {3, 190, 40, 50}, {3, 60, 150, -60}, {3, 190, 150, 40}, // coronal, in the back half
			{4, 30, 40, 10}, {4, 100, 40, 50}, {4, 30, 150, 0}, {4, 100, 150, 40}, // sagittal, in the left half
		} {
			if got := at(p.tile, p.x, p.y); math.Abs(got-p.hu) > 1 {
				t.Errorf("%s: tile %d at (%d, %d): %.1f HU, want %g", name, p.tile, p.x, p.y, got, p.hu)
			}
		}
	}
}

// Flat, single and odd volumes are drawn too.
func TestPreviewOfOddVolumes(t *testing.T) {
	for _, size := range [][3]int{{1, 1, 1}, {1, 30, 2}, {300, 1, 1}} {
		v := cube(t, size, [4][4]float64{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}})
		v.HU[0] = float32(math.NaN())
		if m, err := Preview(v); err != nil || m.Bounds().Dx() < 5 {
			t.Errorf("%v: %v", size, err)
		}
	}
	if err := WritePreview(filepath.Join(t.TempDir(), "x.png"), &volume.Volume{}); err == nil {
		t.Error("an unsound volume was drawn")
	}
}

// Every letter that captions and edges use has a shape.
func TestGlyphs(t *testing.T) {
	all := glyphs()
	for _, r := range "LUNGSOFTTISSUEBONETOHULRAPSI-0123456789" {
		if all[r] == ([glyphHeight]byte{}) {
			t.Errorf("no shape for %q", r)
		}
	}
}
