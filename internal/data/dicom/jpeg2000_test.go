package dicom

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"path/filepath"
	"slices"
	"testing"
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
