package eval

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/ctclass/ctclass/internal/rng"
)

// FewCases is the number of samples of a class below which intervals are said to be rough.
const FewCases = 30

// Options say what Analyze adds to the measures.
type Options struct {
	Thresholds []Threshold      // one a label
	Fallback   float64          // the threshold of labels without an operating point, for the report
	Points     []OperatingPoint // to be measured each
	Resamples  int              // of the patients, for intervals; 0: no intervals by resampling
	Seed       uint64
}

// PointResult is what an operating point comes to.
type PointResult struct {
	Name      string  `json:"name"`
	Threshold float64 `json:"threshold"`
	ChosenOn  string  `json:"chosen_on"` // split
	Counts
	F1          Score     `json:"f1"`
	Accuracy    Score     `json:"accuracy"`
	Sensitivity Score     `json:"sensitivity"`
	Specificity Score     `json:"specificity"`
	PPV         Score     `json:"ppv"`
	NPV         Score     `json:"npv"`
	Intervals   Intervals `json:"intervals,omitempty"`
}

// Analyze evaluates cases like Compute, with intervals, the model's operating points and reliability curves.
//
// AUROC of independent samples has DeLong's interval, shares have Wilson's; everything else, and AUROC where patients
// have several samples, has the percentiles of resampled patients. The result depends on the cases and options alone,
// not on the number of processors.
func Analyze(c *Cases, o Options) (*Report, error) {
	if err := c.check(o.Thresholds); err != nil {
		return nil, err
	}
	t := newSheet(c, o.Thresholds)
	r := t.report(o.Fallback)
	r.Patients = t.units
	samples := t.resample(o.Resamples, o.Seed)
	if samples != nil {
		r.Resamples, r.Seed = o.Resamples, o.Seed
	}
	for k := range r.Labels {
		l := &r.Labels[k]
		column := t.columns[k]
		l.Intervals = intervals(l.Metrics, samples, k)
		for name, v := range column.proportions(t.units) {
			l.Intervals[name] = v
		}
		column.auroc(l.AUROC, l.Intervals, t.units)
		l.Note = note(l.Positive, l.Valid-l.Positive)
		l.Reliability = column.reliability()
		for _, p := range o.Points {
			if p.Label == l.Name {
				l.Points = append(l.Points, t.point(k, p))
			}
		}
	}
	n := len(r.Labels)
	r.Macro.Intervals = intervals(r.Macro.Metrics, samples, n)
	r.Micro.Intervals = intervals(r.Micro.Metrics, samples, n+1)
	if n == 1 {
		r.Macro.Intervals, r.Micro.Intervals = r.Labels[0].Intervals, r.Labels[0].Intervals
		return r, nil
	}
	for name, v := range t.pool.proportions(t.units) {
		r.Micro.Intervals[name] = v
	}
	if t.top != nil {
		delete(r.Micro.Intervals, "accuracy")
		if v, ok := t.top.proportions(t.units)["ppv"]; ok {
			r.Micro.Intervals["accuracy"] = v
		}
	}
	return r, nil
}

// note says how far the intervals of a label can be trusted.
func note(positives, negatives int) string {
	switch {
	case positives == 0 && negatives == 0:
		return "no sample has a known value"
	case positives == 0:
		return "no positive samples: AUROC and what is about positives are undefined"
	case negatives == 0:
		return "no negative samples: AUROC and what is about negatives are undefined"
	case positives < FewCases && negatives < FewCases:
		return fmt.Sprintf("only %d positive and %d negative samples: the intervals are rough", positives, negatives)
	case positives < FewCases:
		return fmt.Sprintf("only %d positive samples: the intervals are rough", positives)
	case negatives < FewCases:
		return fmt.Sprintf("only %d negative samples: the intervals are rough", negatives)
	}
	return ""
}

// independent reports whether no patient has two samples.
func (r *ranked) independent(units int) bool {
	seen := make([]bool, units)
	for _, u := range r.unit {
		if seen[u] {
			return false
		}
		seen[u] = true
	}
	return true
}

// auroc puts the interval of the AUROC where one by resampling is not the best.
func (r *ranked) auroc(area Score, out Intervals, units int) {
	if r.independent(units) {
		if v, ok := r.aurocInterval(); ok {
			out["auroc"] = v
		}
		return
	}
	if area == 0 || area == 1 { // resamples of samples in perfect order are in perfect order
		var of [2]map[int32]bool // patients with negatives, with positives
		of[0], of[1] = map[int32]bool{}, map[int32]bool{}
		for i, u := range r.unit {
			if r.positive[i] {
				of[1][u] = true
			} else {
				of[0][u] = true
			}
		}
		out["auroc"] = newcombe(float64(area), len(of[1]), len(of[0]))
	}
}

