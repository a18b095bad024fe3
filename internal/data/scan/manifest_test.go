package scan

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/volume"
)

// manifestRow is what the manifest of the test data says about one folder or file. Canonical means the voxel
// order closest to RAS, R fastest, and coordinates in RAS.
type manifestRow struct {
	Shape  []int        `json:"shape_canonical"`
	Shape4 []int        `json:"canonical_shape"` // of NIfTI files
	Affine [4][]float64 `json:"affine_canonical"`
	Stored [4][]float64 `json:"affine"` // of NIfTI files, in their own order
	SHA    string       `json:"sha256_canonical"`
	DType  string       `json:"sha_dtype"`
	Probes [][]float64  `json:"probes_canonical_ijk_value"`
	Min    float64      `json:"min"`
	Max    float64      `json:"max"`
	Mean   float64      `json:"mean"`
	Hint   string       `json:"hint_sha_if_sorted_by_slicelocation_and_treated_axial"`
	Second *manifestRow `json:"second_series_203"`

	PaddingCount int     `json:"padding_count"`
	ValidMin     float64 `json:"padding_valid_min"`
	ValidMax     float64 `json:"padding_valid_max"`
	ValidMean    float64 `json:"padding_valid_mean"`

	// Single DICOM files.
	Slope      string  `json:"slope"`
	Intercept  string  `json:"intercept"`
	StoredMin  float64 `json:"stored_min"`
	StoredMax  float64 `json:"stored_max"`
	StoredMean float64 `json:"stored_mean"`
	StoredSHA  string  `json:"sha256_stored_i4"` // first 16 digits

	LoadError string `json:"load_error_nibabel"`
	NonFinite int    `json:"nonfinite"`
}

func readManifest(t *testing.T, dir string) map[string]manifestRow {
	t.Helper()
	raw := make(map[string]json.RawMessage)
	parse := func(b []byte, to any) {
		t.Helper()
		if err := json.Unmarshal(b, to); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "MANIFEST.json"))
	if err != nil {
		t.Fatal(err)
	}
	parse(b, &raw)
	const derived = "dicom/derived_cthead64"
	variants := make(map[string]json.RawMessage)
	parse(raw[derived], &variants)
	delete(raw, derived)
	for name, v := range variants {
		raw[derived+"/"+name] = v
	}
	rows := make(map[string]manifestRow)
	for name, r := range raw {
		// Numbers of single files are text in the manifest, those of series are not.
		var loose map[string]any
		parse(r, &loose)
		for _, key := range []string{"slope", "intercept"} {
			if x, ok := loose[key].(float64); ok {
				loose[key] = strconv.FormatFloat(x, 'g', -1, 64)
			}
		}
		again, err := json.Marshal(loose)
		if err != nil {
			t.Fatal(err)
		}
		var row manifestRow
		parse(again, &row)
		rows[name] = row
	}
	return rows
}

// Rows of the manifest that are no volume: what the refusal says.
func refusals() map[string]string {
	return map[string]string{
		"dicom/derived_cthead64/v18_truncated":   "0020.dcm: the pixel data are truncated",
		"dicom/pydicom/MR_truncated.dcm":         "truncated: 8130 of 8192 bytes",
		"dicom/not_a_ct/liver_SEG.dcm":           "segmentation",
		"nifti/functional.nii":                   "20 volumes",
		"nifti/example_nifti2.nii.gz":            "2 volumes",
		"nifti/nifti1.hdr":                       "image file is missing",
		"nifti/derived_body/21_rgb24.nii.gz":     "RGB24",
		"nifti/derived_body/30_truncated.nii.gz": "cut or damaged",
		"nifti/derived_body/31_truncated.nii":    "more than the file's",
		"nifti/derived_body/33_negative_dim.nii": "size -5",
		"nifti/derived_body/34_huge_dims.nii.gz": "more than the file's",
		"nifti/derived_body/36_bad_magic.nii":    "magic",
		"nifti/derived_body/40_empty.nii.gz":     "empty",
	}
}

// lossy are single files whose voxels differ from decoder to decoder, by at most so many stored units.
func lossy() map[string]float64 {
	return map[string]float64{"4.50": 2, "4.51": 2, "4.53": 2, "4.55": 2, "4.91": 1, "baseline.51": 2}
}

