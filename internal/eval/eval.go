// Package eval measures how well predicted probabilities agree with labels.
//
// A measure that the data do not define is not a number in memory, null in JSON and "n/a" in text,
// never a stand-in such as 0 or 0.5: AUROC and AUPRC of a label with one class only, and every
// ratio 0/0 (such as the sensitivity of a label without positives).
package eval

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// The tasks of Compute.
const (
	Binary     = "binary"     // one label, present or not
	Multilabel = "multilabel" // labels that are present or not, each by itself
	Multiclass = "multiclass" // exactly one of the labels
)

// Score is a measure; NaN means undefined and is written as null in JSON and "n/a" in text.
type Score float64

// Undefined is the score of a measure that the data do not define.
func Undefined() Score { return Score(math.NaN()) }

// Defined reports whether the score has a value.
func (s Score) Defined() bool { return !math.IsNaN(float64(s)) }

// String returns the score with three decimals, or "n/a".
func (s Score) String() string {
	if !s.Defined() {
		return "n/a"
	}
	return strconv.FormatFloat(float64(s), 'f', 3, 64)
}

// MarshalJSON writes the number, or null when undefined.
func (s Score) MarshalJSON() ([]byte, error) {
	if !s.Defined() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(s))
}

// UnmarshalJSON reads a number or null.
func (s *Score) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*s = Undefined()
		return nil
	}
	return json.Unmarshal(b, (*float64)(s))
}

// Metrics are the measures of one label or of an average.
type Metrics struct {
	AUROC            Score `json:"auroc"` // area under the ROC curve; tied probabilities count half
	AUPRC            Score `json:"auprc"` // average precision: the step-wise area under precision over recall
	F1               Score `json:"f1"`    // 2TP / (2TP+FP+FN)
	Accuracy         Score `json:"accuracy"`
	BalancedAccuracy Score `json:"balanced_accuracy"` // mean of sensitivity and specificity
	Sensitivity      Score `json:"sensitivity"`       // TP / (TP+FN)
	Specificity      Score `json:"specificity"`       // TN / (TN+FP)
	PPV              Score `json:"ppv"`               // TP / (TP+FP)
	NPV              Score `json:"npv"`               // TN / (TN+FN)
}

// Counts is a two-by-two confusion table.
type Counts struct {
	TP int `json:"tp"`
	FP int `json:"fp"`
	TN int `json:"tn"`
	FN int `json:"fn"`
}

// Label holds the results of one label; of a class against all others in the multiclass task.
type Label struct {
	Name     string `json:"name"`
	Valid    int    `json:"valid"`    // samples whose label is known
	Positive int    `json:"positive"` // of these, samples that have it
	Counts
	Metrics
}

// Pooled holds the results over all pairs of a sample and a label taken together.
type Pooled struct {
	Counts
	Metrics
}

// Report is the result of an evaluation.
type Report struct {
	Task    string `json:"task"`
	Samples int    `json:"samples"` // all samples, with and without a known label
	// Threshold is the probability from which a label counts as predicted; undefined in the
	// multiclass task, where the class of the highest probability is predicted.
	Threshold Score   `json:"threshold"`
	Labels    []Label `json:"labels"`
	// Macro is the mean over the labels for which a measure is defined.
	Macro Metrics `json:"macro"`
	// Micro pools all labels. In the multiclass task its accuracy is the share of samples whose
	// class was predicted; the other measures pool the comparisons of each class with the rest.
	Micro Pooled `json:"micro"`
	// Confusion counts samples by true class (row) and predicted class (column), in the order of
	// Labels; only in the multiclass task.
	Confusion [][]int `json:"confusion,omitempty"`
}

// Compute evaluates n samples. prob is [n][C] with a probability for each label. target is [n][C]
// with 0, 1 or NaN for a missing label; in the multiclass task it is [n][1] with the index of the
// class or NaN. A label counts as predicted when its probability is at least threshold; the
// multiclass task predicts the class of the highest probability (the first of equals) instead. No
// samples give a report in which everything is undefined.
func Compute(task string, labels []string, prob, target [][]float64, threshold float64) (*Report, error) {
	if err := checkInput(task, labels, prob, target, threshold); err != nil {
		return nil, fmt.Errorf("evaluation: %w", err)
	}
	r := &Report{Task: task, Samples: len(prob), Threshold: Score(threshold)}
	var pool pairs
	correct, valid := 0, 0
	var predicted []int
	if task == Multiclass {
		r.Threshold = Undefined()
		predicted = make([]int, len(prob))
		r.Confusion = make([][]int, len(labels))
		for c := range labels {
			r.Confusion[c] = make([]int, len(labels))
		}
		for i, row := range prob {
			predicted[i] = argmax(row)
			if t := target[i][0]; !math.IsNaN(t) {
				valid++
				r.Confusion[int(t)][predicted[i]]++
				if int(t) == predicted[i] {
					correct++
				}
			}
		}
	}
	for c, name := range labels {
		var p pairs
		for i, row := range prob {
			if task == Multiclass {
				if t := target[i][0]; !math.IsNaN(t) {
					p.add(row[c], int(t) == c, predicted[i] == c)
				}
			} else if t := target[i][c]; !math.IsNaN(t) {
				p.add(row[c], t == 1, row[c] >= threshold)
			}
		}
		counts, metrics := p.measure()
		r.Labels = append(r.Labels, Label{Name: name, Valid: len(p.score), Positive: counts.TP + counts.FN, Counts: counts, Metrics: metrics})
		pool.append(p)
	}
	r.Macro = macro(r.Labels)
	r.Micro.Counts, r.Micro.Metrics = pool.measure()
	if task == Multiclass {
		r.Micro.Accuracy = ratio(correct, valid)
	}
	return r, nil
}

