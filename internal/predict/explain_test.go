package predict

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/explain"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/phantom"
	"github.com/ctclass/ctclass/internal/volume"
)

// The heat maps of a DICOM series and of a NIfTI file of the same volume lie on the voxels of each, and are the same;
// so does that of the file turned around, and of one that is cut and resampled on its way.
func TestExplain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.safetensors")
	untrained(t, path, "multilabel", []string{"a", "b c"}, func(m *modelfile.Model) {
		m.Preprocess.Fit, m.Preprocess.SpacingMM.Keep, m.Preprocess.SpacingMM.MM = "crop_pad", false, [3]float64{20, 16, 18}
	})
	c, err := phantom.Generate(phantom.Options{Seed: 5, Size: [3]int{20, 28, 28}, SpacingMM: [3]float64{14, 12, 12}})
	if err != nil {
		t.Fatal(err)
	}
	turned, err := volume.Reorient(c.Volume, "SAR")
	if err != nil {
		t.Fatal(err)
	}
	scans := []string{filepath.Join(dir, "series"), filepath.Join(dir, "file.nii.gz"), filepath.Join(dir, "turned.nii")}
	if err := phantom.WriteDICOM(scans[0], c.Volume, phantom.SeriesInfo{Seed: 5, PatientID: "P"}); err != nil {
		t.Fatal(err)
	}
	for i, v := range []*volume.Volume{c.Volume, turned} {
		if err := nifti.Write(scans[1+i], v, nifti.Int16); err != nil {
			t.Fatal(err)
		}
	}
	opt := Options{Explain: &Explain{Dir: filepath.Join(dir, "why"), Label: ExplainAll}}
	results := run(t, load(t, path), opt, scans...)
	var heats []*volume.Volume
	for i, r := range results {
		if len(r.Explanations) != 2 || r.Explanations[0].Label != "a" || r.Explanations[0].Method != explain.GradCAM || r.Explanations[0].Layer != "layer4.0" {
			t.Fatalf("%s: explanations %+v", scans[i], r.Explanations)
		}
		for _, x := range r.Explanations {
			if _, err := os.Stat(x.PNG); err != nil {
				t.Error(err)
			}
		}
		heat, _, err := nifti.Read(r.Explanations[0].NIfTI)
		if err != nil {
			t.Fatal(err)
		}
		want := []*volume.Volume{c.Volume, c.Volume, turned}[i]
		if heat.Size != want.Size || heat.Affine != want.Affine {
			t.Errorf("%s: the heat map has size %v and affine %v, the scan %v and %v", scans[i], heat.Size, heat.Affine, want.Size, want.Affine)
		}
		if peak := slices.Max(heat.HU); peak <= 0.5 || peak > 1 || slices.Min(heat.HU) != 0 {
			t.Errorf("%s: heat from %v to %v", scans[i], slices.Min(heat.HU), peak)
		}
		if heat, err = volume.Reorient(heat, volume.Canonical); err != nil {
			t.Fatal(err)
		}
		heats = append(heats, heat)
	}
	for i := range heats[1:] {
		if !slices.Equal(heats[0].HU, heats[1+i].HU) {
			t.Errorf("the heat of %s is not that of %s", scans[1+i], scans[0])
		}
	}
	m := load(t, path)
	for label, want := range map[string]int{"": 1, "b c": 1, "a, b c": 2} {
		opt.Explain.Label = label
		if r := run(t, m, opt, scans[1])[0]; len(r.Explanations) < want || label != "" && len(r.Explanations) != want {
			t.Errorf("label %q: explanations %+v", label, r.Explanations)
		}
	}
	opt.Explain.Label = "c"
	if _, err := New([]*Model{m}, opt); err == nil || !strings.Contains(err.Error(), `no label "c"`) {
		t.Errorf("an unknown label: %v", err)
	}
}

