package data

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/volume"
)

// ctrateV1 makes a data set as CT-RATE's first version has it: stored values and a spacing of 1 mm in the
// files, the truth in a table.
func ctrateV1(t *testing.T, metadata string) config.Data {
	t.Helper()
	dir := t.TempDir()
	for name, affine := range map[string][4][4]float64{
		"train_1_a_1.nii.gz": {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}},
		"valid_1_a_1.nii.gz": {{0, 0, -1, 5}, {0, -1, 0, 6}, {1, 0, 0, 7}, {0, 0, 0, 1}}, // w to the head, d to the right
	} {
		v, err := volume.FromAffine([3]int{2, 2, 2}, []float32{0, 1, 24, 1024, 1064, 2000, 3000, 4095}, affine)
		if err != nil {
			t.Fatal(err)
		}
		if err := nifti.Write(filepath.Join(dir, name), v, nifti.Int16); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"labels.csv":   "VolumeName,Nodule\ntrain_1_a_1.nii.gz,1\nvalid_1_a_1.nii.gz,0\n",
		"metadata.csv": metadata,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return config.Data{
		Table: filepath.Join(dir, "labels.csv"), Metadata: filepath.Join(dir, "metadata.csv"),
		Task: Multilabel, PathColumn: "path",
	}
}

func TestMetadata(t *testing.T) {
	const head = "VolumeName,Manufacturer,RescaleIntercept,RescaleSlope,XYSpacing,ZSpacing\n"
	c := ctrateV1(t, head+
		`train_1_a_1.nii.gz,X,-1024,1,"[0.75, 0.5]",1.5`+"\n"+
		`valid_1_a_1,Y,-1000.5,0.5,"[0.7, 0.7]",3`+"\nanother_1_a_1.nii.gz,Z,,,,\n")
	d, err := Open(c, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		hu      [8]float32
		spacing [3]float64 // d, h, w
		origin  [3]float64
	}{
		{[8]float32{-1024, -1023, -1000, 0, 40, 976, 1976, 3071}, [3]float64{1.5, 0.75, 0.5}, [3]float64{}},
		{[8]float32{-1000.5, -1000, -988.5, -488.5, -468.5, -0.5, 499.5, 1047}, [3]float64{0.7, 0.7, 3}, [3]float64{5, 6, 7}},
	} {
		s := d.Samples[0]
		d.Samples = d.Samples[1:]
		v, warnings, err := d.OpenVolume(s)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: %q %v", s.Name, warnings, err)
		}
		if [8]float32(v.HU) != tt.hu {
			t.Errorf("%s: %v, want %v", s.Name, v.HU, tt.hu)
		}
		for i := range 3 {
			if math.Abs(v.Spacing[i]-tt.spacing[i]) > 1e-6 || math.Abs(v.Affine[i][3]-tt.origin[i]) > 1e-6 {
				t.Errorf("%s: spacing %v, affine %v", s.Name, v.Spacing, v.Affine)
			}
		}
	}

	plain := c
	plain.Metadata = ""
	with, err := Open(c, 0)
	if err != nil {
		t.Fatal(err)
	}
	without, err := Open(plain, 0)
	if err != nil {
		t.Fatal(err)
	}
	if with.Fingerprint() == without.Fingerprint() {
		t.Error("the fingerprint does not know of the metadata")
	}
	if v, _, err := without.OpenVolume(without.Samples[0]); err != nil || v.HU[7] != 4095 || v.Spacing != [3]float64{1, 1, 1} {
		t.Errorf("without metadata: %v", err)
	}
}

func TestMetadataErrors(t *testing.T) {
	const head = "VolumeName,RescaleIntercept,RescaleSlope,XYSpacing,ZSpacing\n"
	const valid = "valid_1_a_1.nii.gz,-1024,1,0.7,1\n"
	for _, tt := range []struct{ table, want string }{
		{head + valid, "no row for the scan train_1_a_1.nii.gz"},
		{head + "train_1_a_1.nii.gz,-1024,0,0.7,1\n" + valid, `line 2, column "RescaleSlope": value "0"`},
		{head + "train_1_a_1.nii.gz,,1,0.7,1\n" + valid, `column "RescaleIntercept": value ""`},
		{head + "train_1_a_1.nii.gz,NaN,1,0.7,1\n" + valid, `column "RescaleIntercept": value "NaN"`},
		{head + "train_1_a_1.nii.gz,-1024,1,\"[0.7, -1]\",1\n" + valid, `column "XYSpacing": value "[0.7, -1]"`},
		{head + "train_1_a_1.nii.gz,-1024,1,\"[1,1,1]\",1\n" + valid, `column "XYSpacing"`},
		{head + "train_1_a_1.nii.gz,-1024,1,0.7,inf\n" + valid, `column "ZSpacing"`},
		{head + valid + valid, "lines 2 and 3 name the same scan"},
		{"VolumeName,RescaleSlope\ntrain_1_a_1,1\n", `no column "RescaleIntercept" (data.metadata)`},
	} {
		_, err := Open(ctrateV1(t, tt.table), 0)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "metadata.csv") {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	c := ctrateV1(t, head+valid)
	c.Format = "medmnist"
	if _, err := Open(c, 0); err == nil || !strings.Contains(err.Error(), "data.metadata") {
		t.Errorf("a MedMNIST archive with metadata: %v", err)
	}
}

// Warnings that differ only in their numbers are passed on once, and counted.
func TestWarningsAreCounted(t *testing.T) {
	var got []string
	l := newLoader(t, fakes(7), options(func(o *Options) {
		o.Shuffle = false
		o.OpenVolume = func(s Sample) (*volume.Volume, []string, error) {
			v, _, err := fakeVolume(s)
			w := []string{"values from " + s.Name[1:] + " to 9 HU"}
			if s.Index == 3 {
				w = append(w, "a gap")
			}
			return v, w, err
		}
		o.Warn = func(s Sample, w string) { got = append(got, s.Name+": "+w) }
	}))
	for epoch := range 2 {
		collect(t, l, epoch, 0)
	}
	want := "s000: values from 000 to 9 HU|s003: a gap|s000: values from 000 to 9 HU (and so for 6 other scans)"
	if strings.Join(got, "|") != want {
		t.Errorf("%q", got)
	}
}

// Values that are no HU are warned of only where preprocessing takes them for HU.
func TestLoaderChecksHU(t *testing.T) {
	for _, tt := range []struct {
		intensity string
		window    [2]float64
		warns     bool
	}{
		{"window", [2]float64{-1000, 400}, true},
		{"window", [2]float64{0, 80}, true},
		{"window", [2]float64{0, 255}, false},
		{"window", [2]float64{0, 1}, false},
		{"raw", [2]float64{-1000, 400}, false},
	} {
		n := 0
		l := newLoader(t, fakes(3), options(func(o *Options) {
			o.Preprocess.Intensity, o.Preprocess.HUWindow = tt.intensity, tt.window
			o.OpenVolume = func(s Sample) (*volume.Volume, []string, error) {
				v, _, err := fakeVolume(s)
				for i := range v.HU {
					v.HU[i] = float32(10 * i)
				}
				return v, nil, err
			}
			o.Warn = func(_ Sample, w string) {
				if n++; !strings.Contains(w, "not rescaled") {
					t.Errorf("warning %q", w)
				}
			}
		}))
		collect(t, l, 0, 0)
		if (n > 0) != tt.warns {
			t.Errorf("%s %v: %d warnings", tt.intensity, tt.window, n)
		}
	}
}
