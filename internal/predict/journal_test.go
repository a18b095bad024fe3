package predict

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file of answers that was cut anywhere, as by a killed process, is completed by a resumed run to the same bytes
// (but for the times of JSON lines): no line is lost, none is doubled.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.safetensors")
	untrained(t, path, "multilabel", []string{"a", "b, \"c\""}, nil)
	from := scans(t)
	p, err := New([]*Model{load(t, path)}, Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	csvPath, jsonPath := filepath.Join(dir, "a.csv"), filepath.Join(dir, "a.jsonl")
	complete := func(resume bool) *Journal {
		t.Helper()
		j, err := p.OpenJournal(csvPath, jsonPath, resume, false)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		p.opt.Skip = func(path string) bool { return j.Done[path] }
		if err := p.Run(t.Context(), []string{from}, j.Append); err != nil {
			t.Fatal(err)
		}
		return j
	}
	complete(false)
	whole, err := os.ReadFile(csvPath)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile(jsonPath)
	if err != nil {
		t.Fatal(err)
	}
	scans := bytes.Count(lines, []byte("\n"))
	if scans != 4 || bytes.Count(whole, []byte("\n")) != scans+1 {
		t.Fatalf("%d lines of JSON:\n%s\nand CSV\n%s", scans, lines, whole)
	}
	for cut := 0; cut <= len(whole); cut += 1 + len(whole)/23 {
		jsonCut := len(lines) * (len(whole) - cut) / len(whole) // the two files end at different scans
		write(t, csvPath, whole[:cut])
		write(t, jsonPath, lines[:jsonCut])
		complete(true)
		if got, _ := os.ReadFile(csvPath); !bytes.Equal(got, whole) {
			t.Fatalf("cut at byte %d the CSV file became\n%s\nwant\n%s", cut, got, whole)
		}
		got, _ := os.ReadFile(jsonPath)
		if !bytes.Equal(timeless(got), timeless(lines)) {
			t.Fatalf("cut at byte %d the JSON lines became\n%s\nwant\n%s", jsonCut, got, lines)
		}
	}
	if j := complete(true); j.Answers != scans || j.Failed != 1 || len(j.Done) != scans {
		t.Errorf("a complete file counts %d answers, %d failed, %d paths", j.Answers, j.Failed, len(j.Done))
	}

	// Where a scan gives several answers the last scan is done again as a whole.
	j, err := p.OpenJournal(csvPath, "", true, true)
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	if j.Answers != scans-1 {
		t.Errorf("%d answers are kept, want all but the last scan's", j.Answers)
	}

	for text, want := range map[string]string{
		"path,label\n": "its columns are not those",
		strings.Replace(string(whole), p.ID(), strings.Repeat("0", 16), 1):          "those of another model",
		strings.Replace(string(whole), "\n", "\nnonsense\n", 1):                     "line 2 is no answer",
		string(whole[:bytes.IndexByte(whole, '\n')+1]) + "\"\"x,\n" + string(whole): "line 2 is no answer",
	} {
		write(t, csvPath, []byte(text))
		if _, err := p.OpenJournal(csvPath, "", true, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
		if got, _ := os.ReadFile(csvPath); string(got) != text {
			t.Errorf("a refused file was changed")
		}
	}
	if _, err := p.OpenJournal(csvPath, "", false, false); err == nil || !strings.Contains(err.Error(), "--resume") {
		t.Errorf("a file that is there: %v", err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// timeless leaves out what differs between equal runs.
func timeless(lines []byte) []byte {
	var out []byte
	for line := range bytes.Lines(lines) {
		head, _, _ := bytes.Cut(line, []byte(`,"seconds":`))
		out = append(append(out, head...), '\n')
	}
	return out
}
