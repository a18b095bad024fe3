package crossval

import (
	"math"
	"testing"

	"github.com/ctclass/ctclass/internal/eval"
)

// A fold that does not define a measure has no say in its mean.
func TestSpread(t *testing.T) {
	var folds []Fold
	for _, auroc := range []float64{0.5, math.NaN(), 0.7, 0.9} {
		r := &eval.Report{Task: eval.Binary}
		r.Macro.AUROC, r.Macro.Accuracy, r.Macro.F1 = eval.Score(auroc), 0.25, eval.Undefined()
		folds = append(folds, Fold{Report: r})
	}
	mean, sd := spread(folds)
	if math.Abs(float64(mean.AUROC)-0.7) > 1e-15 || math.Abs(float64(sd.AUROC)-0.2) > 1e-15 {
		t.Errorf("AUROC %v ± %v, want 0.7 ± 0.2", float64(mean.AUROC), float64(sd.AUROC))
	}
	if mean.Accuracy != 0.25 || sd.Accuracy != 0 {
		t.Errorf("accuracy %v ± %v", mean.Accuracy, sd.Accuracy)
	}
	if mean.F1.Defined() || sd.F1.Defined() {
		t.Errorf("F1 %v ± %v of no values", mean.F1, sd.F1)
	}
	if _, sd := spread(folds[:1]); sd.AUROC.Defined() {
		t.Errorf("one fold has the standard deviation %v", sd.AUROC)
	}
}
