package data

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
)

// testdata returns the folder of labelled CT sets, or skips the test.
func testdata(t *testing.T, parts ...string) string {
	t.Helper()
	dir := os.Getenv("CTCLASS_TESTDATA")
	if dir == "" {
		t.Skip("CTCLASS_TESTDATA is not set: no labelled CT sets to read")
	}
	return filepath.Join(append([]string{dir, "labelled"}, parts...)...)
}

// realSets are the labelled sets with the numbers their manifest gives.
var realSets = []struct {
	name             string
	c                config.Data
	table            []string
	train, val, test int
	positives        [3]int // first label, in train, val, test
	preprocess       config.Preprocess
}{
	{
		name:  "adrenalmnist3d",
		c:     config.Data{Task: Binary, Labels: []string{"hyperplasia"}},
		table: []string{"adrenalmnist3d", "adrenalmnist3d.npz"},
		train: 1188, val: 98, test: 298, positives: [3]int{259, 22, 69},
		preprocess: config.Preprocess{
			Orientation: "stored", SpacingMM: config.Spacing{Keep: true}, Intensity: "window",
			HUWindow: [2]float64{0, 255}, ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{28, 28, 28}, Fit: "resize",
		},
	},
	{
		name: "lidc_solid_nodules",
		c: config.Data{
			Task: Binary, Labels: []string{"malignant"}, PathColumn: "file", GroupColumn: "exam_id",
			SplitColumn: "split",
		},
		table: []string{"lidc_solid_nodules", "labels.csv"},
		train: 590, val: 85, positives: [3]int{180, 26},
		preprocess: config.Preprocess{
			Orientation: "stored", SpacingMM: config.Spacing{Keep: true}, Intensity: "raw",
			ShapeDHW: [3]int{16, 64, 64}, Fit: "crop_pad",
		},
	},
	{
		name: "lidc51",
		c: config.Data{
			Task: Multilabel, PathColumn: "file", SplitColumn: "split",
			Labels: []string{"malignant_ge4", "spiculated_ge3", "lobulated_ge3", "illdefined_margin_le3", "nonsolid_or_part_texture_le4"},
		},
		table: []string{"lidc51", "labels.csv"},
		train: 73, val: 20, positives: [3]int{37, 10},
		preprocess: config.Preprocess{
			Orientation: "stored", SpacingMM: config.Spacing{Keep: true}, Intensity: "window",
			HUWindow: [2]float64{-1000, 400}, ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{51, 51, 51}, Fit: "crop_pad",
		},
	},
}

