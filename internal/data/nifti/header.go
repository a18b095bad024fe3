package nifti

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ctclass/ctclass/internal/volume"
)

// DType is a NIfTI datatype code.
type DType int16

// The voxel types that are read. Write takes Int16 and Float32.
const (
	Uint8   DType = 2
	Int16   DType = 4
	Int32   DType = 8
	Float32 DType = 16
	Float64 DType = 64
	Int8    DType = 256
	Uint16  DType = 512
	Uint32  DType = 768
	Int64   DType = 1024
	Uint64  DType = 1280
)

// String returns the name of the type, such as int16.
func (t DType) String() string {
	if name, _ := t.describe(); name != "" {
		return name
	}
	return fmt.Sprintf("datatype %d", int16(t))
}

// describe returns the type's name and its bytes per voxel, which are 0 for a type that is not read.
func (t DType) describe() (name string, size int) {
	switch t {
	case Uint8:
		return "uint8", 1
	case Int8:
		return "int8", 1
	case Int16:
		return "int16", 2
	case Uint16:
		return "uint16", 2
	case Int32:
		return "int32", 4
	case Uint32:
		return "uint32", 4
	case Int64:
		return "int64", 8
	case Uint64:
		return "uint64", 8
	case Float32:
		return "float32", 4
	case Float64:
		return "float64", 8
	case 1:
		return "1-bit binary", 0
	case 32, 1792, 2048:
		return "complex", 0
	case 128:
		return "RGB24", 0
	case 1536:
		return "float128", 0
	case 2304:
		return "RGBA32", 0
	}
	return "", 0
}

// Info is what the header of a NIfTI file says.
type Info struct {
	Version     int           // 1 or 2
	BigEndian   bool          // byte order of header and voxels
	Shape       [3]int        // voxels along D, H, W
	Volumes     int           // 3D volumes in the file: 1 unless it is 4D or more
	DType       DType         // stored voxel type
	Slope       float64       // HU = Slope·stored + Inter; 1 when the file asks for no scaling
	Inter       float64       // 0 when the file asks for no scaling
	Affine      [4][4]float64 // voxel index (w, h, d, 1) to patient mm, LPS
	Spacing     [3]float64    // mm along d, h, w
	Orientation string        // code for w, h, d, see package volume
	Placement   string        // where Affine comes from: sform, qform or none
	Warnings    []string      // what was odd and how it was taken
}

// header is Info with what is needed to find the voxels.
type header struct {
	Info
	voxels     int   // of one 3D volume
	voxelBytes int   // stored bytes a voxel
	offset     int64 // of the first voxel in its file
	single     bool  // voxels follow in the same file; otherwise in the .img
}

// rawHeader is the part of both header versions that matters, before any check.
type rawHeader struct {
	dim           [8]int64
	pixdim        [8]float64
	datatype      DType
	voxOffset     float64
	slope, inter  float64
	units         byte
	qform, sform  int32
	quatern       [3]float64
	qoffset       [3]float64
	srow          [3][4]float64
	headerSize    int64
	version       int
	single        bool
	order         binary.ByteOrder
	defaultOffset int64
}

const (
	size1 = 348 // bytes of a NIfTI-1 header
	size2 = 540 // bytes of a NIfTI-2 header
)

// readHeader reads and checks the header at the start of r.
func readHeader(r io.Reader) (*header, error) {
	raw, err := parseRaw(r)
	if err != nil {
		return nil, err
	}
	return raw.check()
}

// parseRaw reads the fixed header of either version in either byte order.
func parseRaw(r io.Reader) (*rawHeader, error) {
	buf := make([]byte, size2)
	if n, err := io.ReadFull(r, buf[:size1]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("the file has %d bytes, too few for a NIfTI header (%d)", n, size1)
		}
		return nil, fmt.Errorf("the header cannot be read: %w", err)
	}
	var order binary.ByteOrder = binary.LittleEndian
	size := order.Uint32(buf)
	if size != size1 && size != size2 {
		order = binary.BigEndian
		size = order.Uint32(buf)
	}
	switch size {
	case size1:
		return parse1(buf[:size1], order)
	case size2:
		if _, err := io.ReadFull(r, buf[size1:]); err != nil {
			return nil, fmt.Errorf("the NIfTI-2 header is cut short: %w", noEOF(err))
		}
		return parse2(buf, order)
	}
	return nil, errors.New("this is no NIfTI file: it starts with neither 348 nor 540, the header sizes of NIfTI-1 and NIfTI-2")
}

