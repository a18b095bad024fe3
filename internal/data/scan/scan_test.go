package scan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/volume"
)

// series writes n slices of 4 x 4 voxels, air and 40 HU in turn, to dir.
func series(t testing.TB, dir, uid, study string, number, n int, change func(f *dicomtest.File)) {
	t.Helper()
	for i := range n {
		p := make([]int16, 16)
		for k := range p {
			p[k] = int16(24 + 1040*(k%2))
		}
		f := dicomtest.Slice(uid, i+1, 2*float64(i), 4, 4, p)
		f.Set(0x00200011, "IS", fmt.Sprint(number)).Set(0x0020000D, "UI", study)
		f.Set(0x0008103E, "LO", fmt.Sprintf("series %d", number))
		if change != nil {
			change(f)
		}
		f.Write(t, dir, fmt.Sprintf("%s_%02d", uid, i))
	}
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeNIfTI(t testing.TB, path string, slices int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	hu := make([]float32, slices*4)
	for i := range hu {
		hu[i] = float32(-1000 + 40*i)
	}
	v, err := volume.FromAffine([3]int{slices, 2, 2}, hu, [4][4]float64{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 3, 0}, {0, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := nifti.Write(path, v, nifti.Float32); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	series(t, filepath.Join(dir, "a", "deep"), "1.1", "9.1", 3, 4, nil)
	series(t, filepath.Join(dir, "b"), "1.2", "9.1", 5, 2, func(f *dicomtest.File) { f.Set(0x00181210, "SH", "B70f") })
	series(t, dir, "1.3", "9.1", 1, 1, func(f *dicomtest.File) { f.Set(0x00080008, "CS", `ORIGINAL\PRIMARY\LOCALIZER`) })
	writeNIfTI(t, filepath.Join(dir, "v.nii.gz"), 5)
	writeFile(t, filepath.Join(dir, "notes.txt"), "nothing to see")
	writeFile(t, filepath.Join(dir, "empty"), "")
	writeFile(t, filepath.Join(dir, "x.zip"), "PK\x03\x04....")
	writeFile(t, filepath.Join(dir, "broken.nii"), "no header")
	writeFile(t, filepath.Join(dir, "stub.dcm"), strings.Repeat("\x00", 128)+"DICM")

	found, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, skipped := found.Candidates, found.Skipped
	if len(got) != 3 {
		t.Fatalf("candidates %+v", got)
	}
	n, a, b := got[0], got[1], got[2]
	if n.Format != "nifti" || n.Size != [3]int{5, 2, 2} || n.Spacing != [3]float64{3, 1, 1} || n.Orientation != "LPS" {
		t.Errorf("NIfTI candidate %+v", n)
	}
	if a.SeriesUID != "1.1" || a.SeriesNumber != 3 || a.Size != [3]int{4, 4, 4} || a.Spacing != [3]float64{2, 0.5, 0.75} ||
		a.Orientation != "LPS" || a.TransferSyntax != "explicit VR little endian" || a.Description != "series 3" ||
		a.Path != filepath.Join(dir, "a", "deep") || a.ImageType != `ORIGINAL\PRIMARY\AXIAL` {
		t.Errorf("DICOM candidate %+v", a)
	}
	if b.Kernel != "B70f" || b.Size[0] != 2 {
		t.Errorf("DICOM candidate %+v", b)
	}
	reasons := make(map[string]string)
	damaged := 0
	for _, s := range skipped {
		reasons[filepath.Base(s.Path)] = s.Reason
		if s.Damaged {
			damaged++
		}
	}
	for name, want := range map[string]string{
		"1.3_00": "localizer", "notes.txt": "neither DICOM nor NIfTI", "empty": "neither DICOM nor NIfTI",
		"x.zip": "only looked into when it is the path itself", "broken.nii": "", "stub.dcm": "no data set",
	} {
		if r, ok := reasons[name]; !ok || !strings.Contains(r, want) || strings.Contains(r, dir) {
			t.Errorf("%s skipped for %q, want %q", name, r, want)
		}
	}
	if len(skipped) != 6 || damaged != 2 {
		t.Errorf("skipped %+v", skipped)
	}

	v, info, err := Load(dir, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	if info.Candidate.Format != "nifti" || v.Size[0] != 5 || !strings.Contains(info.Why, "most slices (5) of 3 volumes") {
		t.Errorf("chosen %q", info.Why)
	}
	if len(info.Warnings) != 1 || !strings.Contains(info.Warnings[0], "damaged files are left out (2)") {
		t.Errorf("warnings %q", info.Warnings)
	}
	v, info, err = Load(dir, Selection{Series: "5"})
	if err != nil || v.Size[0] != 2 || info.SeriesUID != "1.2" || info.Description != "series 5" {
		t.Errorf("series 5: %+v %v", info, err)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "text", "a.txt"), "hello")
	writeFile(t, filepath.Join(dir, "texts", "a.txt"), "hello")
	writeFile(t, filepath.Join(dir, "texts", "b.txt"), "hello")
	if err := os.Mkdir(filepath.Join(dir, "none"), 0o755); err != nil {
		t.Fatal(err)
	}
	series(t, filepath.Join(dir, "jpeg"), "1.1", "9.1", 1, 3, func(f *dicomtest.File) {
		f.Syntax, f.Fragments = "1.2.840.113619.5.2.77", [][]byte{{0, 0}}
	})
	series(t, filepath.Join(dir, "jpeg"), "1.2", "9.1", 2, 2, nil)
	for _, tt := range []struct {
		path, series string
		want         []string
	}{
		{"absent", "", []string{"absent"}},
		{"none", "", []string{"none: holds no files"}},
		{"text", "", []string{"text: no CT volume found: a.txt: neither DICOM nor NIfTI"}},
		{"texts", "", []string{"in 2 files (2 of them: neither DICOM nor NIfTI)"}},
		// The readable series of two slices does not replace the larger one quietly.
		{"jpeg", "", []string{"series 1 (1.1)", "1.1_00", "1.2.840.113619.5.2.77"}},
		{"jpeg", "7", []string{"no series 7", "series 1 (1.1), series 2 (1.2)"}},
	} {
		_, _, err := Load(filepath.Join(dir, tt.path), Selection{tt.series})
		if err == nil {
			t.Errorf("%s: no error", tt.path)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %q lacks %q", tt.path, err, w)
			}
		}
	}
	if _, _, err := Load(filepath.Join(dir, "jpeg"), Selection{"2"}); err != nil {
		t.Errorf("the readable series, selected: %v", err)
	}
}

// Series whose geometry cannot be worked out are listed with the reason like all others.
func TestUnusableGeometry(t *testing.T) {
	for name, change := range map[string]func(f *dicomtest.File){
		"pixel spacing": func(f *dicomtest.File) { f.Set(0x00280030, "DS", `0\1`) },
		"side by side": func(f *dicomtest.File) {
			f.Set(0x00200032, "DS", f.Elements[0x00200013].Data.(string)+`\0\0`) // moves along x only
		},
	} {
		dir := t.TempDir()
		series(t, dir, "1.1", "9.1", 1, 3, change)
		found, err := Find(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := found.Candidates; len(got) != 1 || got[0].Err == nil || !strings.Contains(got[0].Err.Error(), name) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// choose selects one of the candidates.
func choose(candidates []Candidate, sel Selection) (Candidate, string, error) {
	c := Contents{Path: "path", Candidates: candidates}
	choices, err := c.Select(sel)
	if err != nil {
		return Candidate{}, "", err
	}
	return c.Candidates[choices[0].Index], choices[0].Why, nil
}

func TestChoose(t *testing.T) {
	ct := func(uid string, number, slices int) Candidate {
		return Candidate{Format: "dicom", Modality: "CT", SeriesUID: uid, SeriesNumber: number, axial: true, Size: [3]int{slices, 512, 512}}
	}
	with := func(c Candidate, change func(c *Candidate)) Candidate { change(&c); return c }
	base := ct("best", 5, 60)
	for _, tt := range []struct {
		name  string
		other Candidate
		why   string
	}{
		{"modality", with(ct("x", 1, 400), func(c *Candidate) { c.Modality = "MR" }), "CT modality"},
		{"stack", ct("x", 1, 9), "a stack (60 slices)"},
		{"axial", with(ct("x", 1, 400), func(c *Candidate) { c.axial = false }), "axial"},
		{"original", with(ct("x", 1, 400), func(c *Candidate) { c.Derived = true }), "original"},
		{"slices", ct("x", 1, 59), "most slices (60)"},
		{"voxels", with(ct("x", 1, 60), func(c *Candidate) { c.Size[1] = 256 }), "most voxels"},
		{"number", ct("x", 6, 60), "lowest series number"},
		{"UID", ct("cest", 5, 60), "first series UID"},
		{"acquisition", with(ct("best", 5, 60), func(c *Candidate) { c.Acquisition = 2 }), "first acquisition"},
		{"a short derived stack does not win over a long one", ct("x", 1, 1), "a stack"},
	} {
		for _, order := range [][]Candidate{{base, tt.other}, {tt.other, base}} {
			got, why, err := choose(order, Selection{})
			if err != nil || got.SeriesUID != "best" || got.Acquisition != 0 || !strings.Contains(why, tt.why) {
				t.Errorf("%s: chose %s %s: %v", tt.name, got.SeriesUID, why, err)
			}
		}
	}
	all := []Candidate{base, with(ct("mr", 2, 300), func(c *Candidate) { c.Modality = "MR" }), ct("a", 7, 30), ct("b", 7, 40)}
	for _, tt := range []struct{ series, want, why string }{
		{"", "best", "most slices"},
		{"largest", "mr", "the largest of 4"},
		{"7", "b", "selected by series 7; most slices (40) of 2"},
		{"a", "a", "selected by series a"},
	} {
		got, why, err := choose(all, Selection{tt.series})
		if err != nil || got.SeriesUID != tt.want || !strings.Contains(why, tt.why) {
			t.Errorf("series %q: %s, %s, %v", tt.series, got.SeriesUID, why, err)
		}
	}
	if _, _, err := choose(nil, Selection{}); err == nil {
		t.Error("nothing to choose from, no error")
	}
}

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	at := func(p ...string) string { return filepath.Join(append([]string{dir}, p...)...) }
	// One series spread over folders; two series of one study in folders.
	series(t, at("spread", "s1"), "1.1", "9.1", 1, 2, nil)
	series(t, at("spread", "s2", "deeper"), "1.1", "9.1", 1, 2, nil)
	series(t, at("study", "thin"), "1.2", "9.2", 1, 2, nil)
	series(t, at("study", "thick"), "1.3", "9.2", 2, 2, nil)
	writeFile(t, at("study", "readme.txt"), "text")
	// Patients with one study, with two, and one as NIfTI; a .hdr/.img pair.
	series(t, at("patients", "p1", "ct"), "2.1", "9.3", 1, 2, nil)
	series(t, at("patients", "p2", "2019"), "2.2", "9.4", 1, 2, nil)
	series(t, at("patients", "p2", "2020"), "2.3", "9.5", 1, 2, nil)
	writeNIfTI(t, at("patients", "p3", "scan.nii.gz"), 2)
	writeFile(t, at("patients", "p4", "broken.dcm"), strings.Repeat("\x00", 128)+"DICM and no more")
	writeFile(t, at("patients", "p4", "note.txt"), "text")
	writeNIfTI(t, at("niftis", "b.nii"), 2)
	writeNIfTI(t, at("niftis", "a.nii.gz"), 2)
	writeFile(t, at("niftis", "labels.csv"), "path,label\n")
	writeFile(t, at("niftis", "pair.hdr"), "header")
	writeFile(t, at("niftis", "pair.img"), "voxels")
	series(t, at("flat"), "3.1", "9.6", 1, 2, nil)
	series(t, at("flat", "below"), "3.2", "9.7", 1, 2, nil)
	writeFile(t, at("junk", "a.txt"), "text")
	for _, tt := range []struct {
		path string
		want []string
	}{
		{"spread", []string{"spread"}},
		{"study", []string{"study"}},
		{"patients", []string{"patients/p1", "patients/p2/2019", "patients/p2/2020", "patients/p3/scan.nii.gz", "patients/p4"}},
		{"niftis", []string{"niftis/a.nii.gz", "niftis/b.nii", "niftis/pair.hdr"}},
		{"niftis/b.nii", []string{"niftis/b.nii"}},
		{"flat", []string{"flat"}},
		{"junk", []string{"junk"}},
	} {
		got, err := Expand(at(tt.path))
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		var want []string
		for _, w := range tt.want {
			want = append(want, at(filepath.FromSlash(w)))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, want %q", tt.path, got, want)
		}
	}
	if _, err := Expand(at("absent")); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), at("absent")+": ") {
		t.Errorf("an absent path: %v", err)
	}
	if _, info, err := Load(at("flat"), Selection{}); err != nil || len(info.Warnings) != 1 || !strings.Contains(info.Warnings[0], "2 studies") {
		t.Errorf("a folder of two studies: %q %v", info.Warnings, err)
	}
}

func TestLinks(t *testing.T) {
	dir := t.TempDir()
	series(t, filepath.Join(dir, "real"), "1.1", "9.1", 1, 3, nil)
	scans := filepath.Join(dir, "scans")
	if err := os.Mkdir(scans, 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"patient": filepath.Join(dir, "real"), "loop": scans, "gone": filepath.Join(dir, "absent")} {
		if err := os.Symlink(target, filepath.Join(scans, link)); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
	}
	v, _, err := Load(scans, Selection{})
	if err != nil || v.Size[0] != 3 {
		t.Errorf("linked series: %v", err)
	}
	if got, err := Expand(scans); err != nil || len(got) != 1 {
		t.Errorf("Expand: %q %v", got, err)
	}
}

func TestExpectsHU(t *testing.T) {
	for _, tt := range []struct {
		intensity string
		window    [2]float64
		want      bool
	}{
		{"window", [2]float64{-1000, 400}, true},
		{"window", [2]float64{0, 80}, true},
		{"window", [2]float64{-160, 240}, true},
		{"window", [2]float64{0, 1}, false},
		{"window", [2]float64{0, 255}, false},
		{"window", [2]float64{0, 4095}, false},
		{"window", [2]float64{0, 65535}, false},
		{"raw", [2]float64{-1000, 400}, false},
	} {
		if got := ExpectsHU(config.Preprocess{Intensity: tt.intensity, HUWindow: tt.window}); got != tt.want {
			t.Errorf("%s %v: %v", tt.intensity, tt.window, got)
		}
	}
}

func TestCheckHU(t *testing.T) {
	fill := func(f func(i int) float32) *volume.Volume {
		v := &volume.Volume{Size: [3]int{10, 10, 10}, HU: make([]float32, 1000)}
		for i := range v.HU {
			v.HU[i] = f(i)
		}
		return v
	}
	chest := func(i int) float32 { return []float32{-1000, -850, 40, 60, 300}[i%5] }
	for _, tt := range []struct {
		name string
		f    func(i int) float32
		want string
	}{
		{"chest", chest, ""},
		{"not rescaled", func(i int) float32 { return chest(i) + 1024 }, "not rescaled"},
		{"rescaled twice", func(i int) float32 { return chest(i) - 1024 + float32(i%3) }, "twice"},
		{"filled corners", func(i int) float32 {
			if i%10 == 0 {
				return -3024
			}
			return chest(i)
		}, "fill value"},
		{"no air", func(i int) float32 { return float32(i%100) - 50 }, "no air"},
		{"constant", func(int) float32 { return -1024 }, "all voxels"},
		{"overflow", func(i int) float32 { return 60000 * float32(i%2) }, "beyond what CT can measure"},
		{"not rescaled, with a fill", func(i int) float32 {
			if i%10 == 0 {
				return -2000
			}
			return chest(i) + 1024
		}, "not rescaled"},
		{"rescaled twice, all of it", func(i int) float32 { return []float32{-2024, -1990, -1000, -960, -700}[i%5] }, "twice"},
		{"an intercept 250 too low", func(i int) float32 { return chest(i) - 250 + float32(i%20) }, "the air lies at"},
		{"no tissue", func(i int) float32 { return []float32{-1000, -850, -900, 700, 900}[i%5] }, "no soft tissue"},
		{"lung only", func(i int) float32 { return []float32{-930, -870, -850, -820, 50}[i%5] }, ""},
		{"a few deep voxels", func(i int) float32 {
			if i == 7 {
				return -2000
			}
			return chest(i)
		}, ""},
	} {
		got := CheckHU(fill(tt.f))
		switch {
		case tt.want == "" && len(got) > 0:
			t.Errorf("%s: %q", tt.name, got)
		case tt.want != "" && !strings.Contains(strings.Join(got, "; "), tt.want):
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestFaults: a panic while reading costs one file or volume and is told as an error.
func TestFaults(t *testing.T) {
	if _, _, err := Open(Candidate{Path: "study", Format: "dicom"}, false); err == nil || !strings.HasPrefix(err.Error(), "study: internal error while reading: ") {
		t.Errorf("a candidate without a series: %v", err)
	}
	if f := inspect(nil, "file"); !f.skip.Damaged || !strings.HasPrefix(f.skip.Reason, "internal error while reading: ") {
		t.Errorf("a file of nowhere: %+v", f.skip)
	}
}
