// Package nifti reads and writes NIfTI-1 and NIfTI-2 volumes.
//
// A NIfTI file counts i fastest, then j, then k; these are w, h and d of a volume. Its world is RAS, so
// that the affine gets the sign of x and y turned on the way in and out.
package nifti

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/ctclass/ctclass/internal/data/files"
	"github.com/ctclass/ctclass/internal/data/gunzip"
	"github.com/ctclass/ctclass/internal/volume"
)

const (
	// maxRatio bounds how much data a byte of a gzip file can hold: deflate spends at least two bits on
	// 258 bytes, that is 1032 to 1.
	maxRatio = 1032
	// firstVoxels is how many voxels of a gzip file are allocated before any is read. What exceeds it
	// grows with the data, so that a small file cannot claim memory it has no voxels for.
	firstVoxels = 128 << 20
	// chunkBytes is how much is read and converted at a time.
	chunkBytes = 256 << 10
	// besideFrom is from how many bytes of voxels on a gzip file is converted beside its inflating.
	besideFrom = 1 << 20
	// maxTail is how much may follow the voxels of a gzip file and still be checked against its checksum.
	maxTail = 16 << 20
)

// Read reads the volume of a NIfTI file: .nii, .nii.gz, or either file of a .hdr/.img pair. Whether a
// file is compressed is decided by its content. HU are the stored values with scl_slope and scl_inter
// applied. NaN and infinite voxels become the smallest finite value, with a warning.
//
// Files with several volumes, with colour or complex voxels, cut or damaged ones are refused. Every error
// names the file.
func Read(path string) (*volume.Volume, []string, error) { return ReadIn(files.Disk{}, path) }

// ReadIn is Read for a file of an archive.
func ReadIn(in files.Files, path string) (*volume.Volume, []string, error) {
	v, warnings, err := read(in, path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading NIfTI file %s: %w", path, err)
	}
	return v, warnings, nil
}

// Header reads only the header of a NIfTI file, given as to Read. For a pair the .img is not looked at.
func Header(path string) (Info, error) { return HeaderIn(files.Disk{}, path) }

// HeaderIn is Header for a file of an archive.
func HeaderIn(in files.Files, path string) (Info, error) {
	h, err := readHeaderFile(in, headerPath(in, path))
	if err != nil {
		return Info{}, fmt.Errorf("reading NIfTI file %s: %w", path, err)
	}
	return h.Info, nil
}

func read(in files.Files, path string) (*volume.Volume, []string, error) {
	s, err := open(in, headerPath(in, path))
	if err != nil {
		return nil, nil, err
	}
	defer func() { s.close() }()
	h, err := readHeader(s)
	if err != nil {
		return nil, nil, err
	}
	if h.Volumes > 1 {
		return nil, nil, fmt.Errorf("the file holds %d volumes of %v voxels (D, H, W); write the wanted one to a file of its own", h.Volumes, h.Shape)
	}
	if !h.single {
		s.close()
		if s, err = open(in, imagePath(in, path)); err != nil {
			return nil, nil, fmt.Errorf("the header's image file is missing: %w", err)
		}
	}
	hu, bad, err := h.readVoxels(s)
	if err != nil {
		return nil, nil, err
	}
	if bad > 0 {
		if err := h.replaceBad(hu, bad); err != nil {
			return nil, nil, err
		}
	}
	return &volume.Volume{Size: h.Shape, HU: hu, Spacing: h.Spacing, Affine: h.Affine}, h.Warnings, nil
}

func readHeaderFile(in files.Files, path string) (*header, error) {
	s, err := open(in, path)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return readHeader(s)
}

// replaceBad sets voxels that are not finite to the smallest finite value.
func (h *header) replaceBad(hu []float32, bad int) error {
	lowest := float32(math.Inf(1))
	for _, x := range hu {
		if x-x == 0 {
			lowest = min(lowest, x)
		}
	}
	if bad == len(hu) {
		return errors.New("no voxel has a finite value")
	}
	for i, x := range hu {
		if x-x != 0 {
			hu[i] = lowest
		}
	}
	h.warn("%d of %d voxels are NaN or infinite; set to the smallest value, %g", bad, len(hu), lowest)
	return nil
}

// readVoxels reads the voxels of the header's one volume from s, which stands anywhere before them.
// It returns how many of them are NaN or infinite.
func (h *header) readVoxels(s *source) (hu []float32, bad int, err error) {
	need := int64(h.voxels) * int64(h.voxelBytes)
	room := s.size
	if s.packed {
		room = s.size * maxRatio
	}
	if h.offset > room || need > room-h.offset {
		return nil, 0, fmt.Errorf("the header claims %v voxels (D, H, W) of type %s, %d bytes from byte %d on, more than the file's %d bytes hold", h.Shape, h.DType, need, h.offset, s.size)
	}
	if _, err := io.CopyN(io.Discard, s, h.offset-s.read); err != nil {
		return nil, 0, fmt.Errorf("the file ends before the voxels start at byte %d: %w", h.offset, noEOF(err))
	}
	first := h.voxels
	if s.packed {
		first = min(first, firstVoxels)
	}
	v := converted{header: h, hu: make([]float32, 0, first)}
	if err := s.inChunks(need, v.add); err != nil {
		return nil, 0, fmt.Errorf("the voxels cannot be read to their end (%d bytes from byte %d on); the file is cut or damaged: %w", need, h.offset, noEOF(err))
	}
	return v.hu, v.bad, s.checkTail()
}

