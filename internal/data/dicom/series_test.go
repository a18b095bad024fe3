package dicom

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
	"github.com/ctclass/ctclass/internal/volume"
	"pgregory.net/rapid"
)

// folder writes the files and returns their headers.
func folder(t testing.TB, files ...*dicomtest.File) []Header {
	t.Helper()
	dir := t.TempDir()
	var headers []Header
	for i, f := range files {
		h, err := ReadHeader(f.Write(t, dir, fmt.Sprintf("IM%03d", i)))
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
	}
	return headers
}

func one(t testing.TB, files ...*dicomtest.File) *Series {
	t.Helper()
	series, rejected := Group(folder(t, files...))
	if len(series) != 1 || len(rejected) != 0 {
		t.Fatalf("%d series, rejected %v", len(series), rejected)
	}
	return &series[0]
}

func read(t testing.TB, s *Series, asStored bool) (*volume.Volume, []string) {
	t.Helper()
	v, warnings, err := s.Read(asStored)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Validate(); err != nil {
		t.Fatal(err)
	}
	return v, warnings
}

// flat is a slice of 2 x 3 pixels that all have one value in HU.
func flat(instance int, z float64, hu int) *dicomtest.File {
	p := make([]int16, 6)
	for i := range p {
		p[i] = int16(hu + 1024)
	}
	return dicomtest.Slice("1.2.3.4", instance, z, 2, 3, p)
}

// column returns the HU of voxel (0, 0) of each slice.
func column(v *volume.Volume) []float32 {
	out := make([]float32, v.Size[0])
	for d := range out {
		out[d] = v.At(d, 0, 0)
	}
	return out
}

func wantColumn(t *testing.T, v *volume.Volume, want ...float32) {
	t.Helper()
	got := column(v)
	if len(got) != len(want) {
		t.Fatalf("slices %v, want %v", got, want)
	}
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-3 {
			t.Fatalf("slices %v, want %v", got, want)
		}
	}
}

func TestStack(t *testing.T) {
	// Written head first, numbered the other way round: position decides.
	a := dicomtest.Slice("1.2.3.4", 1, 5, 2, 3, []int16{1, 2, 3, 4, 5, 6})
	b := dicomtest.Slice("1.2.3.4", 2, 3, 2, 3, []int16{11, 12, 13, 14, 15, 16})
	b.Set(0x00281053, "DS", "2").Set(0x00281052, "DS", "-100") // rescale is per slice
	s := one(t, a, b)
	v, warnings := read(t, s, false)
	if len(warnings) != 0 {
		t.Errorf("warnings %q", warnings)
	}
	if v.Size != [3]int{2, 2, 3} || v.Spacing != [3]float64{2, 0.5, 0.75} {
		t.Errorf("size %v spacing %v", v.Size, v.Spacing)
	}
	if got := v.At(0, 1, 2); got != 16*2-100 {
		t.Errorf("lower slice %g", got)
	}
	if got := v.At(1, 0, 1); got != 2-1024 {
		t.Errorf("upper slice %g", got)
	}
	// Row spacing 0.5 belongs to h, column spacing 0.75 to w.
	want := [4][4]float64{{0.75, 0, 0, -10}, {0, 0.5, 0, 20}, {0, 0, 2, 3}, {0, 0, 0, 1}}
	if v.Affine != want {
		t.Errorf("affine %v", v.Affine)
	}
	if code := volume.Orientation(v); code != "LPS" {
		t.Errorf("orientation %s", code)
	}
}

func TestOrientations(t *testing.T) {
	for _, tt := range []struct {
		orientation, positions string // position with %d for the slice
		code                   string
	}{
		{`1\0\0\0\1\0`, `0\0\%d`, "LPS"},
		{`-1\0\0\0\-1\0`, `0\0\%d`, "RAS"},
		{`1\0\0\0\0\-1`, `0\%d\0`, "LIP"},
		{`0\1\0\0\0\-1`, `%d\0\0`, "PIR"},
		{`-1\0\0\0\1\0`, `0\0\%d`, "RPI"}, // seen from the head: the normal points down
	} {
		var files []*dicomtest.File
		for i := range 3 {
			f := flat(i+1, 0, i).Set(0x00200037, "DS", tt.orientation)
			files = append(files, f.Set(0x00200032, "DS", fmt.Sprintf(tt.positions, i)))
		}
		v, _ := read(t, one(t, files...), false)
		if got := volume.Orientation(v); got != tt.code {
			t.Errorf("%s: orientation %s, want %s", tt.orientation, got, tt.code)
		}
		for d := range 3 {
			// HU i lies at coordinate i along the slice axis, whichever way the stack was counted.
			p := volume.Transform(v.Affine, 0, 0, float64(d))
			if hu := v.At(d, 0, 0); math.Abs(p[0]+p[1]+p[2]-float64(hu)) > 1e-9 {
				t.Errorf("%s: HU %g lies at %v", tt.orientation, hu, p)
			}
		}
	}
}

