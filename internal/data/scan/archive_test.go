package scan

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

// pack writes the files below dir as an archive and returns its path.
func pack(t testing.TB, dir, kind string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(&b)
	if kind == "tgz" {
		tw = tar.NewWriter(gz)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		name = filepath.ToSlash(name)
		if kind == "zip" {
			f, err := z.Create(name)
			if err != nil {
				return err
			}
			_, err = f.Write(content)
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o600}); err != nil {
			return err
		}
		_, err = tw.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	switch kind {
	case "zip":
		z.Close()
	case "tgz":
		tw.Close()
		gz.Close()
	default:
		tw.Close()
	}
	path := filepath.Join(t.TempDir(), "scan") // the content says what it is
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// An archive gives the same volumes, and the same reasons, as the folder that it was made of.
func TestArchiveIsLikeItsFolder(t *testing.T) {
	dir := t.TempDir()
	series(t, filepath.Join(dir, "a", "deep"), "1.1", "9.1", 3, 12, nil)
	series(t, filepath.Join(dir, "b"), "1.2", "9.1", 5, 2, func(f *dicomtest.File) { f.Syntax = dicomtest.Deflated })
	writeNIfTI(t, filepath.Join(dir, "v.nii.gz"), 5)
	writeNIfTI(t, filepath.Join(dir, "w.nii"), 4)
	writeFile(t, filepath.Join(dir, "notes.txt"), "nothing to see")
	writeFile(t, filepath.Join(dir, "stub.dcm"), strings.Repeat("\x00", 128)+"DICM")
	writeFile(t, filepath.Join(dir, "inner.zip"), "PK\x03\x04....")
	want, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"zip", "tar", "tgz"} {
		path := pack(t, dir, kind)
		got, err := Find(path)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if len(got.Candidates) != 4 || len(got.Candidates) != len(want.Candidates) || len(got.Skipped) != len(want.Skipped) {
			t.Fatalf("%s: %+v, skipped %v", kind, got.Candidates, got.Skipped)
		}
		for i := range want.Candidates {
			v, warnings, err := Open(want.Candidates[i], false)
			if err != nil {
				t.Fatal(err)
			}
			w, same, err := Open(got.Candidates[i], false)
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			if !slices.Equal(v.HU, w.HU) || v.Affine != w.Affine || !slices.Equal(warnings, same) {
				t.Errorf("%s: candidate %d differs from the folder's", kind, i)
			}
			if rel, _ := filepath.Rel(dir, want.Candidates[i].Path); filepath.Join(path, rel) != got.Candidates[i].Path {
				t.Errorf("%s: path %s", kind, got.Candidates[i].Path)
			}
		}
		for i := range want.Skipped {
			if want.Skipped[i].Reason != got.Skipped[i].Reason {
				t.Errorf("%s: skipped for %q, want %q", kind, got.Skipped[i].Reason, want.Skipped[i].Reason)
			}
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
		if v, info, err := Load(path, Selection{}); err != nil || v.Size[0] != 12 || info.SeriesUID != "1.1" {
			t.Errorf("%s: Load: %+v %v", kind, info, err)
		}
		if scans, err := Expand(path); err != nil || len(scans) != 1 || scans[0] != path {
			t.Errorf("%s: Expand: %v %v", kind, scans, err)
		}
	}
	// A folder of archives is one scan each; beside DICOM files an archive is none.
	exports := t.TempDir()
	for _, name := range []string{"p1.zip", "p2.zip"} {
		writeFile(t, filepath.Join(exports, name), readFile(t, pack(t, dir, "zip")))
	}
	if scans, err := Expand(exports); err != nil || len(scans) != 2 {
		t.Errorf("Expand of two archives: %q %v", scans, err)
	}
	series(t, filepath.Join(exports, "ct"), "1.3", "9.2", 1, 3, nil)
	if scans, err := Expand(exports); err != nil || len(scans) != 1 || scans[0] != exports {
		t.Errorf("Expand of archives beside a study: %q %v", scans, err)
	}
	broken := filepath.Join(t.TempDir(), "broken.zip")
	writeFile(t, broken, "PK\x03\x04....")
	if _, _, err := Load(broken, Selection{}); err == nil || !strings.HasPrefix(err.Error(), broken+": the zip archive is damaged") {
		t.Errorf("a broken archive: %v", err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// directory returns a DICOMDIR that names files.
func directory(undefined bool, paths ...string) string {
	le := binary.LittleEndian
	item := func(body []byte) []byte {
		size := uint32(len(body))
		if undefined {
			size = 0xFFFFFFFF
			body = append(body, 0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0)
		}
		return append(le.AppendUint32([]byte{0xFE, 0xFF, 0x00, 0xE0}, size), body...)
	}
	var records []byte
	for _, p := range paths {
		body := dicomtest.AppendElement(nil, le, false, 0x00041430, dicomtest.Value{VR: "CS", Data: "IMAGE"})
		records = append(records, item(dicomtest.AppendElement(body, le, false, 0x00041500, dicomtest.Value{VR: "CS", Data: p}))...)
	}
	f := dicomtest.File{Syntax: dicomtest.Explicit, Elements: map[uint32]dicomtest.Value{
		0x00041130: {VR: "CS", Data: "DISC"}, 0x00041220: {VR: "SQ", Data: records},
	}}
	f.Set(0x00080016, "UI", classDirectory)
	return string(f.Bytes())
}

func TestDICOMDIR(t *testing.T) {
	dir := t.TempDir()
	series(t, filepath.Join(dir, "images"), "1.1", "9.1", 1, 4, nil) // images/1.1_00 ...
	series(t, filepath.Join(dir, "other"), "1.2", "9.2", 2, 6, nil)
	index := filepath.Join(dir, "DICOMDIR")
	check := func(name string, size int, warnings ...string) {
		t.Helper()
		v, info, err := Load(index, Selection{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if v.Size[0] != size || len(info.Warnings) != len(warnings) {
			t.Errorf("%s: %v, warnings %q", name, v.Size, info.Warnings)
			return
		}
		for i, w := range warnings {
			if !strings.Contains(info.Warnings[i], w) {
				t.Errorf("%s: warning %q, want %q", name, info.Warnings[i], w)
			}
		}
	}
	// Names in upper case for files in lower case; only what is named is read.
	for _, undefined := range []bool{false, true} {
		writeFile(t, index, directory(undefined, `IMAGES\1.1_00`, `IMAGES\1.1_01`, `images\1.1_02 `, `IMAGES\1.1_03`))
		check("all there", 4)
	}
	// Names that lead elsewhere are no names.
	writeFile(t, index, directory(false, `..\images\1.1_00`, `/etc/passwd`, `IMAGES\1.1_00`, `IMAGES\1.1_01`, `IMAGES\1.1_07`))
	check("one missing", 2, "1 of 3 files that the DICOMDIR names are not there, the first is "+filepath.Join("IMAGES", "1.1_07"))
	writeFile(t, index, directory(false, `GONE\A`))
	check("none there", 6, "none of the files that the DICOMDIR names is there", "1 of 1 files", "2 studies")
	cut := directory(false, `IMAGES\1.1_00`)
	writeFile(t, index, cut[:len(cut)-5])
	check("damaged", 6, "the DICOMDIR cannot be read", "2 studies", "damaged files are left out (1)")

	// A folder with a DICOMDIR is looked at whole; what is missing is said.
	writeFile(t, index, directory(false, `OTHER\1.2_00`, `OTHER\LOST`))
	v, info, err := Load(dir, Selection{Series: "2"})
	if err != nil || v.Size[0] != 6 || !slices.ContainsFunc(info.Warnings, func(w string) bool { return strings.Contains(w, "1 of 2 files that the DICOMDIR names") }) {
		t.Errorf("its folder: %q %v", info.Warnings, err)
	}
	v, info, err = Load(pack(t, dir, "zip"), Selection{Series: "2"})
	if err != nil || v.Size[0] != 6 || !slices.ContainsFunc(info.Warnings, func(w string) bool { return strings.Contains(w, "1 of 2 files that the DICOMDIR names") }) {
		t.Errorf("its archive: %q %v", info.Warnings, err)
	}
}

func TestSelectAll(t *testing.T) {
	dir := t.TempDir()
	series(t, dir, "1.1", "9.1", 1, 1, nil)
	series(t, dir, "1.2", "9.1", 2, 3, nil)
	series(t, dir, "1.3", "9.1", 3, 4, func(f *dicomtest.File) { f.Set(0x00080060, "CS", "MR") })
	series(t, dir, "1.4", "9.1", 4, 5, func(f *dicomtest.File) { f.Set(0x00181210, "SH", "Br60") })
	series(t, dir, "1.5", "9.1", 5, 5, func(f *dicomtest.File) { f.Set(0x00181210, "SH", "Br40") })
	c, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	choices, err := c.Select(Selection{Series: All})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, choice := range choices {
		v, info, err := c.Load(choice)
		if err != nil || v.Size[0] != c.Candidates[choice.Index].Size[0] {
			t.Errorf("%+v: %v", choice, err)
		}
		got = append(got, info.SeriesUID+" "+info.Why)
	}
	if want := []string{"1.4 1 of 3 CT volumes", "1.5 2 of 3 CT volumes", "1.2 3 of 3 CT volumes"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	choices, err = c.Select(Selection{})
	if want := "lowest series number of 5 volumes; next: series 5 (1.5), 5 slices, kernel Br40 instead of Br60"; err != nil || choices[0].Why != want {
		t.Errorf("%+v, want %q", choices, want)
	}
	// Where there is no CT stack, all is one volume by the default rule.
	only := t.TempDir()
	series(t, only, "1.1", "9.1", 1, 1, nil)
	if c, err = Find(only); err != nil {
		t.Fatal(err)
	}
	if choices, err := c.Select(Selection{Series: All}); err != nil || len(choices) != 1 || choices[0].Why != "the only volume" {
		t.Errorf("a single image: %+v %v", choices, err)
	}
}

func TestPhasesAreExplained(t *testing.T) {
	dir := t.TempDir()
	for phase := range 2 {
		series(t, filepath.Join(dir, string(rune('a'+phase))), "1.1", "9.1", 1, 3, func(f *dicomtest.File) {
			f.Set(0x00200012, "IS", string(rune('1'+phase))) // acquisition
		})
	}
	_, info, err := Load(dir, Selection{})
	if want := "first acquisition of 2 volumes; next: series 1 (1.1), 3 slices, acquisition 2 instead of 1"; err != nil || info.Why != want {
		t.Errorf("%q %v", info.Why, err)
	}
}
