package dicom

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

// encapsulate joins fragments to a sequence of items that begins with an offset table.
func encapsulate(table []uint32, fragments ...string) []byte {
	le := binary.LittleEndian
	var basic []byte
	for _, o := range table {
		basic = le.AppendUint32(basic, o)
	}
	var b []byte
	for _, f := range append([]string{string(basic)}, fragments...) {
		b = le.AppendUint32(append(b, 0xFE, 0xFF, 0x00, 0xE0), uint32(len(f)))
		b = append(b, f...)
	}
	return append(b, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0)
}

func TestFrames(t *testing.T) {
	const soi, j2k = "\xFF\xD8", "\xFF\x4F\xFF\x51"
	for _, tt := range []struct {
		name      string
		frames    int
		table     []uint32
		extended  []uint64
		fragments []string
		want      []string // frames' streams; nil: refused
	}{
		{"one frame, one fragment", 1, nil, nil, []string{"ab"}, []string{"ab"}},
		{"one frame, three fragments", 1, nil, nil, []string{"ab", "cd", "ef"}, []string{"abcdef"}},
		{"one frame, three fragments, table", 1, []uint32{0}, nil, []string{"ab", "cd", "ef"}, []string{"abcdef"}},
		{"one frame, empty fragment", 1, nil, nil, []string{"ab", "", "ef"}, []string{"abef"}},
		{"a fragment each", 3, nil, nil, []string{"ab", "cdef", "gh"}, []string{"ab", "cdef", "gh"}},
		{"a fragment each, table of zeros", 2, []uint32{0, 0}, nil, []string{"ab", "cdef"}, []string{"ab", "cdef"}},
		{"table", 2, []uint32{0, 20}, nil, []string{"ab", "cd", "ef"}, []string{"abcd", "ef"}},
		{"table, other split", 2, []uint32{0, 10}, nil, []string{"ab", "cd", "ef"}, []string{"ab", "cdef"}},
		{"extended table", 2, nil, []uint64{0, 10}, []string{"ab", "cd", "ef"}, []string{"ab", "cdef"}},
		{"extended before basic", 2, []uint32{0, 10}, []uint64{0, 20}, []string{"ab", "cd", "ef"}, []string{"abcd", "ef"}},
		{"extended table out of range", 2, []uint32{0, 10}, []uint64{0, math.MaxUint64}, []string{"ab", "cd", "ef"}, []string{"ab", "cdef"}},
		{"JPEG starts", 2, nil, nil, []string{soi, "ab", "cd", soi + "ef"}, []string{soi + "abcd", soi + "ef"}},
		{"JPEG starts, wrong table", 2, []uint32{0, 12}, nil, []string{soi, "ab", "cd", soi + "ef"}, []string{soi + "abcd", soi + "ef"}},
		{"JPEG starts, table not rising", 2, []uint32{10, 0}, nil, []string{soi, "ab", soi + "ef"}, []string{soi + "ab", soi + "ef"}},
		{"JPEG 2000 starts", 2, nil, nil, []string{j2k, "\xFF\x4Fab", j2k}, []string{j2k + "\xFF\x4Fab", j2k}},
		{"nothing says", 2, nil, nil, []string{"ab", "cd", "ef"}, nil},
		{"more starts than frames", 2, nil, nil, []string{soi, soi, soi}, nil},
		{"too few fragments", 3, nil, nil, []string{"ab", "cd"}, nil},
		{"no fragments", 1, nil, nil, nil, nil},
		{"no frames", 0, nil, nil, []string{"ab"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			content := []byte("head")
			var h Header
			h.Frames = tt.frames
			if tt.extended != nil {
				h.layout.extendedOffsets = span{int64(len(content)), int64(8 * len(tt.extended))}
				for _, o := range tt.extended {
					content = binary.LittleEndian.AppendUint64(content, o)
				}
			}
			h.layout.pixelOffset = int64(len(content))
			content = append(content, encapsulate(tt.table, tt.fragments...)...)
			e, err := indexFrames(bytes.NewReader(content), int64(len(content)), &h)
			if tt.want == nil {
				if err == nil {
					t.Fatalf("%d frames found", len(e.frames))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range e.frames {
				b, err := e.stream(bytes.NewReader(content), i, nil)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(b))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			// Cut anywhere, it is refused.
			for n := h.layout.pixelOffset; n < int64(len(content)); n++ {
				if _, err := indexFrames(bytes.NewReader(content[:n]), n, &h); err == nil {
					t.Fatalf("cut to %d of %d bytes it is read", n, len(content))
				}
			}
		})
	}
}

func TestExtendedOffsetTableIsFound(t *testing.T) {
	f := dicomtest.Slice("1.2", 1, 0, 2, 2, nil)
	f.Elements[0x7FE00001] = dicomtest.Value{VR: "OV", Data: []byte("0123456789abcdef")}
	f.Fragments = [][]byte{[]byte("ab")}
	content := f.Bytes()
	h, err := readHeader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	s := h.layout.extendedOffsets
	if want := int64(strings.Index(string(content), "0123456789abcdef")); s.offset != want || s.length != 16 {
		t.Errorf("%+v, want offset %d", s, want)
	}
}
