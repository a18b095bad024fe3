package preprocess

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/volume"
	"pgregory.net/rapid"
)

// storages returns the affines and stored sizes of all 48 axis orders of one box of voxels, such
// that the box holds the same voxels: along x (to the left) 4 of 3 mm, y (back) 5 of 2 mm, z (head) 6 of 1 mm.
func storages() (affines [][4][4]float64, sizes [][3]int) {
	count, mm, low := [3]int{4, 5, 6}, [3]float64{3, 2, 1}, [3]float64{-50, 70, 1000}
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for signs := range 8 {
			affine := [4][4]float64{3: {3: 1}}
			var size [3]int
			for column, world := range order { // column 0 is w, 1 is h, 2 is d
				size[2-column] = count[world]
				affine[world][column], affine[world][3] = mm[world], low[world]
				if signs>>column&1 == 1 {
					affine[world][column] = -mm[world]
					affine[world][3] = low[world] + mm[world]*float64(count[world]-1)
				}
			}
			affines, sizes = append(affines, affine), append(sizes, size)
		}
	}
	return affines, sizes
}

// paint fills a volume voxel by voxel from patient positions.
func paint(size [3]int, affine [4][4]float64, f func(p [3]float64) float64) *volume.Volume {
	hu := make([]float32, 0, size[0]*size[1]*size[2])
	for d := range size[0] {
		for h := range size[1] {
			for w := range size[2] {
				hu = append(hu, float32(f(volume.Transform(affine, float64(w), float64(h), float64(d)))))
			}
		}
	}
	v, err := volume.FromAffine(size, hu, affine)
	if err != nil {
		panic(err)
	}
	return v
}

// An L of bright voxels: its corner at the right, front, bottom of the box (x -50, y 70, z 1000), four
// voxels long towards the head, three towards the back, two towards the left, each arm in its own brightness.
func lShape(p [3]float64) float64 {
	x, y, z := math.Round((p[0]+50)/3), math.Round((p[1]-70)/2), math.Round(p[2]-1000)
	switch {
	case x == 0 && y == 0 && z == 0:
		return 1000
	case x == 0 && y == 0 && z <= 3:
		return 700
	case x == 0 && y <= 2 && z == 0:
		return 400
	case x <= 1 && y == 0 && z == 0:
		return 100
	}
	return -1000
}

func TestOutputAxes(t *testing.T) {
	affines, sizes := storages()
	for i := range affines {
		v := paint(sizes[i], affines[i], lShape)
		t.Run(volume.Orientation(v), func(t *testing.T) {
			p := asStored([3]int{6, 5, 4})
			p.Orientation = "LPS"
			r := apply(t, v, p)
			for d := range 6 {
				for h := range 5 {
					for w := range 4 {
						want := float32(-1000)
						switch {
						case d+h+w == 0:
							want = 1000
						case h+w == 0 && d <= 3: // towards the head
							want = 700
						case d+w == 0 && h <= 2: // towards the back
							want = 400
						case d+h == 0 && w <= 1: // towards the left
							want = 100
						}
						if got := r.Data[(d*5+h)*4+w]; got != want {
							t.Errorf("voxel d %d h %d w %d is %g, want %g", d, h, w, got, want)
						}
					}
				}
			}
			want := [4][4]float64{{3, 0, 0, -50}, {0, 2, 0, 70}, {0, 0, 1, 1000}, {0, 0, 0, 1}}
			if r.ToSource != want {
				t.Errorf("ToSource %v, want %v", r.ToSource, want)
			}
		})
	}
}

// Whatever the order of storage, the result is the same to the last bit, through all steps.
func TestStorageOrderDoesNotShow(t *testing.T) {
	wild := func(p [3]float64) float64 { return 500 * math.Sin(3*p[0]+1.7*p[1]*p[2]) }
	affines, sizes := storages()
	for _, p := range []config.Preprocess{
		{Orientation: "LPS", Intensity: "raw", ShapeDHW: [3]int{3, 4, 9}, Fit: "resize"},
		{Orientation: "LPS", SpacingMM: config.Spacing{MM: [3]float64{1.5, 1.5, 1.5}}, Intensity: "window", HUWindow: [2]float64{-300, 300}, ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{3, 9, 7}, Fit: "crop_pad"},
		{Orientation: "LPS", SpacingMM: config.Spacing{Keep: true}, Intensity: "raw", ShapeDHW: [3]int{7, 3, 2}, Fit: "crop_pad"},
	} {
		var first []float32
		for i := range affines {
			r := apply(t, paint(sizes[i], affines[i], wild), p)
			if first == nil {
				first = r.Data
			} else if !slices.Equal(first, r.Data) {
				t.Errorf("storage %d differs with %+v", i, p)
			}
		}
	}
}

