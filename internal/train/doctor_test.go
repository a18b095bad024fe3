package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/doctor"
	"github.com/ctclass/ctclass/internal/volume"
)

// patient is a row of the table of a clinic.
type patient struct {
	name, split      string
	finding, another string
}

// clinic is a data set of bodies in air, an ellipsoid of soft tissue with noise that fills most of the scan.
type clinic struct {
	dir      string
	patients []patient
	cfg      *config.Config
}

func newClinic(t *testing.T) *clinic {
	c := &clinic{dir: t.TempDir()}
	for i := range 24 {
		split := "train"
		if i >= 16 {
			split = "val"
		}
		c.patients = append(c.patients, patient{fmt.Sprintf("p%02d", i), split, fmt.Sprint(i % 2), fmt.Sprint(i / 2 % 2)})
		c.scan(t, i, uint64(i), 16)
	}
	c.cfg = small("")
	c.cfg.Data.Task, c.cfg.Data.Labels = "multilabel", []string{"finding", "another"}
	c.cfg.Data.GroupColumn = "patient"
	c.cfg.Data.Table = filepath.Join(c.dir, "labels.csv")
	c.cfg.Preprocess.HUWindow = [2]float64{-1000, 400}
	return c
}

func (c *clinic) path(i int) string { return filepath.Join(c.dir, fmt.Sprintf("scan%02d.nii", i)) }

// scan writes scan i of n³ voxels of 20 mm, with the noise of a seed.
func (c *clinic) scan(t *testing.T, i int, seed uint64, n int) {
	t.Helper()
	v := &volume.Volume{
		Size: [3]int{n, n, n}, Spacing: [3]float64{20, 20, 20},
		Affine: [4][4]float64{{20, 0, 0, 0}, {0, 20, 0, 0}, {0, 0, 20, 0}, {0, 0, 0, 1}},
	}
	s := rand.New(rand.NewPCG(seed, 7))
	at := func(k int) float64 { return (float64(k) + 0.5 - float64(n)/2) / (0.45 * float64(n)) }
	for k := range v.Voxels() {
		hu := -1000.0
		if d, h, w := at(k/(n*n)), at(k/n%n), at(k%n); d*d+h*h+w*w < 1 {
			hu = 40
			if math.Abs(w) > 0.2 && d*d+h*h+w*w < 0.5 { // lungs
				hu = -850
			}
		}
		v.HU = append(v.HU, float32(math.Round(hu+10*s.NormFloat64())))
	}
	if err := nifti.Write(c.path(i), v, nifti.Int16); err != nil {
		t.Fatal(err)
	}
}

