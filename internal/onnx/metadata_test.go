package onnx_test

import (
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/onnx"
)

// An export says how logits become the model's probabilities and answers.
func TestMetadataOfDecisions(t *testing.T) {
	m := &modelfile.Model{Arch: "resnet18_3d", Task: "multilabel", Labels: []string{"a", "b"}, InputChannels: 1}
	m.Preprocess.SpacingMM.Keep = true
	m.Preprocess.ShapeDHW = [3]int{1, 1, 1}
	find := func(name string) string {
		t.Helper()
		list, err := onnx.Metadata(m, "1", "sum")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(p onnx.Property) bool { return p.Key == name })
		if i < 0 {
			t.Fatalf("no property %q", name)
		}
		return list[i].Value
	}
	if got := find("calibration"); got != "null" {
		t.Errorf("a model without a calibration says %s", got)
	}
	m.Calibration = &eval.Calibration{Method: eval.Temperature, Temperature: []float64{2, 0.5}}
	m.OperatingPoints = []eval.OperatingPoint{{Name: "youden", Label: "b", Threshold: 0.25}, {Name: "cost=1:5", Label: "b", Threshold: 0.125}}
	if got, want := find("calibration"), `{"method":"temperature","temperature":[2,0.5],"origin":{"split":"","samples":0}}`; got != want {
		t.Errorf("calibration %s, want %s", got, want)
	}
	if got := find("thresholds"); got != "[0.5,0.25]" {
		t.Errorf("thresholds %s, want [0.5,0.25]", got)
	}
}
