package files

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
)

// indexTar notes where the members of a plain tar file of size bytes lie.
func (a *Archive) indexTar(r io.ReaderAt, size int64) error {
	// The tar reader seeks over contents, so that only the headers are read; after a header the section
	// stands at the content.
	section := io.NewSectionReader(r, 0, size)
	t := tar.NewReader(section)
	for count := 0; ; count++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // such names are cut to what lies inside
			if len(a.members) == 0 {
				return fmt.Errorf("the tar archive is damaged or cut: %w", err)
			}
			a.leave("(end)", "the tar archive is damaged or cut here: files may be missing")
			return nil
		}
		if count >= maxMembers {
			return fmt.Errorf("the tar archive lists more than %d files", maxMembers)
		}
		path := a.memberPath(h.Name)
		if h.Typeflag != tar.TypeReg || path == "" {
			continue
		}
		if sparse(h) {
			a.leave(h.Name, "stored with holes (sparse) in its tar archive: unpack it")
			continue
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if h.Size > size-offset {
			a.leave(h.Name, "the tar archive is cut here: files may be missing")
			return nil
		}
		a.members[path] = &entry{size: h.Size, at: io.NewSectionReader(r, offset, h.Size)}
	}
}

// sparse reports whether a file's content is not stored as it is.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}
