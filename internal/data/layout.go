package data

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/index"
)

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
	patient, err := patientFinder(c)
	if err != nil {
		return nil, err
	}
	groupCol, splitCol, seriesCol := -1, -1, -1
	if c.SeriesColumn == "" && t.joined != nil && t.joined.isIndex {
		c.SeriesColumn = index.SeriesColumn
	}
	if c.SeriesColumn != "" {
		if seriesCol, err = t.column(c.SeriesColumn, "data.series_column"); err != nil {
			return nil, err
		}
	}
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

	rowOf := make(map[string]int, len(t.rows))
	for i, row := range t.rows {
		cell := row[pathCol]
		if cell == "" {
			return nil, t.cellError(i, pathCol, "a path: it is empty")
		}
		group, split, err := lay.parse(cell)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", t.origin[i], err)
		}
		s := Sample{Name: filepath.ToSlash(filepath.Clean(cell)), Path: lay.locate(cmp.Or(c.Root, t.root(i)), cell), Target: targets[i]}
		if seriesCol >= 0 {
			s.Series = row[seriesCol]
		}
		if s.Series != "" {
			s.Name += "#" + s.Series
		}
		s.ID = sampleID(s.Name)
		d.row[s.ID] = i
		scan := s.Path + "#" + s.Series
		if first, ok := rowOf[scan]; ok {
			return nil, fmt.Errorf("%s name the same scan %s: keep one", t.both(first, i), cell)
		}
		rowOf[scan] = i
		s.Group = cmp.Or(group, s.Name)
		if groupCol >= 0 {
			if s.Group = row[groupCol]; s.Group == "" {
				return nil, t.cellError(i, groupCol, "a patient: it is empty")
			}
		}
		if patient != nil {
			if s.Group = patient(filepath.ToSlash(filepath.Clean(cell))); s.Group == "" {
				return nil, fmt.Errorf("%v: data.group_pattern %q finds no patient in %s", t.origin[i], c.GroupPattern, cell)
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
	if t.joined != nil {
		d.Unmatched = t.joined.left
		d.Warnings = append(d.Warnings, t.joined.warnings...)
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

// root returns the folder that the paths of a row start from: that of the table which has them.
func (t *table) root(row int) string {
	if t.joined != nil {
		return filepath.Dir(t.joined.index.origin[t.joined.row[row]].file)
	}
	return filepath.Dir(t.origin[row].file)
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

// patientFinder returns what data.group_pattern finds in a path: what its first parentheses match, or without any the
// whole pattern, and nothing where it does not match. It is nil when the pattern is empty.
func patientFinder(c config.Data) (func(path string) string, error) {
	if c.GroupPattern == "" {
		return nil, nil
	}
	if c.GroupColumn != "" {
		return nil, errors.New("data.group_column and data.group_pattern are both set: leave one of them empty")
	}
	re, err := regexp.Compile(c.GroupPattern)
	if err != nil {
		return nil, fmt.Errorf("data.group_pattern: %w", err)
	}
	return func(path string) string {
		m := re.FindStringSubmatch(path)
		if m == nil {
			return ""
		}
		return m[min(1, len(m)-1)]
	}, nil
}
