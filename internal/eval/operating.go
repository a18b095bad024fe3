package eval

import (
	"fmt"
	"slices"
)

// OperatingPoint is a threshold for the probability of a label, with the reason for it. In the multiclass task it is
// for the class against all others; the answer stays the class of the highest probability.
type OperatingPoint struct {
	Name      string  `json:"name"`  // the rule as it was asked for: youden, sensitivity=0.95, ...
	Label     string  `json:"label"` // a label of the model
	Threshold float64 `json:"threshold"`
	// Counts are those of the samples on which the threshold was chosen.
	Counts
	Origin Origin `json:"origin"`
}

// CheckPoints returns an error when the points cannot belong to a model with the given labels.
func CheckPoints(points []OperatingPoint, labels []string) error {
	type key struct{ name, label string }
	seen := map[key]bool{}
	for _, p := range points {
		k := key{p.Name, p.Label}
		switch {
		case p.Name == "":
			return fmt.Errorf("an operating point of label %q has no name", p.Label)
		case !slices.Contains(labels, p.Label):
			return fmt.Errorf("the operating point %s is for %q, which is no label of the model", p.Name, p.Label)
		case seen[k]:
			return fmt.Errorf("the operating point %s of label %q is there twice", p.Name, p.Label)
		case !(p.Threshold >= 0 && p.Threshold <= 1):
			return fmt.Errorf("the threshold of operating point %s for label %q is %v, expected a number from 0 to 1", p.Name, p.Label, p.Threshold)
		}
		seen[k] = true
	}
	return nil
}

// Threshold is the probability from which a label counts as present.
type Threshold struct {
	Value float64
	Point string // name of the operating point; "": there is none, and Value is the one of the configuration
}

// Thresholds returns the threshold of each label: that of its operating point of the given name, or of its first one
// when name is empty, and fallback where a label has none.
func Thresholds(points []OperatingPoint, labels []string, name string, fallback float64) []Threshold {
	out := make([]Threshold, len(labels))
	for i, label := range labels {
		out[i] = Threshold{Value: fallback}
		for _, p := range points {
			if p.Label == label && (name == "" || p.Name == name) {
				out[i] = Threshold{p.Threshold, p.Name}
				break
			}
		}
	}
	return out
}
