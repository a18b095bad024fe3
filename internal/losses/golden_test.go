package losses

import (
	"math"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/goldens"
)

// goldenLoss returns the loss of a case of ops.json and its targets, or nil where the case is no loss.
func goldenLoss(t *testing.T, op goldens.Op) (l Loss, targets []float32) {
	t.Helper()
	var err error
	a, classes := op.Attrs, 0
	if s := op.Inputs["x"].Shape; len(s) > 1 {
		classes = s[1]
	}
	binary := func() []float32 { return goldens.Targets(goldens.OpTargetStream, len(op.Inputs["x"].Values())) }
	switch op.Op {
	case "focal_loss":
		targets = binary()
		l, err = New(config.Loss{Name: "focal", Alpha: a.Alpha, Gamma: a.Gamma}, "multilabel", classes)
	case "bce_with_logits":
		targets = binary()
		l, err = New(config.Loss{Name: "bce", PosWeight: config.PosWeight{Values: a.PosWeight}}, "multilabel", classes)
	case "cross_entropy":
		for _, c := range a.Targets.Classes {
			targets = append(targets, float32(c))
		}
		l, err = New(config.Loss{Name: "cross_entropy", ClassWeight: a.ClassWeight, LabelSmoothing: a.LabelSmoothing}, "multiclass", classes)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l, targets
}

// TestOps compares means and gradients with the losses of ops.json, to within 1e-12 of the rms and half a unit
// of the 12th digit that the file keeps.
func TestOps(t *testing.T) {
	ops, err := goldens.LoadOps()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, op := range ops {
		l, targets := goldenLoss(t, op)
		if l == nil {
			continue
		}
		seen[op.Op]++
		x, rows := widen(op.Inputs["x"].Values()), op.Inputs["x"].Shape[0]
		count := l.Count(targets)
		grad := make([]float64, len(x))
		value := engine.LossValue(l, x, widen(targets), rows) / count
		engine.LossGradient(l, x, widen(targets), grad, rows)
		for i := range grad {
			grad[i] /= count
		}
		compare(t, op.Name(), []float64{value}, op.Output.Values)
		compare(t, op.Name()+" gradient", grad, op.Grads["x"])
	}
	if seen["focal_loss"] != 5 || seen["bce_with_logits"] != 1 || seen["cross_entropy"] != 1 {
		t.Errorf("ops.json has the losses %v", seen)
	}
}

func widen(x []float32) []float64 {
	w := make([]float64, len(x))
	for i, v := range x {
		w[i] = float64(v)
	}
	return w
}

func compare(t *testing.T, what string, got, want []float64) {
	t.Helper()
	var squares float64
	for _, v := range want {
		squares += v * v
	}
	rms := math.Sqrt(squares / float64(len(want)))
	if len(got) != len(want) || !(rms > 0) {
		t.Fatalf("%s: %d elements, want %d with a root mean square of %g", what, len(got), len(want), rms)
	}
	for i, v := range want {
		digit := 0.5 * math.Pow(10, math.Floor(math.Log10(max(math.Abs(v), 1e-300)))-11)
		if d := math.Abs(got[i] - v); !(d <= 1e-12*rms+1.001*digit) {
			t.Errorf("%s: element %d is %.15g, want %.15g", what, i, got[i], v)
		}
	}
}
