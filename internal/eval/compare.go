package eval

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Difference is a measure of two models on the same samples, the first minus the second.
type Difference struct {
	First      Score `json:"first"`
	Second     Score `json:"second"`
	Difference Score `json:"difference"`
	Interval         // of the difference
	// P is the two-sided p-value of no difference: of DeLong's paired test, or from the resamples twice the smaller
	// share of differences at or beyond 0.
	P Score `json:"p"`
}

// Differences are those of measures, by their JSON name. A measure that is missing is undefined for one of the models.
type Differences map[string]Difference

// LabelDifferences are the differences of one label.
type LabelDifferences struct {
	Name        string      `json:"name"`
	Differences Differences `json:"differences"`
	Note        string      `json:"note,omitempty"`
}

// Comparison is a paired comparison of two models.
type Comparison struct {
	Samples   int                `json:"samples"`
	Patients  int                `json:"patients"`
	Labels    []LabelDifferences `json:"labels"`
	Macro     Differences        `json:"macro"`
	Micro     Differences        `json:"micro"`
	Resamples int                `json:"resamples,omitempty"`
	Seed      uint64             `json:"seed,omitempty"`
}

// Compare compares the predictions a and b of two models for the same samples, each with its own thresholds. AUROC of
// independent samples is compared by DeLong's test, everything else by patients resampled for both models together.
func Compare(a, b *Cases, thresholds [2][]Threshold, resamples int, seed uint64) (*Comparison, error) {
	if err := errors.Join(a.check(thresholds[0]), b.check(thresholds[1]), sameTruth(a, b)); err != nil {
		return nil, err
	}
	first, second := newSheet(a, thresholds[0]), newSheet(b, thresholds[1])
	c := &Comparison{Samples: len(a.Prob), Patients: first.units}
	x, y := first.measure(nil), second.measure(nil)
	rx, ry := first.resample(resamples, seed), second.resample(resamples, seed)
	if rx != nil {
		c.Resamples, c.Seed = resamples, seed
	}
	rows := make([]Differences, len(x.metrics))
	for row := range rows {
		rows[row] = differences(x.metrics[row], y.metrics[row], rx, ry, row)
	}
	n := len(a.Labels)
	for k, name := range a.Labels {
		if first.columns[k].independent(first.units) {
			if d, ok := delongTest(first.columns[k], second.columns[k]); ok {
				rows[k]["auroc"] = d
			}
		}
		l := LabelDifferences{Name: name, Differences: rows[k], Note: note(x.counts[k].TP+x.counts[k].FN, x.counts[k].TN+x.counts[k].FP)}
		c.Labels = append(c.Labels, l)
	}
	c.Macro, c.Micro = rows[n], rows[n+1]
	if n == 1 {
		c.Macro, c.Micro = rows[0], rows[0]
	}
	return c, nil
}

// sameTruth returns an error unless both hold the same samples.
func sameTruth(a, b *Cases) error {
	if a.Task != b.Task || !slices.Equal(a.Labels, b.Labels) || !slices.Equal(a.Names, b.Names) || !slices.Equal(a.Patients, b.Patients) || len(a.Target) != len(b.Target) {
		return errors.New("evaluation: only predictions for the same labels and samples can be compared")
	}
	for i := range a.Target {
		for k, t := range a.Target[i] {
			if u := b.Target[i][k]; t != u && !(math.IsNaN(t) && math.IsNaN(u)) {
				return fmt.Errorf("evaluation: the labels of sample %d differ between the two models", i)
			}
		}
	}
	return nil
}

// differences compares one row of measures over paired resamples.
func differences(x, y Metrics, rx, ry []measured, row int) Differences {
	out := Differences{}
	values := make([]float64, len(rx))
	for _, f := range fields() {
		first, second := *f.at(&x), *f.at(&y)
		if !first.Defined() || !second.Defined() {
			continue
		}
		d := Difference{
			First: first, Second: second, Difference: first - second,
			Interval: Interval{Undefined(), Undefined(), Bootstrap}, P: Undefined(),
		}
		below, above := 1, 1 // the data themselves count as a resample
		for i := range rx {
			v := float64(*f.at(&rx[i].metrics[row]) - *f.at(&ry[i].metrics[row]))
			values[i] = v
			if v <= 0 {
				below++
			}
			if v >= 0 {
				above++
			}
		}
		v, wide, enough := percentiles(values)
		if enough {
			d.P = min(1, 2*Score(min(below, above))/Score(len(rx)+1))
		}
		if wide {
			d.Interval = v
		}
		out[f.name] = d
	}
	return out
}
