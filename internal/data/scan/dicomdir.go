package scan

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/ctclass/ctclass/internal/data/dicom"
	"github.com/ctclass/ctclass/internal/data/files"
)

// listed returns the files that the DICOMDIR at the path names, without those that are not there; when that
// leaves none, all files of its folder.
func (c *Contents) listed() ([]string, error) {
	dir := filepath.Dir(c.Path)
	references, err := dicom.References(files.Disk{}, c.Path)
	resolve := resolver{names: make(map[string]map[string]string)}
	seen := make(map[string]bool)
	paths := []string{c.Path} // Find then counts what is missing
	for _, parts := range references {
		if p, ok := resolve.path(dir, parts); ok && !seen[p] {
			seen[p] = true
			paths = append(paths, p)
		}
	}
	if len(paths) > 1 {
		return paths, nil
	}
	if err != nil {
		c.warn("the DICOMDIR cannot be read (%s): all files of its folder are looked at", strings.TrimPrefix(err.Error(), c.Path+": "))
	} else {
		c.warn("none of the files that the DICOMDIR names is there: all files of its folder are looked at")
	}
	all, skipped, err := walk(dir)
	c.Skipped = append(c.Skipped, skipped...)
	return all, err
}

// resolver finds files whose names may differ in case from what a DICOMDIR says: discs are copied by systems
// that turn names into lower case.
type resolver struct {
	names map[string]map[string]string // by folder: names by their upper-case form
}

func (r *resolver) path(dir string, parts []string) (string, bool) {
	for _, p := range parts {
		entries, ok := r.names[dir]
		if !ok {
			entries = make(map[string]string)
			list, _ := os.ReadDir(dir) // a folder that cannot be read holds nothing
			for _, e := range list {
				entries[strings.ToUpper(e.Name())] = e.Name()
			}
			for _, e := range list { // a name that is right as it is comes first
				entries[e.Name()] = e.Name()
			}
			r.names[dir] = entries
		}
		name, ok := entries[p]
		if !ok {
			name, ok = entries[strings.ToUpper(p)]
		}
		if !ok {
			return "", false
		}
		dir = filepath.Join(dir, name)
	}
	return dir, true
}

// checkDirectory warns of files that the DICOMDIR at path names and that are not among paths.
func (c *Contents) checkDirectory(in files.Files, path string, paths []string) {
	references, err := dicom.References(in, path)
	if err != nil {
		c.skip(damaged(path, err).skip)
		c.Skipped[len(c.Skipped)-1].Path = path
		return
	}
	there := make(map[string]bool, len(paths))
	for _, p := range paths {
		there[strings.ToUpper(p)] = true
	}
	missing, first := 0, ""
	for _, parts := range references {
		name := filepath.Join(parts...)
		if there[strings.ToUpper(filepath.Join(filepath.Dir(path), name))] {
			continue
		}
		if missing == 0 {
			first = name
		}
		missing++
	}
	if missing > 0 {
		c.warn("%d of %d files that the DICOMDIR names are not there, the first is %s: slices may be missing", missing, len(references), first)
	}
}
