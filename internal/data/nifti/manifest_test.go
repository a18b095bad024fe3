package nifti

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/files"
	"github.com/ctclass/ctclass/internal/volume"
)

// row is what the test data's manifest states about a file, as nibabel read it.
type row struct {
	Header     string      `json:"header"`
	Shape      []int       `json:"shape"` // i, j, k, ...
	DType      string      `json:"dtype"`
	Endian     string      `json:"endian"`
	QformCode  int         `json:"qform_code"`
	SformCode  int         `json:"sform_code"`
	AxCodes    string      `json:"axcodes"`
	Affine     [][]float64 `json:"affine"` // RAS
	Slope      *float64    `json:"scl_slope"`
	Inter      *float64    `json:"scl_inter"`
	Min        float64     `json:"min"` // of the finite voxels
	Max        float64     `json:"max"`
	Mean       float64     `json:"mean"`
	NonFinite  int         `json:"nonfinite"`
	ShaDType   string      `json:"sha_dtype"`
	Sha        string      `json:"sha256_canonical"`
	Probes     [][]float64 `json:"probes_canonical_ijk_value"`
	LoadError  string      `json:"load_error_nibabel"`
	SameAsBase bool        `json:"same_voxels_as_base"`
}

// TestManifest checks every NIfTI file of the test data against its manifest.
func TestManifest(t *testing.T) {
	root := os.Getenv("CTCLASS_TESTDATA")
	if root == "" {
		t.Skip("CTCLASS_TESTDATA names no folder with test data")
	}
	text, err := os.ReadFile(filepath.Join(root, "MANIFEST.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows map[string]json.RawMessage
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	files := 0
	for name, raw := range rows {
		if !strings.HasPrefix(name, "nifti/") {
			continue
		}
		files++
		t.Run(name, func(t *testing.T) {
			var r row
			if err := json.Unmarshal(raw, &r); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(root, filepath.FromSlash(name))
			switch {
			case strings.HasSuffix(name, "37_not_gzip.nii.gz"):
				// nibabel goes by the name. The content is the plain base file, and that is what counts.
				if err := json.Unmarshal(rows["nifti/derived_body/00_base_int16.nii.gz"], &r); err != nil {
					t.Fatal(err)
				}
				r.LoadError = ""
				checkGood(t, path, r)
			case r.LoadError != "" || r.Sha == "" || volumes(r) > 1:
				checkRefused(t, path, r)
			default:
				checkGood(t, path, r)
			}
		})
	}
	if files < 40 {
		t.Errorf("the manifest has only %d NIfTI rows", files)
	}
}

func volumes(r row) int {
	n := 1
	for _, d := range r.Shape[min(3, len(r.Shape)):] {
		n *= d
	}
	return n
}

func checkRefused(t *testing.T, path string, r row) {
	v, _, err := Read(path)
	if err == nil || v != nil {
		t.Fatalf("read a volume of %v, want an error", v.Size)
	}
	if !strings.Contains(err.Error(), filepath.Base(path)) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q is not one sentence with the file's name", err)
	}
	t.Log(err)
	if volumes(r) > 1 {
		info, err := Header(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Volumes != volumes(r) {
			t.Errorf("header has %d volumes, want %d", info.Volumes, volumes(r))
		}
		checkInfo(t, info, r)
	}
}

func checkGood(t *testing.T, path string, r row) {
	info, err := Header(path)
	if err != nil {
		t.Fatal(err)
	}
	checkInfo(t, info, r)
	v, warnings, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Validate(); err != nil {
		t.Fatal(err)
	}
	if v.Affine != info.Affine || v.Spacing != info.Spacing || v.Size != info.Shape {
		t.Errorf("volume %v %v differs from header %v %v", v.Size, v.Affine, info.Shape, info.Affine)
	}
	noForm := r.QformCode == 0 && r.SformCode == 0
	if want := noForm || r.NonFinite > 0; (len(warnings) > 0) != want {
		t.Errorf("warnings %q, want some: %v", warnings, want)
	}
	stats := volume.HUStats(v)
	for _, c := range []struct {
		name      string
		got, want float64
	}{{"min", stats.Min, r.Min}, {"max", stats.Max, r.Max}} {
		if c.got != float64(float32(c.want)) {
			t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
	if r.NonFinite > 0 {
		v = asStored(t, path, r)
		stats = statsThenZeroNaN(v)
	}
	if math.Abs(stats.Mean-r.Mean) > 1e-4 {
		t.Errorf("mean %v, want %v", stats.Mean, r.Mean)
	}
	checkCanonical(t, v, r)
}

// asStored reads the voxels as stored, to compare them with a checksum in which NaN counts as 0.
func asStored(t *testing.T, path string, r row) *volume.Volume {
	s, err := open(files.Disk{}, path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	h, err := readHeader(s)
	if err != nil {
		t.Fatal(err)
	}
	hu, bad, err := h.readVoxels(s)
	if err != nil {
		t.Fatal(err)
	}
	if bad != r.NonFinite {
		t.Errorf("%d voxels are not finite, want %d", bad, r.NonFinite)
	}
	return &volume.Volume{Size: h.Shape, HU: hu, Spacing: h.Spacing, Affine: h.Affine}
}

// statsThenZeroNaN computes the statistics and then sets NaN to 0.
func statsThenZeroNaN(v *volume.Volume) volume.Stats {
	stats := volume.HUStats(v)
	for i, x := range v.HU {
		if x != x {
			v.HU[i] = 0
		}
	}
	return stats
}

func checkInfo(t *testing.T, info Info, r row) {
	version := 1
	if strings.HasPrefix(r.Header, "Nifti2") {
		version = 2
	}
	if info.Version != version || info.BigEndian != (r.Endian == ">") {
		t.Errorf("version %d, big-endian %v; want %s %s", info.Version, info.BigEndian, r.Header, r.Endian)
	}
	if want := [3]int{r.Shape[2], r.Shape[1], r.Shape[0]}; info.Shape != want {
		t.Errorf("shape %v, want %v", info.Shape, want)
	}
	dtype := map[string]string{">i2": "int16"}[r.DType]
	if dtype == "" {
		dtype = r.DType
	}
	if info.DType.String() != dtype {
		t.Errorf("type %s, want %s", info.DType, dtype)
	}
	slope, inter := 1.0, 0.0
	if r.Slope != nil && *r.Slope != 0 {
		slope, inter = *r.Slope, *r.Inter
	}
	if math.Abs(info.Slope-slope) > 1e-6 || math.Abs(info.Inter-inter) > 1e-3 {
		t.Errorf("slope %g, intercept %g; want %g, %g", info.Slope, info.Inter, slope, inter)
	}
	if info.Orientation != r.AxCodes {
		t.Errorf("orientation %s, want %s", info.Orientation, r.AxCodes)
	}
	placement := "none"
	if r.SformCode > 0 {
		placement = "sform"
	} else if r.QformCode > 0 {
		placement = "qform"
	}
	if info.Placement != placement {
		t.Errorf("placed by %s, want %s", info.Placement, placement)
	}
	got := volume.SwapLPS(info.Affine)
	for i := range 4 {
		for j := range 4 {
			if math.Abs(got[i][j]-r.Affine[i][j]) > 2e-5 {
				t.Fatalf("affine (RAS) %v, want %v", got, r.Affine)
			}
		}
	}
}

func checkCanonical(t *testing.T, v *volume.Volume, r row) {
	c, err := volume.CanonicalRAS(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Probes {
		value := p[len(p)-1] // i, j, k, possibly a 0 for the only volume, value
		if got := c.At(int(p[2]), int(p[1]), int(p[0])); math.Abs(float64(got)-value) > 1e-4 {
			t.Errorf("voxel %v is %g", p, got)
		}
	}
	hash := sha256.New()
	for _, x := range c.HU {
		var b [4]byte
		switch r.ShaDType {
		case "<i2":
			if x != float32(int16(x)) {
				t.Fatalf("voxel %g is not an int16", x)
			}
			binary.LittleEndian.PutUint16(b[:], uint16(int16(x)))
			hash.Write(b[:2])
		case "<f4":
			binary.LittleEndian.PutUint32(b[:], math.Float32bits(x))
			hash.Write(b[:])
		default:
			t.Fatalf("unknown checksum type %q", r.ShaDType)
		}
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != r.Sha {
		t.Errorf("checksum %s, want %s", got, r.Sha)
	}
}
