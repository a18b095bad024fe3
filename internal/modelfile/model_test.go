package modelfile

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/eval"
)

func exampleModel() *Model {
	return &Model{
		Arch:    "resnet18_3d",
		Options: map[string]any{"width": 64, "dropout": 0.25, "stages": []any{2, 2, 2, 2}, "stem": map[string]any{"kernel": 7, "pool": true}},
		Task:    "multilabel",
		Labels:  []string{"Nodule <6 mm", "Erguß & Ödem"},
		Preprocess: config.Preprocess{
			Orientation: "LPS", SpacingMM: config.Spacing{MM: [3]float64{2.5, 1, 0.9765625}}, Intensity: "window",
			HUWindow: [2]float64{-1000, 400}, ScaleTo: [2]float64{-1, 1}, ShapeDHW: [3]int{64, 96, 80}, Fit: "resize",
			Interpolation: "linear", Antialias: "triangle", Crop: "none", CropMarginMM: 10, Recipe: "standard",
		},
		InputChannels:   1,
		Metrics:         json.RawMessage(`{"macro": {"auroc": 0.8125, "f1": null}, "a": 1e-3}`),
		History:         json.RawMessage(`[{"epoch": 1, "loss": 0.5}]`),
		DataFingerprint: "sha256:00ff",
		Calibration: &eval.Calibration{
			Method: eval.Temperature, Temperature: []float64{1.5, 0.1},
			Origin: eval.Origin{Split: "val", Samples: 40, Flips: []string{"w"}, DataFingerprint: "sha256:01"},
		},
		OperatingPoints: []eval.OperatingPoint{
			{Name: "youden", Label: "Nodule <6 mm", Threshold: 0.375, Counts: eval.Counts{TP: 9, FP: 2, TN: 28, FN: 1}, Origin: eval.Origin{Split: "val", Samples: 40}},
		},
		Tensors: []Tensor{
			{Name: "conv1.weight", Shape: []int{2, 1, 1, 1, 2}, F32: []float32{1, -2, 3.5, 0}},
			{Name: "bn1.num_batches_tracked", I64: []int64{7}},
			{Name: "fc.bias", Shape: []int{2}, F32: []float32{0.1, -0.1}},
		},
	}
}

func TestModelRoundTrip(t *testing.T) {
	for _, keep := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "m.safetensors")
		m := exampleModel()
		if keep {
			m.Preprocess.SpacingMM = config.Spacing{Keep: true}
		}
		if err := Save(path, m); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		want := *m
		want.Metrics = json.RawMessage(`{"a":1e-3,"macro":{"auroc":0.8125,"f1":null}}`)
		want.History = json.RawMessage(`[{"epoch":1,"loss":0.5}]`)
		want.Tensors = []Tensor{m.Tensors[1], m.Tensors[0], m.Tensors[2]}
		want.Tensors[0].Shape = []int{}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("got  %+v\nwant %+v", *got, want)
		}

		// Saving what was loaded gives the same bytes, and so does another order of the tensors.
		again := filepath.Join(t.TempDir(), "again.safetensors")
		if err := Save(again, got); err != nil {
			t.Fatal(err)
		}
		a, _ := os.ReadFile(path)
		b, _ := os.ReadFile(again)
		if !bytes.Equal(a, b) {
			t.Error("saving a loaded model changed its bytes")
		}
	}
}

// Every setting of the configuration must reach the file: a field added to config.Preprocess has to
// be added to the file format as well.
func TestPreprocessIsComplete(t *testing.T) {
	stored := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[preprocessJSON]()) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		stored[key] = true
	}
	for f := range reflect.TypeFor[config.Preprocess]().Fields() {
		if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); !stored[key] {
			t.Errorf("the model file does not store preprocess.%s", key)
		}
	}
}

