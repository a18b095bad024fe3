package jpeg2000

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vector is a codestream in testdata. Those with tolerance -1 are lossless and hold the phantom; for the
// others OpenJPEG's decoding is stored.
type vector struct {
	name                  string
	width, height, planes int
	bits                  int
	signed                bool
	tolerance             int32
}

// partOne was encoded by OpenJPEG 2.5.0, with the options that the names hint at.
var partOne = []vector{
	{"levels0.j2k", 37, 41, 1, 12, true, -1},
	{"levels1.j2k", 37, 41, 1, 12, true, -1},
	{"levels2.j2k", 37, 41, 1, 12, true, -1},
	{"levels3.j2k", 37, 41, 1, 12, true, -1},
	{"levels4.j2k", 37, 41, 1, 12, true, -1},
	{"levels5.j2k", 37, 41, 1, 12, true, -1},
	{"style1.j2k", 35, 30, 1, 16, true, -1},
	{"style2.j2k", 35, 30, 1, 16, true, -1},
	{"style4.j2k", 35, 30, 1, 16, true, -1},
	{"style8.j2k", 35, 30, 1, 16, true, -1},
	{"style16.j2k", 35, 30, 1, 16, true, -1},
	{"style32.j2k", 35, 30, 1, 16, true, -1},
	{"style63.j2k", 35, 30, 1, 16, true, -1},
	{"style9.j2k", 35, 30, 1, 16, true, -1},
	{"style41.j2k", 35, 30, 1, 16, true, -1},
	{"lrcp.j2k", 29, 27, 1, 10, false, -1},
	{"rlcp.j2k", 29, 27, 3, 10, false, -1},
	{"rpcl.j2k", 29, 27, 3, 10, false, -1},
	{"pcrl.j2k", 29, 27, 3, 10, false, -1},
	{"cprl.j2k", 29, 27, 3, 10, false, -1},
	{"row.j2k", 61, 1, 1, 12, true, -1},
	{"column.j2k", 1, 53, 1, 16, false, -1},
	{"row_offset.j2k", 61, 1, 1, 12, true, -1},
	{"pixel.j2k", 1, 1, 1, 16, true, -1},
	{"thin.j2k", 67, 3, 1, 12, false, -1},
	{"thin_tall.j2k", 2, 67, 1, 12, true, -1},
	{"offset.j2k", 33, 29, 1, 12, true, -1},
	{"offset_odd.j2k", 30, 30, 1, 12, true, -1},
	{"tiles.j2k", 45, 39, 1, 12, true, -1},
	{"tiles_one.j2k", 17, 3, 1, 12, true, -1},
	{"tileparts.j2k", 45, 39, 1, 12, false, -1},
	{"tileparts_layers.j2k", 32, 32, 1, 12, false, -1},
	{"blocks4x256.j2k", 40, 33, 1, 8, false, -1},
	{"blocks1024x4.j2k", 40, 33, 1, 8, false, -1},
	{"blocks4x4.j2k", 40, 33, 1, 8, false, -1},
	{"precincts.j2k", 70, 50, 1, 8, false, -1},
	{"sop_eph.j2k", 40, 33, 1, 12, true, -1},
	{"plt_tlm.j2k", 40, 33, 1, 12, true, -1},
	{"roi.j2k", 40, 33, 1, 8, false, -1},
	{"rct.j2k", 30, 25, 3, 8, false, -1},
	{"rct_signed.j2k", 30, 25, 3, 12, true, -1},
	{"bits2.j2k", 40, 33, 1, 2, false, -1},
	{"bits7_signed.j2k", 40, 33, 1, 7, true, -1},
	{"bits16.j2k", 40, 33, 1, 16, false, -1},
	{"file.jp2", 30, 25, 1, 12, false, -1},
	{"lossy.j2k", 40, 33, 1, 12, true, 1},
	{"lossy_offset.j2k", 33, 29, 1, 12, true, 1},
	{"lossy_bits16.j2k", 33, 30, 1, 16, false, 1},
	{"lossy_layers.j2k", 40, 33, 1, 12, false, 1},
	{"lossy_ict.j2k", 22, 20, 3, 8, false, 1},
	{"lossy_tiles.j2k", 40, 33, 1, 10, true, 1},
	{"lossy_row.j2k", 61, 1, 1, 12, true, 1},
	{"lossy_levels0.j2k", 30, 31, 1, 8, false, 1},
	{"lossy_thin.j2k", 3, 41, 1, 12, true, 1},
	{"truncated_layers.j2k", 40, 33, 1, 12, true, 0},
}

// highThroughput was encoded by OpenJPH 0.26. No encoder at hand writes refinement passes: those of the last three
// are arbitrary bits put behind the cleanup pass, for each means something.
var highThroughput = []vector{
	{"ht_levels1.j2k", 37, 41, 1, 16, true, -1},
	{"ht_levels5.j2k", 37, 41, 1, 16, true, -1},
	{"ht_bits8.j2k", 40, 33, 1, 8, false, -1},
	{"ht_row.j2k", 61, 1, 1, 16, false, -1},
	{"ht_column.j2k", 1, 53, 1, 16, true, -1},
	{"ht_pixel.j2k", 1, 1, 1, 16, true, -1},
	{"ht_tiles.j2k", 37, 33, 1, 8, true, -1},
	{"ht_tlm.j2k", 37, 33, 1, 8, false, -1},
	{"ht_wide.j2k", 130, 9, 1, 8, false, -1},
	{"ht_rgb.j2k", 20, 22, 3, 8, false, -1},
	{"ht_lossy.j2k", 40, 33, 1, 16, true, 1},
	{"ht_lossy_rgb.j2k", 20, 22, 3, 8, false, 1},
	{"ht_refined1.j2k", 26, 35, 1, 16, true, 0}, // stripe-causal
	{"ht_refined2.j2k", 30, 39, 1, 16, true, 0}, // after passes that are only counted
	{"ht_refined3.j2k", 26, 27, 1, 16, true, 0}, // all three passes
}

