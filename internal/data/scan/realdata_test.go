package scan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRealFolders(t *testing.T) {
	dir := os.Getenv("CTCLASS_TESTDATA")
	if dir == "" {
		t.Skip("CTCLASS_TESTDATA names no folder with the real CT data")
	}
	for _, tt := range []struct {
		path     string
		size     [3]int
		why      string
		warnings []string // one for each, in order
		err      string
	}{
		{path: "dicom/chest_siemens_8mm", size: [3]int{30, 512, 512}, why: "the only volume"},
		{path: "dicom/head_tilt_mixed_folder", size: [3]int{8, 525, 512}, why: "the only volume", warnings: []string{"gantry tilt"}},
		{path: "dicom/head_two_kernels", size: [3]int{3, 512, 512}, why: "lowest series number of 2"},
		{path: "dicom/planes_covid19nysbu_A002304", size: [3]int{1, 512, 512}, why: "axial slices of 3"},
		{path: "dicom/derived_cthead64/v07_missing_slice", size: [3]int{40, 64, 64}, warnings: []string{"interpolated to 40 slices 1.5 mm", "not rescaled"}},
		{path: "dicom/derived_cthead64/v09_two_acquisitions", size: [3]int{40, 64, 64}, why: "first acquisition of 2", warnings: []string{"not rescaled"}},
		{path: "dicom/derived_cthead64/v17_nested_junk", size: [3]int{40, 64, 64}, why: "the only volume", warnings: []string{"damaged files are left out (1)", "not rescaled"}},
		{path: "dicom/derived_cthead64/v20_two_series", size: [3]int{40, 64, 64}, why: "most slices (40) of 2", warnings: []string{"not rescaled"}},
		{path: "dicom/dcmqi_ct3slice_ffs", size: [3]int{3, 512, 512}},
		{path: "nifti/ct_thorax_abdomen_3mm_int16.nii.gz", size: [3]int{30, 101, 122}, why: "the only volume"},
		{path: "dicom/derived_cthead64/v21_enhanced_multiframe", size: [3]int{40, 64, 64}, why: "the only volume", warnings: []string{"not rescaled"}},
		{
			path: "dicom/enhanced_perfusion_2frames/CT0012.explicit_little_endian.dcm", size: [3]int{2, 512, 512}, why: "the only volume",
			warnings: []string{"image type DERIVED\\PRIMARY\\PERFUSION\\RCBF: the values are not Hounsfield units"},
		},
		{path: "dicom/derived_cthead64/v18_truncated", err: "0020.dcm: the pixel data are truncated"},
		{path: "dicom/not_a_ct", err: "segmentation"},
	} {
		v, info, err := Load(filepath.Join(dir, tt.path), Selection{})
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", tt.path, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		if v.Size != tt.size || !strings.Contains(info.Why, tt.why) {
			t.Errorf("%s: size %v, %q; want %v, %q", tt.path, v.Size, info.Why, tt.size, tt.why)
		}
		if info.Candidate.IsCT() {
			info.Warnings = append(info.Warnings, CheckHU(v)...)
		}
		if len(info.Warnings) != len(tt.warnings) {
			t.Errorf("%s: warnings %q, want %q", tt.path, info.Warnings, tt.warnings)
			continue
		}
		for i, w := range tt.warnings {
			if !strings.Contains(info.Warnings[i], w) {
				t.Errorf("%s: warning %q, want %q", tt.path, info.Warnings[i], w)
			}
		}
	}
	for _, name := range []string{"derived_cthead64/v17_nested_junk", "chest_siemens_8mm", "head_two_kernels"} {
		path := filepath.Join(dir, "dicom", name)
		if got, err := Expand(path); err != nil || len(got) != 1 || got[0] != path {
			t.Errorf("Expand(%s) = %q, %v", name, got, err)
		}
	}
	if got, err := Expand(filepath.Join(dir, "nifti", "space48")); err != nil || len(got) != 12 {
		t.Errorf("Expand(space48): %d scans, %v", len(got), err)
	}
}
