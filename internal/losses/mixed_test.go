package losses

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/ctclass/ctclass/internal/config"
)

// Of losses that are linear in the target the mixed loss is that of the blended target.
func TestMixedIsLinear(t *testing.T) {
	bce := mustNew(t, config.Loss{Name: "bce"}, "multilabel", 2)
	x := []float64{0.7, -1.2}
	got := Mixed(bce, 2).Row(x, []float64{1, 0, 0, 1, 0.3}, nil)
	if want := bce.Row(x, []float64{0.3, 0.7}, nil); math.Abs(got-want) > 1e-14 {
		t.Errorf("bce: %v, want %v", got, want)
	}
	ce := mustNew(t, config.Loss{Name: "cross_entropy", ClassWeight: []float64{1, 2, 3}}, "multiclass", 3)
	x = []float64{0.2, -1, 1.5}
	sum := math.Exp(0.2) + math.Exp(-1) + math.Exp(1.5)
	want := -0.3*math.Log(math.Exp(0.2)/sum) - 0.7*3*math.Log(math.Exp(1.5)/sum)
	if got := Mixed(ce, 3).Row(x, []float64{0, 2, 0.3}, nil); math.Abs(got-want) > 1e-14 {
		t.Errorf("cross_entropy: %v, want %v", got, want)
	}
}

// A label that is missing in one of the two counts by the share of the other.
func TestMixedCount(t *testing.T) {
	nan := float32(math.NaN())
	l := Mixed(mustNew(t, config.Loss{Name: "bce"}, "multilabel", 2), 2)
	if l.Targets(2) != 5 {
		t.Errorf("%d targets, want 5", l.Targets(2))
	}
	rows := []float32{1, nan, 0, 0, 0.25 /* 0.25·1 + 0.75·2 */, nan, nan, nan, 1, 0.5 /* 0.5 */}
	if got := l.Count(rows); math.Abs(got-2.25) > 1e-6 {
		t.Errorf("count %v, want 2.25", got)
	}
	ce := Mixed(mustNew(t, config.Loss{Name: "cross_entropy", ClassWeight: []float64{1, 2, 3}}, "multiclass", 3), 3)
	if got := ce.Count([]float32{0, 2, 0.25}); math.Abs(got-2.5) > 1e-6 {
		t.Errorf("count %v, want 2.5", got)
	}
}

func TestMixedGradients(t *testing.T) {
	for name, c := range elementLosses() {
		if c.Clip > 0 {
			continue // its kink is TestElementGradients' concern
		}
		l := Mixed(mustNew(t, c, "multilabel", 5), 5)
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				x, targets := make([]float64, 5), make([]float64, 11)
				for i := range x {
					x[i] = rapid.Float64Range(-6, 6).Draw(t, "logit")
				}
				for i := range 10 {
					targets[i] = rapid.SampledFrom([]float64{0, 1, math.NaN()}).Draw(t, "target")
				}
				targets[10] = rapid.Float64Range(0, 1).Draw(t, "share")
				checkGradient(t, l, x, targets)
			})
		})
	}
}