// point measures an operating point of label k.
func (t *sheet) point(k int, p OperatingPoint) PointResult {
	column := *t.columns[k]
	column.predicted = make([]bool, len(column.score))
	for i, s := range column.score {
		column.predicted[i] = s >= p.Threshold
	}
	c, m := column.measure(nil)
	return PointResult{
		Name: p.Name, Threshold: p.Threshold, ChosenOn: p.Origin.Split, Counts: c,
		F1: m.F1, Accuracy: m.Accuracy, Sensitivity: m.Sensitivity, Specificity: m.Specificity, PPV: m.PPV, NPV: m.NPV,
		Intervals: column.proportions(t.units),
	}
}

// resample measures the sheet with as many patients drawn with replacement, n times; nil where that says nothing.
func (t *sheet) resample(n int, seed uint64) []measured {
	if t.units < 2 || n < 2 {
		return nil
	}
	out := make([]measured, n)
	parallel(n, func(b int) { out[b] = t.measure(draw(t.units, seed, b)) })
	return out
}

// draw returns how often each of the patients is in resample number b.
func draw(units int, seed uint64, b int) []int {
	weight := make([]int, units)
	s := rng.New(rng.Key(seed, "bootstrap", uint64(b)))
	for range units {
		weight[s.Intn(units)]++
	}
	return weight
}

// parallel calls f for 0 to n-1 on all processors.
func parallel(n int, f func(i int)) {
	var group sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), n)
	for w := range workers {
		group.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	group.Wait()
}

// intervals returns the percentiles of each defined measure of one row over the resamples.
func intervals(m Metrics, samples []measured, row int) Intervals {
	out := Intervals{}
	if samples == nil {
		return out
	}
	values := make([]float64, len(samples))
	for _, f := range fields() {
		if !f.at(&m).Defined() {
			continue
		}
		for b := range samples {
			values[b] = float64(*f.at(&samples[b].metrics[row]))
		}
		if v, wide, _ := percentiles(values); wide {
			out[f.name] = v
		}
	}
	return out
}

// Curves are the curves of one label.
type Curves struct {
	ROC []Point // false positive rate, sensitivity; nil: not defined
	PR  []Point // recall, precision; nil: not defined
}

// LabelCurves returns the curves of each label.
func LabelCurves(c *Cases) []Curves {
	t := newSheet(c, Thresholds(nil, c.Labels, "", 0.5))
	var out []Curves
	for _, column := range t.columns {
		out = append(out, Curves{column.roc(), column.pr()})
	}
	return out
}

// Mistake is a wrong answer.
type Mistake struct {
	Sample      int     `json:"-"` // index of the case
	Name        string  `json:"name"`
	Patient     string  `json:"patient,omitempty"`
	Label       string  `json:"label"`            // the label, or for multiclass the true class
	Truth       bool    `json:"truth"`            // whether the sample has it; always for multiclass
	Probability float64 `json:"probability"`      // of the label
	Answer      string  `json:"answer,omitempty"` // multiclass: the predicted class
}

// Mistakes returns the n wrong answers whose probability was the furthest from the truth, the worst first.
func Mistakes(c *Cases, thresholds []Threshold, n int) []Mistake {
	var out []Mistake
	for i, p := range c.Prob {
		for k, label := range c.Labels {
			truth, known := c.positive(i, k)
			if !known || truth == c.predicted(i, k, thresholds) || c.Task == Multiclass && !truth {
				continue
			}
			m := Mistake{Sample: i, Label: label, Truth: truth, Probability: p[k]}
			if c.Names != nil {
				m.Name = c.Names[i]
			}
			if c.Patients != nil && c.Patients[i] != m.Name {
				m.Patient = c.Patients[i]
			}
			if c.Task == Multiclass {
				m.Answer = c.Labels[argmax(p)]
			}
			out = append(out, m)
		}
	}
	far := func(m Mistake) float64 {
		if m.Truth {
			return 1 - m.Probability
		}
		return m.Probability
	}
	slices.SortStableFunc(out, func(a, b Mistake) int { return cmp.Compare(far(b), far(a)) })
	return out[:min(n, len(out))]
}