// Every row of the manifest is read as it says, or refused in one sentence that names the file.
func TestManifest(t *testing.T) {
	dir := os.Getenv("CTCLASS_TESTDATA")
	if dir == "" {
		t.Skip("CTCLASS_TESTDATA names no folder with the real CT data")
	}
	rows := readManifest(t, dir)
	if len(rows) < 110 {
		t.Errorf("the manifest has only %d rows", len(rows))
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, filepath.FromSlash(name))
			if want, ok := refusals()[name]; ok {
				checkRefusal(t, path, want)
				return
			}
			switch {
			case strings.HasSuffix(name, "37_not_gzip.nii.gz"): // read by content, which is the base file's
				row = rows["nifti/derived_body/00_base_int16.nii.gz"]
				checkVolume(t, path, "", row)
			case strings.HasPrefix(name, "nifti/"):
				checkVolume(t, path, "", row)
			case strings.Contains(name, "fragmented_no_bot_jpeg_ls.80"): // the same image as its uncompressed twin
				checkSingle(t, path, rows["dicom/enhanced_perfusion_2frames/CT0012.explicit_little_endian.dcm"])
			case strings.Contains(name, "fragmented_no_bot_jpeg_ls.81"):
				checkNear(t, path, rows["dicom/enhanced_perfusion_2frames/CT0012.explicit_little_endian.dcm"], 3)
			case row.StoredSHA != "":
				checkSingle(t, path, row)
			default:
				checkVolume(t, path, "", row)
				if row.Second != nil {
					checkVolume(t, path, "203", *row.Second)
				}
			}
		})
	}
}

func checkRefusal(t *testing.T, path, want string) {
	v, _, err := Load(path, Selection{})
	if err == nil {
		t.Fatalf("read a volume of %v, want an error", v.Size)
	}
	if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is not one sentence about the file with %q", err, want)
	}
}

// chosen reads the chosen volume of a path as stored.
func chosen(t *testing.T, path, series string) *volume.Volume {
	t.Helper()
	c, err := Find(path)
	if err != nil {
		t.Fatal(err)
	}
	choices, err := c.Select(Selection{Series: series})
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := Open(c.Candidates[choices[0].Index], true)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// checkVolume compares a volume with its row, as it is read and once more after it went through a NIfTI file,
// as `inspect --export --as-stored` writes it.
func checkVolume(t *testing.T, path, series string, row manifestRow) {
	v := chosen(t, path, series)
	compare(t, v, row)
	dtype := nifti.Int16
	for _, x := range v.HU {
		if x != float32(int16(x)) {
			dtype = nifti.Float32
			break
		}
	}
	file := filepath.Join(t.TempDir(), "v.nii")
	if err := nifti.Write(file, v, dtype); err != nil {
		t.Fatal(err)
	}
	exported, warnings, err := nifti.Read(file)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("reading what was exported: %q %v", warnings, err)
	}
	compare(t, exported, row)
	if row.PaddingCount == 0 {
		return
	}
	// Corrected, padding is air; the other voxels keep their values.
	corrected, _, err := Load(path, Selection{Series: series})
	if err != nil {
		t.Fatal(err)
	}
	stats := volume.HUStats(corrected)
	n := float64(corrected.Voxels())
	mean := (row.ValidMean*(n-float64(row.PaddingCount)) - 1024*float64(row.PaddingCount)) / n
	if stats.Min != row.ValidMin || stats.Max != row.ValidMax || math.Abs(stats.Mean-mean) > 1e-3 {
		t.Errorf("without padding %+v, want minimum %g, maximum %g, mean %g", stats, row.ValidMin, row.ValidMax, mean)
	}
}

