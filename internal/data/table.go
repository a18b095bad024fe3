package data

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
)

// table is a delimited text file with a header line.
type table struct {
	file    string
	columns []string
	rows    [][]string // cells without surrounding spaces
	lines   []int      // line of each row in the file, from 1
}

// readTable reads a CSV or TSV file: cells separated by commas, tabs or semicolons, quoted where
// needed, UTF-8 with or without byte order mark. Rows without any content are left out.
func readTable(file string) (*table, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("opening the data set table: %w", err)
	}
	defer f.Close()
	br := bufio.NewReaderSize(f, 1<<16)
	head, err := br.Peek(1 << 14)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the data set table %s: %w", file, err)
	}
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) || bytes.IndexByte(head, 0) >= 0 {
		return nil, fmt.Errorf("%s is not UTF-8 text: save the table as CSV in UTF-8", file)
	}
	if bom := []byte("\ufeff"); bytes.HasPrefix(head, bom) {
		head = head[len(bom):]
		br.Discard(len(bom))
	}
	r := csv.NewReader(br)
	r.Comma = separator(head)
	t := &table{file: file}
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if t.columns == nil {
			t.columns = cells
			continue
		}
		if slices.IndexFunc(cells, func(c string) bool { return c != "" }) < 0 {
			continue
		}
		line, _ := r.FieldPos(0)
		t.rows = append(t.rows, cells)
		t.lines = append(t.lines, line)
	}
	if len(t.rows) == 0 {
		return nil, fmt.Errorf("%s holds no samples: want a header line and one line a scan", file)
	}
	return t, nil
}

// separator returns the most frequent of comma, tab and semicolon in the first line of text,
// outside quotes.
func separator(text []byte) rune {
	counts := map[rune]int{}
	quoted, seen := false, false
	for _, c := range string(text) {
		if c == '"' {
			quoted = !quoted
		}
		if (c == '\n' || c == '\r') && !quoted && seen {
			break
		}
		if c != '\n' && c != '\r' {
			seen = true
		}
		if !quoted {
			counts[c]++
		}
	}
	best := ','
	for _, c := range "\t;" {
		if counts[c] > counts[best] {
			best = c
		}
	}
	return best
}

func (t *table) has(column string) bool { return slices.Contains(t.columns, column) }

// column returns the index of a column; key is the configuration key that asks for it.
func (t *table) column(name, key string) (int, error) {
	i := slices.Index(t.columns, name)
	if i < 0 {
		return 0, fmt.Errorf("%s has no column %q (%s)%s; its columns are %s", t.file, name, key,
			config.DidYouMean(name, t.columns), strings.Join(quoteAll(t.columns), ", "))
	}
	if slices.Contains(t.columns[i+1:], name) {
		return 0, fmt.Errorf("%s has two columns %q (%s): rename one", t.file, name, key)
	}
	return i, nil
}

// cellError describes a cell that cannot be used.
func (t *table) cellError(row, col int, want string) error {
	return fmt.Errorf("%s: line %d, column %q: value %q is not %s", t.file, t.lines[row], t.columns[col], t.rows[row][col], want)
}

// layout says where a table's scans lie and what their names tell.
type layout interface {
	// pathColumn returns the name of the column that names the scans.
	pathColumn(c config.Data) string
	// locate returns the path of the scan that a cell names, below root.
	locate(root, cell string) string
	// parse returns the group and the split that a cell tells, empty where it tells none.
	parse(cell string) (group, split string, err error)
	// labels returns the label columns to use when the configuration names none.
	labels(c config.Data, columns []string) []string
}

func pathColumn(c config.Data) string { return cmp.Or(c.PathColumn, "path") }

// tableLayout is the plain table: cells are paths, absolute or below the root.
type tableLayout struct{}

func (tableLayout) pathColumn(c config.Data) string { return pathColumn(c) }

func (tableLayout) locate(root, cell string) string {
	p := filepath.FromSlash(cell)
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(root, p)
}

func (tableLayout) parse(string) (group, split string, err error) { return "", "", nil }

func (tableLayout) labels(config.Data, []string) []string { return nil }

// openTable builds the data set of a table whose scans lie as lay says.
func openTable(c config.Data, t *table, seed uint64, lay layout, faults *[]Fault) (*Dataset, error) {
	d := &Dataset{Task: c.Task, table: t, row: map[uint64]int{}}
	pathCol, err := t.column(lay.pathColumn(c), "data.path_column")
	if err != nil {
		return nil, err
	}
	groupCol, splitCol := -1, -1
	if c.GroupColumn != "" {
		if groupCol, err = t.column(c.GroupColumn, "data.group_column"); err != nil {
			return nil, err
		}
	}
	if c.SplitColumn != "" {
		if splitCol, err = t.column(c.SplitColumn, "data.split_column"); err != nil {
			return nil, err
		}
	} else if t.has("split") && c.SplitFile == "" && c.ValFraction > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%s: the column \"split\" is not used, because data.split_column is empty", t.file))
	}
	if len(c.Labels) == 0 && c.Task != Multiclass {
		c.Labels = lay.labels(c, t.columns)
	}
	targets, err := t.targets(c, d)
	if err != nil {
		return nil, err
	}

	root := cmp.Or(c.Root, filepath.Dir(t.file))
	lineOf := make(map[string]int, len(t.rows))
	for i, row := range t.rows {
		cell := row[pathCol]
		if cell == "" {
			return nil, t.cellError(i, pathCol, "a path: it is empty")
		}
		group, split, err := lay.parse(cell)
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", t.file, t.lines[i], err)
		}
		s := Sample{Name: filepath.ToSlash(filepath.Clean(cell)), Path: lay.locate(root, cell), Target: targets[i]}
		s.ID = sampleID(s.Name)
		d.row[s.ID] = i
		if line, ok := lineOf[s.Path]; ok {
			return nil, fmt.Errorf("%s: lines %d and %d name the same scan %s: keep one", t.file, line, t.lines[i], cell)
		}
		lineOf[s.Path] = t.lines[i]
		s.Group = cmp.Or(group, s.Name)
		if groupCol >= 0 {
			if s.Group = row[groupCol]; s.Group == "" {
				return nil, t.cellError(i, groupCol, "a patient: it is empty")
			}
		}
		s.Split = split
		if splitCol >= 0 {
			if s.Split = splitName(row[splitCol]); s.Split == "" {
				return nil, t.cellError(i, splitCol, "a split: want train, val or test")
			}
		}
		d.Samples = append(d.Samples, s)
	}
	if c.SplitFile == "" {
		if err := checkGroups(t.file, d.Samples, faults); err != nil {
			return nil, err
		}
	}
	if err := d.dropMissing(t.file, c.OnError == "skip", faults); err != nil {
		return nil, err
	}
	if c.Metadata != "" {
		if err := d.readMetadata(c.Metadata); err != nil {
			return nil, err
		}
	}
	switch {
	case c.SplitFile != "":
		if err := d.readSplits(c.SplitFile, c.Fold, faults); err != nil {
			return nil, err
		}
	case d.Samples[0].Split == "":
		if err := d.splitOff(c.ValFraction, seed); err != nil {
			return nil, fmt.Errorf("%s: %w", t.file, err)
		}
	}
	return d, nil
}

// splitName returns the split that a cell names, or "".
func splitName(cell string) string {
	switch strings.ToLower(cell) {
	case "train", "training":
		return Train
	case "val", "valid", "validation":
		return Val
	case "test", "testing":
		return Test
	}
	return ""
}

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

func quoteAll(names []string) []string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = strconv.Quote(n)
	}
	return q
}
