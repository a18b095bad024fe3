package jpegls

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range [][2]int{{1, 1}, {1, 40}, {40, 1}, {2, 3}, {17, 13}, {64, 33}, {301, 7}, {5000, 3}} {
		for bits := 2; bits <= 16; bits++ {
			for try := range 6 {
				e := encoder{width: size[0], height: size[1], bits: bits}
				top := 1<<bits - 1
				if try%2 == 1 {
					e.near = rng.IntN(min(255, top/2) + 1)
				}
				if try/2 == 1 { // own parameters
					e.preset.maxValue = max(1, top-rng.IntN(top/2+1))
					top = e.preset.maxValue
					e.near = min(e.near, top/2)
					e.preset.t1 = e.near + 1 + rng.IntN(top-e.near)
					e.preset.t2 = e.preset.t1 + rng.IntN(top-e.preset.t1+1)
					e.preset.t3 = e.preset.t2 + rng.IntN(top-e.preset.t2+1)
					e.preset.reset = 3 + rng.IntN(max(255, top)-2)
				}
				if try/2 == 2 {
					e.restart, e.restartBytes = 1+rng.IntN(5), 2+rng.IntN(3)
				}
				name := fmt.Sprintf("%d x %d, %d bits, near %d, %+v, restart %d", e.width, e.height, bits, e.near, e.preset, e.restart)
				pix := noise(rng, e.width, e.height, top)
				stream, want := e.encode(pix)
				for i := range pix {
					if !near(int(pix[i]), int(want[i]), e.near) {
						t.Fatalf("the encoder is wrong: sample %d is %d for %d", i, want[i], pix[i])
					}
				}
				m, err := Decode(stream, len(pix))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if m.Width != e.width || m.Height != e.height || m.Bits != bits || m.Near != e.near || !slices.Equal(m.Pix, want) {
					t.Fatalf("%s: other image", name)
				}
			}
		}
	}
}

// A few bytes hold an image of one value; runs get longer from row to row.
func TestFlat(t *testing.T) {
	pix := make([]uint16, 70*3000)
	e := encoder{width: 3000, height: 70, bits: 12}
	stream, _ := e.encode(pix)
	m, err := Decode(stream, len(pix))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Pix, pix) {
		t.Error("not flat")
	}
	if len(stream) > 200 {
		t.Errorf("%d bytes", len(stream))
	}
}

// The example of T.87, annex H.3: 4 x 4 samples of 8 bits, coded losslessly.
func TestStandardExample(t *testing.T) {
	stream := []byte{
		0xFF, 0xD8, 0xFF, 0xF7, 0x00, 0x0B, 0x08, 0x00, 0x04, 0x00, 0x04, 0x01, 0x01, 0x11, 0x00,
		0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00,
		0xC0, 0x00, 0x00, 0x6C, 0x80, 0x20, 0x8E, 0x01, 0xC0, 0x00, 0x00, 0x57, 0x40, 0x00, 0x00, 0x6E, 0xE6,
		0x00, 0x00, 0x01, 0xBC, 0x18, 0x00, 0x00, 0x05, 0xD8, 0x00, 0x00, 0x91, 0x60, 0xFF, 0xD9,
	}
	m, err := Decode(stream, 16)
	if err != nil {
		t.Fatal(err)
	}
	want := []uint16{0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145}
	if !slices.Equal(m.Pix, want) {
		t.Errorf("%v, want %v", m.Pix, want)
	}
}

func TestRefused(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	e := encoder{width: 20, height: 10, bits: 12, restart: 3, restartBytes: 2, preset: preset{4095, 18, 67, 276, 64}}
	good, _ := e.encode(noise(rng, 20, 10, 4095))
	find := func(marker string) int {
		i := strings.Index(string(good), marker)
		if i < 0 {
			t.Fatalf("no %q", marker)
		}
		return i + 4
	}
	frame, lse, scan, rst := find("\xFF\xF7"), find("\xFF\xF8"), find("\xFF\xDA"), find("\xFF\xD1")-4
	for _, tt := range []struct {
		name   string
		change func(b []byte) []byte
		want   string
	}{
		{"nothing", func([]byte) []byte { return nil }, "do not begin"},
		{"no image", func(b []byte) []byte { return []byte("\xFF\xD8\xFF\xD9") }, "no image"},
		{"17 bits", func(b []byte) []byte { b[frame] = 17; return b }, "17 bits"},
		{"three components", func(b []byte) []byte {
			b[frame-1], b[frame+5] = 17, 3
			return slices.Insert(b, frame+6, 2, 17, 0, 3, 17, 0)
		}, "3 components"},
		{"no height", func(b []byte) []byte { b[frame+2] = 0; return b }, "declare its size"},
		{"too large", func(b []byte) []byte { b[frame+3] = 255; return b }, "more than the expected 200"},
		{"lossless JPEG", func(b []byte) []byte { b[frame-3] = 0xC3; return b }, "SOF3"},
		{"parameters of type 4", func(b []byte) []byte { b[lse] = 4; return b }, "type 4"},
		{"largest value", func(b []byte) []byte { b[lse+1] = 0x10; return b }, "does not fit 12 bits"},
		{"thresholds", func(b []byte) []byte { b[lse+3] = 1; return b }, "threshold 67"},
		{"reset", func(b []byte) []byte { b[lse+10] = 2; return b }, "reset value 2"},
		{"near", func(b []byte) []byte { b[lse+1], b[lse+2], b[scan+3] = 0, 100, 51; return b }, "error bound of 51"},
		{"mapping table", func(b []byte) []byte { b[scan+2] = 1; return b }, "palette"},
		{"point transform", func(b []byte) []byte { b[scan+5] = 1; return b }, "point transform"},
		{"scan of two", func(b []byte) []byte { b[scan] = 2; return b }, "scan header"},
		{"marker order", func(b []byte) []byte { b[rst+1] = 0xD3; return b }, "restart marker 0xd1"},
		{"no frame", func(b []byte) []byte { return slices.Delete(b, frame-4, frame+9) }, "before its frame"},
		{"two frames", func(b []byte) []byte { return slices.Insert(b, frame-4, b[frame-4:frame+9]...) }, "two frames"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode(tt.change(slices.Clone(good)), 200)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	for n := range len(good) - 2 { // without the end marker it is whole
		if _, err := Decode(good[:n], 200); err == nil {
			t.Errorf("cut to %d of %d bytes it is read", n, len(good))
		}
	}
	if _, err := Decode(good[:len(good)-2], 200); err != nil {
		t.Errorf("without end marker: %v", err)
	}
	huge := slices.Clone(good)
	copy(huge[frame+1:], "\xFF\xFF\xFF\xFF")
	if _, err := Decode(huge, 1<<40); err == nil || !strings.Contains(err.Error(), "cannot hold") {
		t.Errorf("huge: %v", err)
	}
}

func BenchmarkDecode(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 6))
	pix := make([]uint16, 512*512)
	for i := range pix { // about the entropy of a CT slice
		pix[i] = uint16(24 + 40*(i%512/64) + rng.IntN(24))
	}
	for _, near := range []int{0, 3} {
		e := encoder{width: 512, height: 512, bits: 16, near: near}
		stream, _ := e.encode(pix)
		b.Run(fmt.Sprintf("near%d", near), func(b *testing.B) {
			b.SetBytes(2 * 512 * 512)
			for b.Loop() {
				if _, err := Decode(stream, 512*512); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
