package dicom

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

func TestCodedSamples(t *testing.T) {
	for _, tt := range []struct {
		name                    string
		allocated, stored, high uint16
		signed                  uint16
		bits                    int // of the codec
		coded                   []uint16
		want                    []int32
	}{
		{"whole words", 16, 16, 15, 1, 16, []uint16{0xFFFF, 0x8000}, []int32{-1, -32768}},
		{"12 of 12 bits", 16, 12, 11, 1, 12, []uint16{0xFFF, 0x7FF}, []int32{-1, 2047}},
		{"16 bits, 12 stored, others dirty", 16, 12, 11, 0, 16, []uint16{0xF123, 0x0FFF}, []int32{0x123, 4095}},
		{"12 bits, 16 stored, signed", 16, 16, 15, 1, 12, []uint16{0xFFF, 0x7FF}, []int32{-1, 2047}},
		{"12 bits, 16 stored, unsigned", 16, 16, 15, 0, 12, []uint16{0xFFF, 0x7FF}, []int32{4095, 2047}},
		{"12 bits at the upper end", 16, 12, 15, 0, 12, []uint16{0xABC, 1}, []int32{0xABC, 1}},
		{"16 bits, 12 stored at the upper end", 16, 12, 15, 0, 16, []uint16{0xABCF, 16}, []int32{0xABC, 1}},
		{"7 bits at the upper end, signed", 16, 12, 15, 1, 7, []uint16{0x7F, 3}, []int32{-1, 3}},
		{"8 bits", 8, 8, 7, 1, 8, []uint16{0xFF, 3}, []int32{-1, 3}},
		{"32 bits", 32, 32, 31, 1, 16, []uint16{0xFFFF, 3}, []int32{-1, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := Header{
				Rows: 1, Columns: 2, BitsAllocated: int(tt.allocated), BitsStored: int(tt.stored),
				HighBit: int(tt.high), Signed: tt.signed == 1,
			}
			raw, err := codedSamples(tt.coded, 2, 1, tt.bits, &h)
			if err != nil {
				t.Fatal(err)
			}
			s := slice{raw: raw}
			if s.unpack(&h, binary.LittleEndian); !reflect.DeepEqual(s.stored, tt.want) {
				t.Errorf("%v, want %v", s.stored, tt.want)
			}
		})
	}
	h := Header{Rows: 1, Columns: 2, BitsAllocated: 8, BitsStored: 8, HighBit: 7}
	if _, err := codedSamples(make([]uint16, 2), 1, 2, 8, &h); err == nil || !strings.Contains(err.Error(), "expected 1 x 2") {
		t.Errorf("other size: %v", err)
	}
	if _, err := codedSamples(make([]uint16, 2), 2, 1, 9, &h); err == nil || !strings.Contains(err.Error(), "9 bits") {
		t.Errorf("too many bits: %v", err)
	}
}

