package eval

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

// peers is testdata/peers.json: values of scipy and scikit-learn, made by bench/eval_peers.py.
type peers struct {
	AUROC []struct {
		Y             []float64
		First, Second []float64
		Low, High     float64
		Difference    float64
		DLow          float64 `json:"difference_low"`
		DHigh         float64 `json:"difference_high"`
		P             float64
		ROC, PR       [][2]float64
	}
	Newcombe []struct {
		AUROC                float64
		Positives, Negatives int
		Want                 [2]float64
	}
	Wilson []struct {
		Hits, N int
		Want    [2]float64
	}
	Clustered []struct {
		Hits, Sizes []int
		Want        [2]float64
	}
	Calibration []struct {
		Y, Logits      []float64
		Temperature    float64
		At, Isotonic   []float64
		Observed, Mean []float64
	}
	Softmax struct {
		Class       []float64
		Logits      [][]float64
		Temperature float64
	}
	Points struct {
		Y, P []float64
		Want map[string]struct{ Score, Sensitivity, Specificity float64 }
	}
}

func readPeers(t *testing.T) peers {
	t.Helper()
	text, err := os.ReadFile("testdata/peers.json")
	if err != nil {
		t.Fatal(err)
	}
	var p peers
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-9) {
		t.Errorf("%s: got %.15g, want %.15g", what, got, want)
	}
}

func nearInterval(t *testing.T, what string, got Interval, want [2]float64) {
	t.Helper()
	near(t, what+" low", float64(got.Low), want[0])
	near(t, what+" high", float64(got.High), want[1])
}

// binaryCases are cases of one label, every sample a patient.
func binaryCases(p, y []float64) *Cases {
	c := &Cases{Task: Binary, Labels: []string{"x"}}
	for i := range p {
		c.Prob, c.Target = append(c.Prob, []float64{p[i]}), append(c.Target, []float64{y[i]})
	}
	return c
}

func half(labels ...string) []Threshold { return Thresholds(nil, labels, "", 0.5) }

func TestAUROCAgainstPeers(t *testing.T) {
	for _, c := range readPeers(t).AUROC {
		first, second := binaryCases(c.First, c.Y), binaryCases(c.Second, c.Y)
		r, err := Analyze(first, Options{Thresholds: half("x")})
		if err != nil {
			t.Fatal(err)
		}
		v := r.Labels[0].Intervals["auroc"]
		if v.Method != DeLong {
			t.Errorf("the method is %q", v.Method)
		}
		nearInterval(t, "AUROC", v, [2]float64{c.Low, c.High})
		d, err := Compare(first, second, [2][]Threshold{half("x"), half("x")}, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		got := d.Labels[0].Differences["auroc"]
		near(t, "difference", float64(got.Difference), c.Difference)
		near(t, "p", float64(got.P), c.P)
		nearInterval(t, "difference", got.Interval, [2]float64{c.DLow, c.DHigh})

		curves := LabelCurves(first)[0]
		if len(curves.ROC) != len(c.ROC) || len(curves.PR) != len(c.PR) {
			t.Fatalf("curves of %d and %d points, want %d and %d", len(curves.ROC), len(curves.PR), len(c.ROC), len(c.PR))
		}
		for i, p := range curves.ROC {
			near(t, "ROC", p.X, c.ROC[i][0])
			near(t, "ROC", p.Y, c.ROC[i][1])
		}
		for i, p := range curves.PR {
			near(t, "recall", p.X, c.PR[i][0])
			near(t, "precision", p.Y, c.PR[i][1])
		}
	}
}

func TestIntervalsAgainstPeers(t *testing.T) {
	p := readPeers(t)
	for _, c := range p.Newcombe {
		nearInterval(t, "Newcombe", newcombe(c.AUROC, c.Positives, c.Negatives), c.Want)
	}
	for _, c := range p.Wilson {
		nearInterval(t, "Wilson", wilson(float64(c.Hits)/float64(c.N), float64(c.N)), c.Want)
	}
	for _, c := range p.Clustered {
		got, ok := proportion(c.Hits, c.Sizes)
		if !ok {
			t.Fatal("no interval")
		}
		nearInterval(t, "clustered", got, c.Want)
	}
}

func TestCalibrationAgainstPeers(t *testing.T) {
	p := readPeers(t)
	for _, c := range p.Calibration {
		var logits, target [][]float64
		for i, z := range c.Logits {
			logits, target = append(logits, []float64{z}), append(target, []float64{c.Y[i]})
		}
		scaled, _, err := Calibrate(Temperature, Binary, []string{"x"}, logits, target)
		if err != nil {
			t.Fatal(err)
		}
		if got := scaled.Temperature[0]; math.Abs(got/c.Temperature-1) > 1e-6 { // as exact as scipy's search
			t.Errorf("temperature %v, want %v", got, c.Temperature)
		}
		steps, _, err := Calibrate(Isotonic, Binary, []string{"x"}, logits, target)
		if err != nil {
			t.Fatal(err)
		}
		if err := steps.Check(Binary, 1); err != nil {
			t.Error(err)
		}
		for i, z := range c.At {
			near(t, "isotonic", steps.Probabilities(Binary, [][]float64{{z}})[0][0], c.Isotonic[i])
		}
		var own *Calibration
		r, err := Analyze(&Cases{Task: Binary, Labels: []string{"x"}, Prob: own.Probabilities(Binary, logits), Target: target}, Options{Thresholds: half("x")})
		if err != nil {
			t.Fatal(err)
		}
		bins := r.Labels[0].Reliability
		if len(bins) != len(c.Mean) {
			t.Fatalf("%d bins, want %d", len(bins), len(c.Mean))
		}
		for i, b := range bins {
			near(t, "observed", float64(b.Observed), c.Observed[i])
			near(t, "probability", float64(b.Probability), c.Mean[i])
		}
	}
	var target [][]float64
	for _, class := range p.Softmax.Class {
		target = append(target, []float64{class})
	}
	c, _, err := Calibrate(Temperature, Multiclass, []string{"a", "b", "c"}, p.Softmax.Logits, target)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Temperature[0]; math.Abs(got/p.Softmax.Temperature-1) > 1e-6 {
		t.Errorf("softmax temperature %v, want %v", got, p.Softmax.Temperature)
	}
}

func TestPointsAgainstPeers(t *testing.T) {
	c := readPeers(t).Points
	var rules []Rule
	for name := range c.Want {
		r, err := ParseRule(name)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	points, _, err := ChoosePoints(binaryCases(c.P, c.Y), rules)
	if err != nil || len(points) != 4 {
		t.Fatal(points, err)
	}
	for _, p := range points {
		want := c.Want[p.Name]
		m := p.Counts.metrics()
		near(t, p.Name+" sensitivity", float64(m.Sensitivity), want.Sensitivity)
		near(t, p.Name+" specificity", float64(m.Specificity), want.Specificity)
		// The lowest score at or above the threshold is the peers'.
		lowest := math.Inf(1)
		for _, s := range c.P {
			if s >= p.Threshold {
				lowest = min(lowest, s)
			}
		}
		near(t, p.Name+" score", lowest, want.Score)
	}
}