// converted are the voxels of a header's volume, so far.
type converted struct {
	*header
	hu  []float32
	bad int // how many are NaN or infinite
}

// add converts the next stored ones. It may reorder src.
func (v *converted) add(src []byte) {
	n := len(src) / v.voxelBytes
	v.hu = grow(v.hu, n, v.voxels)
	dst := v.hu[len(v.hu) : len(v.hu)+n]
	v.convert(dst, src)
	for _, x := range dst {
		if x-x != 0 {
			v.bad++
		}
	}
	v.hu = v.hu[:len(v.hu)+n]
}

// grow makes room for n more values, at most doubling the room each time and never beyond limit.
func grow(hu []float32, n, limit int) []float32 {
	if len(hu)+n <= cap(hu) {
		return hu
	}
	bigger := make([]float32, len(hu), min(limit, max(2*cap(hu), len(hu)+n)))
	copy(bigger, hu)
	return bigger
}

// source is an open file, unpacked when its content is gzip.
type source struct {
	file   files.File
	r      io.Reader
	size   int64 // of the file
	read   int64 // bytes delivered so far
	packed bool
}

func open(in files.Files, path string) (*source, error) {
	f, err := in.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := newSource(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func newSource(f files.File) (*source, error) {
	if f.Size() == 0 {
		return nil, errors.New("the file is empty")
	}
	buffered := bufio.NewReaderSize(f, 64<<10)
	s := &source{file: f, r: buffered, size: f.Size()}
	if magic, err := buffered.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		s.packed = true
		if s.r, err = gunzip.NewReader(buffered); err != nil {
			return nil, fmt.Errorf("the gzip data are damaged: %w", noEOF(err))
		}
	}
	return s, nil
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.read += int64(n)
	return n, err
}

// inChunks reads n bytes and calls use for each chunk of them, in order. use must not keep the chunk. For a
// large gzip file it is called on a second goroutine, while the next chunks are inflated; that one has ended
// when inChunks returns.
func (s *source) inChunks(n int64, use func(chunk []byte)) error {
	chunk := make([]byte, chunkBytes)
	next, give := func() []byte { return chunk }, use
	if s.packed && n >= besideFrom {
		const chunks = 4
		free, full := make(chan []byte, chunks), make(chan []byte, chunks)
		free <- chunk
		for range chunks - 1 {
			free <- make([]byte, chunkBytes)
		}
		var second sync.WaitGroup
		second.Go(func() {
			for c := range full {
				use(c)
				free <- c[:chunkBytes]
			}
		})
		defer second.Wait()
		defer close(full)
		next, give = func() []byte { return <-free }, func(c []byte) { full <- c }
	}
	for n > 0 {
		c := next()
		c = c[:min(n, chunkBytes)]
		if _, err := io.ReadFull(s, c); err != nil {
			return err
		}
		give(c)
		n -= int64(len(c))
	}
	return nil
}

func (s *source) close() {
	if s != nil {
		s.file.Close()
	}
}

// checkTail reads what follows the voxels in a gzip file, since only its end carries the checksum.
func (s *source) checkTail() error {
	if !s.packed {
		return nil
	}
	_, err := io.Copy(io.Discard, io.LimitReader(s, maxTail))
	if err == nil || errors.Is(err, gzip.ErrHeader) { // ErrHeader: junk after the gzip data, as padding leaves it
		return nil
	}
	return fmt.Errorf("the gzip data are damaged or cut: %w", noEOF(err))
}

// headerPath returns the file that holds the header: the .hdr when path is the .img of a pair.
func headerPath(in files.Files, path string) string {
	if base, ext := splitName(path); strings.EqualFold(ext, ".img") {
		return partner(in, path, base, ".hdr")
	}
	return path
}

// imagePath returns the file that holds the voxels of a pair.
func imagePath(in files.Files, path string) string {
	base, ext := splitName(path)
	if strings.EqualFold(ext, ".img") {
		return path
	}
	return partner(in, path, base, ".img")
}

// splitName cuts a name into its base and its last extension, without a final .gz.
func splitName(path string) (base, ext string) {
	if e := filepath.Ext(path); strings.EqualFold(e, ".gz") {
		path = strings.TrimSuffix(path, e)
	}
	ext = filepath.Ext(path)
	return strings.TrimSuffix(path, ext), ext
}

// partner returns the existing file of that base and extension, packed or not, in lower or upper case; when
// there is none, or only the given file itself, the plain name, for the error that opening it gives.
func partner(in files.Files, given, base, ext string) string {
	for _, name := range []string{base + ext, base + ext + ".gz", base + strings.ToUpper(ext)} {
		if name != given && in.Has(name) {
			return name
		}
	}
	return base + ext
}
