package scan

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ctclass/ctclass/internal/data/dicom"
	"github.com/ctclass/ctclass/internal/data/files"
)

// How much of the content Identity looks at.
const (
	wholeFile     = 256 << 10 // a single file up to this size is read whole
	blockBytes    = 4 << 10
	blocksOfFile  = 16 // of a larger single file
	sampledFiles  = 8  // of a folder
	blocksOfSlice = 2  // of each of these
)

// Identity returns a digest that names what Load reads at path, cheap enough to be taken each time: of every file its
// size, its time of change and, within a folder, its name below it, and of the content some blocks spread over the
// file or over some of a folder's files. Where the path itself lies does not enter, so that a scan that is moved or
// copied with its times keeps its identity; one that is changed gets another.
func Identity(path string) ([sha256.Size]byte, error) {
	paths, base, err := identified(path)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	h := sha256.New()
	for i, p := range paths {
		name, err := filepath.Rel(base, p)
		if err != nil || len(paths) == 1 {
			name = "" // a single file may be renamed
		}
		limit := int64(0)
		switch step := max(1, len(paths)/sampledFiles); {
		case len(paths) <= 2: // a file, or a pair of header and image
			limit = blocksOfFile
		case i%step == 0:
			limit = blocksOfSlice
		}
		if err := identify(h, p, filepath.ToSlash(name), limit); err != nil {
			return [sha256.Size]byte{}, err
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// identified returns the files that a path consists of, sorted, and the folder that their names are taken below.
func identified(path string) (paths []string, base string, err error) {
	info, err := stat(path)
	if err != nil {
		return nil, "", err
	}
	if info.IsDir() {
		paths, _, err = walk(path)
		return paths, path, err
	}
	base = filepath.Dir(path)
	switch k, err := sniff(files.Disk{}, path); {
	case err != nil:
		return nil, "", err
	case k == kindNIfTI || k == kindPart:
		return append([]string{path}, pairOf(path)...), base, nil
	case k == kindDICOM && strings.EqualFold(filepath.Base(path), "DICOMDIR"):
		paths, err = (&Contents{Path: path}).listed()
		return paths, base, err
	case k == kindDICOM:
		if h, err := dicom.ReadHeader(path); err == nil && h.SOPClassUID == classDirectory {
			paths, err = (&Contents{Path: path}).listed()
			return paths, base, err
		}
	}
	return []string{path}, base, nil
}

// pairOf returns the other file of a .hdr/.img pair.
func pairOf(path string) []string {
	stem := path
	if strings.EqualFold(filepath.Ext(stem), ".gz") {
		stem = strings.TrimSuffix(stem, filepath.Ext(stem))
	}
	ext := filepath.Ext(stem)
	stem = strings.TrimSuffix(stem, ext)
	other := map[string]string{".hdr": ".img", ".img": ".hdr"}[strings.ToLower(ext)]
	if other == "" {
		return nil
	}
	for _, p := range []string{stem + other, stem + other + ".gz", stem + strings.ToUpper(other)} {
		if (files.Disk{}).Has(p) {
			return []string{p}
		}
	}
	return nil
}

// identify writes into h what tells the file at path: name, size, time, and so many blocks of its content, or all of
// a small one when that are many.
func identify(h io.Writer, path, name string, blocks int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	size := info.Size()
	facts := binary.LittleEndian.AppendUint64(nil, uint64(len(name)))
	facts = append(facts, name...)
	facts = binary.LittleEndian.AppendUint64(facts, uint64(size))
	facts = binary.LittleEndian.AppendUint64(facts, uint64(info.ModTime().UnixNano()))
	h.Write(facts) // a hash takes every byte
	if blocks == 0 || !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if blocks == blocksOfFile && size <= wholeFile {
		_, err = io.Copy(h, f)
		return err
	}
	block := make([]byte, blockBytes)
	for i := range blocks {
		at := int64(0)
		if blocks > 1 {
			at = max(0, size-blockBytes) * i / (blocks - 1)
		}
		n, err := f.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", path, err)
		}
		h.Write(block[:n])
	}
	return nil
}