// A model of CTCLASS_EXPLAIN_MODEL with a label "nodule" is asked for phantoms with one nodule, every second one as
// DICOM: where it finds the nodule, the peak of its map lies within one cell of the nodule's box, in four of five
// cases at least. CTCLASS_EXPLAIN_METHOD and _LAYER choose the map, CTCLASS_EXPLAIN_CASES the number of phantoms.
func TestExplainPhantoms(t *testing.T) {
	modelPath := os.Getenv("CTCLASS_EXPLAIN_MODEL")
	if modelPath == "" {
		t.Skip("CTCLASS_EXPLAIN_MODEL is not set")
	}
	cases := 60
	if s := os.Getenv("CTCLASS_EXPLAIN_CASES"); s != "" {
		if _, err := fmt.Sscan(s, &cases); err != nil {
			t.Fatal(err)
		}
	}
	m := load(t, modelPath)
	label := slices.Index(m.Labels, "nodule")
	dir := t.TempDir()
	p, err := New([]*Model{m}, Options{Threads: 1, Explain: &Explain{
		Dir: filepath.Join(dir, "why"), Label: "nodule",
		Options: explain.Options{Method: os.Getenv("CTCLASS_EXPLAIN_METHOD"), Layer: os.Getenv("CTCLASS_EXPLAIN_LAYER")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	found, hits := 0, 0
	for number := range cases {
		c, err := phantom.Generate(phantom.Options{Seed: 2000, Case: number, Findings: &phantom.Labels{true}, Nodules: 1})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "scan.nii")
		if number%2 == 0 {
			path = filepath.Join(dir, "series")
			err = phantom.WriteDICOM(path, c.Volume, phantom.SeriesInfo{Seed: 2000, Case: number, PatientID: "P"})
		} else {
			err = nifti.Write(path, c.Volume, nifti.Int16)
		}
		if err != nil {
			t.Fatal(err)
		}
		var r Result
		if err := p.Run(t.Context(), []string{path}, func(got Result) error { r = got; return nil }); err != nil {
			t.Fatal(err)
		}
		if r.Error != "" {
			t.Fatal(r.Error)
		}
		if r.Labels[label].Probability < 0.5 {
			continue
		}
		found++
		heat, _, err := nifti.Read(r.Explanations[0].NIfTI)
		if err != nil {
			t.Fatal(err)
		}
		in, _, err := preprocess.Apply(c.Volume, m.Preprocess)
		if err != nil {
			t.Fatal(err)
		}
		if distance := cellsFromBox(heat, c.Boxes[0], in, p.explainer.Cells()); distance <= 1 {
			hits++
		} else {
			t.Logf("case %d: %.1f cells from the box, probability %.2f", number, distance, r.Labels[label].Probability)
		}
	}
	t.Logf("%s at %s, cells of %v: %d of %d nodules found, the peak at %d of them (%.0f %%)",
		p.explainer.Method(), p.explainer.Layer(), p.explainer.Cells().Step, found, cases, hits, 100*float64(hits)/float64(max(1, found)))
	if found < 20 || hits*10 < found*8 {
		t.Error("the peak should lie at 80 % of 20 found nodules or more")
	}
}

// cellsFromBox returns how many cells the peak of a heat map lies outside of a box of the canonical volume, along the
// axis where that is most.
func cellsFromBox(heat *volume.Volume, box phantom.Box, in preprocess.Result, cells explain.Cells) float64 {
	best := 0
	for i, v := range heat.HU {
		if v > heat.HU[best] {
			best = i
		}
	}
	at := [3]int{best / (heat.Size[1] * heat.Size[2]), best / heat.Size[2] % heat.Size[1], best % heat.Size[2]}
	most := 0.0
	input := volume.SpacingOf(in.ToSource)
	for a := range 3 {
		cell := cells.Step[a] * input[a] / heat.Spacing[a] // in voxels
		most = max(most, float64(box.Min[a]-at[a])/cell, float64(at[a]-box.Max[a]+1)/cell)
	}
	return most
}
