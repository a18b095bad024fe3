package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// Bounds of an archive. They keep a small hostile file from filling the disk or the memory.
const (
	maxMembers  = 1 << 20
	maxUnpacked = 64 << 30  // bytes of all members together
	freeBytes   = 256 << 20 // that any archive may unpack to
	freeRatio   = 100       // unpacked to packed bytes beyond freeBytes; medical images reach 10
	maxDeflate  = 1032      // bytes that deflate can make of one
	inMemory    = 16 << 20  // a packed member up to this size is unpacked in memory, a larger one to a temporary file
)

// ErrNotArchive is wrapped by OpenArchive's error for a file that is neither zip nor tar.
var ErrNotArchive = errors.New("neither a zip nor a tar archive")

// Left is a member that cannot be opened.
type Left struct {
	Path   string
	Reason string
}

// Archive is an open zip file, tar file or gzip-compressed tar file. Members of a zip and of a plain tar are
// read where they lie. A compressed tar is unpacked once into a nameless temporary file. Archives in archives
// are not opened.
//
// The path of a member is the archive's path, a separator, and the member's name; names that would lead out of
// the archive are cut to what lies inside.
type Archive struct {
	path    string
	file    *os.File
	members map[string]*entry
	left    []Left

	mu    sync.Mutex
	temps []temp
	room  int64 // bytes that may still be unpacked into temporary files
}

// entry is a member. Either it lies plainly in `at`, or `unpack` streams it.
type entry struct {
	size   int64
	at     io.ReaderAt // of a plain member: offset 0 is its first byte
	unpack func() (io.ReadCloser, error)

	once    sync.Once
	spooled io.ReaderAt // a large packed member once it has been unpacked
	err     error
}

// OpenArchive opens an archive by its content, whatever its name.
func OpenArchive(path string) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	a := &Archive{path: path, file: f, members: make(map[string]*entry)}
	if err := a.index(); err != nil {
		a.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

func (a *Archive) index() error {
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errIrregular
	}
	size := info.Size()
	a.room = min(maxUnpacked, max(freeBytes, freeRatio*size))
	head := make([]byte, tarBlock)
	n, err := a.file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch head = head[:n]; {
	case IsZip(head):
		return a.indexZip(size)
	case IsTar(head):
		return a.indexTar(a.file, size)
	case !bytes.HasPrefix(head, []byte{0x1F, 0x8B}):
		return ErrNotArchive
	}
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := gzip.NewReader(a.file)
	if err != nil {
		return ErrNotArchive
	}
	first := make([]byte, tarBlock)
	if n, _ := io.ReadFull(z, first); !IsTar(first[:n]) {
		return ErrNotArchive
	}
	unpacked, size, err := a.spool(io.MultiReader(bytes.NewReader(first), z))
	if err != nil {
		return fmt.Errorf("unpacking the archive: %w", err)
	}
	return a.indexTar(unpacked, size)
}

// IsZip reports whether a file that begins with head is a zip archive.
func IsZip(head []byte) bool {
	return bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("PK\x05\x06"))
}

// IsTar reports whether a file that begins with head, 512 bytes of it, is a tar archive: the checksum of the
// first member's header is right, which all kinds of tar share.
func IsTar(head []byte) bool {
	if len(head) < tarBlock || head[0] == 0 {
		return false
	}
	const from, to = 148, 156 // the checksum's own place counts as blanks
	sum := int64(8 * ' ')
	for i, b := range head[:tarBlock] {
		if i < from || i >= to {
			sum += int64(b)
		}
	}
	stated := int64(0)
	digits := bytes.Trim(head[from:to], " \x00")
	for _, d := range digits {
		if d < '0' || d > '7' {
			return false
		}
		stated = stated<<3 | int64(d-'0')
	}
	return len(digits) > 0 && stated == sum
}

const tarBlock = 512

// Close closes the archive and all files opened from it, and removes what was unpacked.
func (a *Archive) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.file.Close()
	for _, t := range a.temps {
		err = errors.Join(err, t.remove())
	}
	a.temps = nil
	return err
}

// Paths returns the paths of all members, sorted.
func (a *Archive) Paths() []string {
	paths := make([]string, 0, len(a.members))
	for p := range a.members {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// Left returns the members that cannot be opened, with the reason.
func (a *Archive) Left() []Left { return a.left }

// Has reports whether path is a member.
func (a *Archive) Has(path string) bool { return a.members[path] != nil }

// Open opens a member.
func (a *Archive) Open(path string) (File, error) {
	e := a.members[path]
	if e == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if e.at != nil {
		return plain{io.NewSectionReader(e.at, 0, e.size)}, nil
	}
	return &packed{archive: a, entry: e}, nil
}

// memberPath turns a member's name into its path; "" for a name of nothing. Windows programs write
// backslashes into zip files.
func (a *Archive) memberPath(name string) string {
	clean := path.Clean("/" + strings.ReplaceAll(name, `\`, "/"))
	if clean == "/" {
		return ""
	}
	return filepath.Join(a.path, filepath.FromSlash(clean[1:]))
}

// leave notes a member that cannot be opened.
func (a *Archive) leave(name, reason string) {
	a.left = append(a.left, Left{a.memberPath(name), reason})
}

// spool unpacks a stream into a temporary file, within the bounds of the archive.
func (a *Archive) spool(r io.Reader) (io.ReaderAt, int64, error) {
	t, err := newTemp()
	if err != nil {
		return nil, 0, err
	}
	a.mu.Lock()
	a.temps = append(a.temps, t)
	room := a.room
	a.mu.Unlock()
	n, err := io.Copy(t.file, io.LimitReader(r, room+1))
	if err == nil && n > room {
		err = fmt.Errorf("it unpacks to more than %d MiB, which is no archive of images: unpack it by hand if it is", room>>20)
	}
	a.mu.Lock()
	a.room -= n
	a.mu.Unlock()
	return t.file, n, err
}

// temp is a temporary file. Where the system allows it the file loses its name at once, so that nothing is
// left behind however the process ends.
type temp struct {
	file    *os.File
	removed bool
}

func newTemp() (temp, error) {
	f, err := os.CreateTemp("", "ctclass-*.tmp")
	if err != nil {
		return temp{}, fmt.Errorf("making a temporary file: %w", err)
	}
	return temp{f, os.Remove(f.Name()) == nil}, nil
}

func (t temp) remove() error {
	err := t.file.Close()
	if !t.removed {
		err = errors.Join(err, os.Remove(t.file.Name()))
	}
	return err
}

// plain is a member that is stored as it is.
type plain struct{ *io.SectionReader }

func (plain) Close() error { return nil }
