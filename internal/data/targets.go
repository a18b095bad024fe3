package data

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
)

// targets reads the target of every row and sets the label names of d.
func (t *table) targets(c config.Data, d *Dataset) ([][]float64, error) {
	if c.Task == Multiclass {
		return t.classes(c, d)
	}
	if len(c.Labels) == 0 {
		return nil, fmt.Errorf("data.labels is empty: name the label columns of %s; its columns are %s",
			t.file, strings.Join(quoteAll(t.columns), ", "))
	}
	if c.Task == Binary && len(c.Labels) > 1 {
		return nil, fmt.Errorf("data.task is binary, but %s has %d labels: name one in data.labels, or set data.task to multilabel", t.file, len(c.Labels))
	}
	d.Labels = slices.Clone(c.Labels)
	cols := make([]int, len(c.Labels))
	for i, l := range c.Labels {
		var err error
		if cols[i], err = t.column(l, "data.labels"); err != nil {
			return nil, err
		}
	}
	targets := make([][]float64, len(t.rows))
	for i, row := range t.rows {
		targets[i] = make([]float64, len(cols))
		for j, col := range cols {
			v, ok := parseNumber(row[col])
			if !ok || (v != 0 && v != 1 && !math.IsNaN(v)) {
				return nil, t.cellError(i, col, "0 or 1, nor -1 or empty (missing)")
			}
			targets[i][j] = v
		}
	}
	return targets, nil
}

// parseNumber reads a number; an empty cell and -1 are a missing value, NaN.
func parseNumber(cell string) (float64, bool) {
	if cell == "" {
		return math.NaN(), true
	}
	v, err := strconv.ParseFloat(cell, 64)
	if err != nil || math.IsNaN(v) {
		return 0, false
	}
	if v == -1 {
		return math.NaN(), true
	}
	return v, true
}

// classes reads the class index of every row. The column holds names from c.Labels or indices
// into it; without names there, the classes are taken from the column.
func (t *table) classes(c config.Data, d *Dataset) ([][]float64, error) {
	if c.LabelColumn == "" {
		return nil, fmt.Errorf("data.label_column is empty: name the column of %s that holds the class; its columns are %s",
			t.file, strings.Join(quoteAll(t.columns), ", "))
	}
	col, err := t.column(c.LabelColumn, "data.label_column")
	if err != nil {
		return nil, err
	}
	names := c.Labels
	if len(names) == 0 {
		if names, err = t.classNames(col); err != nil {
			return nil, err
		}
	}
	d.Labels = slices.Clone(names)
	targets := make([][]float64, len(t.rows))
	for i, row := range t.rows {
		if k := slices.Index(names, row[col]); k >= 0 {
			targets[i] = []float64{float64(k)}
			continue
		}
		v, ok := parseNumber(row[col])
		if !ok || (!math.IsNaN(v) && (v != math.Trunc(v) || v < 0 || v >= float64(len(names)))) {
			return nil, t.cellError(i, col, fmt.Sprintf("one of the classes %s, nor an index from 0 to %d, nor -1 or empty (missing)",
				strings.Join(quoteAll(names), ", "), len(names)-1))
		}
		targets[i] = []float64{v}
	}
	return targets, nil
}

// maxClasses bounds the number of classes that a table may imply.
const maxClasses = 10000

// classNames derives the class names from a column: "0" to the largest index when it holds
// indices, the sorted different values otherwise.
func (t *table) classNames(col int) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	indices, largest := true, -1
	for i, row := range t.rows {
		v, ok := parseNumber(row[col])
		if ok && math.IsNaN(v) {
			continue
		}
		if ok && v == math.Trunc(v) && v >= 0 {
			if v >= maxClasses {
				return nil, t.cellError(i, col, fmt.Sprintf("a class index below %d", maxClasses))
			}
			largest = max(largest, int(v))
		} else {
			indices = false
		}
		if !seen[row[col]] {
			seen[row[col]] = true
			names = append(names, row[col])
		}
	}
	if indices {
		names = names[:0]
		for k := range largest + 1 {
			names = append(names, strconv.Itoa(k))
		}
	}
	if len(names) < 2 {
		return nil, fmt.Errorf("%s: column %q holds fewer than two classes", t.file, t.columns[col])
	}
	if len(names) > maxClasses {
		return nil, fmt.Errorf("%s: column %q holds %d different values, too many for classes", t.file, t.columns[col], len(names))
	}
	slices.Sort(names)
	if indices {
		slices.SortFunc(names, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	}
	return names, nil
}
