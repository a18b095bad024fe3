package dicom

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

// FuzzFile reads any bytes as a DICOM file: header, grouping, pixels. Nothing may panic, hang or allocate
// beyond what the input backs.
func FuzzFile(f *testing.F) {
	for _, syntax := range []string{dicomtest.Implicit, dicomtest.Explicit, dicomtest.BigEndian, dicomtest.Deflated} {
		s := tiny(1, 0)
		s.Syntax = syntax
		f.Add(s.Bytes())
		s.Bare = true
		f.Add(s.Bytes())
	}
	rle := tiny(1, 0)
	rle.Syntax, rle.Fragments = dicomtest.RLE, [][]byte{rleFrame([]int16{0, 1, 1, 1, 1, 5})}
	f.Add(rle.Bytes())
	frames := enhanced(0, 2, 1)
	f.Add(frames.Bytes())
	frames.Syntax = dicomtest.RLE
	frames.Fragments = [][]byte{rleFrame(framePixels(1)), rleFrame(framePixels(2)), rleFrame(framePixels(3))}
	f.Add(frames.Bytes())
	lut := tiny(1, 0)
	lut.Elements[0x00283000] = dicomtest.Group(dicomtest.Item{
		0x00283002: {VR: "US", Data: []uint16{2, 0, 16}}, 0x00283006: {VR: "US", Data: []uint16{5, 6}},
	})
	f.Add(lut.Bytes())
	for _, seed := range []struct{ name, syntax string }{{"dcmtk_sv6.jpg", syntaxLossless}, {"dcmtk_near3.jls", syntaxLSNear}} {
		stream, err := os.ReadFile(filepath.Join("testdata", "codec", seed.name))
		if err != nil {
			f.Fatal(err)
		}
		coded := dicomtest.Slice("1.2", 1, 0, 45, 37, nil)
		coded.Syntax, coded.Fragments = seed.syntax, [][]byte{stream[:300], stream[300:]}
		f.Add(coded.Bytes())
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		h, err := readHeader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return
		}
		h.Path = filepath.Join(t.TempDir(), "f")
		for i := range h.frames {
			h.frames[i].Path = h.Path
		}
		if err := os.WriteFile(h.Path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		series, _ := Group([]Header{h})
		for i := range series {
			v, _, err := series[i].Read(false)
			if err != nil {
				continue
			}
			if err := v.Validate(); err != nil {
				t.Fatalf("an invalid volume was read: %v", err)
			}
			if n := v.Voxels(); n > max(freePixels, 1100*len(content)) { // deflate packs at most 1032:1
				t.Fatalf("%d voxels from %d bytes", n, len(content))
			}
		}
	})
}