func (c *clinic) examine(t *testing.T, full bool) *doctor.Report {
	t.Helper()
	table := "path,patient,split,finding,another\n"
	for i, p := range c.patients {
		table += fmt.Sprintf("%s,%s,%s,%s,%s\n", filepath.Base(c.path(i)), p.name, p.split, p.finding, p.another)
	}
	if err := os.WriteFile(c.cfg.Data.Table, []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	rep, err := Doctor(t.Context(), c.cfg, full, Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// copyScan makes scan b a copy of scan a.
func (c *clinic) copyScan(t *testing.T, a, b int) {
	t.Helper()
	raw, err := os.ReadFile(c.path(a))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.path(b), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestDoctor plants faults, one a data set, and wants each of them found, and nothing else that is an error.
func TestDoctor(t *testing.T) {
	for _, tt := range []struct {
		name     string
		plant    func(t *testing.T, c *clinic)
		severity doctor.Severity
		check    string
		want     string // in the text of the finding
		full     bool
	}{
		{"a scan that cannot be read", func(t *testing.T, c *clinic) {
			if err := os.Truncate(c.path(3), 1000); err != nil {
				t.Fatal(err)
			}
		}, doctor.Error, doctor.CheckScans, "scan03.nii", false},
		{"a missing file", func(t *testing.T, c *clinic) {
			if err := os.Remove(c.path(5)); err != nil {
				t.Fatal(err)
			}
		}, doctor.Error, doctor.CheckFiles, "scan05.nii", false},
		{"a label without variance", func(_ *testing.T, c *clinic) {
			for i := range c.patients {
				c.patients[i].another = "0"
			}
		}, doctor.Warning, doctor.CheckLabels, "labels without a positive sample in the split train (nothing about them can be learnt): another", false},
		{"no label with variance", func(_ *testing.T, c *clinic) {
			for i := range c.patients {
				c.patients[i].another, c.patients[i].finding = "1", ""
			}
		}, doctor.Error, doctor.CheckLabels, "labels without a known value in the split train", false},
		{"another prevalence in validation", func(_ *testing.T, c *clinic) {
			for i := range c.patients {
				c.patients[i].finding = "0"
				if c.patients[i].split == "val" || i == 0 {
					c.patients[i].finding = "1"
				}
			}
			c.patients[20].finding = "0"
		}, doctor.Warning, doctor.CheckLabels, "label finding is in 88% of the split val, but in 6% of train", false},
		{"a patient in two splits", func(_ *testing.T, c *clinic) {
			c.patients[20].name = "p02"
		}, doctor.Error, doctor.CheckLeakage, "1 patient in more than one split: what is learnt about them is tested on them: p02 (train scan02.nii, val scan20.nii)", false},
		{"a copied file in two splits", func(t *testing.T, c *clinic) {
			c.copyScan(t, 4, 19)
		}, doctor.Error, doctor.CheckLeakage, "scan04.nii (train) = scan19.nii (val)", false},
		{"the same voxels in two splits", func(t *testing.T, c *clinic) {
			c.scan(t, 18, 6, 16)
			f, err := os.OpenFile(c.path(18), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte("another"), 148); err != nil { // the header's description
				t.Fatal(err)
			}
		}, doctor.Error, doctor.CheckLeakage, "scan06.nii (train) = scan18.nii (val)", true},
		{"a copy with another label", func(t *testing.T, c *clinic) {
			c.copyScan(t, 8, 9)
		}, doctor.Warning, doctor.CheckDuplicates, "with different labels", false},
		{"the balanced-alpha trap", func(_ *testing.T, c *clinic) {
			c.cfg.Loss.Name, c.cfg.Loss.Alpha = "focal_balanced", 0.99999
		}, doctor.Warning, doctor.CheckLoss, "the 8 negative samples of label finding make only 0.001% of its gradient", false},
		{"balanced with alpha 1", func(_ *testing.T, c *clinic) {
			c.cfg.Loss.Name, c.cfg.Loss.Alpha = "focal_balanced", 1
		}, doctor.Error, doctor.CheckLoss, "at 1 negatives would teach nothing", false},
		{"negatives below the clip", func(_ *testing.T, c *clinic) {
			c.cfg.Loss.Name, c.cfg.Loss.Clip = "asymmetric", 0.6
		}, doctor.Error, doctor.CheckLoss, "the 8 negative samples of label finding get no gradient from the loss asymmetric", false},
		{"a window beside the data", func(_ *testing.T, c *clinic) {
			c.cfg.Preprocess.HUWindow = [2]float64{2000, 3000}
		}, doctor.Error, doctor.CheckIntensity, "24 scans of 24 all of one value", true},
		{"parameters without a gradient", func(_ *testing.T, c *clinic) {
			c.cfg.Preprocess.HUWindow = [2]float64{2000, 3000}
		}, doctor.Warning, doctor.CheckGradients, "conv1.weight", false},
		{"a crop that cuts the body", func(_ *testing.T, c *clinic) {
			c.cfg.Preprocess.Fit = "crop_pad" // 8 × 9 × 8 of 16³ voxels
		}, doctor.Warning, doctor.CheckCrop, "of the body outside the network's input", false},
		{"a batch larger than the split", func(_ *testing.T, c *clinic) {
			c.cfg.Train.BatchSize = 64
		}, doctor.Error, doctor.CheckSettings, "fewer than one batch of 64", false},
		{"too small a budget", func(_ *testing.T, c *clinic) {
			c.cfg.Memory.Budget = "20MiB"
		}, doctor.Error, doctor.CheckMemory, "memory.budget 20MiB", false},
		{"a column that is not there", func(_ *testing.T, c *clinic) {
			c.cfg.Data.Labels[1] = "anothr"
		}, doctor.Error, doctor.CheckSettings, `no column "anothr"`, false},
		{"grey values that are no HU", func(t *testing.T, c *clinic) {
			v := &volume.Volume{Size: [3]int{16, 16, 16}, Spacing: [3]float64{1, 1, 1}, Affine: [4][4]float64{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}}
			for k := range v.Voxels() {
				v.HU = append(v.HU, float32(k%900))
			}
			if err := nifti.Write(c.path(7), v, nifti.Int16); err != nil {
				t.Fatal(err)
			}
		}, doctor.Warning, doctor.CheckScans, "no value below 0 HU", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClinic(t)
			tt.plant(t, c)
			rep := c.examine(t, tt.full)
			found := slices.ContainsFunc(rep.Findings, func(f doctor.Finding) bool {
				return f.Severity == tt.severity && f.Check == tt.check && strings.Contains(f.Text, tt.want)
			})
			if !found {
				t.Errorf("not found: %s %s %q", tt.severity, tt.check, tt.want)
			}
			for _, f := range rep.Findings {
				if f.Severity == doctor.Error && (tt.severity != doctor.Error || f.Check != tt.check) && tt.check != doctor.CheckGradients {
					t.Errorf("also an error: %s %s", f.Check, f.Text)
				}
			}
			if t.Failed() {
				for _, f := range rep.Findings {
					t.Logf("%s %s %s", f.Severity, f.Check, f.Text)
				}
			}
		})
	}
}

// A sound data set has no errors and no warnings, and its memory and time are told; with everything that changes a step,
// too.
func TestDoctorFindsNothing(t *testing.T) {
	for _, full := range []bool{false, true} {
		c := newClinic(t)
		if full {
			c.cfg.Train.Mixup, c.cfg.Train.EMA, c.cfg.Train.Accumulate, c.cfg.Train.Sampler, c.cfg.Train.OnNaN = 0.4, 0.9, 2, "balanced", "skip"
		}
		rep := c.examine(t, full)
		var checks []string
		for _, f := range rep.Findings {
			checks = append(checks, f.Check)
			if f.Severity != doctor.Note {
				t.Errorf("%s %s %s", f.Severity, f.Check, f.Text)
			}
		}
		if !slices.Equal(checks, []string{doctor.CheckMemory, doctor.CheckTime}) || rep.PlannedBytes < 1<<20 || !(rep.SecondsPerEpoch > 0) {
			t.Errorf("findings %v, %d bytes, %v s", checks, rep.PlannedBytes, rep.SecondsPerEpoch)
		}
		if rep.Samples != 24 || rep.Examined != 24 || len(rep.Prevalence) != 2 {
			t.Errorf("%+v", rep)
		}
		if n := rep.Prevalence[1].Splits["val"]; n != (doctor.Proportion{Positive: 4, Known: 8}) {
			t.Errorf("prevalence %+v", n)
		}
	}
}

// Training stops at what the doctor calls an error without reading scans, unless it is told not to, and goes on
// with a warning.
func TestTrainingBeginsWithDoctor(t *testing.T) {
	c := newClinic(t)
	c.cfg.Loss.Name, c.cfg.Loss.Clip = "asymmetric", 0.6
	c.examine(t, false) // writes the table
	c.cfg.Train.Epochs = 1
	err := fail(t, t.Context(), c.cfg, t.TempDir())
	if !strings.Contains(err.Error(), "get no gradient from the loss asymmetric") || !strings.Contains(err.Error(), "--no-doctor") {
		t.Error(err)
	}
	finish(t, c.cfg, t.TempDir(), func(o *Options) { o.NoDoctor = true })

	c.cfg.Loss.Name, c.cfg.Loss.Alpha = "focal_balanced", 0.99999
	var j journal
	opt := j.options(t.TempDir())
	if _, err := Run(t.Context(), c.cfg, opt); err != nil || !strings.Contains(j.String(), "make only") {
		t.Errorf("%v\n%s", err, j.String())
	}
}
