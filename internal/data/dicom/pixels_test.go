package dicom

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

func TestBits(t *testing.T) {
	for _, tt := range []struct {
		name                    string
		allocated, stored, high uint16
		signed                  uint16
		raw                     []uint16 // two pixels' words (8 bits: both in the first, 32 bits: low word first)
		want                    []int32
	}{
		{"12 bits, dirty high bits", 16, 12, 11, 0, []uint16{0xF123, 0x0FFF}, []int32{0x123, 4095}},
		{"12 bits signed", 16, 12, 11, 1, []uint16{0xA800, 0xF7FF}, []int32{-2048, 2047}},
		{"12 bits, high bit 15", 16, 12, 15, 0, []uint16{0x123F, 0xFFF0}, []int32{0x123, 4095}},
		{"16 bits unsigned", 16, 16, 15, 0, []uint16{0x8000, 0xFFFF}, []int32{32768, 65535}},
		{"8 bits unsigned", 8, 8, 7, 0, []uint16{0x80FF}, []int32{255, 128}},
		{"8 bits signed", 8, 8, 7, 1, []uint16{0x80FF}, []int32{-1, -128}},
		{"32 bits signed", 32, 32, 31, 1, []uint16{0xFFFF, 0xFFFF, 0x0001, 0x0001}, []int32{-1, 65537}},
		{"32 bits, 20 stored", 32, 20, 19, 0, []uint16{0x0001, 0xFFF0, 0x0000, 0x0008}, []int32{1, 0x80000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := dicomtest.Slice("1.2", 1, 0, 1, 2, nil)
			f.SetShort(0x00280100, tt.allocated).SetShort(0x00280101, tt.stored)
			f.SetShort(0x00280102, tt.high).SetShort(0x00280103, tt.signed)
			f.Elements[0x7FE00010] = dicomtest.Value{VR: "OW", Data: tt.raw}
			h := mustHeader(t, f)
			var s slice
			if err := s.read(&h); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(s.stored, tt.want) {
				t.Errorf("%v, want %v", s.stored, tt.want)
			}
		})
	}
}

func TestRescaleAndPadding(t *testing.T) {
	base := func() *dicomtest.File {
		f := dicomtest.Slice("1.2", 1, 0, 1, 3, []int16{-2000, 2008, 8191})
		f.SetShort(0x00280101, 14).SetShort(0x00280102, 13)
		return f.Set(0x00281053, "DS", "0.5").Set(0x00281052, "DS", "-1024.5")
	}
	raw := []float32{-2024.5, -20.5, 3071} // 0.5 v - 1024.5
	for _, tt := range []struct {
		name string
		file *dicomtest.File
		want []float32
	}{
		{"no padding", base(), raw},
		{"padding -2000", base().SetShort(0x00280120, 0xF830), []float32{-1024, -20.5, 3071}},
		{"padding -2000 to 2008", base().SetShort(0x00280120, 0xF830).SetShort(0x00280121, 2008), []float32{-1024, -1024, 3071}},
		{"range limit below the value", base().SetShort(0x00280120, 2008).SetShort(0x00280121, 0), []float32{-2024.5, -1024, 3071}},
	} {
		h := mustHeader(t, tt.file)
		var s slice
		if err := s.read(&h); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, 3)
		if s.rescale(got, &h, false); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if s.rescale(got, &h, true); !reflect.DeepEqual(got, raw) {
			t.Errorf("%s as stored: %v, want %v", tt.name, got, raw)
		}
	}
	// A padding value that 12 stored bits cannot hold marks the word all the same.
	f := dicomtest.Slice("1.2", 1, 0, 1, 2, []int16{-32768, 5})
	f.SetShort(0x00280101, 12).SetShort(0x00280102, 11).SetShort(0x00280120, 0x8000)
	h := mustHeader(t, f)
	var s slice
	if err := s.read(&h); err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 2)
	s.rescale(got, &h, false)
	if got[0] != airHU || got[1] != -1019 {
		t.Errorf("padding outside the stored bits: %v", got)
	}
}

// packBits is the plain encoder: literal runs only, or replicated ones where a byte repeats.
func packBits(src []byte) []byte {
	var out []byte
	for i := 0; i < len(src); {
		run := 1
		for i+run < len(src) && src[i+run] == src[i] && run < 128 {
			run++
		}
		if run > 2 {
			out = append(out, byte(1-run), src[i])
			i += run
			continue
		}
		n := min(run, len(src)-i)
		out = append(out, byte(n-1))
		out = append(out, src[i:i+n]...)
		i += n
	}
	if len(out)%2 != 0 {
		out = append(out, 0x80)
	}
	return out
}

func rleFrame(pixels []int16) []byte {
	var high, low []byte
	for _, p := range pixels {
		high, low = append(high, byte(uint16(p)>>8)), append(low, byte(p))
	}
	a, b := packBits(high), packBits(low)
	table := make([]byte, 64)
	binary.LittleEndian.PutUint32(table, 2)
	binary.LittleEndian.PutUint32(table[4:], 64)
	binary.LittleEndian.PutUint32(table[8:], uint32(64+len(a)))
	return append(append(table, a...), b...)
}

func TestRLE(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pixels := make([]int16, 40*50)
	for i := range pixels {
		pixels[i] = -1024
		if i%7 == 0 || i > 1500 {
			pixels[i] = int16(rng.IntN(4096) - 1024)
		}
	}
	f := dicomtest.Slice("1.2", 1, 0, 40, 50, nil)
	f.Syntax = dicomtest.RLE
	stream := rleFrame(pixels)
	f.Fragments = [][]byte{stream[:100], stream[100:]}
	h := mustHeader(t, f)
	var s slice
	if err := s.read(&h); err != nil {
		t.Fatal(err)
	}
	for i, p := range pixels {
		if s.stored[i] != int32(p) {
			t.Fatalf("pixel %d = %d, want %d", i, s.stored[i], p)
		}
	}
	for _, cut := range []int{10, 64, 200, len(stream) - 40} {
		f.Fragments = [][]byte{stream[:cut&^1]}
		h := mustHeader(t, f)
		if err := s.read(&h); err == nil {
			t.Errorf("a stream cut to %d bytes is read", cut)
		}
	}
}
