package eval

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
)

// The methods of calibration.
const (
	// Temperature divides the logits by one number (Guo et al., ICML 2017): one for each label, or for the
	// multiclass task one for all classes. It changes no order of probabilities.
	Temperature = "temperature"
	// Isotonic replaces each probability by a step-wise monotone function of it (Zadrozny and Elkan, KDD 2002); the
	// multiclass task maps each class by itself and divides by the sum.
	Isotonic = "isotonic"
)

// Origin says on what a calibration was fitted or an operating point was chosen.
type Origin struct {
	Split           string   `json:"split"`
	Samples         int      `json:"samples"`
	Flips           []string `json:"flips,omitempty"` // axes of test-time augmentation
	DataFingerprint string   `json:"data_fingerprint,omitempty"`
}

// Calibration makes probabilities out of a model's logits that agree with how often a label was there where it was
// fitted. A nil Calibration leaves the model's own probabilities.
type Calibration struct {
	Method string `json:"method"`
	// Temperature has one number above 0 for each label, or one alone in the multiclass task.
	Temperature []float64 `json:"temperature,omitempty"`
	// Isotonic has one function for each label.
	Isotonic []Monotone `json:"isotonic,omitempty"`
	Origin   Origin     `json:"origin"`
}

// Monotone is a function from probability to probability that never falls: linear between the points (X, Y) and
// constant beyond them. Without points it is the identity.
type Monotone struct {
	X []float64 `json:"x"` // ascending, none twice
	Y []float64 `json:"y"` // never falling
}

// At returns the function's value at x.
func (m Monotone) At(x float64) float64 {
	n := len(m.X)
	if n == 0 {
		return x
	}
	i := sort.SearchFloat64s(m.X, x) // the first point at or beyond x
	switch {
	case i == 0:
		return m.Y[0]
	case i == n:
		return m.Y[n-1]
	case m.X[i] == x:
		return m.Y[i]
	}
	share := (x - m.X[i-1]) / (m.X[i] - m.X[i-1])
	return m.Y[i-1] + share*(m.Y[i]-m.Y[i-1])
}

// Check returns an error when the calibration cannot belong to a model of the given task and number of labels.
func (c *Calibration) Check(task string, labels int) error {
	if c == nil {
		return nil
	}
	switch c.Method {
	case Temperature:
		want := labels
		if task == Multiclass {
			want = 1
		}
		if len(c.Temperature) != want || c.Isotonic != nil {
			return fmt.Errorf("calibration by temperature has %d numbers, expected %d", len(c.Temperature), want)
		}
		for _, t := range c.Temperature {
			if !(t > 0) || math.IsInf(t, 0) {
				return fmt.Errorf("the temperature of a calibration is %v, expected a number above 0", t)
			}
		}
	case Isotonic:
		if len(c.Isotonic) != labels || c.Temperature != nil {
			return fmt.Errorf("isotonic calibration has %d functions, expected %d", len(c.Isotonic), labels)
		}
		for _, m := range c.Isotonic {
			if err := m.check(); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("the method of calibration is %q, expected %s or %s", c.Method, Temperature, Isotonic)
	}
	return nil
}

func (m Monotone) check() error {
	if len(m.X) != len(m.Y) {
		return fmt.Errorf("an isotonic calibration has %d places and %d values", len(m.X), len(m.Y))
	}
	for i := range m.X {
		if !(m.X[i] >= 0 && m.X[i] <= 1 && m.Y[i] >= 0 && m.Y[i] <= 1) {
			return errors.New("an isotonic calibration has a point outside of 0 to 1")
		}
		if i > 0 && (m.X[i] <= m.X[i-1] || m.Y[i] < m.Y[i-1]) {
			return errors.New("an isotonic calibration falls")
		}
	}
	return nil
}

// Probabilities turns logits [n][C] into probabilities: calibrated ones, or for a nil receiver the model's own. A
// logit that is not a number gives a probability that is none.
func (c *Calibration) Probabilities(task string, logits [][]float64) [][]float64 {
	out := make([][]float64, len(logits))
	for i, z := range logits {
		out[i] = c.row(task, z)
	}
	return out
}

func (c *Calibration) row(task string, z []float64) []float64 {
	if c == nil {
		return Activate(task, z)
	}
	if c.Method == Temperature {
		z = slices.Clone(z)
		for k := range z {
			z[k] /= c.Temperature[min(k, len(c.Temperature)-1)]
		}
		return Activate(task, z)
	}
	p := Activate(task, z)
	sum := 0.0
	mapped := make([]float64, len(p))
	for k, x := range p {
		if mapped[k] = x; !math.IsNaN(x) {
			mapped[k] = c.Isotonic[k].At(x)
		}
		sum += mapped[k]
	}
	if task != Multiclass {
		return mapped
	}
	if sum == 0 { // every class was never right at such a probability: nothing better is known
		return p
	}
	for k := range mapped {
		mapped[k] /= sum
	}
	return mapped
}

// Activate turns the logits of one sample into probabilities: by the logistic function for each label, or by
// softmax in the multiclass task.
func Activate(task string, z []float64) []float64 {
	p := make([]float64, len(z))
	if task != Multiclass {
		for k, v := range z {
			p[k] = 1 / (1 + math.Exp(-v))
		}
		return p
	}
	top := math.Inf(-1)
	for _, v := range z {
		top = max(top, v)
	}
	sum := 0.0
	for k, v := range z {
		p[k] = math.Exp(v - top)
		sum += p[k]
	}
	for k := range p {
		p[k] /= sum
	}
	return p
}