// The voxels that ToSource names hold what is there in the patient: a linear field is met exactly wherever
// no edge and no reduction by a fraction is involved.
func TestToSourceFindsTheVoxel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := [3]int{}
		p := asStored([3]int{})
		p.Orientation = rapid.SampledFrom([]string{"LPS", "stored"}).Draw(t, "orientation")
		p.Fit = rapid.SampledFrom([]string{"resize", "crop_pad"}).Draw(t, "fit")
		for i := range size {
			size[i] = rapid.IntRange(2, 8).Draw(t, "size")
			p.ShapeDHW[i] = rapid.IntRange(8, 13).Draw(t, "shape")
		}
		turn := rapid.Float64Range(-0.4, 0.4).Draw(t, "turn")
		c, s := math.Cos(turn), math.Sin(turn)
		flips := [3]float64{}
		for i := range flips {
			flips[i] = rapid.SampledFrom([]float64{-1, 1}).Draw(t, "sign") * rapid.Float64Range(1, 3).Draw(t, "mm")
		}
		order := rapid.SampledFrom([][3]int{{0, 1, 2}, {1, 2, 0}, {2, 1, 0}, {0, 2, 1}}).Draw(t, "order")
		affine := [4][4]float64{{0, 0, 0, 11}, {0, 0, 0, -7}, {0, 0, 0, 300}, {0, 0, 0, 1}}
		for column, world := range order {
			affine[world][column] = flips[column]
		}
		affine = volume.Mul([4][4]float64{{c, 0, -s, 0}, {0, 1, 0, 0}, {s, 0, c, 0}, {0, 0, 0, 1}}, affine)
		field := func(p [3]float64) float64 { return 3*p[0] - 2*p[1] + 0.5*p[2] + 100 }
		v := paint(size, affine, field)
		if p.Fit == "crop_pad" && rapid.Bool().Draw(t, "finer") {
			p.SpacingMM = config.Spacing{MM: [3]float64{0.9, 0.8, 0.7}}
		}
		r, _, err := Apply(v, p)
		if err != nil {
			t.Fatal(err)
		}
		inside := 0
		for d := range r.Shape[0] {
			for h := range r.Shape[1] {
				for w := range r.Shape[2] {
					at := volume.Transform(r.ToSource, float64(w), float64(h), float64(d))
					if !within(v, at) {
						continue
					}
					inside++
					if got := r.Data[(d*r.Shape[1]+h)*r.Shape[2]+w]; math.Abs(float64(got)-field(at)) > 2e-3 {
						t.Fatalf("voxel d %d h %d w %d at %v is %g, want %g", d, h, w, at, got, field(at))
					}
				}
			}
		}
		if inside == 0 {
			t.Fatal("no voxel lies inside the volume")
		}
	})
}

// within reports whether a patient position lies between the centres of the outermost voxels.
func within(v *volume.Volume, at [3]float64) bool {
	for axis := range 3 {
		// The axes are perpendicular: project on each.
		along, length := 0.0, 0.0
		for i := range 3 {
			step := v.Affine[i][2-axis]
			along += step * (at[i] - v.Affine[i][3])
			length += step * step
		}
		if x := along / length; x < -1e-9 || x > float64(v.Size[axis]-1)+1e-9 {
			return false
		}
	}
	return true
}

func TestWarnsOfOddGeometry(t *testing.T) {
	p := asStored([3]int{4, 4, 4})
	p.Orientation = "LPS"
	v := grid([3]int{4, 4, 4}, [3]float64{2, 1, 1}, 0)
	for _, tt := range []struct {
		name   string
		affine [4][4]float64
		want   string
	}{
		{"straight", v.Affine, ""},
		{"tilted by 16 degrees", [4][4]float64{{1, 0, 0, 0}, {0, 0.96, 0, 0}, {0, 0.28, 2, 0}, {0, 0, 0, 1}}, "16.3 degrees off right angles"},
		{"turned by 37 degrees", [4][4]float64{{0.8, -0.6, 0, 0}, {0.6, 0.8, 0, 0}, {0, 0, 2, 0}, {0, 0, 0, 1}}, "36.9 degrees off the patient axes"},
	} {
		u, err := volume.FromAffine(v.Size, v.HU, tt.affine)
		if err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Apply(u, p)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(warnings, "; "); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: warnings %q, want %q", tt.name, got, tt.want)
		}
	}
}

// One real head stored in twelve axis orders gives one and the same network input.
func TestRealHeadInTwelveOrders(t *testing.T) {
	root := os.Getenv("CTCLASS_TESTDATA")
	if root == "" {
		t.Skip("CTCLASS_TESTDATA names no folder with test data")
	}
	paths, err := filepath.Glob(filepath.Join(root, "nifti", "space48", "*.nii.gz"))
	if err != nil || len(paths) < 12 {
		t.Fatalf("%d files, error %v", len(paths), err)
	}
	p := config.Preprocess{Orientation: "LPS", SpacingMM: config.Spacing{MM: [3]float64{3, 2, 2}}, Intensity: "window", HUWindow: [2]float64{0, 80}, ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{48, 64, 64}, Fit: "crop_pad"}
	var first Result
	for _, path := range paths {
		v, _, err := nifti.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		r := apply(t, v, p)
		if first.Data == nil {
			first = r
			continue
		}
		if !slices.Equal(r.Data, first.Data) {
			t.Errorf("%s gives another result than %s", filepath.Base(path), filepath.Base(paths[0]))
		}
		for i := range 3 {
			for j := range 4 {
				if math.Abs(r.ToSource[i][j]-first.ToSource[i][j]) > 1e-3 {
					t.Errorf("%s: ToSource %v, want %v", filepath.Base(path), r.ToSource, first.ToSource)
				}
			}
		}
	}
}
