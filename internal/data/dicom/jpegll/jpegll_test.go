package jpegll

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range [][2]int{{1, 1}, {1, 40}, {40, 1}, {2, 3}, {17, 13}, {64, 33}, {301, 7}} {
		for bits := 2; bits <= 16; bits++ {
			for predictor := 1; predictor <= 7; predictor++ {
				shift, restart := 0, 0
				if rng.IntN(3) == 0 {
					shift = rng.IntN(bits)
				}
				if rng.IntN(2) == 0 {
					restart = 1 + rng.IntN(5)
				}
				e := encoder{width: size[0], height: size[1], bits: bits, predictor: predictor, shift: shift, restart: restart, longCodes: rng.IntN(2) == 0}
				pix := noise(rng, e.width, e.height, bits)
				m, err := Decode(e.encode(pix), len(pix))
				if err != nil {
					t.Fatalf("%+v: %v", e, err)
				}
				for i := range pix {
					pix[i] = pix[i] >> shift << shift
				}
				if m.Width != e.width || m.Height != e.height || m.Bits != bits || !slices.Equal(m.Pix, pix) {
					t.Fatalf("%d x %d, %d bits, predictor %d, shift %d, restart %d: other image", e.width, e.height, bits, predictor, shift, restart)
				}
			}
		}
	}
}

// The largest difference, 32768, has a size category without further bits.
func TestLargestDifference(t *testing.T) {
	pix := []uint16{0, 32768, 0, 32768, 65535, 32767, 1, 32769}
	for predictor := 1; predictor <= 7; predictor++ {
		for _, long := range []bool{false, true} {
			e := encoder{width: 4, height: 2, bits: 16, predictor: predictor, longCodes: long}
			m, err := Decode(e.encode(pix), 8)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(m.Pix, pix) {
				t.Errorf("predictor %d: %v, want %v", predictor, m.Pix, pix)
			}
		}
	}
}

// A stream written out by hand: 3 x 2 pixels of 8 bits, predictor 1, codes 0, 10, 110 for the categories
// 0, 1, 2. The differences of the first row, 0, -1 and 0, give 0, 10 0 and 0; those of the second, 0 (to the
// pixel above), +2 and +1, give 0, 110 10 and 10 1.
func TestByHand(t *testing.T) {
	stream := "\xFF\xD8\xFF\xC3\x00\x0B\x08\x00\x02\x00\x03\x01\x01\x11\x00" +
		"\xFF\xC4\x00\x16\x00\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02" +
		"\xFF\xDA\x00\x08\x01\x01\x00\x01\x00\x00" +
		"\x43\x57\xFF\xD9" // 0100 0011 0101 01 and two ones to fill the byte
	m, err := Decode([]byte(stream), 6)
	if err != nil {
		t.Fatal(err)
	}
	if want := []uint16{128, 127, 127, 128, 130, 131}; !slices.Equal(m.Pix, want) {
		t.Errorf("%v, want %v", m.Pix, want)
	}
}

func TestRefused(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	e := encoder{width: 20, height: 10, bits: 12, predictor: 4, restart: 3}
	good := e.encode(noise(rng, 20, 10, 12))
	frame := strings.Index(string(good), "\xFF\xC3") + 4
	dri := strings.Index(string(good), "\xFF\xDD") + 4
	scan := strings.Index(string(good), "\xFF\xDA") + 4
	rst := strings.Index(string(good), "\xFF\xD1")
	table := strings.Index(string(good), "\xFF\xC4") + 4
	for _, tt := range []struct {
		name   string
		change func(b []byte) []byte
		want   string
	}{
		{"nothing", func([]byte) []byte { return nil }, "do not begin"},
		{"no image", func(b []byte) []byte { return []byte("\xFF\xD8\xFF\xD9") }, "no image"},
		{"17 bits", func(b []byte) []byte { b[frame] = 17; return b }, "17 bits"},
		{"two components", func(b []byte) []byte {
			return slices.Insert(setAt(setAt(b, frame+5, 2), frame-1, 14), frame+6, 2, 17, 0)
		}, "2 components"},
		{"no height", func(b []byte) []byte { b[frame+2] = 0; return b }, "DNL"},
		{"no width", func(b []byte) []byte { b[frame+4] = 0; return b }, "no width"},
		{"too large", func(b []byte) []byte { b[frame+3] = 255; return b }, "more than the expected 200"},
		{"baseline", func(b []byte) []byte { b[frame-3] = 0xC0; return b }, "SOF0"},
		{"arithmetic", func(b []byte) []byte { b[frame-3] = 0xCB; return b }, "SOF11"},
		{"JPEG-LS", func(b []byte) []byte { b[frame-3] = 0xF7; return b }, "JPEG-LS"},
		{"predictor 0", func(b []byte) []byte { b[scan+3] = 0; return b }, "predictor 0"},
		{"predictor 8", func(b []byte) []byte { b[scan+3] = 8; return b }, "predictor 8"},
		{"point transform", func(b []byte) []byte { b[scan+5] = 12; return b }, "point transform"},
		{"other table", func(b []byte) []byte { b[scan+2] = 0x10; return b }, "table 1"},
		{"scan of two", func(b []byte) []byte { b[scan] = 2; return b }, "scan header"},
		{"odd interval", func(b []byte) []byte { b[dri+1]++; return b }, "restart interval of 61"},
		{"marker order", func(b []byte) []byte { b[rst+1] = 0xD3; return b }, "restart marker 0xd1"},
		{"too many codes", func(b []byte) []byte { b[table+1] = 2; b[table+6]--; b[table+6]--; return b }, "more codes"},
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
	// A huge image that the bytes cannot hold.
	huge := slices.Clone(good)
	copy(huge[frame+1:], "\xFF\xFF\xFF\xFF")
	if _, err := Decode(huge, 1<<40); err == nil || !strings.Contains(err.Error(), "cannot hold") {
		t.Errorf("huge: %v", err)
	}
}

func setAt(b []byte, i int, v byte) []byte {
	b[i] = v
	return b
}

func BenchmarkDecode(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 6))
	pix := make([]uint16, 512*512)
	for i := range pix { // about the entropy of a CT slice
		pix[i] = uint16(24 + 40*(i%512/64) + rng.IntN(24))
	}
	for predictor := 1; predictor <= 7; predictor++ {
		e := encoder{width: 512, height: 512, bits: 16, predictor: predictor}
		stream := e.encode(pix)
		b.Run(fmt.Sprintf("predictor%d", predictor), func(b *testing.B) {
			b.SetBytes(2 * 512 * 512)
			for b.Loop() {
				if _, err := Decode(stream, 512*512); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
