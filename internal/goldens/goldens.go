// Package goldens loads reference results that were computed in float64 with PyTorch: single operations
// (ops.json) and forward and backward passes of whole classifiers. Weights, inputs and targets are not
// stored: they follow from the names of streams, by Uniform and the rules of ParamValue. Only tests import
// this package.
package goldens

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

//go:embed testdata/*.json.gz
var stored embed.FS

// maxBytes bounds the unpacked size of one file.
const maxBytes = 256 << 20

// opsName is the name of the file with single operations; every other file is of a classifier.
const opsName = "ops"

// File is one golden file.
type File struct {
	Name string // without folder and .json or .json.gz, e.g. "resnet18_3d_odd"
	path string
	fsys fs.FS
}

// Files lists the golden files of a folder (*.json and *.json.gz) by name. The folder "" means the copies
// that come with this package. A folder without such files is an error.
func Files(dir string) ([]File, error) {
	var fsys fs.FS = os.DirFS(dir)
	label := dir
	if dir == "" {
		sub, err := fs.Sub(stored, "testdata")
		if err != nil {
			return nil, err
		}
		fsys, label = sub, "the stored goldens"
	}
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("goldens: cannot list %s: %w", label, err)
	}
	var files []File
	for _, e := range entries {
		name, ok := strings.CutSuffix(strings.TrimSuffix(e.Name(), ".gz"), ".json")
		if !ok || e.IsDir() {
			continue
		}
		files = append(files, File{Name: name, path: e.Name(), fsys: fsys})
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("goldens: %s holds no .json or .json.gz file", label)
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Name < files[j].Name })
	return files, nil
}

// Models is Files without ops.json: one file a classifier and size.
func Models(dir string) ([]File, error) {
	files, err := Files(dir)
	if err != nil {
		return nil, err
	}
	var models []File
	for _, f := range files {
		if f.Name != opsName {
			models = append(models, f)
		}
	}
	if len(models) == 0 {
		return nil, fmt.Errorf("goldens: %s holds no classifier", filepath.Clean(dir))
	}
	return models, nil
}

// Open returns the stored file with the given name, without extension.
func Open(name string) (File, error) {
	files, err := Files("")
	if err != nil {
		return File{}, err
	}
	for _, f := range files {
		if f.Name == name {
			return f, nil
		}
	}
	return File{}, fmt.Errorf("goldens: there is no stored file %q", name)
}

// decode reads the file as JSON into v.
func (f File) decode(v any) error {
	raw, err := f.read()
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return fmt.Errorf("goldens: %s: %w", f.path, err)
	}
	return nil
}

// read returns the unpacked bytes.
func (f File) read() ([]byte, error) {
	raw, err := fs.ReadFile(f.fsys, f.path)
	if err != nil || !strings.HasSuffix(f.path, ".gz") {
		return raw, err
	}
	zr, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	raw, err = io.ReadAll(io.LimitReader(zr, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxBytes {
		return nil, errors.New("the unpacked file is larger than 256 MiB")
	}
	return raw, zr.Close()
}
