package scan

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

// A multi-frame file is a candidate of as many slices as it has frames; its path is the file.
func TestMultiFrame(t *testing.T) {
	text := func(vr, s string) dicomtest.Value { return dicomtest.Value{VR: vr, Data: s} }
	shared := dicomtest.Item{
		0x00209116: dicomtest.Group(dicomtest.Item{0x00200037: text("DS", `1\0\0\0\1\0`)}),
		0x00289110: dicomtest.Group(dicomtest.Item{0x00280030: text("DS", `0.5\0.75`)}),
		0x00289145: dicomtest.Group(dicomtest.Item{0x00281052: text("DS", "-1024"), 0x00281053: text("DS", "1")}),
	}
	var frames []dicomtest.Item
	var pixels []int16
	for _, z := range []int{4, 0, 2} {
		frames = append(frames, dicomtest.Item{
			0x00209113: dicomtest.Group(dicomtest.Item{0x00200032: text("DS", fmt.Sprintf(`0\0\%d`, z))}),
		})
		for i := range 12 {
			pixels = append(pixels, int16(24+1040*(i%2)))
		}
	}
	path := dicomtest.Enhanced("1.2.3", 3, 4, shared, frames, pixels).Write(t, t.TempDir(), "IM1")
	for _, p := range []string{path, filepath.Dir(path)} {
		v, info, err := Load(p, Selection{})
		if err != nil {
			t.Fatal(err)
		}
		c := &info.Candidate
		if c.Path != path || c.Size != [3]int{3, 3, 4} || c.Spacing != [3]float64{2, 0.5, 0.75} || c.Orientation != "LPS" || v.Size != c.Size {
			t.Errorf("candidate %+v, volume %v", c, v.Size)
		}
	}
}
