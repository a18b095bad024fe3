// Package files opens the files that scans are read from: files of the operating system, and the members of
// zip and tar archives without unpacking these.
package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// File is an open file that can be read from the front and anywhere.
type File interface {
	io.Reader
	io.Seeker
	io.ReaderAt
	io.Closer
	Size() int64 // in bytes
}

// Files opens files by path. Several goroutines may use one at once, but not one File.
type Files interface {
	Open(path string) (File, error)
	// Has reports whether a file can be opened at path.
	Has(path string) bool
}

// Disk is the file system.
type Disk struct{}

// Open opens a regular file. Anything else, such as a pipe, on which reading could wait for ever, is refused.
func (Disk) Open(path string) (File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errIrregular}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	// The size is the open file's: the path may have been given to another one meanwhile.
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, err
	}
	return diskFile{f, info.Size()}, nil
}

// Has reports whether path is a regular file.
func (Disk) Has(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

var errIrregular = errors.New("not a regular file")

type diskFile struct {
	*os.File
	size int64
}

func (f diskFile) Size() int64 { return f.size }