// parse1 takes the fields of a NIfTI-1 header.
func parse1(b []byte, order binary.ByteOrder) (*rawHeader, error) {
	h := &rawHeader{headerSize: size1, version: 1, order: order, defaultOffset: 352}
	switch magic := b[344:348]; {
	case bytes.Equal(magic, []byte("n+1\x00")):
		h.single = true
	case bytes.Equal(magic, []byte("ni1\x00")):
	default:
		return nil, fmt.Errorf("the header has the magic %q, NIfTI-1 needs n+1 or ni1 (Analyze 7.5 files are not read: convert them to NIfTI)", magic)
	}
	f32 := func(at int) float64 { return float64(math.Float32frombits(order.Uint32(b[at:]))) }
	for i := range 8 {
		h.dim[i] = int64(int16(order.Uint16(b[40+2*i:])))
		h.pixdim[i] = f32(76 + 4*i)
	}
	h.datatype = DType(order.Uint16(b[70:]))
	h.voxOffset = f32(108)
	h.slope, h.inter = f32(112), f32(116)
	h.units = b[123]
	h.qform, h.sform = int32(int16(order.Uint16(b[252:]))), int32(int16(order.Uint16(b[254:])))
	for i := range 3 {
		h.quatern[i] = f32(256 + 4*i)
		h.qoffset[i] = f32(268 + 4*i)
		for j := range 4 {
			h.srow[i][j] = f32(280 + 16*i + 4*j)
		}
	}
	return h, nil
}

// parse2 takes the fields of a NIfTI-2 header.
func parse2(b []byte, order binary.ByteOrder) (*rawHeader, error) {
	h := &rawHeader{headerSize: size2, version: 2, order: order, defaultOffset: 544}
	switch magic := b[4:12]; {
	case bytes.Equal(magic, []byte("n+2\x00\r\n\x1a\n")):
		h.single = true
	case bytes.Equal(magic, []byte("ni2\x00\r\n\x1a\n")):
	default:
		return nil, fmt.Errorf("the header has the magic %q, NIfTI-2 needs n+2 or ni2 with its line-end bytes (was the file transferred as text?)", magic)
	}
	f64 := func(at int) float64 { return math.Float64frombits(order.Uint64(b[at:])) }
	h.datatype = DType(order.Uint16(b[12:]))
	for i := range 8 {
		h.dim[i] = int64(order.Uint64(b[16+8*i:]))
		h.pixdim[i] = f64(104 + 8*i)
	}
	h.voxOffset = float64(int64(order.Uint64(b[168:])))
	h.slope, h.inter = f64(176), f64(184)
	h.qform, h.sform = int32(order.Uint32(b[344:])), int32(order.Uint32(b[348:]))
	for i := range 3 {
		h.quatern[i] = f64(352 + 8*i)
		h.qoffset[i] = f64(376 + 8*i)
		for j := range 4 {
			h.srow[i][j] = f64(400 + 32*i + 8*j)
		}
	}
	h.units = byte(order.Uint32(b[500:]))
	return h, nil
}

// check turns the raw fields into a header whose sizes are safe to compute with.
func (raw *rawHeader) check() (*header, error) {
	h := &header{single: raw.single}
	h.Version = raw.version
	h.BigEndian = raw.order == binary.BigEndian
	if err := h.setShape(raw.dim); err != nil {
		return nil, err
	}
	h.DType = raw.datatype
	name, size := raw.datatype.describe()
	switch {
	case name == "":
		return nil, fmt.Errorf("the header has the unknown datatype %d", int16(raw.datatype))
	case size == 0:
		return nil, fmt.Errorf("the voxels are of type %s, but a CT volume needs one real number a voxel (an integer type, float32 or float64)", name)
	}
	h.voxelBytes = size
	if h.voxels > math.MaxInt/16/h.Volumes {
		return nil, fmt.Errorf("the header claims %d volumes of %d voxels, more than can be addressed", h.Volumes, h.voxels)
	}
	if err := h.setOffset(raw); err != nil {
		return nil, err
	}
	h.setScaling(raw.slope, raw.inter)
	return h, h.place(raw)
}

