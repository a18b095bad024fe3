package index

import (
	"archive/zip"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/volume"
)

// series writes slices of 2x3 voxels, 5 mm apart, of a study and patient into a folder.
func series(t *testing.T, dir, uid, patient string, slices int) {
	t.Helper()
	for i := range slices {
		f := dicomtest.Slice(uid, i+1, 5*float64(i), 2, 3, make([]int16, 6))
		f.Set(0x0020000D, "UI", "1.2.840.1").Set(0x00100020, "LO", patient)
		f.Set(0x00181210, "SH", "B40f").Set(0x0008103E, "LO", "Thorax, \"fine\"")
		f.Write(t, dir, fmt.Sprintf("%s-%02d.dcm", uid, i))
	}
}

// archive makes a folder of everything that an index meets.
func archive(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	series(t, filepath.Join(dir, "a", "s1"), "1.2.1", "Miller", 12)
	series(t, filepath.Join(dir, "a", "flat"), "1.2.2", "Smith", 3)
	series(t, filepath.Join(dir, "a", "flat"), "1.2.3", "Miller", 4)
	series(t, filepath.Join(dir, "b"), "1.2.4", "Smith", 2)
	series(t, filepath.Join(dir, "b", "more"), "1.2.4", "Smith", 2)
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("a/readme.txt", "hello, this is some text")
	put("a/s1/broken.dcm", strings.Repeat("\x00", 128)+"DICM")
	v, err := volume.FromAffine([3]int{2, 3, 4}, make([]float32, 24), [4][4]float64{{2, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 3, 0}, {0, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := nifti.Write(filepath.Join(dir, "n", "x.nii.gz"), v, nifti.Int16); err != nil {
		t.Fatal(err)
	}
	z, err := os.Create(filepath.Join(dir, "n", "study.zip"))
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(z)
	for i := range 3 {
		m, err := w.Create(fmt.Sprint("inside/", i))
		if err != nil {
			t.Fatal(err)
		}
		m.Write(dicomtest.Slice("1.2.5", i+1, 4*float64(i), 2, 3, make([]int16, 6)).Bytes())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z.Close()
	return dir
}

// table reads the rows of an index by column.
func table(t *testing.T, path string) []map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, cells := range all[1:] {
		r := map[string]string{}
		for i, c := range cells {
			r[all[0][i]] = c
		}
		rows = append(rows, r)
	}
	return rows
}

func TestIndex(t *testing.T) {
	dir := archive(t)
	out := filepath.Join(dir, "table.csv")
	s, err := Build(t.Context(), Options{Dir: dir, Table: out})
	if err != nil {
		t.Fatal(err)
	}
	// Files: 12+3+4+2+2 slices, a text, a broken file, a NIfTI, a zip.
	if s.Files != 27 || s.Series != 7 || s.Studies != 2 || s.Patients != 3 || s.Other != 1 || s.Damaged != 1 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
	type want struct{ path, series, patient, size, spacing string }
	wants := []want{
		{"a/flat", scan.HashUID("1.2.2"), "p000001", "3x2x3", "5x0.5x0.75"},
		{"a/flat", scan.HashUID("1.2.3"), "p000002", "4x2x3", "5x0.5x0.75"},
		{"a/s1", scan.HashUID("1.2.1"), "p000002", "12x2x3", "5x0.5x0.75"},
		{"b", scan.HashUID("1.2.4"), "p000001", "2x2x3", "5x0.5x0.75"},
		{"b/more", scan.HashUID("1.2.4"), "p000001", "2x2x3", "5x0.5x0.75"},
		{"n/study.zip", scan.HashUID("1.2.5"), "p000003", "3x2x3", "4x0.5x0.75"},
		{"n/x.nii.gz", "", "", "2x3x4", "3x2x2"},
	}
	rows := table(t, out)
	slices.SortFunc(wants[:2], func(a, b want) int { return strings.Compare(a.series, b.series) })
	if wants[0].patient != "p000001" { // numbered as they come
		for i := range wants[:5] {
			wants[i].patient = map[string]string{"p000001": "p000002", "p000002": "p000001"}[wants[i].patient]
		}
	}
	for i, w := range wants {
		r := rows[i]
		got := want{
			r["path"], r["series"], r["patient"],
			r["size_d"] + "x" + r["size_h"] + "x" + r["size_w"], r["spacing_d"] + "x" + r["spacing_h"] + "x" + r["spacing_w"],
		}
		if got != w {
			t.Errorf("row %d is %v, want %v", i, got, w)
		}
	}
	if r := rows[2]; r["kernel"] != "B40f" || r["description"] != `Thorax, "fine"` || !strings.Contains(r["warnings"], "damaged files in the same folder (1)") {
		t.Errorf("%v", r)
	}
	if r := rows[3]; !strings.Contains(r["warnings"], "also lie in b/more") {
		t.Errorf("%v", r)
	}
	bad := table(t, filepath.Join(dir, "table.skipped.csv"))
	if len(bad) != 1 || !strings.HasSuffix(bad[0]["path"], "broken.dcm") || bad[0]["reason"] == "" {
		t.Errorf("skipped: %v", bad)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"Miller", "Smith", "1.2.1", "1.2.840"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the table holds %q", secret)
		}
	}
	for _, left := range []string{JournalOf(out), JournalOf(out) + ".lock"} {
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
	// The same again, with UIDs, from elsewhere: paths are absolute then.
	plain := filepath.Join(t.TempDir(), "plain.csv")
	if _, err := Build(t.Context(), Options{Dir: dir, Table: plain, PlainUIDs: true, Jobs: 1}); err != nil {
		t.Fatal(err)
	}
	if r := table(t, plain)[5]; r["series"] != "1.2.5" || r["path"] != filepath.ToSlash(filepath.Join(dir, "n", "study.zip")) {
		t.Errorf("%v", r)
	}
}

// Wherever an index was stopped, and whatever of its last line reached the disk, the same call ends in the same table.
// Folders that changed meanwhile are looked at again.
func TestResume(t *testing.T) {
	dir := archive(t)
	work := t.TempDir()
	whole := filepath.Join(work, "whole.csv")
	if _, err := Build(t.Context(), Options{Dir: dir, Table: whole}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(work, "out.csv")
	for stop := int64(1); stop < 27; stop += 5 {
		ctx, cancel := context.WithCancel(t.Context())
		var files atomic.Int64
		_, err := Build(ctx, Options{Dir: dir, Table: out, Jobs: 2, Done: func(n int) {
			if files.Add(int64(n)) == stop {
				cancel()
			}
		}})
		cancel()
		if err == nil {
			t.Fatalf("stopped after %d files, but it ended", stop)
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatal("an unfinished table was written")
		}
		journal, err := os.ReadFile(JournalOf(out))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(string(journal), "\n") - 1
		cut := len(journal)
		if stop%2 == 0 { // as if the machine had gone down within the last line
			cut -= 3
			lines--
		}
		if err := os.WriteFile(JournalOf(out), journal[:max(cut, 0)], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Build(t.Context(), Options{Dir: dir, Table: out})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(out); string(got) != string(want) || s.Resumed != max(lines, 0) {
			t.Errorf("stopped after %d files: %d folders resumed, want %d; the table\n%s\nwant\n%s", stop, s.Resumed, lines, got, want)
		}
		os.Remove(out)
	}

	ctx, cancel := context.WithCancel(t.Context())
	_, err = Build(ctx, Options{Dir: dir, Table: out, Jobs: 1, Done: func(int) { cancel() }})
	if err == nil {
		t.Fatal("not stopped")
	}
	series(t, filepath.Join(dir, "c"), "1.2.9", "Jones", 2)
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(time.Second)
	if err := os.Chtimes(dir, now, now); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), Options{Dir: dir, Table: out}); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, r := range table(t, out) {
		paths = append(paths, strings.TrimPrefix(r["path"], filepath.ToSlash(dir)+"/"))
	}
	if !slices.Equal(paths, []string{"b", "b/more", "c", "n/study.zip", "n/x.nii.gz"}) {
		t.Errorf("after a change: %q", paths)
	}
}

func TestRefusals(t *testing.T) {
	dir, out := archive(t), filepath.Join(t.TempDir(), "out.csv")
	if _, err := Build(t.Context(), Options{Dir: filepath.Join(dir, "absent"), Table: out}); err == nil {
		t.Error("an absent folder was indexed")
	}
	if err := os.WriteFile(JournalOf(out), []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), Options{Dir: dir, Table: out}); err == nil || !strings.Contains(err.Error(), "is no unfinished index") {
		t.Errorf("a file that is no journal: %v", err)
	}
	os.Remove(JournalOf(out))
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Build(ctx, Options{Dir: dir, Table: out, Done: func(int) { cancel() }}); err == nil {
		t.Fatal("not stopped")
	}
	if _, err := Build(t.Context(), Options{Dir: dir, Table: out, PlainUIDs: true}); err == nil || !strings.Contains(err.Error(), "with other options") {
		t.Errorf("other options: %v", err)
	}
	// Two at once: the second is told so while the first is at work.
	told := make(chan error, 1)
	if _, err := Build(t.Context(), Options{Dir: dir, Table: out, Jobs: 1, Found: func(int) {
		select {
		case told <- func() error {
			_, err := Build(t.Context(), Options{Dir: dir, Table: out})
			return err
		}():
		default:
		}
	}}); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err == nil || !strings.Contains(err.Error(), "another process is writing the index") {
		t.Errorf("two at once: %v", err)
	}
}

// The facts of a row are enough to choose by the default rule.
func TestCandidate(t *testing.T) {
	dir := archive(t)
	out := filepath.Join(dir, "table.csv")
	if _, err := Build(t.Context(), Options{Dir: dir, Table: out}); err != nil {
		t.Fatal(err)
	}
	var list []scan.Candidate
	for _, r := range table(t, out)[:3] {
		c, ok := Candidate(func(column string) (string, bool) { x, ok := r[column]; return x, ok })
		if !ok {
			t.Fatal("a column is missing")
		}
		list = append(list, c)
	}
	if best := scan.Best(list); list[best.Index].Path != "a/s1" || !strings.Contains(best.Why, "12 slices") {
		t.Errorf("%+v of %v", best, list)
	}
	if _, ok := Candidate(func(column string) (string, bool) { return "", column != "modality" }); ok {
		t.Error("a row without modality is enough")
	}
}
