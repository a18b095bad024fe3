package dicom

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// Multi-frame images of the test data are the same volumes as the single-frame ones.
func TestRealMultiFrame(t *testing.T) {
	dir := testData(t)
	m := manifest(t, dir)
	var derived map[string]json.RawMessage
	if err := json.Unmarshal(m["dicom/derived_cthead64"], &derived); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		folder string
		facts  json.RawMessage
	}{
		{"derived_cthead64/v21_enhanced_multiframe", derived["v21_enhanced_multiframe"]},
		{"derived_cthead64/v22_enhanced_rle", derived["v22_enhanced_rle"]},
		{"derived_cthead64/v22_enhanced_jpeg70", derived["v22_enhanced_jpeg70"]},
		{"dcmqi_23x38x3_legacy_enhanced", m["dicom/dcmqi_23x38x3"]}, // its single-frame twin
	} {
		t.Run(tt.folder, func(t *testing.T) {
			var want expected
			if err := json.Unmarshal(tt.facts, &want); err != nil {
				t.Fatal(err)
			}
			series, rejected := groupFolder(t, filepath.Join(dir, "dicom", tt.folder))
			if len(series) != 1 || len(rejected) != 0 {
				t.Fatalf("%d series, rejected %v", len(series), rejected)
			}
			checkExpected(t, &series[0], &want)
			if len(series[0].Warnings) != 0 {
				t.Errorf("warnings %q", series[0].Warnings)
			}
		})
	}
}

// One perfusion map of two frames, compressed in all ways, with offset table and without, one fragment for
// a frame and many: read as it is, with a warning that it holds no HU.
func TestRealPerfusionMap(t *testing.T) {
	dir := filepath.Join(testData(t), "dicom", "enhanced_perfusion_2frames")
	m := manifest(t, testData(t))
	stored := func(path string) []int32 {
		h, err := ReadHeader(path)
		if err != nil {
			t.Fatal(err)
		}
		var all []int32
		var s slice
		for i := range h.frames {
			if err := s.read(&h.frames[i]); err != nil {
				t.Fatal(err)
			}
			all = append(all, s.stored...)
		}
		return all
	}
	lossless := stored(filepath.Join(dir, "CT0012.explicit_little_endian.dcm"))
	paths, err := filepath.Glob(filepath.Join(dir, "*.dcm"))
	if err != nil || len(paths) != 10 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		h, err := ReadHeader(path)
		if err != nil {
			t.Error(err)
			continue
		}
		series, _ := Group([]Header{h})
		if len(series) != 1 || series[0].Size() != [3]int{2, 512, 512} {
			t.Errorf("%s: %d series", name, len(series))
			continue
		}
		s := &series[0]
		if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "PERFUSION") || !s.Slices[0].Derived() {
			t.Errorf("%s: warnings %q", name, s.Warnings)
		}
		if s.Slices[0].Position[2] != -149 || s.Slices[0].Intercept != -1024 || math.Abs(s.Affine()[2][2]+10) > 1e-9 {
			t.Errorf("%s: %v, affine %v", name, s.Slices[0].Position, s.Affine())
		}
		if s.Err != nil {
			t.Errorf("%s: %v", name, s.Err)
			continue
		}
		got := stored(path)
		if strings.HasSuffix(name, ".81.dcm") { // no other decoder has read its fragments
			for i, v := range got {
				if d := v - lossless[i]; d < -10 || d > 10 {
					t.Fatalf("%s: pixel %d is %d, %d before compression", name, i, v, lossless[i])
				}
			}
			continue
		}
		var want struct {
			SHA string `json:"sha256_stored_i4"`
		}
		if err := json.Unmarshal(m["dicom/enhanced_perfusion_2frames/"+name], &want); err != nil {
			t.Fatal(err)
		}
		if want.SHA == "" {
			want.SHA = "0be40bc17bcb5c8d" // of all lossless ones
		}
		b := make([]byte, 0, 4*len(got))
		for _, v := range got {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		sum := sha256.Sum256(b)
		if hash := hex.EncodeToString(sum[:8]); hash != want.SHA {
			t.Errorf("%s: hash %s, want %s", name, hash, want.SHA)
		}
	}
}
