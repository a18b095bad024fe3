package data

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/sbinet/npyio/npy"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/volume"
)

// images is the image array of one split of a MedMNIST archive.
type images struct {
	size   [3]int // d, h, w
	voxels []byte // [n][d][h][w]
}

// volume returns row i as a volume whose HU are the stored bytes, with voxels of 1 mm along the
// axes of the patient: the archive says nothing about the geometry.
func (m images) volume(i int) (*volume.Volume, error) {
	n := m.size[0] * m.size[1] * m.size[2]
	if i < 0 || (i+1)*n > len(m.voxels) {
		return nil, fmt.Errorf("there is no row %d in an array of %d", i, len(m.voxels)/n)
	}
	v := &volume.Volume{
		Size:    m.size,
		HU:      make([]float32, n),
		Spacing: [3]float64{1, 1, 1},
		Affine:  [4][4]float64{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}},
	}
	for j, b := range m.voxels[i*n : (i+1)*n] {
		v.HU[j] = float32(b)
	}
	return v, nil
}

// Bytes returns the memory that the data set itself holds: the image arrays of an archive.
func (d *Dataset) Bytes() (n int64) {
	for _, m := range d.images {
		n += int64(len(m.voxels))
	}
	return n
}

// archived returns the volume of a sample of a MedMNIST archive.
func (d *Dataset) archived(s Sample) (*volume.Volume, error) {
	m, ok := d.images[s.array]
	if !ok {
		return nil, fmt.Errorf("%s: the archive has no array of %q", s.Path, s.array)
	}
	v, err := m.volume(s.Index)
	if err != nil {
		return nil, fmt.Errorf("%s: %s_images: %w", s.Path, s.array, err)
	}
	return v, nil
}

// openMedMNIST reads a MedMNIST3D archive (Yang et al., Sci Data 10:41, 2023): arrays
// {train,val,test}_images, uint8 [n][d][h][w], and {train,val,test}_labels, integers [n] or [n][labels].
func openMedMNIST(c config.Data) (*Dataset, error) {
	z, err := zip.OpenReader(c.Table)
	if err != nil {
		return nil, fmt.Errorf("opening the MedMNIST archive %s: %w", c.Table, err)
	}
	defer z.Close()
	d := &Dataset{Task: c.Task, images: map[string]images{}}
	width := 0
	for _, split := range []string{Train, Val, Test} {
		im, n, err := readImages(&z.Reader, split+"_images")
		if errors.Is(err, errNoArray) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Table, err)
		}
		labels, k, err := readLabels(&z.Reader, split+"_labels", n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Table, err)
		}
		if len(d.Samples) > 0 && k != width {
			return nil, fmt.Errorf("%s: %s_labels has %d values a row, the splits before it %d", c.Table, split, k, width)
		}
		width = k
		d.images[split] = im
		for i := range n {
			s := Sample{Name: fmt.Sprintf("%s_images[%d]", split, i), Path: c.Table, Index: i, Split: split, array: split, Target: labels[i*k : (i+1)*k : (i+1)*k]}
			s.ID, s.Group = sampleID(s.Name), s.Name
			d.Samples = append(d.Samples, s)
		}
	}
	if len(d.Samples) == 0 {
		return nil, fmt.Errorf("%s holds no samples: want arrays train_images and train_labels, and so for val and test", c.Table)
	}
	if d.Labels, err = medmnistLabels(c, d.Samples, width); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Table, err)
	}
	return d, nil
}

// medmnistLabels checks the targets against the task and returns the names of the labels; names
// that the configuration leaves out are "label" for binary, the index for the others.
func medmnistLabels(c config.Data, samples []Sample, width int) ([]string, error) {
	if width != 1 && c.Task != Multilabel {
		return nil, fmt.Errorf("the archive has %d labels a sample, but data.task is %s: set it to multilabel", width, c.Task)
	}
	largest := 0.0
	for _, s := range samples {
		for _, v := range s.Target {
			largest = max(largest, v)
			if v < 0 || v >= maxClasses || (c.Task != Multiclass && v > 1) {
				return nil, fmt.Errorf("%s has label %v, which data.task %s does not allow", s.Name, v, c.Task)
			}
		}
	}
	want := width
	if c.Task == Multiclass {
		want = int(largest) + 1
	}
	switch {
	case len(c.Labels) > 0 && c.Task == Multiclass && len(c.Labels) < want,
		len(c.Labels) > 0 && c.Task != Multiclass && len(c.Labels) != want:
		return nil, fmt.Errorf("data.labels has %d names, but the archive has %d labels", len(c.Labels), want)
	case len(c.Labels) > 0:
		return slices.Clone(c.Labels), nil
	case c.Task == Binary:
		return []string{"label"}, nil
	case want < 2 && c.Task == Multiclass:
		return nil, errors.New("the archive holds fewer than two classes")
	}
	names := make([]string, want)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names, nil
}

var errNoArray = errors.New("no such array")

// readImages reads an image array and returns it with its number of rows.
func readImages(z *zip.Reader, name string) (images, int, error) {
	a, err := openArray(z, name)
	if err != nil {
		return images{}, 0, err
	}
	defer a.Close()
	if len(a.shape) != 4 || (a.dtype != "|u1" && a.dtype != "u1") {
		return images{}, 0, fmt.Errorf("%s has type %s and shape %v: want uint8 volumes, shape [n d h w]", name, a.dtype, a.shape)
	}
	raw, err := a.read(1)
	if err != nil {
		return images{}, 0, err
	}
	return images{size: [3]int(a.shape[1:]), voxels: raw}, a.shape[0], nil
}

