package eval

import (
	"math"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/rng"
)

// overconfident draws logits that are four times the true log-odds, with labels of these odds.
func overconfident(key uint64, n int) (logits, target [][]float64) {
	s := rng.New(key)
	for range n {
		z := 1.5 * s.Normal()
		y := 0.0
		if s.Float64() < 1/(1+math.Exp(-z)) {
			y = 1
		}
		logits, target = append(logits, []float64{4 * z}), append(target, []float64{y})
	}
	return logits, target
}

// What is fitted on one half of an overconfident model's answers lowers the calibration error and the Brier score of
// the other half, and the sensitivity aimed at lies within the interval of the one found there.
func TestCalibrationHolds(t *testing.T) {
	labels := []string{"x"}
	val, truth := overconfident(rng.Key(4, "val"), 600)
	test, testTruth := overconfident(rng.Key(4, "test"), 600)
	var own *Calibration
	before, err := Compute(Binary, labels, own.Probabilities(Binary, test), testTruth, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{Temperature, Isotonic} {
		c, warnings, err := Calibrate(method, Binary, labels, val, truth)
		if err != nil || len(warnings) > 0 {
			t.Fatal(warnings, err)
		}
		if method == Temperature && math.Abs(c.Temperature[0]-4) > 0.8 {
			t.Errorf("the temperature is %v, drawn with 4", c.Temperature[0])
		}
		rule, err := ParseRule("sensitivity=0.9")
		if err != nil {
			t.Fatal(err)
		}
		points, _, err := ChoosePoints(&Cases{Task: Binary, Labels: labels, Prob: c.Probabilities(Binary, val), Target: truth}, []Rule{rule})
		if err != nil || len(points) != 1 {
			t.Fatal(points, err)
		}
		after, err := Analyze(&Cases{Task: Binary, Labels: labels, Prob: c.Probabilities(Binary, test), Target: testTruth},
			Options{Thresholds: Thresholds(points, labels, "", 0.5), Points: points})
		if err != nil {
			t.Fatal(err)
		}
		l := after.Labels[0]
		t.Logf("%s: ECE %v to %v, Brier %v to %v, sensitivity %v %v", method, before.Macro.ECE, l.ECE, before.Macro.Brier, l.Brier, l.Sensitivity, l.Intervals["sensitivity"])
		if l.ECE > before.Macro.ECE/2 || l.Brier >= before.Macro.Brier {
			t.Errorf("%s: ECE %v became %v, Brier score %v became %v", method, before.Macro.ECE, l.ECE, before.Macro.Brier, l.Brier)
		}
		if v := l.Points[0].Intervals["sensitivity"]; v.Low > 0.9 || v.High < 0.9 {
			t.Errorf("%s: aimed at a sensitivity of 0.9, the interval is %v", method, v)
		}
	}
}

func TestCalibrateSays(t *testing.T) {
	labels := []string{"one class", "separated", "unknown"}
	nan := math.NaN()
	c, warnings, err := Calibrate(Temperature, Multilabel, labels,
		[][]float64{{1, -1, 0}, {-1, 1, 0}, {2, 2, 0}}, [][]float64{{1, 0, nan}, {1, 1, nan}, {1, 1, nan}})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(warnings, "\n")
	for _, want := range []string{"one class: not calibrated", "separated: not calibrated, because no temperature fits", "unknown: not calibrated"} {
		if !strings.Contains(text, want) {
			t.Errorf("the warnings lack %q:\n%s", want, text)
		}
	}
	if c.Temperature[0] != 1 || c.Temperature[1] != 1 || c.Temperature[2] != 1 {
		t.Errorf("the temperatures are %v", c.Temperature)
	}
	for _, text := range []string{"", "youden=1", "sensitivity", "sensitivity=0", "specificity=1.5", "cost=1", "cost=0:1", "cost=1:x", "f1"} {
		if _, err := ParseRule(text); err == nil || !strings.Contains(err.Error(), RuleText) {
			t.Errorf("the rule %q: got %v", text, err)
		}
	}
}
