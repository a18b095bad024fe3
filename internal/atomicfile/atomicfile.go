// Package atomicfile replaces files in one step, so that a reader, a crash or a full disk never
// leaves half a file under the final name.
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// Write creates or replaces the file at path with what write produces. The bytes go to a
// temporary file in the same folder, which is synced and then renamed over path; when anything
// fails the temporary file is removed and an older file at path is left as it was. The writer
// passed to write is buffered.
func Write(path string, write func(w io.Writer) error) (err error) {
	f, err := createTemp(path)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close() // a second Close only repeats an error that is already reported
			os.Remove(f.Name())
			kept := ""
			if _, statErr := os.Stat(path); statErr == nil {
				kept = " (the file that was there before is unchanged)"
			}
			if e, ok := err.(*fs.PathError); ok {
				err = e.Err // it names the temporary file
			}
			err = fmt.Errorf("cannot write %s%s: %w", path, kept, err)
		}
	}()
	buf := bufio.NewWriterSize(f, 1<<20)
	if err := write(buf); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	syncFolder(filepath.Dir(path))
	return nil
}

// createTemp opens a new file beside path. Unlike os.CreateTemp it leaves the permissions to the
// umask, as a file created directly at path would have.
func createTemp(path string) (*os.File, error) {
	folder, base := filepath.Split(path)
	for try := 0; ; try++ {
		name := fmt.Sprintf("%s.%s.%d-%d.tmp", folder, base, os.Getpid(), try)
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) && try < 10000 {
			continue
		}
		return f, err
	}
}

// IsDiskFull reports whether err says that there is no room left on the disk, or in the user's share of it.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Free returns the bytes that can still be written below a folder; ok is false where the system does not tell.
func Free(folder string) (bytes int64, ok bool) { return free(folder) }

// RemoveLeftovers removes the temporary files that processes which were killed while they wrote have left in a
// folder. No other process may be writing there.
func RemoveLeftovers(folder string) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	for _, e := range entries {
		if ok, _ := filepath.Match(".*.*-*.tmp", e.Name()); ok && e.Type().IsRegular() {
			os.Remove(filepath.Join(folder, e.Name())) // what cannot be removed takes room, and does no other harm
		}
	}
}

// syncFolder makes the rename durable where folders can be synced. The new content is complete
// under either name by now, so a file system that refuses is no failure of the write.
func syncFolder(folder string) {
	if runtime.GOOS == "windows" {
		return
	}
	if d, err := os.Open(folder); err == nil {
		_ = d.Sync()
		d.Close()
	}
}

// WriteBytes creates or replaces the file at path with the given content.
func WriteBytes(path string, content []byte) error {
	return Write(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}
