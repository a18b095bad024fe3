package eval

import (
	"math"
	"testing"
)

// By hand: σ(2/2) = 0.7310585786300049, softmax(0, ln 3) with T = 1/2 is (1, 9)/10, and the points are joined by lines.
func TestProbabilities(t *testing.T) {
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-15 {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	temperature := &Calibration{Method: Temperature, Temperature: []float64{2, 4}}
	p := temperature.Probabilities(Multilabel, [][]float64{{2, -4}})
	near("temperature", p[0][0], 0.7310585786300049)
	near("temperature of the second label", p[0][1], 1-0.7310585786300049)
	softmax := &Calibration{Method: Temperature, Temperature: []float64{0.5}}
	near("softmax", softmax.Probabilities(Multiclass, [][]float64{{0, math.Log(3)}})[0][1], 0.9)

	steps := Monotone{X: []float64{0.2, 0.6}, Y: []float64{0.1, 0.5}}
	isotonic := &Calibration{Method: Isotonic, Isotonic: []Monotone{steps, {}}}
	for x, want := range map[float64]float64{0.1: 0.1, 0.2: 0.1, 0.3: 0.2, 0.6: 0.5, 0.9: 0.5} {
		z := math.Log(x / (1 - x))
		got := isotonic.Probabilities(Multilabel, [][]float64{{z, z}})[0]
		near("isotonic", got[0], want)
		near("identity", got[1], x)
	}
	// Softmax (0.2, 0.8) becomes (0.1, 0.8), which the sum of 0.9 divides.
	near("normalised", isotonic.Probabilities(Multiclass, [][]float64{{0, math.Log(4)}})[0][0], 0.1/0.9)

	var none *Calibration
	near("none", none.Probabilities(Binary, [][]float64{{0}})[0][0], 0.5)
	if p := isotonic.Probabilities(Multilabel, [][]float64{{math.NaN(), 0}})[0][0]; !math.IsNaN(p) {
		t.Errorf("a logit that is no number gives %v", p)
	}
}

func TestThresholds(t *testing.T) {
	points := []OperatingPoint{
		{Name: "youden", Label: "b", Threshold: 0.25},
		{Name: "sensitivity=0.95", Label: "b", Threshold: 0.125},
		{Name: "sensitivity=0.95", Label: "a", Threshold: 0.0625},
	}
	labels := []string{"a", "b", "c"}
	first := Thresholds(points, labels, "", 0.5)
	if first[0] != (Threshold{0.0625, "sensitivity=0.95"}) || first[1] != (Threshold{0.25, "youden"}) || first[2] != (Threshold{0.5, ""}) {
		t.Errorf("the first points are %v", first)
	}
	named := Thresholds(points, labels, "youden", 0.5)
	if named[0] != (Threshold{0.5, ""}) || named[1] != (Threshold{0.25, "youden"}) {
		t.Errorf("by name: %v", named)
	}
}