// phantom is the image in the lossless vectors: a bowl with a chessboard pattern and some noise.
func phantom(v *vector) [][]int32 {
	planes := make([][]int32, v.planes)
	highest := 1<<v.bits - 1
	for c := range planes {
		for y := range v.height {
			for x := range v.width {
				dx, dy := 2*x-v.width, 2*y-v.height
				bowl := (dx*dx+dy*dy)*255/(v.width*v.width+v.height*v.height) + 80*((x/5+y/7+c)%2)
				noise := int(uint32((x*73856093^y*19349663^(c+1)*83492791)*2654435761)>>16) % ((1<<v.bits)/64 + 1)
				value := min(bowl*highest/511+noise, highest)
				if v.signed {
					value -= 1 << (v.bits - 1)
				}
				planes[c] = append(planes[c], int32(value))
			}
		}
	}
	return planes
}

// read returns the codestream and the samples that it holds.
func (v *vector) read(t testing.TB) (src []byte, want [][]int32) {
	t.Helper()
	path := filepath.Join("testdata", v.name)
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if v.tolerance < 0 {
		return src, phantom(v)
	}
	raw, err := os.ReadFile(strings.TrimSuffix(path, ".j2k") + ".raw")
	if err != nil {
		t.Fatal(err)
	}
	n := v.width * v.height
	if len(raw) != 2*n*v.planes {
		t.Fatalf("%s: %d bytes of reference", v.name, len(raw))
	}
	want = make([][]int32, v.planes)
	for i := range n * v.planes {
		u := binary.LittleEndian.Uint16(raw[2*i:])
		value := int32(u)
		if v.signed {
			value = int32(int16(u))
		}
		want[i/n] = append(want[i/n], value)
	}
	return src, want
}

// check decodes src and compares it with want.
func (v *vector) check(t *testing.T, src []byte, want [][]int32) {
	t.Helper()
	img, err := Decode(src, v.width*v.height*v.planes)
	if err != nil {
		t.Fatal(err)
	}
	if img.Width != v.width || img.Height != v.height || len(img.Components) != v.planes {
		t.Fatalf("%d x %d, %d components", img.Width, img.Height, len(img.Components))
	}
	for k, c := range img.Components {
		if c.Bits != v.bits || c.Signed != v.signed {
			t.Fatalf("component %d: %d bits, signed %v", k, c.Bits, c.Signed)
		}
		wrong, worst := 0, int32(0)
		for i, got := range c.Samples {
			d := max(got-want[k][i], want[k][i]-got)
			worst = max(worst, d)
			if d > max(v.tolerance, 0) {
				wrong++
			}
		}
		if wrong > 0 {
			t.Errorf("component %d: %d of %d samples wrong, by up to %d", k, wrong, len(c.Samples), worst)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, v := range append(partOne, highThroughput...) {
		t.Run(v.name, func(t *testing.T) {
			src, want := v.read(t)
			v.check(t, src, want)
		})
	}
}

// A codestream that ends early is refused wherever it ends, but for its end marker.
func TestTruncated(t *testing.T) {
	for _, name := range []string{"levels3.j2k", "tileparts.j2k", "rpcl.j2k", "lossy_layers.j2k", "ht_levels5.j2k"} {
		src, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(src[:len(src)-2], 1<<16); err != nil {
			t.Errorf("%s without an end marker: %v", name, err)
		}
		for n := range len(src) - 2 {
			if _, err := Decode(src[:n], 1<<16); err == nil {
				t.Fatalf("%s: %d of %d bytes are decoded", name, n, len(src))
			}
		}
	}
	src, _ := partOne[0].read(t)
	if _, err := Decode(src[:len(src)-3], 1<<16); !errors.Is(err, errCut) {
		t.Errorf("truncated: %v", err)
	}
}

// Sizes are checked before memory is taken for them.
func TestRefused(t *testing.T) {
	src, _ := partOne[0].read(t)
	u32 := binary.BigEndian.PutUint32
	for _, tt := range []struct {
		name, want string
		change     func(b []byte)
	}{
		{"no codestream", "not a JPEG 2000", func(b []byte) { b[1] = 0xD8 }},
		{"huge image", "more than expected", func(b []byte) { u32(b[8:], 1<<30); u32(b[12:], 1<<30) }},
		{"image beyond 2^31", "not usable", func(b []byte) { u32(b[8:], 1<<31) }},
		{"a little larger", "more than expected", func(b []byte) { u32(b[8:], 38) }},
		{"no width", "contradict", func(b []byte) { u32(b[16:], 37) }},
		{"tiles of one pixel", "tile", func(b []byte) { u32(b[24:], 1); u32(b[28:], 1) }},
		{"tiles of no pixel", "contradict", func(b []byte) { u32(b[24:], 0) }},
		{"tile offset beyond the image", "contradict", func(b []byte) { u32(b[32:], 5) }},
		{"16384 components", "truncated", func(b []byte) { b[40] = 0x40 }},
		{"subsampled", "subsampled", func(b []byte) { b[43] = 2 }},
		{"38 bits", "38 bits", func(b []byte) { b[42] = 37 }},
	} {
		b := append([]byte(nil), src...)
		tt.change(b)
		if _, err := Decode(b, 37*41); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
