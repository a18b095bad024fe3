package session

import (
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
)

// small starts a session of a narrow ResNet with random weights, whose channels do not fill whole blocks.
func small(t *testing.T, seed uint64, train bool) *Session {
	t.Helper()
	net, err := models.New(config.Model{
		Name:    "resnet18_3d",
		Options: map[string]any{"widths": []any{4, 4, 24, 24}, "blocks": []any{1, 1, 1, 1}, "hidden": 8, "stem": "small"},
	}, 2)
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Network: net, ShapeDHW: [3]int{8, 12, 10}, EvalBatch: 3}
	if train {
		loss, err := losses.New(config.Loss{Name: "bce"}, "multilabel", 2)
		if err != nil {
			t.Fatal(err)
		}
		opt.Training = &Training{Loss: loss, BatchSizes: []int{2}, Optimizer: plainAdamW()}
	}
	dev := cpu.New(1)
	t.Cleanup(dev.Close)
	plan, err := Compile(dev, opt)
	if err != nil {
		t.Fatal(err)
	}
	s, err := plan.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Initialize(seed); err != nil {
		t.Fatal(err)
	}
	return s
}

func ramp(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i%17)/8 - 1
	}
	return x
}

// A trained session's model file brings another session to the same logits, bit for bit.
func TestWeightsRoundTrip(t *testing.T) {
	a := small(t, 1, true)
	x := ramp(2 * 8 * 12 * 10)
	for step := 1; step <= 3; step++ {
		b := MicroBatch{X: x, Targets: []float32{1, 0, 0, 1}, IDs: []uint64{0, 1}}
		if _, err := a.Train([]MicroBatch{b}, Step{Number: step, LR: 0.01}, false); err != nil {
			t.Fatal(err)
		}
	}
	m, err := a.Model("multilabel", []string{"one", "two"}, config.Preprocess{ShapeDHW: [3]int{8, 12, 10}, SpacingMM: config.Spacing{Keep: true}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := modelfile.Save(path, m); err != nil {
		t.Fatal(err)
	}
	stored, err := modelfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tensor := range stored.Tensors {
		if tensor.Name == "bn1.num_batches_tracked" && (len(tensor.Shape) != 0 || !slices.Equal(tensor.I64, []int64{3})) {
			t.Errorf("3 batches are counted as %v of shape %v", tensor.I64, tensor.Shape)
		}
	}
	if got := stored.Options["widths"]; !reflect.DeepEqual(got, []any{4, 4, 24, 24}) {
		t.Errorf("the option widths came back as %v", got)
	}

	b := small(t, 2, false)
	before, err := b.Logits(x, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.LoadTensors(stored.Tensors); err != nil {
		t.Fatal(err)
	}
	want, err := a.Logits(x, 2)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Logits(x, 2)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) || slices.Equal(got, before) {
		t.Errorf("logits %v, want %v (before loading %v)", got, want, before)
	}
	if b.BatchesTracked() != 3 {
		t.Errorf("the loaded session counts %d batches, want 3", b.BatchesTracked())
	}
}

func TestLoadTensorsIsStrict(t *testing.T) {
	s := small(t, 1, false)
	var names []string
	for _, x := range s.Tensors() {
		names = append(names, x.Name)
	}
	for _, want := range []string{"conv1.weight", "bn1.running_var", "bn1.num_batches_tracked", "layer2.0.downsample.1.num_batches_tracked", "fc.4.bias"} {
		if !slices.Contains(names, want) {
			t.Errorf("no tensor %s among %v", want, names)
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func([]modelfile.Tensor) []modelfile.Tensor
		want  modelfile.MismatchError
	}{
		{"missing", func(x []modelfile.Tensor) []modelfile.Tensor { return x[1:] }, modelfile.MismatchError{Missing: []string{"conv1.weight"}}},
		{"unexpected", func(x []modelfile.Tensor) []modelfile.Tensor {
			return append(x, modelfile.Tensor{Name: "extra", Shape: []int{1}, F32: []float32{1}})
		}, modelfile.MismatchError{Unexpected: []string{"extra"}}},
		{"shape", func(x []modelfile.Tensor) []modelfile.Tensor {
			x[1].Shape, x[1].F32 = []int{5}, make([]float32, 5)
			return x
		}, modelfile.MismatchError{Misshaped: []string{"bn1.weight is [5], expected [4]"}}},
		{"counter", func(x []modelfile.Tensor) []modelfile.Tensor {
			i := slices.IndexFunc(x, func(x modelfile.Tensor) bool { return x.Name == "bn1.num_batches_tracked" })
			x[i].I64, x[i].F32 = nil, []float32{1}
			return x
		}, modelfile.MismatchError{Misshaped: []string{"bn1.num_batches_tracked is F32, expected I64"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.LoadTensors(tt.spoil(s.Tensors()))
			var got *modelfile.MismatchError
			if !errors.As(err, &got) || !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got %v, want %v", err, &tt.want)
			}
		})
	}
	// Files of old versions of PyTorch have no counters.
	var old []modelfile.Tensor
	for _, x := range s.Tensors() {
		if x.I64 == nil {
			old = append(old, x)
		}
	}
	if err := s.LoadTensors(old); err != nil {
		t.Error(err)
	}
}