func TestRejectedAndSplit(t *testing.T) {
	files := []*dicomtest.File{
		flat(1, 0, 0), flat(2, 1, 0), flat(3, 2, 0),
		flat(4, 3, 0).Set(0x00080008, "CS", `ORIGINAL\PRIMARY\LOCALIZER`),
		flat(5, 4, 0).Set(0x00080016, "UI", classCapture),
		flat(6, 5, 0).Set(0x00080016, "UI", classSegmentation).Set(0x00080060, "CS", "SEG"),
		flat(7, 6, 0).Set(0x00080008, "CS", `DERIVED\SECONDARY\SCREEN SAVE`),
		flat(8, 7, 0).Set(0x00080060, "CS", "DX"),
		flat(9, 0, 0).Set(0x00181210, "SH", "B70f"),                                            // another kernel
		flat(10, 0, 0).Set(0x00200037, "DS", `1\0\0\0\0\-1`),                                   // another orientation
		flat(11, 0, 0).Set(0x0020000E, "UI", "1.2.3.5"),                                        // another series
		dicomtest.Slice("1.2.3.4", 12, 0, 1, 1, []int16{0}),                                    // another size
		flat(13, 0, 0).Set(0x00280030, "DS", `0.6\0.75`),                                       // another pixel size
		flat(14, 0, 0).Set(0x00200052, "UI", "9.9"), flat(15, 0, 0).Set(0x00200100, "IS", "2"), // frame of reference, time
	}
	series, rejected := Group(folder(t, files...))
	if len(rejected) != 5 {
		t.Errorf("rejected %v", rejected)
	}
	for i, want := range []string{"localizer", "secondary capture", "segmentation", "screen save", "modality DX"} {
		if i < len(rejected) && !strings.Contains(rejected[i].Reason, want) {
			t.Errorf("rejection %q, want %q", rejected[i].Reason, want)
		}
	}
	if len(series) != 8 || len(largest(series).Slices) != 3 {
		t.Errorf("%d series, the largest of %d slices", len(series), len(largest(series).Slices))
	}
}

func TestAcquisitions(t *testing.T) {
	var repeated, side []*dicomtest.File
	for i := range 4 {
		for a := range 2 {
			f := flat(10*a+i, float64(i), 100*a+i).Set(0x00200012, "IS", fmt.Sprint(a+1))
			repeated = append(repeated, f)
			side = append(side, flat(10*a+i, float64(i+4*a), i+4*a).Set(0x00200012, "IS", fmt.Sprint(a+1)))
		}
	}
	series, _ := Group(folder(t, repeated...))
	if len(series) != 2 {
		t.Fatalf("two scans of one region made %d series", len(series))
	}
	v, _ := read(t, &series[1], false)
	wantColumn(t, v, 100, 101, 102, 103)
	v, _ = read(t, one(t, side...), false)
	wantColumn(t, v, 0, 1, 2, 3, 4, 5, 6, 7)
}

func TestDuplicates(t *testing.T) {
	copied := flat(2, 1, 10) // the same object
	renamed := flat(2, 1, 10).Set(0x00080018, "UI", "1.2.3.4.99")
	s := one(t, flat(1, 0, 0), flat(2, 1, 10), flat(3, 2, 20), copied, renamed)
	v, warnings := read(t, s, false)
	wantColumn(t, v, 0, 10, 20)
	if len(warnings) != 2 || !strings.Contains(warnings[0], "same SOP instance") || !strings.Contains(warnings[1], "identical") {
		t.Errorf("warnings %q", warnings)
	}
	different := flat(2, 1, 11).Set(0x00080018, "UI", "1.2.3.4.99")
	_, _, err := one(t, flat(1, 0, 0), flat(2, 1, 10), different).Read(false)
	if err == nil || !strings.Contains(err.Error(), "IM001") || !strings.Contains(err.Error(), "different images at one position") {
		t.Errorf("different images at one position: %v", err)
	}
	// Of two copies the readable one counts.
	unreadable := flat(2, 1, 10)
	unreadable.Syntax, unreadable.Fragments = "1.2.840.10008.1.2.4.100", [][]byte{{0, 0}}
	v, _ = read(t, one(t, flat(1, 0, 0), unreadable, flat(2, 1, 10)), false)
	wantColumn(t, v, 0, 10)
}

