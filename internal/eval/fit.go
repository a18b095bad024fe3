package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Calibrate fits a calibration of the given method to logits [n][C] and targets as in Cases. A label that gives nothing
// to fit keeps its probabilities; the warnings say which, and where a fit rests on few samples. The caller adds the
// origin.
func Calibrate(method, task string, labels []string, logits, target [][]float64) (c *Calibration, warnings []string, err error) {
	var own *Calibration
	cases := &Cases{Task: task, Labels: labels, Prob: own.Probabilities(task, logits), Target: target}
	if err := cases.check(Thresholds(nil, labels, "", 0.5)); err != nil {
		return nil, nil, err
	}
	c = &Calibration{Method: method}
	switch {
	case method == Temperature && task == Multiclass:
		t, warning := cases.softmaxTemperature(logits)
		return &Calibration{Method: method, Temperature: []float64{t}}, warning, nil
	case method != Temperature && method != Isotonic:
		return nil, nil, fmt.Errorf("the method of calibration is %q, allowed: %s, %s", method, Temperature, Isotonic)
	}
	for k, label := range labels {
		var z, p []float64
		var y []bool
		positives := 0
		for i := range logits {
			if positive, known := cases.positive(i, k); known {
				z, p, y = append(z, logits[i][k]), append(p, cases.Prob[i][k]), append(y, positive)
				if positive {
					positives++
				}
			}
		}
		negatives := len(y) - positives
		usable := positives > 0 && negatives > 0
		switch {
		case !usable:
			warnings = append(warnings, fmt.Sprintf("%s: not calibrated, because there are %d positive and %d negative samples", label, positives, negatives))
		case min(positives, negatives) < FewCases:
			warnings = append(warnings, fmt.Sprintf("%s: calibrated on %d positive and %d negative samples only: the calibration is rough", label, positives, negatives))
		}
		if method == Isotonic {
			m := Monotone{}
			if usable {
				m = isotonic(p, y)
			}
			c.Isotonic = append(c.Isotonic, m)
			continue
		}
		t := 1.0
		if usable {
			var ok bool
			if t, ok = temperature(func(beta float64) float64 {
				slope := 0.0
				for i, v := range z {
					q := 1 / (1 + math.Exp(-beta*v))
					if y[i] {
						q--
					}
					slope += q * v
				}
				return slope
			}); !ok {
				warnings = append(warnings, fmt.Sprintf("%s: not calibrated, because no temperature fits: the logits separate the samples completely, or not at all", label))
			}
		}
		c.Temperature = append(c.Temperature, t)
	}
	return c, warnings, nil
}

// softmaxTemperature fits the one temperature of a multiclass task.
func (c *Cases) softmaxTemperature(logits [][]float64) (t float64, warnings []string) {
	right := 0
	for i := range c.Prob {
		if ok, known := c.positive(i, argmax(c.Prob[i])); known && ok {
			right++
		}
	}
	if right < FewCases {
		warnings = append(warnings, fmt.Sprintf("calibrated on %d samples, %d of them answered rightly: the calibration is rough", len(c.Prob), right))
	}
	t, ok := temperature(func(beta float64) float64 {
		slope := 0.0
		scaled := make([]float64, len(c.Labels))
		for i, z := range logits {
			class := c.Target[i][0]
			if math.IsNaN(class) {
				continue
			}
			for k, v := range z {
				scaled[k] = beta * v
			}
			for k, p := range Activate(Multiclass, scaled) {
				slope += p * z[k]
			}
			slope -= z[int(class)]
		}
		return slope
	})
	if !ok {
		warnings = append(warnings, "not calibrated, because no temperature fits: the logits separate the samples completely, or not at all")
	}
	return t, warnings
}

// temperature returns the one that minimises a negative log-likelihood, which is convex in the inverse β of the
// temperature, from its derivative in β. When the minimum lies outside of 1/100 to 100 there is no fit, and it is 1.
func temperature(slope func(beta float64) float64) (t float64, ok bool) {
	low, high := math.Log(0.01), math.Log(100)
	if !(slope(math.Exp(low)) < 0 && slope(math.Exp(high)) > 0) {
		return 1, false
	}
	for range 100 {
		middle := (low + high) / 2
		if slope(math.Exp(middle)) < 0 {
			low = middle
		} else {
			high = middle
		}
	}
	return math.Exp(-(low + high) / 2), true
}

// isotonic returns the monotone function of the probabilities that is closest to the truth in least squares, by pooling
// adjacent violators (Ayer et al., 1955). Between its steps it is linear, as scikit-learn has it.
func isotonic(p []float64, y []bool) Monotone {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	type block struct{ first, last, sum, n float64 } // from the place first to last, with n samples of sum positives
	var blocks []block
	for start := 0; start < len(order); {
		b := block{first: p[order[start]], last: p[order[start]]}
		for ; start < len(order) && p[order[start]] == b.first; start++ {
			b.n++
			if y[order[start]] {
				b.sum++
			}
		}
		for len(blocks) > 0 && blocks[len(blocks)-1].sum*b.n >= b.sum*blocks[len(blocks)-1].n {
			before := blocks[len(blocks)-1]
			blocks = blocks[:len(blocks)-1]
			b = block{before.first, b.last, before.sum + b.sum, before.n + b.n}
		}
		blocks = append(blocks, b)
	}
	var m Monotone
	for _, b := range blocks {
		m.X, m.Y = append(m.X, b.first), append(m.Y, b.sum/b.n)
		if b.last > b.first {
			m.X, m.Y = append(m.X, b.last), append(m.Y, b.sum/b.n)
		}
	}
	return m
}
