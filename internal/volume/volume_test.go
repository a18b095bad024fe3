package volume

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// chest is a LAS volume of 2x3x4 voxels whose values are 100d+10h+w.
func chest() *Volume {
	v := &Volume{
		Size:    [3]int{2, 3, 4},
		Spacing: [3]float64{5, 2, 1},
		Affine:  [4][4]float64{{1, 0, 0, -10}, {0, -2, 0, 20}, {0, 0, 5, 30}, {0, 0, 0, 1}},
	}
	for d := range 2 {
		for h := range 3 {
			for w := range 4 {
				v.HU = append(v.HU, float32(100*d+10*h+w))
			}
		}
	}
	return v
}

func TestOrientation(t *testing.T) {
	tests := []struct {
		name   string
		affine [4][4]float64
		want   string
	}{
		{"canonical", [4][4]float64{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}, "LPS"},
		{"nifti identity", [4][4]float64{{-1, 0, 0, 0}, {0, -1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}, "RAS"},
		{"coronal, w left, h to the feet, d to the front", [4][4]float64{{1, 0, 0, 0}, {0, 0, -1, 0}, {0, -1, 0, 0}, {0, 0, 0, 1}}, "LIA"},
		{"sagittal, w to the back, h to the head, d right", [4][4]float64{{0, 0, -3, 0}, {1, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 0, 1}}, "PSR"},
		// Two axes both lean most to y; only one can have it, and the sum of cosines decides.
		{"both near y", [4][4]float64{{0.6, 0.1, 0, 0}, {0.8, 0.99, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}, "LPS"},
		{"anisotropic and oblique", [4][4]float64{{0.5, 0, -3, 0}, {0.1, 0.5, 2, 0}, {0.2, 0.3, 9, 0}, {0, 0, 0, 1}}, "LPS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := OrientationOf(tt.affine); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestReorientByHand(t *testing.T) {
	v := chest()
	if got := Orientation(v); got != "LAS" {
		t.Fatalf("orientation %s, want LAS", got)
	}
	out, err := Reorient(v, "LPS")
	if err != nil {
		t.Fatal(err)
	}
	// Only h turns round: row 0 is the old row 2.
	if out.Size != [3]int{2, 3, 4} || out.At(0, 0, 0) != 20 || out.At(1, 2, 3) != 103 {
		t.Errorf("size %v, first %g, last %g; want [2 3 4], 20, 103", out.Size, out.At(0, 0, 0), out.At(1, 2, 3))
	}
	want := [4][4]float64{{1, 0, 0, -10}, {0, 2, 0, 16}, {0, 0, 5, 30}, {0, 0, 0, 1}}
	if out.Affine != want {
		t.Errorf("affine %v, want %v", out.Affine, want)
	}

	// "SRA": w to the head (old d), h to the right (old w reversed), d to the front (old h).
	out, err = Reorient(v, "SRA")
	if err != nil {
		t.Fatal(err)
	}
	if out.Size != [3]int{3, 4, 2} || out.Spacing != [3]float64{2, 1, 5} {
		t.Errorf("size %v spacing %v, want [3 4 2] [2 1 5]", out.Size, out.Spacing)
	}
	if got := out.At(2, 0, 1); got != 123 {
		t.Errorf("voxel (2,0,1) is %g, want 123 (old d 1, h 2, w 3)", got)
	}
	if got := Orientation(out); got != "SRA" {
		t.Errorf("orientation after %s", got)
	}

	same, err := Reorient(v, "LAS")
	if err != nil || same != v {
		t.Errorf("reorienting to the same code returned another volume (error %v)", err)
	}
}

func TestReorientRefusesCodes(t *testing.T) {
	for _, code := range []string{"", "LP", "LPSS", "LRS", "LPX", "lps", "LPL"} {
		if _, err := Reorient(chest(), code); err == nil || !strings.Contains(err.Error(), "orientation") {
			t.Errorf("code %q: error %v", code, err)
		}
	}
}

// Every voxel keeps its value and its place in the patient, whatever the code, and the way back restores all.
func TestReorientKeepsPlaces(t *testing.T) {
	codes := allCodes()
	if len(codes) != 48 {
		t.Fatalf("%d codes, want 48", len(codes))
	}
	rapid.Check(t, func(t *rapid.T) {
		v := chest()
		angle := rapid.Float64Range(-0.3, 0.3).Draw(t, "angle")
		c, s := math.Cos(angle), math.Sin(angle)
		v.Affine = Mul([4][4]float64{{c, -s, 0, 0}, {s, c, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}, v.Affine)
		code := rapid.SampledFrom(codes).Draw(t, "code")
		out, err := Reorient(v, code)
		if err != nil {
			t.Fatal(err)
		}
		if got := Orientation(out); got != code {
			t.Fatalf("orientation %s, want %s", got, code)
		}
		places := map[float32][3]float64{}
		for d := range v.Size[0] {
			for h := range v.Size[1] {
				for w := range v.Size[2] {
					places[v.At(d, h, w)] = Transform(v.Affine, float64(w), float64(h), float64(d))
				}
			}
		}
		for d := range out.Size[0] {
			for h := range out.Size[1] {
				for w := range out.Size[2] {
					got := Transform(out.Affine, float64(w), float64(h), float64(d))
					want := places[out.At(d, h, w)]
					for i := range 3 {
						if math.Abs(got[i]-want[i]) > 1e-9 {
							t.Fatalf("voxel %g moved from %v to %v", out.At(d, h, w), want, got)
						}
					}
				}
			}
		}
		back, err := Reorient(out, "LAS")
		if err != nil {
			t.Fatal(err)
		}
		for i := range v.HU {
			if back.HU[i] != v.HU[i] {
				t.Fatalf("voxel %d is %g after the way back, want %g", i, back.HU[i], v.HU[i])
			}
		}
	})
}

func allCodes() []string {
	var codes []string
	for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for signs := range 8 {
			code := make([]byte, 3)
			for i, world := range p {
				code[i] = directions[world][signs>>i&1]
			}
			codes = append(codes, string(code))
		}
	}
	return codes
}

func TestCanonicalRAS(t *testing.T) {
	out, err := CanonicalRAS(chest())
	if err != nil {
		t.Fatal(err)
	}
	if Orientation(out) != "RAS" || out.At(0, 0, 0) != 3 {
		t.Errorf("orientation %s, first voxel %g; want RAS, 3", Orientation(out), out.At(0, 0, 0))
	}
}

func TestHUStats(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	v := &Volume{HU: []float32{-1024, 40, nan, 100, inf, nan, 0, 84}}
	got := HUStats(v)
	want := Stats{Min: -1024, Max: 100, Mean: -160, NaN: 0.25, Inf: 0.125}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s := HUStats(&Volume{HU: []float32{nan}}); !math.IsNaN(s.Min) || !math.IsNaN(s.Mean) || s.NaN != 1 {
		t.Errorf("all NaN: %+v", s)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*Volume)
		want  string // in the error; empty: none
	}{
		{"good", func(*Volume) {}, ""},
		{"zero size", func(v *Volume) { v.Size[1] = 0 }, "size 0 along h"},
		{"overflow", func(v *Volume) { v.Size = [3]int{math.MaxInt / 2, 3, 4} }, "more than can be addressed"},
		{"too few voxels", func(v *Volume) { v.HU = v.HU[:23] }, "23 voxels"},
		{"NaN in affine", func(v *Volume) { v.Affine[0][3] = math.NaN() }, "not finite"},
		{"infinite affine", func(v *Volume) { v.Affine[2][2] = math.Inf(1) }, "not finite"},
		{"last row", func(v *Volume) { v.Affine[3][0] = 1 }, "last row"},
		{"no step along d", func(v *Volume) { v.Affine[2][2] = 0 }, "along d"},
		{"flat", func(v *Volume) { v.Affine[0][1], v.Affine[1][1] = 2, 0 }, "one plane"},
		{"spacing", func(v *Volume) { v.Spacing[0] = 4 }, "spacing along d is 4 mm"},
		{"NaN spacing", func(v *Volume) { v.Spacing[2] = math.NaN() }, "spacing along w"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := chest()
			tt.spoil(v)
			err := v.Validate()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestFromAffine(t *testing.T) {
	c := chest()
	v, err := FromAffine(c.Size, c.HU, c.Affine)
	if err != nil || v.Spacing != [3]float64{5, 2, 1} {
		t.Errorf("spacing %v, error %v", v.Spacing, err)
	}
	if _, err := FromAffine(c.Size, c.HU[1:], c.Affine); err == nil {
		t.Error("a missing voxel went unnoticed")
	}
}

func TestSkewAndObliquity(t *testing.T) {
	// Slices 2 mm apart whose columns lean by 16.5 degrees: h is tilted, d stays along z.
	c, s := math.Cos(16.5*math.Pi/180), math.Sin(16.5*math.Pi/180)
	tilted := [4][4]float64{{1, 0, 0, 0}, {0, c, 0, 0}, {0, s, 2, 0}, {0, 0, 0, 1}}
	if got := Skew(tilted); math.Abs(got-16.5) > 1e-9 {
		t.Errorf("skew %g, want 16.5", got)
	}
	turned := [4][4]float64{{1, 0, 0, 0}, {0, c, -2 * s, 0}, {0, s, 2 * c, 0}, {0, 0, 0, 1}}
	if got := Skew(turned); math.Abs(got) > 1e-9 {
		t.Errorf("skew of a rotated volume %g, want 0", got)
	}
	if got := Obliquity(turned); math.Abs(got-16.5) > 1e-9 {
		t.Errorf("obliquity %g, want 16.5", got)
	}
}
