package data

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/index"
	"github.com/ctclass/ctclass/internal/data/scan"
)

// joined says which columns of a table come from an index, and from where.
type joined struct {
	index    *table
	isIndex  bool  // of `ctclass index`, and not just any table
	from     int   // the first column that is the index's
	row      []int // of the index, by row of the table
	left     []Unmatched
	warnings []string
}

// join adds to every row of a table of labels the columns of the row in the table c.Index that has the same key. The
// key is one column of both, or two as in "label column=index column"; a UID may be a hash in one of them. Where
// several rows of an index that `ctclass index` has made have the key, as the series of one study, the default rule
// of [scan.Contents.Select] takes one. A row without match is an error, or with c.OnError "skip" left out.
func (t *table) join(c config.Data) (*table, error) {
	in, err := readTables(c.Index)
	if err != nil {
		return nil, err
	}
	mine, theirs := c.JoinKey, c.JoinKey
	if a, b, two := strings.Cut(c.JoinKey, "="); two {
		mine, theirs = strings.TrimSpace(a), strings.TrimSpace(b)
	}
	keyCol, err := t.column(mine, "data.join_key, of the labels")
	if err != nil {
		return nil, err
	}
	indexKey, err := in.column(theirs, "data.join_key, of data.index")
	if err != nil {
		return nil, err
	}
	byKey := map[string][]int{}
	for i, row := range in.rows {
		if key := row[indexKey]; key != "" {
			byKey[key] = append(byKey[key], i)
		}
	}
	out := &table{file: t.file, columns: slices.Clone(t.columns)}
	var cols []int // of the index, those that the labels do not have
	for i, name := range in.columns {
		if !t.has(name) {
			cols = append(cols, i)
			out.columns = append(out.columns, name)
		}
	}
	j := &joined{index: in, from: len(t.columns)}
	_, j.isIndex = in.candidate(0)
	several := 0
	for i, row := range t.rows {
		matches := byKey[row[keyCol]]
		if matches == nil {
			matches = byKey[scan.HashUID(row[keyCol])]
		}
		switch {
		case len(matches) == 0:
			j.left = append(j.left, Unmatched{fmt.Sprintf("%v: %s", t.origin[i], row[keyCol]), "no row of " + in.file + " has its key"})
			continue
		case len(matches) > 1 && !j.isIndex:
			return nil, fmt.Errorf("%s have the same %q, %s: keep one", in.both(matches[0], matches[1]), theirs, row[keyCol])
		case len(matches) > 1:
			several++
			matches = []int{in.best(matches)}
		}
		cells := slices.Clone(row)
		for _, k := range cols {
			cells = append(cells, in.rows[matches[0]][k])
		}
		out.rows = append(out.rows, cells)
		out.origin = append(out.origin, t.origin[i])
		j.row = append(j.row, matches[0])
	}
	out.joined = j
	if several > 0 {
		j.warnings = append(j.warnings, fmt.Sprintf("%s: %d scans have several series in %s; of each the one that `ctclass inspect` would choose is taken", t.file, several, in.file))
	}
	if len(j.left) == 0 {
		return out, nil
	}
	var names []string
	for _, l := range j.left {
		names = append(names, l.Row)
	}
	text := fmt.Sprintf("%s: %d of %d rows have no match in %s by %s", t.file, len(j.left), len(t.rows), in.file, c.JoinKey)
	if c.OnError != "skip" || len(out.rows) == 0 {
		return nil, fmt.Errorf("%s: %s; correct data.join_key or one of the tables, or set data.on_error to skip", text, shortList(names))
	}
	j.warnings = append(j.warnings, fmt.Sprintf("%s and were left out: %s", text, shortList(names)))
	return out, nil
}

// candidate returns the facts of a row of an index, false when the table is none.
func (t *table) candidate(row int) (scan.Candidate, bool) {
	return index.Candidate(func(column string) (string, bool) {
		i := slices.Index(t.columns, column)
		if i < 0 {
			return "", false
		}
		return t.rows[row][i], true
	})
}

// best returns the row that the default rule takes.
func (t *table) best(rows []int) int {
	list := make([]scan.Candidate, len(rows))
	for i, r := range rows {
		list[i], _ = t.candidate(r)
	}
	return rows[scan.Best(list).Index]
}
