package data

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"

	"github.com/ctclass/ctclass/internal/atomicfile"
)

// LeftOut is a scan that is not part of the batches.
type LeftOut struct {
	Split  string `json:"split"` // empty where none is known
	Scan   string `json:"scan"`
	Reason string `json:"reason"`
}

// LeftOut lists the scans that the data set and its loaders have left out so far, those that are not there first.
func (d *Dataset) LeftOut(loaders ...*Loader) []LeftOut {
	var list []LeftOut
	for _, s := range d.Missing {
		list = append(list, LeftOut{s.Split, s.Name, "the file is not there"})
	}
	for _, u := range d.Unmatched {
		list = append(list, LeftOut{"", u.Row, u.Reason})
	}
	for _, l := range loaders {
		for _, s := range l.SkippedSamples() {
			if left := (LeftOut{s.Sample.Split, s.Sample.Name, s.Reason.Error()}); !slices.Contains(list, left) {
				list = append(list, left)
			}
		}
	}
	return list
}

// WriteLeftOut writes the list as a CSV file with the columns split, scan and reason.
func WriteLeftOut(path string, list []LeftOut) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		c := csv.NewWriter(w)
		err := c.Write([]string{"split", "scan", "reason"})
		for _, l := range list {
			err = errors.Join(err, c.Write([]string{l.Split, l.Scan, l.Reason}))
		}
		c.Flush()
		return errors.Join(err, c.Error())
	})
}
