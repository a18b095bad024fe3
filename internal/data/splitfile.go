package data

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The columns of a split file.
const (
	sampleColumn = "sample"
	splitColumn  = "split"
	foldColumn   = "fold"
)

// WriteSplits writes the splits of d's samples as the CSV that data.split_file names: the columns sample (its name,
// as in Sample.Name) and split, and with folds (of Folds; nil: none) fold, counted from 1. In a file with folds,
// split is test or empty.
func (d *Dataset) WriteSplits(w io.Writer, folds []int) error {
	table := csv.NewWriter(w)
	header := []string{sampleColumn, splitColumn}
	if folds != nil {
		header = append(header, foldColumn)
	}
	if err := table.Write(header); err != nil {
		return err
	}
	for i, s := range d.Samples {
		row := []string{s.Name, s.Split}
		switch {
		case folds != nil && folds[i] >= 0:
			row = []string{s.Name, "", strconv.Itoa(folds[i] + 1)}
		case folds != nil:
			row = append(row, "")
		}
		if err := table.Write(row); err != nil {
			return err
		}
	}
	table.Flush()
	return table.Error()
}

// readSplits gives d's samples the splits of a split file. Of a file with folds, fold (from 1) is for validation and
// the others for training.
func (d *Dataset) readSplits(file string, fold int, faults *[]Fault) error {
	t, err := readTable(file)
	if err != nil {
		return err
	}
	sampleCol, err := t.column(sampleColumn, "of a split file")
	if err != nil {
		return err
	}
	splitCol, err := t.column(splitColumn, "of a split file")
	if err != nil {
		return err
	}
	foldCol := -1
	switch {
	case t.has(foldColumn):
		if foldCol, err = t.column(foldColumn, "of a split file"); err != nil {
			return err
		}
		if fold == 0 {
			return fmt.Errorf("%s holds folds: say with data.fold, counted from 1, which one is for validation", file)
		}
	case fold > 0:
		return fmt.Errorf("data.fold is %d, but %s has no column %q: make folds with `ctclass split --folds`, or set data.fold to 0", fold, file, foldColumn)
	}
	rows := make(map[string]int, len(t.rows))
	folds := 0
	for i, row := range t.rows {
		if first, ok := rows[row[sampleCol]]; ok {
			return fmt.Errorf("%s name the same sample %s: keep one", t.both(first, i), row[sampleCol])
		}
		rows[row[sampleCol]] = i
		if foldCol < 0 || row[foldCol] == "" {
			continue
		}
		n, err := strconv.Atoi(row[foldCol])
		if err != nil || n < 1 {
			return t.cellError(i, foldCol, "a fold: a number from 1, or empty for a test sample")
		}
		folds = max(folds, n)
	}
	if fold > folds && foldCol >= 0 {
		return fmt.Errorf("data.fold is %d, but %s has folds 1 to %d", fold, file, folds)
	}
	var unknown []string
	foldOf := map[string]string{} // of the groups
	for i := range d.Samples {
		s := &d.Samples[i]
		r, ok := rows[s.Name]
		if !ok {
			unknown = append(unknown, s.Name)
			continue
		}
		delete(rows, s.Name)
		row := t.rows[r]
		if foldCol >= 0 {
			if first, ok := foldOf[s.Group]; ok && first != row[foldCol] {
				return fmt.Errorf("%s: patient %q is in two folds, %q and %q (%s): every patient must be in one only", file, s.Group, first, row[foldCol], s.Name)
			}
			foldOf[s.Group] = row[foldCol]
		}
		switch {
		case foldCol < 0 || row[foldCol] == "":
			if s.Split = splitName(row[splitCol]); s.Split == "" || foldCol >= 0 && s.Split != Test {
				return t.cellError(r, splitCol, "a split: want train, val or test (without a fold: test)")
			}
		case row[foldCol] == strconv.Itoa(fold):
			s.Split = Val
		default:
			s.Split = Train
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("%s: %d of the %d samples are not in it: %s; make it again with `ctclass split`", file, len(unknown), len(d.Samples), shortList(unknown))
	}
	if len(rows) > 0 {
		var more []string
		for name := range rows {
			more = append(more, name)
		}
		slices.Sort(more)
		d.Warnings = append(d.Warnings, fmt.Sprintf("%s: %d of its samples are not in the data set: %s", file, len(more), shortList(more)))
	}
	return checkGroups(file, d.Samples, faults)
}

// shortList joins the first names of a list.
func shortList(names []string) string {
	const shown = 5
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		list += ", …"
	}
	return list
}