func compare(t *testing.T, v *volume.Volume, row manifestRow) {
	t.Helper()
	ras, err := volume.CanonicalRAS(v)
	if err != nil {
		t.Fatal(err)
	}
	if row.Hint != "" { // without positions only the voxels are known
		if got := digest(t, ras, "<i2"); got != row.Hint {
			t.Errorf("hash %s, want %s", got, row.Hint)
		}
		return
	}
	shape := row.Shape
	if shape == nil {
		shape = row.Shape4
	}
	if got := [3]int{ras.Size[2], ras.Size[1], ras.Size[0]}; len(shape) < 3 || got != [3]int(shape[:3]) {
		t.Fatalf("shape %v, want %v", got, shape)
	}
	for _, p := range row.Probes {
		want := p[len(p)-1]
		if row.NonFinite > 0 && want == 0 {
			want = row.Min // NaN, for which the manifest has 0, becomes the smallest value
		}
		if got := ras.At(int(p[2]), int(p[1]), int(p[0])); math.Abs(float64(got)-want) > 1e-4 {
			t.Errorf("voxel %v = %g, want %g", p[:3], got, want)
		}
	}
	stats := volume.HUStats(v)
	if math.Abs(stats.Min-row.Min) > 1e-3 || math.Abs(stats.Max-row.Max) > 1e-3 {
		t.Errorf("values from %g to %g, want %g to %g", stats.Min, stats.Max, row.Min, row.Max)
	}
	// The manifest's hash and mean of a file with NaN and infinities count them in their own ways.
	if row.NonFinite == 0 {
		if math.Abs(stats.Mean-row.Mean) > 1e-4 {
			t.Errorf("mean %.5f, want %.5f", stats.Mean, row.Mean)
		}
		if got := digest(t, ras, row.DType); got != row.SHA {
			t.Errorf("hash %s, want %s", got, row.SHA)
		}
	}
	got, affine := volume.SwapLPS(ras.Affine), row.Affine
	if affine[0] == nil { // NIfTI rows have the stored affine only
		got, affine = volume.SwapLPS(v.Affine), row.Stored
	}
	for i := range 3 {
		for j := range 4 {
			if math.Abs(got[i][j]-affine[i][j]) > 1e-3 {
				t.Fatalf("affine %v, want %v", got, affine)
			}
		}
	}
}

func digest(t *testing.T, v *volume.Volume, dtype string) string {
	t.Helper()
	h := sha256.New()
	var b [4]byte
	for _, x := range v.HU {
		switch dtype {
		case "<i2":
			if x != float32(int16(x)) {
				t.Fatalf("%g is no 16-bit integer", x)
			}
			binary.LittleEndian.PutUint16(b[:], uint16(int16(x)))
			h.Write(b[:2])
		case "<f4":
			binary.LittleEndian.PutUint32(b[:], math.Float32bits(x))
			h.Write(b[:])
		default:
			t.Fatalf("hash of type %q", dtype)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// checkSingle compares the stored values of one file: their hash, or for lossy compression their statistics.
// Voxel by voxel the lossy ones are compared where their decoders are tested.
func checkSingle(t *testing.T, path string, row manifestRow) {
	for part, tolerance := range lossy() {
		if strings.Contains(filepath.Base(path), part) {
			checkNear(t, path, row, tolerance)
			return
		}
	}
	stored := storedValues(t, path, row)
	mask := uint32(math.MaxUint32)
	if strings.Contains(path, "J2K_pixelrep_mismatch") {
		mask = 0x1FFF // the manifest has the words without the sign that PixelRepresentation gives them
	}
	h := sha256.New()
	for _, x := range stored {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], uint32(int32(x))&mask)
		h.Write(b[:])
	}
	if got := hex.EncodeToString(h.Sum(nil)[:8]); got != row.StoredSHA {
		t.Errorf("hash %s, want %s", got, row.StoredSHA)
	}
}

func checkNear(t *testing.T, path string, row manifestRow, tolerance float64) {
	low, high, sum := math.Inf(1), math.Inf(-1), 0.0
	stored := storedValues(t, path, row)
	for _, x := range stored {
		low, high, sum = min(low, x), max(high, x), sum+x
	}
	mean := sum / float64(len(stored))
	if math.Abs(low-row.StoredMin) > tolerance || math.Abs(high-row.StoredMax) > tolerance || math.Abs(mean-row.StoredMean) > 0.25*tolerance {
		t.Errorf("stored values from %g to %g, mean %.4f; want %g to %g, mean %.4f", low, high, mean, row.StoredMin, row.StoredMax, row.StoredMean)
	}
}

// storedValues undoes the rescaling of a file's values.
func storedValues(t *testing.T, path string, row manifestRow) []float64 {
	t.Helper()
	v := chosen(t, path, "")
	slope, intercept := 1.0, 0.0
	if strings.Contains(path, "enhanced_perfusion") { // the manifest does not look into functional groups
		intercept = -1024
	} else if row.Slope != "None" {
		var err error
		if slope, err = strconv.ParseFloat(row.Slope, 64); err != nil {
			t.Fatal(err)
		}
		if intercept, err = strconv.ParseFloat(row.Intercept, 64); err != nil {
			t.Fatal(err)
		}
	}
	stored := make([]float64, len(v.HU))
	for i, x := range v.HU {
		stored[i] = math.Round((float64(x) - intercept) / slope)
	}
	if strings.Contains(path, "enhanced_perfusion") { // the file holds the two frames from the head down
		frame := len(stored) / 2
		stored = slices.Concat(stored[frame:], stored[:frame])
	}
	return stored
}
