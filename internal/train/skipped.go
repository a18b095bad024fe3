package train

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ctclass/ctclass/internal/data"
)

// skippedFile lists the scans that a run has left out: split, scan, reason.
const skippedFile = "skipped.csv"

// skipped lists the scans left out so far by this process.
func (r *run) skipped() []data.LeftOut {
	loaders := slices.DeleteFunc([]*data.Loader{r.train, r.val}, func(l *data.Loader) bool { return l == nil })
	return r.ds.LeftOut(loaders...)
}

// writeSkipped brings the list in the run folder up to date. A run that was resumed keeps what it found before.
func (r *run) writeSkipped() error {
	list := r.skipped()
	if len(list) <= r.listed {
		return nil
	}
	r.listed = len(list)
	path := filepath.Join(r.Dir, skippedFile)
	if r.Resume {
		old, err := readSkipped(path)
		if err != nil {
			return err
		}
		for _, was := range old {
			if !slices.ContainsFunc(list, func(l data.LeftOut) bool { return l.Split == was.Split && l.Scan == was.Scan }) {
				list = append(list, was)
			}
		}
	}
	r.Log.Warn("scans were left out", "scans", len(list), "list", path)
	return data.WriteLeftOut(path, list)
}

// readSkipped reads the rows of an earlier list, none where there is no list.
func readSkipped(path string) ([]data.LeftOut, error) {
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
	var list []data.LeftOut
	for _, row := range rows[min(1, len(rows)):] {
		list = append(list, data.LeftOut{Split: row[0], Scan: row[1], Reason: row[2]})
	}
	return list, nil
}
