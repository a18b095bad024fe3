package scan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/ctclass/ctclass/internal/data/dicom"
	"github.com/ctclass/ctclass/internal/data/files"
)

// classDirectory is the SOP class of a DICOMDIR, an index and no image.
const classDirectory = "1.2.840.10008.1.3.10"

// Tree lists folders. Links are followed; visited keeps a link to a parent from going round for ever.
type Tree struct {
	visited map[string]bool
}

// List returns the files and folders directly in dir, each sorted by name. A folder that was listed before,
// under whatever path, is empty.
func (t *Tree) List(dir string) (paths, dirs []string, err error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, nil, err
	}
	if t.visited == nil {
		t.visited = make(map[string]bool)
	}
	if t.visited[real] {
		return nil, nil, nil
	}
	t.visited[real] = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		mode := e.Type()
		if mode&os.ModeSymlink != 0 {
			if info, err := os.Stat(path); err == nil {
				mode = info.Mode()
			}
		}
		if mode.IsDir() {
			dirs = append(dirs, path)
		} else {
			paths = append(paths, path)
		}
	}
	return paths, dirs, nil
}

// walk returns all files below dir; folders that cannot be read are among the skipped.
func walk(dir string) ([]string, []Skipped, error) {
	var t Tree
	paths, dirs, err := t.List(dir)
	if err != nil {
		return nil, nil, err
	}
	var skipped []Skipped
	for len(dirs) > 0 {
		next := dirs[0]
		more, below, err := t.List(next)
		if err != nil {
			skipped = append(skipped, Skipped{Path: next, Reason: err.Error(), Damaged: true})
		}
		paths = append(paths, more...)
		dirs = append(dirs[1:], below...)
	}
	slices.Sort(paths)
	return paths, skipped, nil
}

// folder is what Expand knows about one folder and those below it.
type folder struct {
	path     string
	images   bool // DICOM images lie directly in it
	damaged  bool // DICOM files lie directly in it whose header cannot be read
	nifti    []string
	archives []string
	children []*folder
	studies  map[string]bool // of the DICOM images in it and below, one file looked at for each folder
	scans    bool            // NIfTI files lie in it or below
}

// Expand says which scans a path holds, so that each is read on its own:
//
//   - a file is one scan;
//   - a folder with DICOM images directly in it is one scan, whatever else it holds;
//   - a folder whose DICOM images, in any folders below it, belong to one study is one scan, unless NIfTI
//     files lie there too;
//   - of any other folder each NIfTI file directly in it is a scan (a .hdr/.img pair counts once), and each
//     folder in it is taken by these same rules; a folder with nothing but damaged DICOM files in it is a
//     scan too, so that it is not passed over in silence;
//   - an archive in a folder is a scan when no DICOM images lie beside or below it: it may be a copy of these.
//
// To tell studies apart one DICOM image of each folder is looked at. A path without any scan is returned as
// it is: reading it then gives the reason.
func Expand(path string) ([]string, error) {
	info, err := stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var t Tree
	f, err := t.survey(path, 0)
	if err != nil {
		return nil, err
	}
	if scans := f.split(); len(scans) > 0 {
		return scans, nil
	}
	return []string{path}, nil
}

// stat is os.Stat with an error that starts with the path, as all errors here do.
func stat(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = fmt.Errorf("%s: %w", path, pathErr.Err)
	}
	return info, err
}

// maxFolders bounds the depth of a folder tree.
const maxFolders = 64

func (t *Tree) survey(dir string, depth int) (*folder, error) {
	if depth > maxFolders {
		return nil, fmt.Errorf("%s: folders are nested more than %d deep", dir, maxFolders)
	}
	paths, dirs, err := t.List(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{path: dir, studies: make(map[string]bool)}
	for _, file := range paths {
		k, err := sniff(files.Disk{}, file)
		switch {
		case err != nil:
		case k == kindNIfTI:
			f.nifti, f.scans = append(f.nifti, file), true
		case k == kindArchive:
			f.archives = append(f.archives, file)
		case k == kindDICOM && !f.images:
			h, err := dicom.ReadHeader(file)
			switch {
			case err != nil:
				f.damaged = f.damaged || !errors.Is(err, dicom.ErrNotDICOM)
			case h.SOPClassUID != classDirectory && h.Rows > 0:
				f.images = true
				f.studies[study(&h)] = true
			}
		}
	}
	for _, d := range dirs {
		child, err := t.survey(d, depth+1)
		if os.IsPermission(err) {
			continue // Find reports it
		}
		if err != nil {
			return nil, err
		}
		f.children = append(f.children, child)
		f.scans = f.scans || child.scans
		for s := range child.studies {
			f.studies[s] = true
		}
	}
	return f, nil
}

// study is what tells two studies apart: the study's UID, without one the series' UID.
func study(h *dicom.Header) string {
	if h.StudyUID != "" {
		return h.StudyUID
	}
	return "series " + h.SeriesUID
}

// split returns the scans of a folder by the rules of Expand.
func (f *folder) split() []string {
	if f.images || len(f.studies) == 1 && !f.scans {
		return []string{f.path}
	}
	scans := slices.Clone(f.nifti)
	if len(f.studies) == 0 {
		scans = append(scans, f.archives...)
	}
	for _, child := range f.children {
		scans = append(scans, child.split()...)
	}
	if len(scans) == 0 && f.damaged {
		return []string{f.path}
	}
	return scans
}
