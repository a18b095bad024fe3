package phantom

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/volume"
)

func generate(t *testing.T, opt Options) *Case {
	t.Helper()
	c, err := Generate(opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mean returns the mean HU in the block of voxels around the point x, y, z in mm from the middle of
// the anatomy of patient p, reaching r mm along each axis.
func mean(c *Case, p *patient, x, y, z, r float64) float64 {
	canvas := canvas{size: c.Volume.Size, spacing: c.Volume.Spacing}
	half := func(axis int) float64 { return float64(c.Volume.Size[axis]-1) / 2 * c.Volume.Spacing[axis] }
	canvas.first = vec{p.centre.x - half(2), p.centre.y - half(1), p.centre.z - half(0)}
	sum, n := 0.0, 0
	for dz := -r; dz <= r; dz += 2 {
		for dy := -r; dy <= r; dy += 2 {
			for dx := -r; dx <= r; dx += 2 {
				if i, ok := canvas.index(vec{x + dx, y + dy, z + dz}); ok {
					sum += float64(c.Volume.HU[i])
					n++
				}
			}
		}
	}
	return sum / float64(n)
}

func patientOf(seed uint64, number int) *patient {
	s := streamOf("patient", seed, number)
	return newPatient(s)
}

// Tissues have the densities that textbooks give for CT without contrast medium.
func TestTissues(t *testing.T) {
	none := Labels{}
	for number := range 4 {
		c := generate(t, Options{Seed: 5, Case: number, Findings: &none})
		p := patientOf(5, number)
		v, _, _, _ := p.heartParts()
		tissues := []struct {
			name       string
			x, y, z, r float64
			low, high  float64
		}{
			{"air outside", 0, -150, 60, 4, -1010, -990},
			{"trachea", 0, 12, 80, 2, -1000, -850},
			{"right upper lung", -62, 20, 40, 8, -930, -650},
			{"left upper lung", 62, 20, 40, 8, -930, -650},
			{"heart", v.x, v.y, v.z, 8, 30, 60},
			{"descending aorta", 23, p.spine() - 18, 0, 4, 25, 60},
			{"liver", -60, 0, -110, 8, 45, 70},
			{"vertebra", 0, p.spine(), 14, 5, 100, 350},
			{"fat", 0, -(p.cage.y + p.muscle + p.fat*0.65), -40, 1, -125, -20},
		}
		for _, s := range tissues {
			if s.name == "fat" && p.fat < 10 {
				continue // thinner than the voxels
			}
			if got := mean(c, p, s.x, s.y, s.z, s.r); !(got >= s.low && got <= s.high) {
				t.Errorf("case %d: %s has %.0f HU, expected %v to %v", number, s.name, got, s.low, s.high)
			}
		}
		lung, bone := 0, 0
		for _, hu := range c.Volume.HU {
			if hu != float32(math.Trunc(float64(hu))) || hu < -1024 || hu > 3071 {
				t.Fatalf("voxel of %v HU", hu)
			}
			if hu > -930 && hu < -650 {
				lung++
			}
			if hu > 250 {
				bone++
			}
		}
		litres := float64(lung) * 5 * 3.5 * 3.5 / 1e6
		if litres < 2 || litres > 6.5 {
			t.Errorf("case %d: the lungs hold %.1f litres", number, litres)
		}
		if ml := float64(bone) * 5 * 3.5 * 3.5 / 1e3; ml < 150 || ml > 1200 {
			t.Errorf("case %d: %.0f ml of bone", number, ml)
		}
		if len(c.Boxes) != 0 || c.Labels != none {
			t.Errorf("case %d without findings has %v and %v", number, c.Labels, c.Boxes)
		}
	}
}

// The affine is true: the heart lies to the left of the spine, the spine behind it, the liver below.
func TestOrientation(t *testing.T) {
	none := Labels{}
	c := generate(t, Options{Seed: 2, Findings: &none})
	if err := c.Volume.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := volume.Orientation(c.Volume); got != "LPS" {
		t.Errorf("orientation %s, want LPS", got)
	}
	if got := volume.SpacingOf(c.Volume.Affine); got != c.Volume.Spacing {
		t.Errorf("affine has spacing %v, volume %v", got, c.Volume.Spacing)
	}
	p := patientOf(2, 0)
	right, left := mean(c, p, -45, -30, -30, 6), mean(c, p, 45, -30, -30, 6)
	if !(right < -600 && left > 0) {
		t.Errorf("right of the middle %v HU, left %v: the heart should lie on the left", right, left)
	}
	if back, front := mean(c, p, 0, p.spine(), 20, 4), mean(c, p, 0, -p.spine(), 20, 4); back < front+50 {
		t.Errorf("behind %v HU, in front %v: the spine should lie behind", back, front)
	}
}

// A finding changes the volume inside its boxes, to the densities it stands for, and hardly
// elsewhere; the boxes and labels agree.
func TestFindings(t *testing.T) {
	const ml = 5 * 3.5 * 3.5 / 1e3
	ranges := map[Finding]struct{ low, high, least, most float64 }{ // mean HU of what changed; its volume in ml
		Nodule:        {-260, 120, 5, 60},
		Effusion:      {-60, 60, 150, 2500},
		Consolidation: {-250, 60, 50, 500},
		Calcification: {150, 1100, 1, 60},
	}
	for number := range 4 {
		none := Labels{}
		plain := generate(t, Options{Seed: 9, Case: number, Findings: &none})
		for f := range findingCount {
			var only Labels
			only[f] = true
			c := generate(t, Options{Seed: 9, Case: number, Findings: &only})
			if len(c.Boxes) == 0 {
				t.Fatalf("case %d: no %v was planted", number, f)
			}
			inside := func(d, h, w int) bool {
				return slices.ContainsFunc(c.Boxes, func(b Box) bool {
					return d >= b.Min[0] && d < b.Max[0] && h >= b.Min[1] && h < b.Max[1] && w >= b.Min[2] && w < b.Max[2]
				})
			}
			for _, b := range c.Boxes {
				if b.Finding != f {
					t.Errorf("case %d with %v alone has a box of %v", number, f, b.Finding)
				}
				for axis := range 3 {
					if b.Min[axis] < 0 || b.Min[axis] >= b.Max[axis] || b.Max[axis] > c.Volume.Size[axis] {
						t.Errorf("case %d: box %v is empty or beyond the volume", number, b)
					}
				}
			}
			changed, outside, sum, i := 0, 0, 0.0, 0
			for d := range c.Volume.Size[0] {
				for h := range c.Volume.Size[1] {
					for w := range c.Volume.Size[2] {
						if diff := c.Volume.HU[i] - plain.Volume.HU[i]; math.Abs(float64(diff)) > 200 {
							changed++
							sum += float64(c.Volume.HU[i])
							if !inside(d, h, w) {
								outside++
							}
						}
						i++
					}
				}
			}
			want := ranges[f]
			if got := float64(changed) * ml; got < want.least || got > want.most {
				t.Errorf("case %d: %v takes %.1f ml, expected %v to %v", number, f, got, want.least, want.most)
			}
			if got := sum / float64(changed); got < want.low || got > want.high {
				t.Errorf("case %d: %v has %.0f HU, expected %v to %v", number, f, got, want.low, want.high)
			}
			if outside*4 > changed {
				t.Errorf("case %d: %d of %d voxels changed by %v lie outside its boxes", number, outside, changed, f)
			}
		}
	}
}

// Small volumes, as networks see them, still show every finding.
func TestCoarse(t *testing.T) {
	all := Labels{true, true, true, true}
	for number := range 12 {
		c := generate(t, Options{Seed: 3, Case: number, Size: [3]int{32, 48, 48}, SpacingMM: [3]float64{10, 7, 7}, Findings: &all})
		var seen Labels
		for _, b := range c.Boxes {
			seen[b.Finding] = true
		}
		if seen != all {
			t.Errorf("case %d shows %v only", number, seen)
		}
	}
}

// Labels are drawn independently with probability 0.4: counts of 4000 cases within four standard
// deviations, for each finding and for each pair.
func TestLabelsAreIndependent(t *testing.T) {
	const n = 4000
	var single [findingCount]int
	var pair [findingCount][findingCount]int
	for number := range n {
		l := drawLabels(77, number)
		for a := range findingCount {
			for b := range findingCount {
				if l[a] && l[b] {
					pair[a][b]++
				}
			}
			if l[a] {
				single[a]++
			}
		}
	}
	within := func(count int, p float64) bool {
		return math.Abs(float64(count)-n*p) < 4*math.Sqrt(n*p*(1-p))
	}
	for a := range findingCount {
		if !within(single[a], prevalence) {
			t.Errorf("%v in %d of %d cases", a, single[a], n)
		}
		for b := range a {
			if !within(pair[a][b], prevalence*prevalence) {
				t.Errorf("%v and %v together in %d of %d cases", a, b, pair[a][b], n)
			}
		}
	}
	c := generate(t, Options{Seed: 77, Case: 3, Size: [3]int{32, 48, 48}, SpacingMM: [3]float64{10, 7, 7}})
	if c.Labels != drawLabels(77, 3) {
		t.Errorf("the case has labels %v, the draw gives %v", c.Labels, drawLabels(77, 3))
	}
}

func TestDeterminism(t *testing.T) {
	small := Options{Seed: 1, Case: 4, Size: [3]int{26, 48, 48}, SpacingMM: [3]float64{10, 7, 7}}
	a, b := generate(t, small), generate(t, small)
	if !reflect.DeepEqual(a, b) {
		t.Error("the same options gave two phantoms")
	}
	for _, other := range []Options{{Seed: 2, Case: 4}, {Seed: 1, Case: 5}} {
		other.Size, other.SpacingMM = small.Size, small.SpacingMM
		if c := generate(t, other); slices.Equal(c.Volume.HU, a.Volume.HU) {
			t.Errorf("%+v gives the volume of another case", other)
		}
	}
}

func TestRefuses(t *testing.T) {
	cases := []struct {
		opt  Options
		want string
	}{
		{Options{Case: -1}, "case number"},
		{Options{Size: [3]int{64, 0, 64}}, "size"},
		{Options{Size: [3]int{1 << 40, 1 << 40, 64}}, "size"},
		{Options{Size: [3]int{4000, 4000, 4000}}, "size"},
		{Options{SpacingMM: [3]float64{1, 1, 1}}, "no chest"},
		{Options{SpacingMM: [3]float64{5, math.NaN(), 3.5}}, "no chest"},
		{Options{SpacingMM: [3]float64{5, -3.5, 3.5}}, "no chest"},
		{Options{Size: [3]int{8, 96, 96}, SpacingMM: [3]float64{40, 3.5, 3.5}}, "vanish"},
	}
	for _, c := range cases {
		if _, err := Generate(c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want an error with %q", c.opt, err, c.want)
		}
	}
}

func BenchmarkGenerate(b *testing.B) {
	for i := range b.N {
		if _, err := Generate(Options{Seed: 1, Case: i}); err != nil {
			b.Fatal(err)
		}
	}
}
