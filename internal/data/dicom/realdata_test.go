package dicom

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/volume"
)

// expected are the facts of one series in the manifest of the test data. The canonical order is RAS, with
// R fastest, and the affine one to RAS coordinates.
type expected struct {
	Shape  [3]int        `json:"shape_canonical"`
	Affine [4][4]float64 `json:"affine_canonical"`
	SHA    string        `json:"sha256_canonical"`
	Hint   string        `json:"hint_sha_if_sorted_by_slicelocation_and_treated_axial"`
	Probes [][4]float64  `json:"probes_canonical_ijk_value"`
	Syntax string        `json:"transfer_syntax"`
	Second *expected     `json:"second_series_203"`

	PaddingCount int     `json:"padding_count"`
	ValidMin     float64 `json:"padding_valid_min"`
}

func testData(t testing.TB) string {
	dir := os.Getenv("CTCLASS_TESTDATA")
	if dir == "" {
		t.Skip("CTCLASS_TESTDATA names no folder with the real CT data")
	}
	return dir
}

func manifest(t testing.TB, dir string) map[string]json.RawMessage {
	b, err := os.ReadFile(filepath.Join(dir, "MANIFEST.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// groupFolder reads all headers below a folder.
func groupFolder(t testing.TB, dir string) ([]Series, []Rejected) {
	var headers []Header
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		h, err := ReadHeader(path)
		switch {
		case errors.Is(err, ErrNotDICOM) || err != nil && strings.Contains(err.Error(), "no data set"):
		case err != nil:
			t.Errorf("ReadHeader: %v", err)
		default:
			headers = append(headers, h)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return Group(headers)
}

func canonicalSHA(v *volume.Volume) string {
	b := make([]byte, 0, 2*len(v.HU))
	for _, x := range v.HU {
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(x)))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func checkExpected(t *testing.T, s *Series, want *expected) {
	t.Helper()
	v, _, err := s.Read(true)
	if err != nil {
		t.Fatal(err)
	}
	ras, err := volume.CanonicalRAS(v)
	if err != nil {
		t.Fatal(err)
	}
	if want.Hint != "" {
		if got := canonicalSHA(ras); got != want.Hint {
			t.Errorf("hash %s, want %s", got, want.Hint)
		}
		return
	}
	if got := [3]int{ras.Size[2], ras.Size[1], ras.Size[0]}; got != want.Shape {
		t.Fatalf("shape %v, want %v", got, want.Shape)
	}
	for _, x := range ras.HU {
		if x != float32(int16(x)) {
			t.Fatalf("%g is no 16-bit integer", x)
		}
	}
	if got := canonicalSHA(ras); got != want.SHA {
		t.Errorf("hash %s, want %s", got, want.SHA)
	}
	for _, p := range want.Probes {
		if got := ras.At(int(p[2]), int(p[1]), int(p[0])); float64(got) != p[3] {
			t.Errorf("voxel %v = %g, want %g", p[:3], got, p[3])
		}
	}
	affine := volume.SwapLPS(ras.Affine)
	for i := range 3 {
		for j := range 4 {
			if math.Abs(affine[i][j]-want.Affine[i][j]) > 1e-3 {
				t.Errorf("affine[%d][%d] = %.5f, want %.5f", i, j, affine[i][j], want.Affine[i][j])
			}
		}
	}
}

func largest(series []Series) *Series {
	best := 0
	for i := range series {
		if len(series[i].Slices) > len(series[best].Slices) {
			best = i
		}
	}
	return &series[best]
}

// Series of the test data that are read, and how many candidates the folder holds.
func TestRealSeriesAsStored(t *testing.T) {
	dir := testData(t)
	m := manifest(t, dir)
	var derived map[string]json.RawMessage
	if err := json.Unmarshal(m["dicom/derived_cthead64"], &derived); err != nil {
		t.Fatal(err)
	}
	for name, raw := range derived {
		m["dicom/derived_cthead64/"+name] = raw
	}
	for _, tt := range []struct {
		name   string
		series int
	}{
		{"chest_siemens_8mm", 1},
		{"chest_rider_jpeglossless", 1},
		{"head_tilt_mixed_folder", 1},
		{"head_two_kernels", 2},
		{"d2n_sliceincrement_001", 1},
		{"d2n_sliceincrement_002", 1},
		{"dcmqi_ct3slice_ffs", 1},
		{"dcmqi_23x38x3", 1},
		{"derived_cthead64/v01_baseline", 1},
		{"derived_cthead64/v02_shuffled", 1},
		{"derived_cthead64/v03_coronal", 1},
		{"derived_cthead64/v04_sagittal", 1},
		{"derived_cthead64/v05_prone", 1},
		{"derived_cthead64/v07_missing_slice", 1},
		{"derived_cthead64/v08_duplicate_identical", 1},
		{"derived_cthead64/v09_two_acquisitions", 2},
		{"derived_cthead64/v10_no_position", 1},
		{"derived_cthead64/v11_slope_half", 1},
		{"derived_cthead64/v12_12bit_dirty_high_bits", 1},
		{"derived_cthead64/v14_padding", 1},
		{"derived_cthead64/v15_no_preamble", 1},
		{"derived_cthead64/v17_nested_junk", 1},
		{"derived_cthead64/v19_localizer_in_series", 1},
		{"derived_cthead64/v20_two_series", 2},
		{"derived_cthead64/v24_nonsquare", 1},
		{"derived_cthead64/v25_oblique", 1},
		{"derived_cthead64/v30_undefined_lengths", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want expected
			if err := json.Unmarshal(m["dicom/"+tt.name], &want); err != nil {
				t.Fatal(err)
			}
			series, rejected := groupFolder(t, filepath.Join(dir, "dicom", tt.name))
			if len(series) != tt.series {
				t.Fatalf("%d series, want %d", len(series), tt.series)
			}
			for _, r := range rejected {
				t.Logf("rejected %s: %s", filepath.Base(r.Path), r.Reason)
			}
			s := largest(series)
			t.Logf("warnings: %q", s.Warnings)
			checkExpected(t, s, &want)
			if want.Second != nil {
				checkExpected(t, &series[1], want.Second)
			}
			// The corrected volume is read too: finite, orthogonal, padding gone.
			v, _, err := s.Read(false)
			if err != nil {
				t.Fatal(err)
			}
			if skew := volume.Skew(v.Affine); skew > 0.05 {
				t.Errorf("corrected volume is skewed by %g degrees", skew)
			}
			if want.PaddingCount > 0 && float64(volume.HUStats(v).Min) != want.ValidMin {
				t.Errorf("padding left in: minimum %g", volume.HUStats(v).Min)
			}
		})
	}
}

// Single files: the stored pixels of those that are read have the manifest's hash (first 16 digits, int32
// little endian); all others are refused in one sentence that names file and reason.
func TestRealSingleFiles(t *testing.T) {
	dir := testData(t)
	m := manifest(t, dir)
	const cs = "dicom/cornerstone_ct_15_syntaxes/"
	for _, tt := range []struct{ path, refusal string }{
		{cs + "CTImage.dcm", ""},
		{cs + "LittleEndianExplicit_1.2.840.10008.1.2.1.dcm", ""},
		{cs + "LittleEndianImplicit_1.2.840.10008.1.2.dcm", ""},
		{cs + "BigEndianExplicit_1.2.840.10008.1.2.2.dcm", ""},
		{cs + "DeflatedExplicitVRLittleEndian_1.2.840.10008.1.2.1.99.dcm", ""},
		{cs + "RLELossless_1.2.840.10008.1.2.5.dcm", ""},
		{"dicom/pydicom/CT_small.dcm", ""},
		{"dicom/pydicom/693_UNCR.dcm", ""},
		{"dicom/planes_covid19nysbu_A002304/axial.dcm", ""},
		{"dicom/planes_covid19nysbu_A002304/coronal.dcm", ""},
		{"dicom/planes_covid19nysbu_A002304/sagittal.dcm", ""},
		{cs + "JPEG2000LosslessOnly_1.2.840.10008.1.2.4.90.dcm", ""},
		{cs + "JPEG2000_1.2.840.10008.1.2.4.91.dcm", ""},
		{"dicom/pydicom/693_J2KR.dcm", ""},
		{cs + "JPEGProcess14_1.2.840.10008.1.2.4.57.dcm", ""},
		{cs + "JPEGProcess14SV1_1.2.840.10008.1.2.4.70.dcm", ""},
		// Lossy, and yet the same to the last bit as dcmtk and gdcm decode them.
		{cs + "JPEGProcess1_1.2.840.10008.1.2.4.50.dcm", ""},
		{cs + "JPEGProcess2_4_1.2.840.10008.1.2.4.51.dcm", ""},
		{cs + "JPEGProcess6_8_1.2.840.10008.1.2.4.53.dcm", ""},
		{cs + "JPEGProcess10_12_1.2.840.10008.1.2.4.55.dcm", ""},
		{cs + "JPEGLSLossless_1.2.840.10008.1.2.4.80.dcm", ""},
		{cs + "JPEGLSLossy_1.2.840.10008.1.2.4.81.dcm", ""},
		{"dicom/pydicom/MR_truncated.dcm", "truncated: 8130 of 8192 bytes"},
		{"dicom/derived_cthead64/v18_truncated/0020.dcm", "truncated"},
	} {
		h, err := ReadHeader(filepath.Join(dir, tt.path))
		if errors.Is(err, fs.ErrNotExist) {
			names, _ := filepath.Glob(filepath.Join(dir, filepath.Dir(tt.path), "*"))
			t.Errorf("%v; the folder holds %q", err, names)
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		var s slice
		err = s.read(&h)
		if tt.refusal != "" {
			if err == nil || !strings.Contains(err.Error(), tt.refusal) || !strings.Contains(err.Error(), filepath.Base(tt.path)) {
				t.Errorf("%s: %v, want %q", tt.path, err, tt.refusal)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		var want struct {
			SHA string `json:"sha256_stored_i4"`
		}
		if err := json.Unmarshal(m[tt.path], &want); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 0, 4*len(s.stored))
		for _, v := range s.stored {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		sum := sha256.Sum256(b)
		if got := hex.EncodeToString(sum[:8]); got != want.SHA {
			t.Errorf("%s: hash %s, want %s", tt.path, got, want.SHA)
		}
	}
	series, rejected := groupFolder(t, filepath.Join(dir, "dicom", "not_a_ct"))
	if len(series) != 0 || len(rejected) != 1 {
		t.Errorf("a segmentation was taken for a series")
	}
}

func BenchmarkChest512x512x30(b *testing.B) {
	dir := filepath.Join(testData(b), "dicom", "chest_siemens_8mm")
	for b.Loop() {
		series, _ := groupFolder(b, dir)
		if _, _, err := series[0].Read(false); err != nil {
			b.Fatal(err)
		}
	}
}