func openReal(t *testing.T, i int) *Dataset {
	t.Helper()
	set := realSets[i]
	set.c.Table = testdata(t, set.table...)
	d, err := Open(set.c, 1)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRealSets(t *testing.T) {
	for i, set := range realSets {
		t.Run(set.name, func(t *testing.T) {
			d := openReal(t, i)
			counts := [3]int{set.train, set.val, set.test}
			for k, split := range []string{Train, Val, Test} {
				samples := d.Subset(split)
				positives := 0
				for _, s := range samples {
					positives += int(s.Target[0])
				}
				if len(samples) != counts[k] || positives != set.positives[k] {
					t.Errorf("%s: %d samples, %d positive, want %d and %d", split, len(samples), positives, counts[k], set.positives[k])
				}
			}
			if len(d.Warnings) > 0 {
				t.Errorf("warnings %q", d.Warnings)
			}
		})
	}
}

// Without its split column, the nodule table is split by patient.
func TestRealSplitOff(t *testing.T) {
	c := realSets[1].c
	c.Table = testdata(t, realSets[1].table...)
	c.SplitColumn, c.ValFraction = "", 0.2
	d, err := Open(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	var positives float64
	val := d.Subset(Val)
	for _, s := range val {
		positives += s.Target[0]
	}
	if len(val) < 133 || len(val) > 137 || positives/float64(len(val)) < 0.25 || positives/float64(len(val)) > 0.36 {
		t.Errorf("%d validation samples, %v positive, want 135 and a share of 206/675", len(val), positives)
	}
	if len(d.Warnings) != 1 {
		t.Errorf("warnings %q, want one about the column split", d.Warnings)
	}
}

// Every way to scale the stored bytes 0 and 255 of the adrenal masks, and the flips, keep their number.
func TestRealMasks(t *testing.T) {
	d := openReal(t, 0)
	window := realSets[0].preprocess
	raw := window
	raw.Intensity = "raw"
	for _, test := range []struct {
		name string
		p    config.Preprocess
		on   float32 // what 255 becomes
	}{{"window", window, 1}, {"raw", raw, 255}} {
		t.Run(test.name, func(t *testing.T) {
			l := newLoader(t, d.Subset(Test), Options{
				BatchSize: 16, Preprocess: test.p, OpenVolume: d.OpenVolume, Augment: flips(true, true, true), CacheBytes: DefaultCacheBytes,
			})
			for range 2 { // read, and from the cache
				all := collect(t, l, 0, 0)
				if len(all) != 19 {
					t.Fatalf("%d batches, want 19", len(all))
				}
				x, on := all[0].x[3*28*28*28:][:28*28*28], 0
				for _, v := range x {
					switch v {
					case test.on:
						on++
					case 0:
					default:
						t.Fatalf("a voxel is %v", v)
					}
				}
				if on != 507 { // counted in the file with Python
					t.Errorf("%d voxels set in test_images[3], want 507", on)
				}
			}
		})
	}
}

// Scans of different size come out in one shape.
func TestRealNodules(t *testing.T) {
	for i := 1; i < len(realSets); i++ {
		t.Run(realSets[i].name, func(t *testing.T) {
			d := openReal(t, i)
			p := realSets[i].preprocess
			l := newLoader(t, d.Subset(Val), Options{BatchSize: 8, Preprocess: p, OpenVolume: d.OpenVolume})
			n := 0
			for b, err := range l.Epoch(t.Context(), 0, 0) {
				if err != nil {
					t.Fatal(err)
				}
				n += len(b.Samples)
				lo, hi := slices.Min(b.X), slices.Max(b.X)
				if !(lo == 0 && hi > 0.5 && hi <= 255) {
					t.Errorf("batch of %s: values from %v to %v", b.Samples[0].Name, lo, hi)
				}
			}
			if n != realSets[i].val {
				t.Errorf("%d samples, want %d", n, realSets[i].val)
			}
		})
	}
}

// A table may mix folders of DICOM files and NIfTI files; a path without a scan is left out.
func TestRealScans(t *testing.T) {
	dir := filepath.Dir(testdata(t))
	file := filepath.Join(t.TempDir(), "scans.csv")
	write(t, file, "path,finding\ndicom/chest_siemens_8mm,1\nlabelled/lidc51/labels.csv,0\nnifti/ct_thorax_abdomen_3mm_int16.nii.gz,0\n")
	d, err := Open(config.Data{Table: file, Root: dir, Task: Binary, Labels: []string{"finding"}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	p := config.Preprocess{
		Orientation: "LPS", SpacingMM: config.Spacing{MM: [3]float64{5, 5, 5}}, Intensity: "window",
		HUWindow: [2]float64{-1000, 400}, ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{48, 64, 64}, Fit: "crop_pad",
	}
	l := newLoader(t, d.Samples, Options{
		BatchSize: 2, Preprocess: p, OpenVolume: d.OpenVolume, SkipErrors: true,
		Warn: func(s Sample, w string) { out = append(out, s.Name+": "+w) },
	})
	all := collect(t, l, 0, 0)
	if len(all) != 1 || !slices.Equal(all[0].names, []string{"dicom/chest_siemens_8mm", "nifti/ct_thorax_abdomen_3mm_int16.nii.gz"}) {
		t.Fatalf("batches %v", all)
	}
	if len(out) == 0 || !strings.HasPrefix(out[0], "labelled/lidc51/labels.csv: left out: ") {
		t.Errorf("warnings %q", out)
	}
	// The middle of a chest is soft tissue or lung, not air outside (0) and not bone (1).
	for i := range 2 {
		if v := all[0].x[i*48*64*64+(24*64+32)*64+32]; v <= 0.02 || v >= 0.98 {
			t.Errorf("%s: the middle is %v", all[0].names[i], v)
		}
	}
}