// readLabels reads a label array of rows rows and returns its values and their number a row.
func readLabels(z *zip.Reader, name string, rows int) ([]float64, int, error) {
	a, err := openArray(z, name)
	if err != nil {
		return nil, 0, fmt.Errorf("array %s: %w", name, err)
	}
	defer a.Close()
	width := 1
	if len(a.shape) == 2 {
		width = a.shape[1]
	}
	if len(a.shape) < 1 || len(a.shape) > 2 || a.shape[0] != rows || width > maxClasses {
		return nil, 0, fmt.Errorf("%s has shape %v: want one row for each of the %d images", name, a.shape, rows)
	}
	value, bytes := labelType(a.dtype)
	if value == nil {
		return nil, 0, fmt.Errorf("%s has type %s: want integers", name, a.dtype)
	}
	raw, err := a.read(bytes)
	if err != nil {
		return nil, 0, err
	}
	v := make([]float64, rows*width)
	for i := range v {
		v[i] = value(raw[i*bytes:])
	}
	return v, width, nil
}

// labelType returns how to read a value of a NumPy type, and its bytes; nil for types that hold no labels.
func labelType(dtype string) (value func([]byte) float64, bytes int) {
	le := binary.LittleEndian
	switch dtype {
	case "|u1", "|b1":
		return func(b []byte) float64 { return float64(b[0]) }, 1
	case "|i1":
		return func(b []byte) float64 { return float64(int8(b[0])) }, 1
	case "<u2":
		return func(b []byte) float64 { return float64(le.Uint16(b)) }, 2
	case "<i2":
		return func(b []byte) float64 { return float64(int16(le.Uint16(b))) }, 2
	case "<u4":
		return func(b []byte) float64 { return float64(le.Uint32(b)) }, 4
	case "<i4":
		return func(b []byte) float64 { return float64(int32(le.Uint32(b))) }, 4
	case "<u8":
		return func(b []byte) float64 { return float64(le.Uint64(b)) }, 8
	case "<i8":
		return func(b []byte) float64 { return float64(int64(le.Uint64(b))) }, 8
	}
	return nil, 0
}

// array is an array of an .npz archive, its header read.
type array struct {
	name  string
	shape []int
	dtype string
	entry *zip.File
	io.Reader
	io.Closer
}

const (
	maxHeader    = 1 << 16 // bytes of an array's header; NumPy writes about 128
	deflateRatio = 1032    // deflate cannot shrink data more than this (RFC 1951: 258 bytes in 2 bits)
)

// openArray reads the header of an array; the error is errNoArray when the archive has none of that name.
func openArray(z *zip.Reader, name string) (a *array, err error) {
	i := slices.IndexFunc(z.File, func(f *zip.File) bool { return f.Name == name+".npy" })
	if i < 0 {
		return nil, errNoArray
	}
	f := z.File[i]
	// A size that the compressed bytes cannot hold is a lie, and would be allocated for.
	if f.UncompressedSize64/deflateRatio > f.CompressedSize64 {
		return nil, fmt.Errorf("array %s declares %d bytes, more than its %d compressed bytes can hold", name, f.UncompressedSize64, f.CompressedSize64)
	}
	rc, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("array %s: %w", name, err)
	}
	a = &array{name: name, entry: f, Closer: rc}
	defer func() {
		// npy.NewReader slices a malformed header out of bounds.
		if r := recover(); r != nil {
			err = fmt.Errorf("array %s: its NumPy header is malformed", name)
		}
		if err != nil {
			rc.Close()
			a = nil
		}
	}()
	br := bufio.NewReader(rc)
	a.Reader = br
	head, err := br.Peek(12) // magic, version, header length
	if err != nil {
		return nil, fmt.Errorf("array %s: %w", name, err)
	}
	if head[6] > 1 && binary.LittleEndian.Uint32(head[8:]) > maxHeader {
		return nil, fmt.Errorf("array %s: its NumPy header is too long", name)
	}
	r, err := npy.NewReader(br)
	if err != nil {
		return nil, fmt.Errorf("array %s: %w", name, err)
	}
	if r.Header.Descr.Fortran {
		return nil, fmt.Errorf("array %s is stored in Fortran order: save it in C order (numpy.ascontiguousarray)", name)
	}
	a.shape, a.dtype = r.Header.Descr.Shape, r.Header.Descr.Type
	return a, nil
}

// read returns the bytes of all elements of size bytes.
func (a *array) read(bytes int) ([]byte, error) {
	total := uint64(bytes)
	for _, n := range a.shape {
		if n <= 0 {
			return nil, fmt.Errorf("array %s has shape %v: every size must be positive", a.name, a.shape)
		}
		if total > math.MaxInt64/uint64(n) {
			return nil, fmt.Errorf("array %s has shape %v, more than memory can hold", a.name, a.shape)
		}
		total *= uint64(n)
	}
	if total > a.entry.UncompressedSize64 {
		return nil, fmt.Errorf("array %s of shape %v needs %d bytes, but the archive holds %d", a.name, a.shape, total, a.entry.UncompressedSize64)
	}
	raw := make([]byte, total)
	if _, err := io.ReadFull(a, raw); err != nil {
		return nil, fmt.Errorf("array %s: %w", a.name, err)
	}
	if _, err := io.Copy(io.Discard, a); err != nil { // to the end, where the checksum is
		return nil, fmt.Errorf("array %s: %w", a.name, err)
	}
	return raw, nil
}
