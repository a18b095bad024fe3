package predict

import (
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/modelfile"
)

// alone runs one model on its own, without views or calibration.
func alone(t *testing.T, m *Model, x []float32) []float64 {
	t.Helper()
	dev := cpu.New(1)
	defer dev.Close()
	s, err := m.Start(dev, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	z, err := s.Logits(x, 1)
	if err != nil {
		t.Fatal(err)
	}
	return rows(z, 1)[0]
}

// An ensemble gives the mean of what its models give, each on an input of its own form, in each view and with its own
// calibration; batch and threads change no bit, and the input is as before.
func TestEnsemble(t *testing.T) {
	dir := t.TempDir()
	labels := []string{"a", "b"}
	plain, other := filepath.Join(dir, "plain.safetensors"), filepath.Join(dir, "other.safetensors")
	untrained(t, plain, "multilabel", labels, nil)
	untrained(t, other, "multilabel", labels, func(m *modelfile.Model) {
		m.Preprocess.ShapeDHW = [3]int{8, 8, 12}
		m.Calibration = &eval.Calibration{Method: eval.Temperature, Temperature: []float64{2, 0.5}}
		for i := range m.Tensors {
			for j := range m.Tensors[i].F32 {
				m.Tensors[i].F32[j] *= 1.25
			}
		}
	})
	list := []*Model{load(t, plain), load(t, other)}
	flip := [3]bool{true, false, true}
	const n = 2
	var x [][]float32
	for _, m := range list {
		s := m.Preprocess.ShapeDHW
		in := make([]float32, n*s[0]*s[1]*s[2])
		for i := range in {
			in[i] = float32(math.Sin(float64(i * i)))
		}
		x = append(x, in)
	}
	before := []([]float32){slices.Clone(x[0]), slices.Clone(x[1])}

	var want [2][n][]float64 // model, sample: the mean logits over the views
	for k, m := range list {
		s := m.Preprocess.ShapeDHW
		per := s[0] * s[1] * s[2]
		for i := range n {
			want[k][i] = make([]float64, len(labels))
			for _, axes := range [][3]bool{{}, {true}, {false, false, true}, {true, false, true}} {
				one := slices.Clone(x[k][i*per:][:per])
				preprocess.Flip(one, s, axes)
				for c, z := range alone(t, m, one) {
					want[k][i][c] += z / 4
				}
			}
		}
	}
	sigma := func(z float64) float64 { return 1 / (1 + math.Exp(-z)) }
	for mean, combined := range map[string]func(a, b float64) float64{
		"":                func(a, b float64) float64 { return (sigma(a) + sigma(b)) / 2 },
		MeanProbabilities: func(a, b float64) float64 { return (sigma(a) + sigma(b)) / 2 },
		MeanLogits:        func(a, b float64) float64 { return sigma((a + b) / 2) },
	} {
		var first [][]float64
		for _, threads := range []int{1, 2} {
			dev := cpu.New(threads)
			e, err := StartEnsemble(dev, list, EnsembleOptions{Batch: n, Flip: flip, Mean: mean})
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Inputs) != 2 || e.Bytes() == 0 {
				t.Fatalf("%d inputs, %d bytes", len(e.Inputs), e.Bytes())
			}
			got, err := e.Probabilities(x, n)
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				for c := range labels {
					w := combined(want[0][i][c], want[1][i][c]/[]float64{2, 0.5}[c])
					if math.Abs(got[i][c]-w) > 1e-6 {
						t.Errorf("mean %q, sample %d, label %d: got %v, want %v", mean, i, c, got[i][c], w)
					}
				}
			}
			if first == nil {
				first = got
			}
			if !reflect.DeepEqual(first, got) {
				t.Errorf("%d threads give other bits", threads)
			}
			e.Close()
			dev.Close()
		}
	}
	if !reflect.DeepEqual(before, x) {
		t.Error("the input has changed")
	}
}

// By hand: the geometric means of (1/2, 1/2) and (1/10, 9/10) relate as √5 to √45, that is 1 to 3.
func TestCombine(t *testing.T) {
	a, b := [][]float64{{0.5, 0.5}}, [][]float64{{0.1, 0.9}}
	got := Combine("multiclass", MeanLogits, [][][]float64{a, b})[0]
	if math.Abs(got[0]-0.25) > 1e-12 || math.Abs(got[1]-0.75) > 1e-12 {
		t.Errorf("got %v, want 1/4 and 3/4", got)
	}
	if got := Combine("binary", MeanLogits, [][][]float64{{{0}}, {{1}}})[0][0]; math.Abs(got-0.5) > 1e-9 {
		t.Errorf("certain models against each other give %v", got)
	}
}

func TestEnsembleRefuses(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.safetensors"), filepath.Join(dir, "b.safetensors")
	untrained(t, a, "multilabel", []string{"x", "y"}, nil)
	untrained(t, b, "multilabel", []string{"y", "x"}, nil)
	dev := cpu.New(1)
	defer dev.Close()
	_, err := StartEnsemble(dev, []*Model{load(t, a), load(t, b)}, EnsembleOptions{})
	if err == nil || !strings.Contains(err.Error(), "a.safetensors") || !strings.Contains(err.Error(), "same order") {
		t.Errorf("got %v", err)
	}
}

func TestCalibrationWarning(t *testing.T) {
	m := &Model{Model: &modelfile.Model{Calibration: &eval.Calibration{Origin: eval.Origin{Flips: []string{"w"}}}}, Path: "m"}
	axes, err := ParseAxes([]string{"w"})
	if err != nil {
		t.Fatal(err)
	}
	if w := CalibrationWarning(m, axes); w != "" {
		t.Errorf("the same flips: %s", w)
	}
	if w := CalibrationWarning(m, [3]bool{}); !strings.Contains(w, "(w)") || !strings.Contains(w, "(none)") {
		t.Errorf("other flips: %q", w)
	}
	if _, err := ParseAxes([]string{"dh"}); err == nil {
		t.Error("dh is no axis")
	}
}
