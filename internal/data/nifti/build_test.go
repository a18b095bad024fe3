package nifti

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// file describes a NIfTI file that a test makes field by field, independently of Write.
type file struct {
	order        binary.ByteOrder // nil: little-endian
	version      int              // 0: 1
	magic        string           // "": single file
	dim          []int64          // number of dimensions, then sizes; nil: 3 2 3 4
	dtype        int
	offset       float64 // 0: directly after the header
	slope, inter float64
	units        byte
	pixdim       [4]float64 // qfac and the three voxel sizes
	qform, sform int
	quatern      [3]float64
	qoffset      [3]float64
	srow         [3][4]float64
	extension    []byte // between header and voxels
	voxels       any    // a slice of numbers
}

// bytes writes header, extension and voxels.
func (f file) bytes() []byte {
	if f.order == nil {
		f.order = binary.LittleEndian
	}
	if f.dim == nil {
		f.dim = []int64{3, 2, 3, 4}
	}
	var b []byte
	if f.version == 2 {
		b = f.header2()
	} else {
		b = f.header1()
	}
	if f.magic == "" || f.magic[0] == 'n' && f.magic[1] == '+' {
		b = append(b, 0, 0, 0, 0)
		b = append(b, f.extension...)
	} else {
		return b
	}
	return append(b, f.voxelBytes()...)
}

func (f file) voxelBytes() []byte {
	if f.order == nil {
		f.order = binary.LittleEndian
	}
	var data bytes.Buffer
	if f.voxels != nil {
		if err := binary.Write(&data, f.order, f.voxels); err != nil {
			panic(err)
		}
	}
	return data.Bytes()
}

func (f file) header1() []byte {
	b := make([]byte, 348)
	put := func(at int, x any) {
		if _, err := binary.Encode(b[at:], f.order, x); err != nil {
			panic(err)
		}
	}
	put(0, int32(348))
	for i, d := range f.dim {
		put(40+2*i, int16(d))
	}
	put(70, int16(f.dtype))
	for i, p := range f.pixdim {
		put(76+4*i, float32(p))
	}
	put(108, float32(f.offset))
	put(112, float32(f.slope))
	put(116, float32(f.inter))
	put(123, f.units)
	put(252, int16(f.qform))
	put(254, int16(f.sform))
	for i := range 3 {
		put(256+4*i, float32(f.quatern[i]))
		put(268+4*i, float32(f.qoffset[i]))
		for j := range 4 {
			put(280+16*i+4*j, float32(f.srow[i][j]))
		}
	}
	if f.magic == "" {
		f.magic = "n+1\x00"
	}
	copy(b[344:], f.magic)
	return b
}

func (f file) header2() []byte {
	b := make([]byte, 540)
	put := func(at int, x any) {
		if _, err := binary.Encode(b[at:], f.order, x); err != nil {
			panic(err)
		}
	}
	put(0, int32(540))
	if f.magic == "" {
		f.magic = "n+2\x00\r\n\x1a\n"
	}
	copy(b[4:], f.magic)
	put(12, int16(f.dtype))
	for i, d := range f.dim {
		put(16+8*i, d)
	}
	for i, p := range f.pixdim {
		put(104+8*i, p)
	}
	put(168, int64(f.offset))
	put(176, f.slope)
	put(184, f.inter)
	put(344, int32(f.qform))
	put(348, int32(f.sform))
	for i := range 3 {
		put(352+8*i, f.quatern[i])
		put(376+8*i, f.qoffset[i])
		for j := range 4 {
			put(400+32*i+8*j, f.srow[i][j])
		}
	}
	put(500, int32(f.units))
	return b
}

// ct is a good 2x3x4 (i, j, k) file with a plain RAS sform of 1 x 2 x 3 mm.
func ct(dtype DType, voxels any) file {
	return file{
		dtype: int(dtype), slope: 1, pixdim: [4]float64{1, 1, 2, 3}, units: 2, sform: 1, voxels: voxels,
		srow: [3][4]float64{{1, 0, 0, -5}, {0, 2, 0, -6}, {0, 0, 3, -7}},
	}
}

// ramp holds first, first+1, ... in 24 voxels.
func ramp[T int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64 | float32 | float64](first T) []T {
	r := make([]T, 24)
	for i := range r {
		r[i] = first + T(i)
	}
	return r
}

// save writes a file into the test's own folder and returns its path.
func save(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pack compresses with the standard library, each part as a gzip member of its own.
func pack(parts ...[]byte) []byte {
	var out bytes.Buffer
	for _, p := range parts {
		z := gzip.NewWriter(&out)
		if _, err := z.Write(p); err != nil {
			panic(err)
		}
		if err := z.Close(); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

var nan, inf = math.NaN(), math.Inf(1)
