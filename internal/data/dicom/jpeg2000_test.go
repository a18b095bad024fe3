package dicom

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
	"github.com/ctclass/ctclass/internal/data/dicom/jpeg2000"
)

// A head CT whose codestream calls its 13-bit samples unsigned where PixelRepresentation says signed. Its HU
// make sense only as signed ones; the hash of what the codestream says is OpenJPEG's.
func TestRealContradictingSign(t *testing.T) {
	h, err := ReadHeader(filepath.Join(testData(t), "dicom", "pydicom", "J2K_pixelrep_mismatch.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	var s slice
	if err := s.read(&h); err != nil {
		t.Fatal(err)
	}
	if low, high := slices.Min(s.stored), slices.Max(s.stored); low != -2000 || high != 1896 {
		t.Errorf("stored values from %d to %d, want -2000 to 1896", low, high)
	}
	var words []byte
	for _, v := range s.stored {
		words = binary.LittleEndian.AppendUint32(words, uint32(v)&0x1FFF)
	}
	sum := sha256.Sum256(words)
	if got := hex.EncodeToString(sum[:8]); got != "83cdf1d41339117d" {
		t.Errorf("hash of the codestream's words %s", got)
	}
}

// The pixels of a codestream whole and in fragments; rows and columns that differ are refused.
func TestJPEG2000(t *testing.T) {
	for _, tt := range []struct{ name, syntax string }{
		{"levels3.j2k", syntaxJ2KLossless},
		{"levels3.j2k", syntaxJ2K},
		{"ht_levels5.j2k", syntaxHTJ2KLossless},
		{"ht_levels5.j2k", syntaxHTJ2KLosslessRPCL},
		{"ht_levels5.j2k", syntaxHTJ2K},
	} {
		stream, err := os.ReadFile(filepath.Join("jpeg2000", "testdata", tt.name))
		if err != nil {
			t.Fatal(err)
		}
		img, err := jpeg2000.Decode(stream, 37*41)
		if err != nil {
			t.Fatal(err)
		}
		f := dicomtest.Slice("1.2", 1, 0, 41, 37, nil)
		f.Syntax, f.Fragments = tt.syntax, [][]byte{stream[:300], stream[300:]}
		h := mustHeader(t, f)
		var s slice
		if err := s.read(&h); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if !slices.Equal(s.stored, img.Components[0].Samples) {
			t.Errorf("%s as %s: other pixels", tt.name, tt.syntax)
		}
		f.SetShort(0x00280010, 37).SetShort(0x00280011, 41)
		h = mustHeader(t, f)
		if err := s.read(&h); err == nil || !strings.Contains(err.Error(), "expected 37 x 41") {
			t.Errorf("%s: rows and columns exchanged: %v", tt.name, err)
		}
	}
}

// Lossy samples beyond what BitsStored holds become the nearest value; samples far beyond are refused.
func TestJPEG2000Range(t *testing.T) {
	stream, err := os.ReadFile(filepath.Join("jpeg2000", "testdata", "levels3.j2k")) // 12 bits, signed
	if err != nil {
		t.Fatal(err)
	}
	img, err := jpeg2000.Decode(stream, 37*41)
	if err != nil {
		t.Fatal(err)
	}
	samples := img.Components[0].Samples
	h := Header{Rows: 41, Columns: 37, BitsAllocated: 16, BitsStored: 11, HighBit: 10, Signed: true, TransferSyntax: syntaxJ2K}
	if _, err := decodeJPEG2000(stream, &h); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("samples from %d to %d in 11 bits: %v", slices.Min(samples), slices.Max(samples), err)
	}
	h.BitsStored, h.HighBit, h.Signed = 12, 11, false
	h.TransferSyntax = syntaxJ2KLossless
	raw, err := decodeJPEG2000(stream, &h)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := binary.LittleEndian.Uint16(raw), uint16(samples[0])&0xFFF; got != want {
		t.Errorf("signed samples in unsigned pixels: %#x, want the word %#x", got, want)
	}
	h.Rows, h.Columns = 40000, 40000
	if _, err := decodeJPEG2000(stream, &h); err == nil || !strings.Contains(err.Error(), "cannot hold") {
		t.Errorf("a huge image: %v", err)
	}
}
