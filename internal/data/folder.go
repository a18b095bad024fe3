package data

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
)

// The columns of the table that stands for a folder of classes.
const (
	folderPath  = "path"
	folderClass = "class"
	folderSplit = "split"
)

// folderTable lists a folder that holds a folder for each class, with a scan for each file or folder in it: CLASS/SCAN,
// or SPLIT/CLASS/SCAN when all its folders are named as splits are (train, val, test). It is the table with the columns
// path, class and, if so, split, and for each class one that is 1 in its own rows and 0 in others; c is what reads
// that table. Files that no scan is named like are left out, with a warning.
func folderTable(c config.Data) (*table, config.Data, []string, error) {
	dir := c.Table
	tops, _, err := listFolder(dir)
	if err != nil {
		return nil, c, nil, fmt.Errorf("reading the data set folder: %w", err)
	}
	t := &table{file: dir, columns: []string{folderPath, folderClass}}
	splits := len(tops) > 0
	for _, name := range tops {
		splits = splits && splitName(name) != ""
	}
	type place struct{ split, class string }
	var places []place
	var classes []string
	for _, name := range tops {
		if !splits {
			places = append(places, place{"", name})
			continue
		}
		names, _, err := listFolder(filepath.Join(dir, name))
		if err != nil {
			return nil, c, nil, fmt.Errorf("reading the data set folder: %w", err)
		}
		for _, class := range names {
			places = append(places, place{name, class})
		}
	}
	var others []string
	for _, p := range places {
		if !slices.Contains(classes, p.class) {
			classes = append(classes, p.class)
		}
		in := path.Join(p.split, p.class)
		folders, files, err := listFolder(filepath.Join(dir, filepath.FromSlash(in)))
		if err != nil {
			return nil, c, nil, fmt.Errorf("reading the data set folder: %w", err)
		}
		for _, name := range files {
			if namedAsScan(name) {
				folders = append(folders, name)
			} else {
				others = append(others, path.Join(in, name))
			}
		}
		for _, name := range folders {
			row := []string{path.Join(in, name), p.class}
			if splits {
				row = append(row, p.split)
			}
			t.rows = append(t.rows, row)
		}
	}
	slices.Sort(classes)
	if splits {
		t.columns = append(t.columns, folderSplit)
	}
	t.columns = append(t.columns, classes...)
	for i, row := range t.rows {
		for _, class := range classes {
			row = append(row, map[bool]string{false: "0", true: "1"}[row[1] == class])
		}
		t.rows[i] = row
		t.origin = append(t.origin, origin{file: filepath.Join(dir, "*")}) // paths start from its folder
	}
	if len(classes) < 2 || len(t.rows) == 0 {
		return nil, c, nil, fmt.Errorf("%s holds %d scans of %d classes: want a folder for each class, and in it a folder or a file for each scan", dir, len(t.rows), len(classes))
	}
	c.PathColumn = folderPath
	if c.SplitColumn == "" && splits {
		c.SplitColumn = folderSplit
	}
	switch {
	case c.Task == Multilabel:
		return nil, c, nil, fmt.Errorf("data.format is folder, where a scan has one class, but data.task is multilabel: set it to binary or multiclass")
	case c.Task == Binary && len(c.Labels) == 0:
		return nil, c, nil, fmt.Errorf("data.labels is empty: name the folder of the positives in %s; its folders are %s", dir, strings.Join(quoteAll(classes), ", "))
	case c.Task == Multiclass:
		c.LabelColumn = folderClass
		if len(c.Labels) == 0 {
			c.Labels = classes
		}
	}
	var warnings []string
	if len(others) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s: %d files are not named as scans are and were left out: %s", dir, len(others), shortList(others)))
	}
	return t, c, warnings, nil
}

// listFolder returns the folders and the files in a folder, links followed, without hidden ones.
func listFolder(dir string) (folders, files []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		switch {
		case err != nil: // a link to nothing: the reader says so
			files = append(files, e.Name())
		case info.IsDir():
			folders = append(folders, e.Name())
		default:
			files = append(files, e.Name())
		}
	}
	return folders, files, nil
}

// namedAsScan tells by its name whether a file holds a scan of its own.
func namedAsScan(name string) bool {
	name = strings.TrimSuffix(strings.ToLower(name), ".gz")
	return slices.Contains([]string{".nii", ".hdr", ".dcm", ".zip", ".tar", ".tgz"}, filepath.Ext(name))
}
