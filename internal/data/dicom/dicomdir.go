package dicom

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/ctclass/ctclass/internal/data/files"
)

const (
	tagRecords tagID = 0x00041220 // the directory records of a DICOMDIR
	tagFileID  tagID = 0x00041500 // the parts of the path of the file that a record describes

	maxReferences = 1 << 20
	maxFileParts  = 64
)

// References returns the files that the DICOMDIR at path lists, each as the parts of its path from the
// DICOMDIR's folder on, and only such that lie within that folder. Errors name the file.
func References(in files.Files, path string) ([][]string, error) {
	f, err := in.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	references, err := references(f, f.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return references, nil
}

func references(r files.File, size int64) ([][]string, error) {
	w := &walker{br: bufio.NewReaderSize(r, 1<<15), limit: size, order: binary.LittleEndian}
	if err := w.findStart(); err != nil {
		return nil, err
	}
	var s structure
	if err := w.meta(&s); err != nil {
		return nil, err
	}
	if s.syntax == syntaxDeflated {
		return nil, errors.New("a deflated DICOMDIR is not read")
	}
	if err := w.encoding(&s); err != nil {
		return nil, err
	}
	var list [][]string
	for w.pos < size {
		e, err := w.head()
		if err != nil {
			return nil, err
		}
		switch {
		case e.tag == tagRecords || e.tag>>16 == tagItem>>16 || e.length == undefinedLen:
			// Going into sequences and items makes one run of elements of them all.
		case e.tag == tagFileID && e.length <= maxValue:
			value, err := w.value(e)
			if err != nil {
				return nil, err
			}
			if parts := fileParts(string(value)); parts != nil {
				list = append(list, parts)
			}
			if len(list) > maxReferences {
				return nil, fmt.Errorf("the DICOMDIR lists more than %d files", maxReferences)
			}
		default:
			if err := w.skip(int64(e.length)); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// fileParts divides the value of a Referenced File ID; nil for one that names no file within the folder.
func fileParts(value string) []string {
	value = strings.Trim(value, " \x00")
	parts := strings.Split(value, `\`)
	if value == "" || len(parts) > maxFileParts {
		return nil
	}
	for i, p := range parts {
		p = strings.TrimSpace(p)
		if p == "" || p == "." || p == ".." || strings.ContainsAny(p, "/:\x00") {
			return nil
		}
		parts[i] = p
	}
	return parts
}
