package data

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
)

// ctrateColumn is the column of CT-RATE's label table that names the volumes.
const ctrateColumn = "VolumeName"

// ctrateName matches CT-RATE's volume names: split, patient, scan, reconstruction, as in train_1_a_2.nii.gz.
var ctrateName = regexp.MustCompile(`^([a-z]+)_(\d+)_([a-z]+)_(\d+)(\.nii(\.gz)?)?$`)

// ctrateLayout is the layout of CT-RATE (Hamamci et al., arXiv:2403.17834): the volume
// train_1_a_2.nii.gz is reconstruction 2 of scan a of patient train_1 and lies in
// train/train_1/train_1_a/, or without any folders.
type ctrateLayout struct {
	folder string // where the last volume was found, tried first for the next
}

// ctrateFolders are the places of a volume below the root: {split} is train or valid, {patient}
// train_1, {scan} train_1_a.
var ctrateFolders = []string{
	"",
	"{patient}/{scan}",
	"{split}",
	"{split}/{patient}/{scan}",
	"{split}_fixed/{patient}/{scan}",
	"dataset/{split}/{patient}/{scan}",
	"dataset/{split}_fixed/{patient}/{scan}",
}

func (*ctrateLayout) pathColumn(config.Data) string { return ctrateColumn }

func (*ctrateLayout) parse(cell string) (group, split string, err error) {
	m := ctrateName.FindStringSubmatch(cell)
	if m == nil {
		return "", "", fmt.Errorf("column %q: value %q is not a CT-RATE volume name such as train_1_a_1.nii.gz", ctrateColumn, cell)
	}
	split = splitName(m[1])
	if split == "" {
		return "", "", fmt.Errorf("column %q: value %q starts with none of the splits train and valid", ctrateColumn, cell)
	}
	return m[1] + "_" + m[2], split, nil
}

func (l *ctrateLayout) locate(root, cell string) string {
	m := ctrateName.FindStringSubmatch(cell)
	file := cell
	if m[5] == "" {
		file += ".nii.gz"
	}
	at := func(folder string) string {
		patient := m[1] + "_" + m[2]
		folder = strings.NewReplacer("{split}", m[1], "{patient}", patient, "{scan}", patient+"_"+m[3]).Replace(folder)
		return filepath.Join(root, filepath.FromSlash(path.Join(folder, file)))
	}
	for _, folder := range append([]string{l.folder}, ctrateFolders...) {
		if _, err := os.Stat(at(folder)); err == nil {
			l.folder = folder
			return at(folder)
		}
	}
	return at("{split}/{patient}/{scan}") // not there: the place to name in the message
}

// labels returns every column that has no other use.
func (*ctrateLayout) labels(c config.Data, columns []string) []string {
	used := []string{"", ctrateColumn, c.GroupColumn, c.SplitColumn}
	return slices.DeleteFunc(slices.Clone(columns), func(name string) bool { return slices.Contains(used, name) })
}