func TestGaps(t *testing.T) {
	// HU = 10 z, so that linear interpolation restores what is missing.
	var files []*dicomtest.File
	for _, z := range []float64{0, 1.5, 3, 6, 7.5, 9} {
		files = append(files, flat(int(z*2)+1, z, int(10*z)))
	}
	s := one(t, files...)
	v, warnings := read(t, s, false)
	wantColumn(t, v, 0, 15, 30, 45, 60, 75, 90)
	if v.Spacing[0] != 1.5 {
		t.Errorf("spacing %g", v.Spacing[0])
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "IM002") || !strings.Contains(warnings[0], "interpolated to 7 slices 1.5 mm") {
		t.Errorf("warnings %q", warnings)
	}
	v, warnings = read(t, s, true)
	wantColumn(t, v, 0, 15, 30, 60, 75, 90)
	if math.Abs(v.Spacing[0]-9.0/5) > 1e-12 || !strings.Contains(warnings[0], "left as stored") {
		t.Errorf("as stored: spacing %g, warnings %q", v.Spacing[0], warnings)
	}

	// Irregular throughout, the median distance is 1.
	files = nil
	for i, z := range []float64{0, 1, 2.2, 3.1, 4.1} {
		files = append(files, flat(i+1, z, int(math.Round(100*z))))
	}
	v, _ = read(t, one(t, files...), false)
	wantColumn(t, v, 0, 100, 200, 300, 400)

	// Positions rounded to 0.1 mm are regular.
	files = nil
	for i := range 20 {
		files = append(files, flat(i+1, math.Round(6.25*float64(i))/10, i))
	}
	if _, warnings = read(t, one(t, files...), false); len(warnings) != 0 {
		t.Errorf("rounded positions: %q", warnings)
	}

	// More invented than measured: refused.
	s = one(t, flat(1, 0, 0), flat(2, 1, 0), flat(3, 2, 0), flat(4, 100, 0))
	if _, _, err := s.Read(false); err == nil || !strings.Contains(err.Error(), "made up") {
		t.Errorf("a gap of 98 mm: %v", err)
	}
}

func TestNoPositions(t *testing.T) {
	var files []*dicomtest.File
	for i := range 3 {
		f := flat(i+1, 0, i).Set(0x00200032, "DS", "").Set(0x00200037, "DS", "")
		files = append(files, f.Set(0x00201041, "DS", fmt.Sprint(-4*i)))
	}
	v, warnings := read(t, one(t, files...), false)
	wantColumn(t, v, 2, 1, 0) // slice locations fall with the instance number: turned
	if v.Spacing[0] != 4 || len(warnings) != 2 || !strings.Contains(warnings[1], "instance number") {
		t.Errorf("spacing %g, warnings %q", v.Spacing[0], warnings)
	}
	for _, f := range files {
		f.Set(0x00201041, "DS", "")
	}
	v, _ = read(t, one(t, files...), false)
	wantColumn(t, v, 0, 1, 2)
	if v.Spacing[0] != 2.5 { // the slice thickness
		t.Errorf("spacing %g", v.Spacing[0])
	}
}

func TestOneSlice(t *testing.T) {
	v, _ := read(t, one(t, flat(1, 5, 40)), false)
	if v.Size != [3]int{1, 2, 3} || v.Spacing[0] != 2.5 || v.HU[0] != 40 {
		t.Errorf("%v %v %v", v.Size, v.Spacing, v.HU)
	}
}