// A model without the newer ways of preprocessing is one that older versions read; with them it is not.
func TestAddedPreprocessing(t *testing.T) {
	m := exampleModel()
	text, err := Describe(m)
	if err != nil || !strings.Contains(text, `"format_version":1,`) || strings.Contains(text, "antialias") || strings.Contains(text, "crop") {
		t.Errorf("the defaults are written as %s, %v", text, err)
	}
	m.InputChannels = 3
	p := &m.Preprocess
	p.HUWindows = [][2]float64{{-1000, 400}, {-160, 240}, {-450, 1050}}
	p.Interpolation, p.Antialias, p.Crop, p.CropMarginMM, p.Recipe = "nearest", "gaussian", "body", 0, "ct_rate_classifier"
	if text, err = Describe(m); err != nil || !strings.Contains(text, `"format_version":2,`) {
		t.Errorf("described as %s, %v", text, err)
	}
	got, err := decodeModel(text)
	if err != nil || !reflect.DeepEqual(got.Preprocess, *p) {
		t.Errorf("got %+v, want %+v, %v", got.Preprocess, *p, err)
	}
	m.InputChannels = 2
	if _, err := Describe(m); err == nil || !strings.Contains(err.Error(), "3 HU windows for 2") {
		t.Errorf("three windows for two channels: %v", err)
	}
}

func TestSaveRefuses(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(*Model)
		want  string
	}{
		{"task", func(m *Model) { m.Task = "regression" }, "regression"},
		{"labels of a binary model", func(m *Model) { m.Task = "binary" }, "2 labels"},
		{"one class", func(m *Model) { m.Task, m.Labels = "multiclass", []string{"a"} }, "1 labels"},
		{"repeated label", func(m *Model) { m.Labels = []string{"a", "a"} }, `"a"`},
		{"no architecture", func(m *Model) { m.Arch = "" }, "architecture"},
		{"channels", func(m *Model) { m.InputChannels = 0 }, "channels"},
		{"shape", func(m *Model) { m.Preprocess.ShapeDHW[1] = 0 }, "shape"},
		{"spacing", func(m *Model) { m.Preprocess.SpacingMM.MM[0] = 0 }, "spacing"},
		{"options", func(m *Model) { m.Options["f"] = func() {} }, "options"},
		{"metrics", func(m *Model) { m.Metrics = json.RawMessage(`{"a":`) }, "metrics"},
		{"two values", func(m *Model) { m.History = json.RawMessage(`{} {}`) }, "history"},
		{"values", func(m *Model) { m.Tensors[0].F32 = m.Tensors[0].F32[1:] }, "conv1.weight"},
		{"temperatures", func(m *Model) { m.Calibration.Temperature = []float64{1} }, "temperature has 1 numbers"},
		{"temperature", func(m *Model) { m.Calibration.Temperature[1] = 0 }, "above 0"},
		{"calibration", func(m *Model) { m.Calibration.Method = "prayer" }, "prayer"},
		{"falling calibration", func(m *Model) {
			falls := eval.Monotone{X: []float64{0, 1}, Y: []float64{1, 0}}
			m.Calibration = &eval.Calibration{Method: eval.Isotonic, Isotonic: []eval.Monotone{falls, {}}}
		}, "falls"},
		{"point of another label", func(m *Model) { m.OperatingPoints[0].Label = "x" }, `"x"`},
		{"threshold", func(m *Model) { m.OperatingPoints[0].Threshold = 2 }, "threshold"},
		{"two tensors", func(m *Model) { m.Tensors[2].Name, m.Tensors[2].Shape = "conv1.weight", []int{2} }, "conv1.weight"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.safetensors")
			m := exampleModel()
			c.spoil(m)
			err := Save(path, m)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error with %q and the file", err, c.want)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("a file was written")
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	text, err := encodeModel(exampleModel())
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ name, text, want string }{
		{"newer", strings.Replace(text, `"format_version":1`, `"format_version":3`, 1), "newer ctclass"},
		{"newer, of another form", `{"format_version":9,"labels":"x"}`, "newer ctclass"},
		{"no version", `{}`, "format_version"},
		{"not JSON", `{`, "not valid"},
		{"no task", strings.Replace(text, `"multilabel"`, `""`, 1), "task"},
		{"options not an object", strings.Replace(text, `"options":{`, `"options":3,"x":{`, 1), "options"},
		{"huge number", strings.Replace(text, `"width":64`, `"width":1e999`, 1), "options"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.safetensors")
			if err := SaveTensors(path, nil, map[string]string{modelKey: c.text}); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error with %q and the file", err, c.want)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "plain.safetensors")
	if err := SaveTensors(path, exampleModel().Tensors, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "no ctclass model") {
		t.Errorf("a plain safetensors file: got %v", err)
	}
}