// checkInput returns an error when the arguments of Compute do not fit together.
func checkInput(task string, labels []string, prob, target [][]float64, threshold float64) error {
	columns := len(labels)
	switch {
	case task != Binary && task != Multilabel && task != Multiclass:
		return fmt.Errorf("task is %q, expected %s, %s or %s", task, Binary, Multilabel, Multiclass)
	case len(labels) == 0:
		return fmt.Errorf("there are no labels")
	case task == Binary && len(labels) != 1:
		return fmt.Errorf("a binary task has one label, got %d", len(labels))
	case task == Multiclass && len(labels) < 2:
		return fmt.Errorf("a multiclass task has at least two classes, got %d", len(labels))
	case len(prob) != len(target):
		return fmt.Errorf("there are probabilities of %d samples and labels of %d", len(prob), len(target))
	case task != Multiclass && !(threshold >= 0 && threshold <= 1):
		return fmt.Errorf("the threshold is %v, expected a number from 0 to 1", threshold)
	case task == Multiclass:
		columns = 1
	}
	for i := range prob {
		if len(prob[i]) != len(labels) || len(target[i]) != columns {
			return fmt.Errorf("sample %d has %d probabilities and %d label values, expected %d and %d", i, len(prob[i]), len(target[i]), len(labels), columns)
		}
		for c, p := range prob[i] {
			if !(p >= 0 && p <= 1) {
				return fmt.Errorf("the probability of label %q for sample %d is %v, expected a number from 0 to 1", labels[c], i, p)
			}
		}
		for c, t := range target[i] {
			if math.IsNaN(t) {
				continue
			}
			if task == Multiclass {
				if t != math.Trunc(t) || t < 0 || t >= float64(len(labels)) {
					return fmt.Errorf("the class of sample %d is %v, expected an index from 0 to %d", i, t, len(labels)-1)
				}
			} else if t != 0 && t != 1 {
				return fmt.Errorf("label %q of sample %d is %v, expected 0, 1 or missing", labels[c], i, t)
			}
		}
	}
	return nil
}

// argmax returns the index of the largest value, the first of equals.
func argmax(x []float64) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// field gives access to one measure of Metrics by its JSON name.
type field struct {
	name string
	at   func(*Metrics) *Score
}

// fields lists the measures in the order of the report.
func fields() []field {
	return []field{
		{"auroc", func(m *Metrics) *Score { return &m.AUROC }},
		{"auprc", func(m *Metrics) *Score { return &m.AUPRC }},
		{"f1", func(m *Metrics) *Score { return &m.F1 }},
		{"accuracy", func(m *Metrics) *Score { return &m.Accuracy }},
		{"balanced_accuracy", func(m *Metrics) *Score { return &m.BalancedAccuracy }},
		{"sensitivity", func(m *Metrics) *Score { return &m.Sensitivity }},
		{"specificity", func(m *Metrics) *Score { return &m.Specificity }},
		{"ppv", func(m *Metrics) *Score { return &m.PPV }},
		{"npv", func(m *Metrics) *Score { return &m.NPV }},
	}
}

// macro averages each measure over the labels that define it.
func macro(labels []Label) Metrics {
	var out Metrics
	for _, f := range fields() {
		sum, n := 0.0, 0
		for i := range labels {
			if s := *f.at(&labels[i].Metrics); s.Defined() {
				sum += float64(s)
				n++
			}
		}
		*f.at(&out) = Score(sum / float64(n)) // 0/0 is NaN: undefined
	}
	return out
}

// MetricNames returns the names that [Report.Metric] takes.
func MetricNames() []string {
	var names []string
	for _, f := range fields() {
		names = append(names, f.name)
	}
	return names
}

// Metric returns the one number of the report for a measure: the macro average, but the share of
// correctly predicted samples for the accuracy of a multiclass task. An unknown name is an error.
func (r *Report) Metric(name string) (Score, error) {
	for _, f := range fields() {
		if f.name != name {
			continue
		}
		if name == "accuracy" && r.Task == Multiclass {
			return r.Micro.Accuracy, nil
		}
		return *f.at(&r.Macro), nil
	}
	return Undefined(), fmt.Errorf("unknown metric %q, expected one of %v", name, MetricNames())
}