// Streams that dcmtk and gdcm wrote, and the pixels that went into them: 12 bits, or (signed) 16 bits
// and less by 1024.
func TestCodecFiles(t *testing.T) {
	dir := filepath.Join("testdata", "codec")
	raw, err := os.ReadFile(filepath.Join(dir, "phantom.raw"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, syntax string
		near         int32
		signed       bool
	}{
		{"dcmtk_sv1.jpg", syntaxLosslessSV1, 0, false},
		{"dcmtk_sv2.jpg", syntaxLossless, 0, false},
		{"dcmtk_sv3.jpg", syntaxLossless, 0, false},
		{"dcmtk_sv4.jpg", syntaxLossless, 0, false},
		{"dcmtk_sv5.jpg", syntaxLossless, 0, false},
		{"dcmtk_sv6.jpg", syntaxLossless, 0, false},
		{"dcmtk_sv7.jpg", syntaxLossless, 0, false},
		{"dcmtk_signed.jpg", syntaxLosslessSV1, 0, true},
		{"gdcm.jpg", syntaxLosslessSV1, 0, false},
		{"dcmtk.jls", syntaxLS, 0, false},
		{"dcmtk_signed.jls", syntaxLS, 0, true},
		{"dcmtk_own_parameters.jls", syntaxLS, 0, false},
		{"dcmtk_near3.jls", syntaxLSNear, 3, false},
		{"gdcm.jls", syntaxLS, 0, false},
	} {
		stream, err := os.ReadFile(filepath.Join(dir, tt.name))
		if err != nil {
			t.Fatal(err)
		}
		for _, fragments := range [][][]byte{{stream}, {stream[:200], stream[200:600], stream[600:]}} {
			f := dicomtest.Slice("1.2", 1, 0, 45, 37, nil)
			if !tt.signed {
				f.SetShort(0x00280101, 12).SetShort(0x00280102, 11).SetShort(0x00280103, 0)
			}
			f.Syntax, f.Fragments = tt.syntax, fragments
			h := mustHeader(t, f)
			var s slice
			if err := s.read(&h); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			for i, got := range s.stored {
				want := int32(binary.LittleEndian.Uint16(raw[2*i:]))
				if tt.signed {
					want -= 1024
				}
				if d := got - want; d > tt.near || -d > tt.near {
					t.Fatalf("%s: pixel %d is %d, want %d within %d", tt.name, i, got, want, tt.near)
				}
			}
		}
	}
}

// Near-lossless samples may leave the stored bits only where these are all that was coded.
func TestNearLosslessBeyondStoredBits(t *testing.T) {
	stream, err := os.ReadFile(filepath.Join("testdata", "codec", "dcmtk_near3.jls"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ stored, signed uint16 }{{8, 0}, {11, 1}} {
		f := dicomtest.Slice("1.2", 1, 0, 45, 37, nil)
		f.SetShort(0x00280101, tt.stored).SetShort(0x00280102, tt.stored-1).SetShort(0x00280103, tt.signed)
		f.Syntax, f.Fragments = syntaxLSNear, [][]byte{stream}
		h := mustHeader(t, f)
		var s slice
		if err := s.read(&h); err == nil || !strings.Contains(err.Error(), "do not fit") {
			t.Errorf("%d bits stored: %v", tt.stored, err)
		}
	}
}

// A file of a few bytes cannot claim a large image.
func TestClaimedSize(t *testing.T) {
	f := dicomtest.Slice("1.2", 1, 0, 65535, 65535, nil)
	f.Syntax, f.Fragments = syntaxLS, [][]byte{make([]byte, 1000)}
	h := mustHeader(t, f)
	if err := h.CheckPixels(); err == nil || !strings.Contains(err.Error(), "cannot hold 1 frames of 65535 x 65535") {
		t.Error(err)
	}
}

// Two frames in one file, in one fragment each or in many, with and without an offset table.
func TestRealFrames(t *testing.T) {
	dir := filepath.Join(testData(t), "dicom", "enhanced_perfusion_2frames")
	frames := func(name string) []int32 {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(content)
		h, err := readHeader(r, r.Size())
		if err != nil {
			t.Fatal(err)
		}
		e, err := indexFrames(r, r.Size(), &h)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var all []int32
		for i := range h.Frames {
			stream, err := e.stream(r, i, nil)
			if err != nil {
				t.Fatal(err)
			}
			var s slice
			if s.raw, err = decoderFor(h.TransferSyntax)(stream, &h); err != nil {
				t.Fatalf("%s, frame %d: %v", name, i, err)
			}
			s.unpack(&h, binary.LittleEndian)
			all = append(all, s.stored...)
		}
		return all
	}
	var lossless []int32
	for _, name := range []string{
		"fragmented_no_bot_jpeg_lossless.57", "fragmented_no_bot_jpeg_lossless.70", "fragmented_no_bot_jpeg_ls.80",
		"not_fragmented_bot_jpeg_ls.80", "not_fragmented_no_bot_jpeg_ls.80", "not_fragmented_bot_rle", "not_fragmented_no_bot_rle",
	} {
		lossless = frames("CT0012." + name + ".dcm")
		hash := sha256.New()
		if err := binary.Write(hash, binary.LittleEndian, lossless); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(hash.Sum(nil)[:8]); got != "0be40bc17bcb5c8d" {
			t.Errorf("%s: hash %s", name, got)
		}
	}
	worst := int32(0)
	for i, v := range frames("CT0012.fragmented_no_bot_jpeg_ls.81.dcm") {
		worst = max(worst, v-lossless[i], lossless[i]-v)
	}
	if worst != 2 {
		t.Errorf("near-lossless frames differ by up to %d, want 2", worst)
	}
}
