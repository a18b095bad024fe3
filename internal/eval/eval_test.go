package eval

import (
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// reference is a case of testdata/sklearn.json: inputs (null: missing) with the measures that
// scikit-learn's metrics give for them.
type reference struct {
	Name      string
	Task      string
	Labels    []string
	Threshold float64
	Prob      [][]float64
	Target    [][]Score
	Confusion [][]int
	Want      struct {
		Labels       []Metrics
		Macro, Micro Metrics
	}
}

func compare(t *testing.T, where string, got, want Metrics) {
	t.Helper()
	for _, f := range fields() {
		g, w := float64(*f.at(&got)), float64(*f.at(&want))
		if math.IsNaN(g) != math.IsNaN(w) || math.Abs(g-w) > 1e-12 {
			t.Errorf("%s %s: got %v, want %v", where, f.name, g, w)
		}
	}
}

func TestAgainstScikitLearn(t *testing.T) {
	text, err := os.ReadFile("testdata/sklearn.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []reference }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 18 {
		t.Fatalf("%d reference cases, expected 18", len(file.Cases))
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			target := make([][]float64, len(c.Target))
			for i, row := range c.Target {
				for _, x := range row {
					target[i] = append(target[i], float64(x))
				}
			}
			r, err := Compute(c.Task, c.Labels, c.Prob, target, c.Threshold)
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range c.Want.Labels {
				compare(t, r.Labels[i].Name, r.Labels[i].Metrics, w)
			}
			compare(t, "macro", r.Macro.Metrics, c.Want.Macro)
			compare(t, "micro", r.Micro.Metrics, c.Want.Micro)
			if !reflect.DeepEqual(r.Confusion, c.Confusion) {
				t.Errorf("confusion: got %v, want %v", r.Confusion, c.Confusion)
			}
		})
	}
}

// By hand: scores .9+ .8- .8+ .3- .3- .1+ at threshold 0.8.
//   - AUROC: the positive .9 beats 3 negatives, .8 beats 2 and ties with 1, .1 beats none: 5.5 of 9.
//   - AUPRC: 1/3·1 + 1/3·(2/3) + 1/3·(3/6) = 13/18.
func TestByHand(t *testing.T) {
	prob := [][]float64{{.3}, {.9}, {.8}, {.1}, {.8}, {.3}, {.5}}
	target := [][]float64{{0}, {1}, {0}, {1}, {1}, {0}, {math.NaN()}}
	r, err := Compute(Binary, []string{"x"}, prob, target, 0.8)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Labels[0]
	if want := (Counts{TP: 2, FP: 1, TN: 2, FN: 1}); l.Counts != want || l.Valid != 6 || l.Positive != 3 || r.Samples != 7 {
		t.Errorf("got %+v of %d samples", l, r.Samples)
	}
	compare(t, "x", l.Metrics, Metrics{
		AUROC: 5.5 / 9, AUPRC: 13. / 18, F1: 2. / 3, Accuracy: 2. / 3, BalancedAccuracy: 2. / 3,
		Sensitivity: 2. / 3, Specificity: 2. / 3, PPV: 2. / 3, NPV: 2. / 3,
		// Equal scores share a bin: .9 misses by .1, the two of .8 by 1.6-1, the two of .3 by .6, and .1 by .9.
		Brier: (.09 + .01 + .64 + .81 + .04 + .09) / 6, ECE: (.6 + .1 + .6 + .9) / 6,
	})
}

// AUROC is the share of (positive, negative) pairs in the right order; it does not depend on the
// order of the samples, and turns around with the labels.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		var prob, target, flipped [][]float64
		for range n {
			p := float64(rapid.IntRange(0, 8).Draw(t, "p")) / 8
			y := float64(rapid.IntRange(0, 1).Draw(t, "y"))
			prob = append(prob, []float64{p})
			target = append(target, []float64{y})
			flipped = append(flipped, []float64{1 - y})
		}
		right, pairs := 0.0, 0.0
		for i := range n {
			for j := range n {
				if target[i][0] == 1 && target[j][0] == 0 {
					pairs++
					switch d := prob[i][0] - prob[j][0]; {
					case d > 0:
						right++
					case d == 0:
						right += 0.5
					}
				}
			}
		}
		a, err := Compute(Binary, []string{"x"}, prob, target, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Macro.AUROC; got.Defined() != (pairs > 0) || got.Defined() && math.Abs(float64(got)-right/pairs) > 1e-12 {
			t.Errorf("AUROC %v, pairs say %v of %v", float64(got), right, pairs)
		}
		b, err := Compute(Binary, []string{"x"}, prob, flipped, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		if pairs > 0 && math.Abs(float64(a.Macro.AUROC+b.Macro.AUROC)-1) > 1e-12 {
			t.Errorf("AUROC %v and %v of turned labels do not add up to 1", a.Macro.AUROC, b.Macro.AUROC)
		}
	})
}