// setShape takes dim: the number of dimensions, then their sizes.
func (h *header) setShape(dim [8]int64) error {
	if dim[0] < 1 || dim[0] > 7 {
		return fmt.Errorf("the header claims %d dimensions, want 1 to 7", dim[0])
	}
	h.Volumes, h.voxels, h.Shape = 1, 1, [3]int{1, 1, 1}
	for i := 1; i <= int(dim[0]); i++ {
		if dim[i] < 1 {
			return fmt.Errorf("the header claims size %d for dimension %d, want at least 1", dim[i], i)
		}
		total := &h.voxels
		if i > 3 {
			total = &h.Volumes
		} else if dim[i] <= math.MaxInt {
			h.Shape[3-i] = int(dim[i])
		}
		if dim[i] > int64(math.MaxInt/16 / *total) {
			return fmt.Errorf("the header claims dimensions %v, more voxels than can be addressed", dim[1:dim[0]+1])
		}
		*total *= int(dim[i])
	}
	return nil
}

// setOffset finds where the voxels start. 0 in a single file stands for directly after the header.
func (h *header) setOffset(raw *rawHeader) error {
	offset := raw.voxOffset
	switch {
	case raw.single && offset == 0:
		offset = float64(raw.defaultOffset)
	case !(offset >= 0 && offset < 1<<62), raw.single && offset < float64(raw.headerSize):
		return fmt.Errorf("the header says that the voxels start at byte %g, which cannot be", offset)
	}
	h.offset = int64(offset)
	return nil
}

// setScaling applies NIfTI's rule: a slope of 0, or one that is not a number, asks for no scaling at all.
func (h *header) setScaling(slope, inter float64) {
	h.Slope, h.Inter = 1, 0
	if slope == 0 || !finite(slope) {
		return
	}
	h.Slope = slope
	if !finite(inter) {
		h.warn("scl_inter is %g; taken as 0", inter)
		return
	}
	h.Inter = inter
}

func (h *header) warn(format string, args ...any) {
	h.Warnings = append(h.Warnings, fmt.Sprintf(format, args...))
}

// place chooses the affine: sform, else qform, else the voxel sizes alone.
func (h *header) place(raw *rawHeader) error {
	affine, from := raw.baseAffine(h.Shape), "none"
	if raw.qform > 0 {
		if q := raw.qformAffine(); volume.CheckAffine(q) == nil {
			affine, from = q, "qform"
		} else {
			h.warn("the qform is not a usable affine; it is ignored")
		}
	}
	if raw.sform > 0 {
		if s := raw.sformAffine(); volume.CheckAffine(s) == nil {
			affine, from = s, "sform"
		} else {
			h.warn("the sform is not a usable affine; it is ignored")
		}
	}
	if from == "none" {
		h.warn("neither sform nor qform places the volume: the orientation is a guess (LAS, centred), left and right may be swapped")
	}
	if from != "sform" {
		for i, p := range raw.pixdim[1:4] {
			if p == 0 || !finite(p) {
				h.warn("pixdim[%d] is %g; taken as 1 mm", i+1, p)
			}
		}
	}
	if mm := unitMM(raw.units); mm != 1 {
		h.warn("the header gives lengths in units of %g mm; converted to mm", mm)
		for i := range 3 {
			for j := range 4 {
				affine[i][j] *= mm
			}
		}
	}
	h.Placement = from
	h.Affine = volume.SwapLPS(affine)
	if err := volume.CheckAffine(h.Affine); err != nil {
		return fmt.Errorf("the volume cannot be placed: %w", err)
	}
	h.Spacing = volume.SpacingOf(h.Affine)
	h.Orientation = volume.OrientationOf(h.Affine)
	return nil
}

// unitMM returns the length in mm of the spatial unit in xyzt_units. Unknown units are taken as mm.
func unitMM(units byte) float64 {
	switch units & 7 {
	case 1:
		return 1000
	case 3:
		return 1e-3
	}
	return 1
}

func finite(x float64) bool { return x-x == 0 }

// noEOF turns the plain end of a file, which is no error to io, into one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
