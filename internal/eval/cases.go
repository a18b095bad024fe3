package eval

import (
	"fmt"
	"math"
)

// Cases are the predictions of a model on n samples.
type Cases struct {
	Task     string
	Labels   []string
	Names    []string    // [n], identities of the samples; nil where nobody asks for them
	Patients []string    // [n], what is resampled together; nil: every sample is a patient
	Prob     [][]float64 // [n][labels]
	Target   [][]float64 // [n][labels] of 0, 1 or NaN, or for multiclass [n][1] with a class or NaN
}

// Subset returns the cases of the given indices.
func (c *Cases) Subset(index []int) *Cases {
	out := &Cases{Task: c.Task, Labels: c.Labels, Prob: pick(c.Prob, index), Target: pick(c.Target, index)}
	if c.Names != nil {
		out.Names = pick(c.Names, index)
	}
	if c.Patients != nil {
		out.Patients = pick(c.Patients, index)
	}
	return out
}

// check returns an error when the cases do not fit together.
func (c *Cases) check(thresholds []Threshold) error {
	if err := c.checkShape(thresholds); err != nil {
		return fmt.Errorf("evaluation: %w", err)
	}
	columns := len(c.Labels)
	if c.Task == Multiclass {
		columns = 1
	}
	for i := range c.Prob {
		if len(c.Prob[i]) != len(c.Labels) || len(c.Target[i]) != columns {
			return fmt.Errorf("evaluation: sample %d has %d probabilities and %d label values, expected %d and %d",
				i, len(c.Prob[i]), len(c.Target[i]), len(c.Labels), columns)
		}
		for k, p := range c.Prob[i] {
			if !(p >= 0 && p <= 1) {
				return fmt.Errorf("evaluation: the probability of label %q for sample %d is %v, expected a number from 0 to 1", c.Labels[k], i, p)
			}
		}
		for k, t := range c.Target[i] {
			switch {
			case math.IsNaN(t):
			case c.Task == Multiclass:
				if t != math.Trunc(t) || t < 0 || t >= float64(len(c.Labels)) {
					return fmt.Errorf("evaluation: the class of sample %d is %v, expected an index from 0 to %d", i, t, len(c.Labels)-1)
				}
			case t != 0 && t != 1:
				return fmt.Errorf("evaluation: label %q of sample %d is %v, expected 0, 1 or missing", c.Labels[k], i, t)
			}
		}
	}
	return nil
}

// checkShape checks everything but the samples one by one.
func (c *Cases) checkShape(thresholds []Threshold) error {
	switch {
	case c.Task != Binary && c.Task != Multilabel && c.Task != Multiclass:
		return fmt.Errorf("task is %q, expected %s, %s or %s", c.Task, Binary, Multilabel, Multiclass)
	case len(c.Labels) == 0:
		return fmt.Errorf("there are no labels")
	case c.Task == Binary && len(c.Labels) != 1:
		return fmt.Errorf("a binary task has one label, got %d", len(c.Labels))
	case c.Task == Multiclass && len(c.Labels) < 2:
		return fmt.Errorf("a multiclass task has at least two classes, got %d", len(c.Labels))
	case len(c.Prob) != len(c.Target):
		return fmt.Errorf("there are probabilities of %d samples and labels of %d", len(c.Prob), len(c.Target))
	case c.Names != nil && len(c.Names) != len(c.Prob) || c.Patients != nil && len(c.Patients) != len(c.Prob):
		return fmt.Errorf("there are probabilities of %d samples, %d names and %d patients", len(c.Prob), len(c.Names), len(c.Patients))
	case len(thresholds) != len(c.Labels):
		return fmt.Errorf("there are %d thresholds for %d labels", len(thresholds), len(c.Labels))
	}
	for _, t := range thresholds {
		if c.Task != Multiclass && !(t.Value >= 0 && t.Value <= 1) {
			return fmt.Errorf("the threshold is %v, expected a number from 0 to 1", t.Value)
		}
	}
	return nil
}

// Truth returns 1 when sample i has label k, 0 when not, and NaN when it is not known.
func (c *Cases) Truth(i, k int) float64 {
	switch positive, known := c.positive(i, k); {
	case !known:
		return math.NaN()
	case positive:
		return 1
	}
	return 0
}

// positive says whether sample i has label k, if it is known.
func (c *Cases) positive(i, k int) (positive, known bool) {
	if c.Task == Multiclass {
		t := c.Target[i][0]
		return int(t) == k, !math.IsNaN(t)
	}
	t := c.Target[i][k]
	return t == 1, !math.IsNaN(t)
}

