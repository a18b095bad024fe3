package dicom

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

// How samples of 8 and 12 bits become pixels. The vectors are images of 45 rows x 61 columns whose
// brightest samples lie near the top of their range.
func TestJPEGDCT(t *testing.T) {
	for _, tt := range []struct {
		vector                  string
		syntax                  string
		rows                    int
		allocated, stored, sign uint16
		low, high               int32 // bounds of what the largest pixel is
		want                    string
	}{
		{"eb8", syntaxBaseline, 45, 8, 8, 0, 250, 255, ""},
		{"eb8", syntaxBaseline, 45, 16, 12, 0, 250, 255, ""},
		{"ep8", syntaxProgressive, 45, 16, 8, 1, 100, 127, ""},
		{"ee12", syntaxExtended, 45, 16, 12, 0, 4000, 4095, ""},
		{"es12", syntaxSpectral, 45, 16, 16, 0, 4000, 4095, ""},
		{"ep12", syntaxProgressive, 45, 16, 10, 0, 0, 0, "12 bits do not fit pixels of 10 bits"},
		{"eb8", syntaxBaseline, 45, 8, 7, 0, 0, 0, "8 bits do not fit pixels of 7 bits"},
		{"ee12", syntaxExtended, 45, 16, 12, 1, 1000, 2047, ""},
		{"ee12", syntaxExtended, 45, 16, 10, 1, 0, 0, "12 bits do not fit pixels of 10 bits"},
		{"ee12", syntaxExtended, 45, 8, 8, 0, 0, 0, "12 bits do not fit pixels of 8 bits"},
		{"ee12", syntaxExtended, 61, 16, 12, 0, 0, 0, "45 rows x 61 columns"},
		{"ee12", syntaxExtended, 40, 16, 12, 0, 0, 0, "at most 2440 are expected"},
		{"arithmetic", syntaxExtended, 45, 8, 8, 0, 0, 0, "decoding JPEG extended: arithmetic"},
	} {
		stream, err := os.ReadFile(filepath.Join("jpegdct", "testdata", tt.vector+".jpg"))
		if err != nil {
			t.Fatal(err)
		}
		f := dicomtest.Slice("1.2", 1, 0, tt.rows, 61, nil)
		f.Syntax, f.Fragments = tt.syntax, [][]byte{stream[:300], stream[300:]}
		f.SetShort(0x00280100, tt.allocated).SetShort(0x00280101, tt.stored)
		f.SetShort(0x00280102, tt.stored-1).SetShort(0x00280103, tt.sign)
		h := mustHeader(t, f)
		var s slice
		err = s.read(&h)
		if tt.want != "" {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s as %d of %d bits: %v, want %q", tt.vector, tt.stored, tt.allocated, err, tt.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s as %d of %d bits: %v", tt.vector, tt.stored, tt.allocated, err)
			continue
		}
		largest := s.stored[0]
		for _, v := range s.stored {
			largest = max(largest, v)
		}
		if largest < tt.low || largest > tt.high {
			t.Errorf("%s as %d of %d bits: the largest pixel is %d", tt.vector, tt.stored, tt.allocated, largest)
		}
	}
}

// An image of 16 x 16 pixels of 0 and 1022: loss that leads beyond 10 bits ends at 1023.
func TestJPEGDCTOvershoot(t *testing.T) {
	stream, err := os.ReadFile(filepath.Join("jpegdct", "testdata", "overshoot10.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	f := dicomtest.Slice("1.2", 1, 0, 16, 16, nil)
	f.Syntax, f.Fragments = syntaxExtended, [][]byte{stream}
	f.SetShort(0x00280101, 10).SetShort(0x00280102, 9).SetShort(0x00280103, 0)
	h := mustHeader(t, f)
	var s slice
	if err := s.read(&h); err != nil {
		t.Fatal(err)
	}
	beyond := 0
	for _, v := range s.stored {
		if v > 1023 {
			t.Fatalf("pixel %d of 10 bits", v)
		}
		if v == 1023 {
			beyond++
		}
	}
	if beyond < 64 {
		t.Errorf("%d pixels at the top of the range", beyond)
	}
}