func TestRefuses(t *testing.T) {
	nan := math.NaN()
	type m = [][]float64
	two := []string{"a", "b"}
	cases := []struct {
		name         string
		task         string
		labels       []string
		prob, target m
		threshold    float64
		want         string
	}{
		{"task", "regression", two, nil, nil, .5, "regression"},
		{"no labels", Multilabel, nil, nil, nil, .5, "no labels"},
		{"binary with two", Binary, two, nil, nil, .5, "one label"},
		{"one class", Multiclass, two[:1], nil, nil, .5, "two classes"},
		{"lengths", Multilabel, two, m{{0, 0}}, nil, .5, "1 samples and labels of 0"},
		{"columns", Multilabel, two, m{{0}}, m{{0, 0}}, .5, "sample 0"},
		{"target columns", Multiclass, two, m{{0, 1}}, m{{0, 1}}, .5, "sample 0"},
		{"probability NaN", Multilabel, two, m{{0, nan}}, m{{0, 0}}, .5, `"b"`},
		{"probability 2", Multilabel, two, m{{2, 0}}, m{{0, 0}}, .5, `"a"`},
		{"target", Multilabel, two, m{{0, 0}}, m{{0, .5}}, .5, "0.5"},
		{"class", Multiclass, two, m{{0, 0}}, m{{2}}, .5, "from 0 to 1"},
		{"fractional class", Multiclass, two, m{{0, 0}}, m{{.5}}, .5, "from 0 to 1"},
		{"threshold", Binary, two[:1], nil, nil, nan, "threshold"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Compute(c.task, c.labels, c.prob, c.target, c.threshold); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	r, err := Compute(Multilabel, []string{"a", "b"}, [][]float64{{.75, .25}, {.25, .5}}, [][]float64{{1, 0}, {0, 0}}, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"task":"multilabel","samples":2,"threshold":0.5,"labels":[` +
		`{"name":"a","valid":2,"positive":1,"threshold":0.5,"tp":1,"fp":0,"tn":1,"fn":0,"auroc":1,"auprc":1,"f1":1,"accuracy":1,"balanced_accuracy":1,"sensitivity":1,"specificity":1,"ppv":1,"npv":1,"brier":0.0625,"ece":0.25},` +
		`{"name":"b","valid":2,"positive":0,"threshold":0.5,"tp":0,"fp":1,"tn":1,"fn":0,"auroc":null,"auprc":null,"f1":0,"accuracy":0.5,"balanced_accuracy":null,"sensitivity":null,"specificity":0.5,"ppv":0,"npv":1,"brier":0.15625,"ece":0.375}],` +
		`"macro":{"auroc":1,"auprc":1,"f1":0.5,"accuracy":0.75,"balanced_accuracy":1,"sensitivity":1,"specificity":0.75,"ppv":0.5,"npv":1,"brier":0.109375,"ece":0.3125},` +
		`"micro":{"tp":1,"fp":1,"tn":2,"fn":0,"auroc":1,"auprc":1,"f1":0.6666666666666666,"accuracy":0.75,"balanced_accuracy":0.8333333333333333,"sensitivity":1,"specificity":0.6666666666666666,"ppv":0.5,"npv":1,"brier":0.109375,"ece":0.3125}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var back Report
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if back.Labels[1].AUROC.Defined() || back.Labels[0].AUROC != 1 || back.Micro.TN != 2 {
		t.Errorf("read back as %+v", back)
	}
}

func TestMetric(t *testing.T) {
	r, err := Compute(Multiclass, []string{"a", "b", "c"}, [][]float64{{.8, .1, .1}, {.2, .3, .5}, {.1, .1, .8}}, [][]float64{{0}, {1}, {2}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"accuracy": 2. / 3, "f1": (1 + 0 + 2./3) / 3, "sensitivity": 2. / 3} {
		if got, err := r.Metric(name); err != nil || math.Abs(float64(got)-want) > 1e-12 {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, want)
		}
	}
	if _, err := r.Metric("loss"); err == nil || !strings.Contains(err.Error(), "auroc") {
		t.Errorf("unknown metric: got %v", err)
	}
	for _, name := range MetricNames() {
		if _, err := r.Metric(name); err != nil {
			t.Error(err)
		}
	}
}

func TestTable(t *testing.T) {
	r, err := Compute(Multiclass, []string{"cyst", "tumour"}, [][]float64{{.75, .25}, {.25, .75}}, [][]float64{{0}, {0}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"AUROC", "cyst", "n/a", "0.500", "macro", "micro", "2 samples", "predicted"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "NaN") {
		t.Errorf("the table has NaN:\n%s", b.String())
	}
	t.Log("\n" + b.String())
}
