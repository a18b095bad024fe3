package train

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/data"
)

// skippedFile lists the scans that a run has left out: split, scan, reason.
const skippedFile = "skipped.csv"

// skipped lists the scans left out so far by this process, those that are not there first.
func (r *run) skipped() [][]string {
	var rows [][]string
	for _, s := range r.ds.Missing {
		rows = append(rows, []string{s.Split, s.Name, "the file is not there"})
	}
	for _, u := range r.ds.Unmatched {
		rows = append(rows, []string{"", u.Row, u.Reason})
	}
	for _, l := range []*data.Loader{r.train, r.val} {
		if l == nil {
			continue
		}
		for _, s := range l.SkippedSamples() {
			rows = append(rows, []string{s.Sample.Split, s.Sample.Name, s.Reason.Error()})
		}
	}
	return rows
}

// writeSkipped brings the list in the run folder up to date. A run that was resumed keeps what it found before.
func (r *run) writeSkipped() error {
	rows := r.skipped()
	if len(rows) <= r.listed {
		return nil
	}
	r.listed = len(rows)
	path := filepath.Join(r.Dir, skippedFile)
	if r.Resume {
		old, err := readSkipped(path)
		if err != nil {
			return err
		}
		known := map[[2]string]bool{}
		for _, row := range rows {
			known[[2]string{row[0], row[1]}] = true
		}
		for _, row := range old {
			if !known[[2]string{row[0], row[1]}] {
				rows = append(rows, row)
			}
		}
	}
	r.Log.Warn("scans were left out", "scans", len(rows), "list", path)
	return atomicfile.Write(path, func(w io.Writer) error {
		c := csv.NewWriter(w)
		err := c.Write([]string{"split", "scan", "reason"})
		return errors.Join(err, c.WriteAll(rows)) // WriteAll flushes
	})
}

// readSkipped reads the rows of an earlier list, none where there is no list.
func readSkipped(path string) ([][]string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := csv.NewReader(f)
	c.FieldsPerRecord = 3
	rows, err := c.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s is not the list of a run: %w: remove it", path, err)
	}
	return rows[min(1, len(rows)):], nil
}
