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
	Brier            Score `json:"brier"`             // mean square of the difference of probability and truth
	ECE              Score `json:"ece"`               // expected calibration error over Bins parts of equal width
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
	// Threshold is the probability from which the label counts as predicted; undefined in the multiclass task, where
	// the class of the highest probability is predicted.
	Threshold Score  `json:"threshold"`
	Point     string `json:"operating_point,omitempty"` // the operating point that the threshold is of
	Counts
	Metrics
	Extras
	Points      []PointResult `json:"operating_points,omitempty"`
	Reliability []Bin         `json:"reliability,omitempty"`
}

// Pooled holds the results over all pairs of a sample and a label taken together.
type Pooled struct {
	Counts
	Metrics
	Extras
}

// Average holds the means over the labels.
type Average struct {
	Metrics
	Extras
}

// Extras are what only Analyze finds out.
type Extras struct {
	Intervals Intervals `json:"intervals,omitempty"`
	Note      string    `json:"note,omitempty"` // what to know about the intervals
}

// Report is the result of an evaluation.
type Report struct {
	Task     string `json:"task"`
	Samples  int    `json:"samples"` // all samples, with and without a known label
	Patients int    `json:"patients,omitempty"`
	// Threshold is the probability from which a label without an operating point counts as predicted; undefined in
	// the multiclass task.
	Threshold Score   `json:"threshold"`
	Labels    []Label `json:"labels"`
	// Macro is the mean over the labels for which a measure is defined.
	Macro Average `json:"macro"`
	// Micro pools all labels. In the multiclass task its accuracy is the share of samples whose class was predicted,
	// its Brier score the sum over the classes (from 0 to 2) and its ECE that of the predicted class; the other
	// measures pool the comparisons of each class with the rest.
	Micro Pooled `json:"micro"`
	// Confusion counts samples by true class (row) and predicted class (column), in the order of
	// Labels; only in the multiclass task.
	Confusion [][]int `json:"confusion,omitempty"`
	// Resamples is the number of resamples of the patients behind the intervals of the method bootstrap, drawn from
	// Seed.
	Resamples int    `json:"resamples,omitempty"`
	Seed      uint64 `json:"seed,omitempty"`
}

// Compute evaluates n samples. prob is [n][C] with a probability for each label. target is [n][C]
// with 0, 1 or NaN for a missing label; in the multiclass task it is [n][1] with the index of the
// class or NaN. A label counts as predicted when its probability is at least threshold; the
// multiclass task predicts the class of the highest probability (the first of equals) instead. No
// samples give a report in which everything is undefined.
func Compute(task string, labels []string, prob, target [][]float64, threshold float64) (*Report, error) {
	c := Cases{Task: task, Labels: labels, Prob: prob, Target: target}
	thresholds := Thresholds(nil, labels, "", threshold)
	if err := c.check(thresholds); err != nil {
		return nil, err
	}
	return newSheet(&c, thresholds).report(threshold), nil
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
		{"brier", func(m *Metrics) *Score { return &m.Brier }},
		{"ece", func(m *Metrics) *Score { return &m.ECE }},
	}
}

// macro averages each measure over the labels that define it.
func macro(labels []Metrics) Metrics {
	return Combine(labels, func(x []float64) float64 {
		sum := 0.0
		for _, v := range x {
			sum += v
		}
		return sum / float64(len(x)) // 0/0 is NaN: undefined
	})
}

// Combine makes one value of each measure: by of those that are defined, in order.
func Combine(list []Metrics, by func([]float64) float64) Metrics {
	var out Metrics
	for _, f := range fields() {
		var values []float64
		for i := range list {
			if s := *f.at(&list[i]); s.Defined() {
				values = append(values, float64(s))
			}
		}
		*f.at(&out) = Score(by(values))
	}
	return out
}

// LowerIsBetter says whether a small value of a measure, or of the loss, is the good one.
func LowerIsBetter(measure string) bool {
	return measure == "loss" || measure == "brier" || measure == "ece"
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
		return *f.at(&r.Macro.Metrics), nil
	}
	return Undefined(), fmt.Errorf("unknown metric %q, expected one of %v", name, MetricNames())
}
