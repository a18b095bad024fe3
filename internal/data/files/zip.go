package files

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
)

// indexZip lists the members of a zip file of size bytes.
func (a *Archive) indexZip(size int64) error {
	z, err := zip.NewReader(a.file, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // such names are cut to what lies inside
		return fmt.Errorf("the zip archive is damaged or cut: %w", err)
	}
	z.RegisterDecompressor(zip.Deflate, flate.NewReader)
	if len(z.File) > maxMembers {
		return fmt.Errorf("the zip archive lists %d files, more than %d", len(z.File), maxMembers)
	}
	var stored, unpacked uint64
	for _, f := range z.File {
		stored += f.CompressedSize64
		unpacked += f.UncompressedSize64
		// Both sums stay below 2^63 this way, whatever the sizes claim.
		if f.CompressedSize64 > uint64(size) || stored > uint64(size) {
			return errors.New("the zip archive is damaged: its files overlap or reach beyond its end")
		}
		if f.UncompressedSize64 > maxUnpacked || unpacked > uint64(a.room) {
			return fmt.Errorf("the zip archive claims to unpack to more than %d MiB, which is no archive of images: unpack it by hand if it is", a.room>>20)
		}
	}
	for _, f := range z.File {
		path := a.memberPath(f.Name)
		if path == "" || !f.Mode().IsRegular() {
			continue
		}
		e := &entry{size: int64(f.UncompressedSize64)}
		switch {
		case f.Flags&1 != 0:
			a.leave(f.Name, "encrypted in its zip archive: unpack it with its password")
			continue
		case f.Method == zip.Store && f.CompressedSize64 == f.UncompressedSize64:
			offset, err := f.DataOffset()
			if err != nil || offset > size-e.size {
				a.leave(f.Name, "the zip archive is damaged here")
				continue
			}
			e.at = io.NewSectionReader(a.file, offset, e.size)
		case f.Method == zip.Deflate && f.UncompressedSize64 <= maxDeflate*f.CompressedSize64:
			e.unpack = f.Open
		case f.Method == zip.Deflate:
			a.leave(f.Name, "the zip archive claims more bytes for it than its data can hold")
			continue
		default:
			a.leave(f.Name, fmt.Sprintf("packed by zip method %d, which is not supported: unpack it", f.Method))
			continue
		}
		a.members[path] = e
	}
	return nil
}