// predicted says whether sample i is predicted to have label k.
func (c *Cases) predicted(i, k int, thresholds []Threshold) bool {
	if c.Task == Multiclass {
		return argmax(c.Prob[i]) == k
	}
	return c.Prob[i][k] >= thresholds[k].Value
}

// sheet holds cases ready to be measured any number of times.
type sheet struct {
	cases      *Cases
	thresholds []Threshold
	units      int       // patients
	unit       []int     // of each sample
	columns    []*ranked // of the labels
	pool       *ranked   // of all labels together
	top        *ranked   // multiclass: the highest probability of each sample, positive where its class is right
}

func newSheet(c *Cases, thresholds []Threshold) *sheet {
	t := &sheet{cases: c, thresholds: thresholds, pool: &ranked{}, unit: make([]int, len(c.Prob))}
	t.units = len(c.Prob)
	for i := range t.unit {
		t.unit[i] = i
	}
	if c.Patients != nil {
		index := map[string]int{}
		for i, p := range c.Patients {
			u, ok := index[p]
			if !ok {
				u = len(index)
				index[p] = u
			}
			t.unit[i] = u
		}
		t.units = len(index)
	}
	for k := range c.Labels {
		column := &ranked{}
		for i := range c.Prob {
			if positive, known := c.positive(i, k); known {
				column.add(c.Prob[i][k], positive, c.predicted(i, k, thresholds), t.unit[i])
			}
		}
		t.pool.append(column)
		column.rank()
		t.columns = append(t.columns, column)
	}
	t.pool.rank()
	if c.Task == Multiclass {
		t.top = &ranked{}
		for i, p := range c.Prob {
			k := argmax(p)
			if right, known := c.positive(i, k); known {
				t.top.add(p[k], right, true, t.unit[i])
			}
		}
		t.top.rank()
	}
	return t
}

// measured are all measures of a sheet: a row for each label, then macro, then micro.
type measured struct {
	counts  []Counts // of labels and, last, micro
	metrics []Metrics
}

func (m *measured) macro() *Metrics { return &m.metrics[len(m.metrics)-2] }
func (m *measured) micro() *Metrics { return &m.metrics[len(m.metrics)-1] }

// measure measures everything. weight says how often each patient counts; nil: once.
func (t *sheet) measure(weight []int) measured {
	var m measured
	add := func(c Counts, x Metrics) { m.counts, m.metrics = append(m.counts, c), append(m.metrics, x) }
	for _, column := range t.columns {
		add(column.measure(weight))
	}
	m.metrics = append(m.metrics, macro(m.metrics))
	if len(t.columns) == 1 { // the pool is the label
		add(m.counts[0], m.metrics[0])
		return m
	}
	add(t.pool.measure(weight))
	if t.top != nil {
		_, top := t.top.measure(weight)
		micro := m.micro()
		micro.Accuracy, micro.ECE = top.PPV, top.ECE
		micro.Brier *= Score(len(t.columns))
	}
	return m
}

// report makes the report without intervals.
func (t *sheet) report(threshold float64) *Report {
	c := t.cases
	r := &Report{Task: c.Task, Samples: len(c.Prob), Threshold: Score(threshold)}
	m := t.measure(nil)
	if c.Patients != nil {
		r.Patients = t.units
	}
	if c.Task == Multiclass {
		r.Threshold = Undefined()
		r.Confusion = t.confusion()
	}
	for k, name := range c.Labels {
		l := Label{
			Name: name, Valid: m.counts[k].all(), Positive: m.counts[k].TP + m.counts[k].FN,
			Counts: m.counts[k], Metrics: m.metrics[k], Threshold: Undefined(),
		}
		if c.Task != Multiclass {
			l.Threshold, l.Point = Score(t.thresholds[k].Value), t.thresholds[k].Point
		}
		r.Labels = append(r.Labels, l)
	}
	r.Macro.Metrics = *m.macro()
	r.Micro.Counts, r.Micro.Metrics = m.counts[len(c.Labels)], *m.micro()
	return r
}

// confusion counts samples by true and predicted class.
func (t *sheet) confusion() [][]int {
	out := make([][]int, len(t.cases.Labels))
	for k := range out {
		out[k] = make([]int, len(out))
	}
	for i, p := range t.cases.Prob {
		if class := t.cases.Target[i][0]; !math.IsNaN(class) {
			out[int(class)][argmax(p)]++
		}
	}
	return out
}