func TestUnreadableSlices(t *testing.T) {
	bad := flat(2, 1, 0)
	bad.Elements[0x7FE00010] = dicomtest.Value{VR: "OW", Data: []byte{1, 2, 3, 4}}
	s := one(t, flat(1, 0, 0), bad, flat(3, 2, 0))
	if _, _, err := s.Read(false); err == nil || !strings.Contains(err.Error(), "IM001") || !strings.Contains(err.Error(), "truncated: 4 of 12") {
		t.Errorf("truncated slice: %v", err)
	}
	// A file that changes after its header was read is found out too.
	s = one(t, flat(1, 0, 0), flat(2, 1, 0))
	b, err := os.ReadFile(s.Slices[1].Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Slices[1].Path, b[:len(b)-3], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Read(false); err == nil || !strings.Contains(err.Error(), "IM001") {
		t.Errorf("file cut in between: %v", err)
	}
}

// tilted makes a stack of n slices whose positions move by drift voxels in h per slice, with HU given by
// hu(x, y, z) at patient coordinates in mm relative to the first slice's corner.
func tilted(rows, columns, n int, driftMM, step float64, hu func(x, y, z float64) float64) []*dicomtest.File {
	var files []*dicomtest.File
	for k := range n {
		p := make([]int16, rows*columns)
		for h := range rows {
			for w := range columns {
				y := 0.5*float64(h) + driftMM*float64(k)
				p[h*columns+w] = int16(math.Round(hu(0.75*float64(w), y, step*float64(k)))) + 1024
			}
		}
		f := dicomtest.Slice("1.2.3.4", k+1, 0, rows, columns, p)
		files = append(files, f.Set(0x00200032, "DS", fmt.Sprintf(`-10\%g\%g`, 20+driftMM*float64(k), step*float64(k))))
	}
	return files
}

// A function linear in space survives linear interpolation exactly, so that each voxel of the corrected
// volume that lies within a slice must hold the function's value at its own position.
func TestGantryTilt(t *testing.T) {
	field := func(x, y, z float64) float64 { return 20*x + 40*y + 10*z }
	for _, tt := range []struct {
		drift, step float64
		rows        int // of the upright box, from 20
	}{
		{0.25, 2, 23}, {-0.4, 2, 24}, {1, 2, 30},
	} {
		files := tilted(20, 12, 6, tt.drift, tt.step, field)
		s := one(t, files...)
		v, warnings := read(t, s, false)
		if len(warnings) != 1 || !strings.Contains(warnings[0], "gantry tilt") {
			t.Errorf("drift %g: warnings %q", tt.drift, warnings)
		}
		if v.Size != [3]int{6, tt.rows, 12} || volume.Skew(v.Affine) > 1e-9 || v.Spacing != [3]float64{tt.step, 0.5, 0.75} {
			t.Errorf("drift %g: size %v spacing %v", tt.drift, v.Size, v.Spacing)
		}
		inside := 0
		for d := range v.Size[0] {
			low, high := 20+tt.drift*float64(d), 20+tt.drift*float64(d)+0.5*19
			for h := range v.Size[1] {
				for w := range v.Size[2] {
					p := volume.Transform(v.Affine, float64(w), float64(h), float64(d))
					got := float64(v.At(d, h, w))
					if p[1] < low-1e-9 || p[1] > high+1e-9 {
						if got != airHU {
							t.Fatalf("drift %g: voxel %d,%d,%d outside the slice holds %g", tt.drift, d, h, w, got)
						}
						continue
					}
					inside++
					if want := field(p[0]+10, p[1]-20, p[2]); math.Abs(got-want) > 0.51 {
						t.Fatalf("drift %g: voxel %d,%d,%d = %g, want %g", tt.drift, d, h, w, got, want)
					}
				}
			}
		}
		if inside < 6*19*12 {
			t.Errorf("drift %g: only %d voxels lie inside", tt.drift, inside)
		}
		stored, _ := read(t, s, true)
		if stored.Size != [3]int{6, 20, 12} || volume.Skew(stored.Affine) < 5 {
			t.Errorf("as stored: %v, skew %g", stored.Size, volume.Skew(stored.Affine))
		}
	}
	// Tilted and with a slice missing.
	files := tilted(20, 12, 6, 0.25, 2, field)
	files = append(files[:3], files[4:]...)
	v, warnings := read(t, one(t, files...), false)
	if v.Size != [3]int{6, 23, 12} || len(warnings) != 2 {
		t.Fatalf("size %v, warnings %q", v.Size, warnings)
	}
	p := volume.Transform(v.Affine, 5, 12, 3)
	if got, want := float64(v.At(3, 12, 5)), field(p[0]+10, p[1]-20, p[2]); math.Abs(got-want) > 0.51 {
		t.Errorf("interpolated slice: %g, want %g", got, want)
	}
}

// Whatever the order of the files, the volume is the same.
func TestOrderOfFilesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(rt, "slices")
		seed := rapid.Uint64().Draw(rt, "seed")
		var files []*dicomtest.File
		for i := range n {
			files = append(files, flat(i+1, 1.25*float64(i), 7*i))
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		rng.Shuffle(n, func(i, j int) { files[i], files[j] = files[j], files[i] })
		v, _ := read(t, one(t, files...), false)
		for d := range n {
			if v.At(d, 0, 0) != float32(7*d) {
				rt.Fatalf("slices %v", column(v))
			}
		}
	})
}

// TestParallelFault: a panic on one of the goroutines is an error of its slice.
func TestParallelFault(t *testing.T) {
	err := parallel(8, func() func(int) error {
		return func(i int) error {
			if i == 5 {
				panic("no such table")
			}
			return nil
		}
	})
	if err == nil || err.Error() != "internal error while reading: no such table" {
		t.Errorf("got %v", err)
	}
}
