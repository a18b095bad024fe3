package onnx

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/modelfile"
)

// defaultThreshold is the probability from which a label counts as present where the model says nothing else.
const defaultThreshold = 0.5

// Metadata describes a model for those who run its export: labels, task and activation, preprocessing, calibration
// (null: none), thresholds of the calibrated probabilities, and where it came from. Every value is text or JSON. sum is the SHA-256 of the model file.
func Metadata(m *modelfile.Model, version, sum string) ([]Property, error) {
	description, err := modelfile.Describe(m)
	if err != nil {
		return nil, err
	}
	var whole struct {
		Preprocess json.RawMessage `json:"preprocess"`
		Metrics    struct {
			Threshold *float64 `json:"threshold"`
		} `json:"metrics"`
	}
	if err := json.Unmarshal([]byte(description), &whole); err != nil {
		return nil, fmt.Errorf("the model's description: %w", err)
	}
	activation, threshold := "sigmoid", defaultThreshold
	if t := whole.Metrics.Threshold; t != nil {
		threshold = *t
	}
	var thresholds []float64
	if m.Task == "multiclass" {
		activation = "softmax" // the most probable class is the answer
	} else {
		for _, t := range eval.Thresholds(m.OperatingPoints, m.Labels, "", threshold) {
			thresholds = append(thresholds, t.Value)
		}
	}
	var failed error
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			failed = err
		}
		return string(b)
	}
	list := []Property{
		{"task", m.Task},
		{"activation", activation},
		{"labels", text(m.Labels)},
		{"calibration", text(m.Calibration)},
		{"thresholds", text(thresholds)},
		{"preprocess", string(whole.Preprocess)},
		{"provenance", text(struct {
			Program         string `json:"program"`
			Version         string `json:"version"`
			Architecture    string `json:"architecture"`
			ModelSHA256     string `json:"model_sha256"`
			DataFingerprint string `json:"data_fingerprint,omitempty"`
		}{"ctclass", version, m.Arch, sum, m.DataFingerprint})},
		{"ctclass", description},
	}
	return list, failed
}

//go:embed run.py.txt
var script string

// WriteScript writes a Python script that runs the ONNX file of the given name, which lies beside it, in
// onnxruntime.
func WriteScript(path, model string) error {
	text := strings.NewReplacer("MODEL.onnx", model, "SCRIPT.py", filepath.Base(path)).Replace(script)
	return atomicfile.WriteBytes(path, []byte(text))
}
