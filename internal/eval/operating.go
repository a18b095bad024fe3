package eval

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
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

// Rule says how an operating point is chosen.
type Rule struct {
	Name string // as it was written
	kind string
	// share is the sensitivity or specificity to reach; costs are those of a false positive and a false negative.
	share          float64
	costFP, costFN float64
}

// RuleText describes what ParseRule reads.
const RuleText = "youden, sensitivity=SHARE, specificity=SHARE or cost=FP:FN"

// ParseRule reads a rule:
//
//   - youden: the largest sum of sensitivity and specificity (Youden 1950);
//   - sensitivity=0.95: the highest threshold with at least this sensitivity;
//   - specificity=0.95: the lowest threshold with at least this specificity;
//   - cost=1:5: the smallest total cost, when a false positive costs 1 and a false negative 5.
func ParseRule(text string) (Rule, error) {
	kind, value, _ := strings.Cut(text, "=")
	r := Rule{Name: text, kind: kind}
	ok := false
	switch kind {
	case "youden":
		ok = text == kind
	case "sensitivity", "specificity":
		share, err := strconv.ParseFloat(value, 64)
		r.share = share
		ok = err == nil && share > 0 && share <= 1
	case "cost":
		fp, fn, _ := strings.Cut(value, ":")
		var errFP, errFN error
		r.costFP, errFP = strconv.ParseFloat(fp, 64)
		r.costFN, errFN = strconv.ParseFloat(fn, 64)
		ok = errFP == nil && errFN == nil && r.costFP > 0 && r.costFN > 0 && !math.IsInf(r.costFP+r.costFN, 0)
	}
	if !ok {
		return Rule{}, fmt.Errorf("%q is no rule for an operating point, allowed: %s", text, RuleText)
	}
	return r, nil
}

// better reports whether counts a suit the rule better than b; equal ones suit it equally.
func (r Rule) better(a, b Counts) bool {
	switch r.kind {
	case "youden": // in whole numbers: both have the same positives and negatives
		youden := func(c Counts) int { return c.TP*(c.FP+c.TN) + c.TN*(c.TP+c.FN) }
		return youden(a) > youden(b)
	case "sensitivity": // the highest threshold that reaches it, else the lowest one
		if reached := r.reached(a.TP, a.FN); reached != r.reached(b.TP, b.FN) {
			return reached
		} else if reached {
			return a.TP+a.FP < b.TP+b.FP
		}
		return a.TP+a.FP > b.TP+b.FP
	case "specificity":
		if reached := r.reached(a.TN, a.FP); reached != r.reached(b.TN, b.FP) {
			return reached
		} else if reached {
			return a.TP+a.FP > b.TP+b.FP
		}
		return a.TP+a.FP < b.TP+b.FP
	}
	cost := func(c Counts) float64 { return r.costFP*float64(c.FP) + r.costFN*float64(c.FN) }
	return cost(a) < cost(b)
}

// reached reports whether hits are at least the rule's share; a rounding error of the share does not count.
func (r Rule) reached(hits, misses int) bool {
	return float64(hits) >= r.share*float64(hits+misses)-1e-9
}

// ChoosePoints chooses operating points for each label on the calibrated probabilities of cases. A threshold lies
// halfway between two neighbouring probabilities. A label without positives or negatives gets none; the warnings say
// so, and where a point rests on few samples. The caller adds the origin.
func ChoosePoints(c *Cases, rules []Rule) (points []OperatingPoint, warnings []string, err error) {
	thresholds := Thresholds(nil, c.Labels, "", 0.5)
	if err := c.check(thresholds); err != nil {
		return nil, nil, err
	}
	s := newSheet(c, thresholds)
	for k, label := range c.Labels {
		column := s.columns[k]
		candidates := column.candidates()
		if candidates == nil {
			warnings = append(warnings, label+": no operating point, because there are no positive or no negative samples")
			continue
		}
		n := candidates[0].Counts
		if positives, negatives := n.TP+n.FN, n.FP+n.TN; min(positives, negatives) < FewCases {
			warnings = append(warnings, fmt.Sprintf("%s: operating points chosen on %d positive and %d negative samples only", label, positives, negatives))
		}
		for _, r := range rules {
			best := candidates[0]
			for _, p := range candidates[1:] {
				if r.better(p.Counts, best.Counts) {
					best = p
				}
			}
			best.Name, best.Label = r.Name, label
			points = append(points, best)
		}
	}
	return points, warnings, nil
}

// candidates returns a threshold for each way to divide the samples by score, from the highest; nil where a class is
// missing.
func (r *ranked) candidates() []OperatingPoint {
	var out []OperatingPoint
	r.walk(func(tp, fp, positives, negatives int) {
		last := tp + fp - 1 // the lowest that is still predicted
		below := 0.0
		if last+1 < len(r.score) {
			below = r.score[last+1]
		}
		threshold := (r.score[last] + below) / 2
		if threshold <= below { // no number lies between
			threshold = r.score[last]
		}
		if len(out) == 0 && r.score[last] < 1 { // above all of them
			out = append(out, OperatingPoint{Threshold: (r.score[last] + 1) / 2, Counts: Counts{TN: negatives, FN: positives}})
		}
		out = append(out, OperatingPoint{Threshold: threshold, Counts: Counts{TP: tp, FP: fp, TN: negatives - fp, FN: positives - tp}})
	})
	return out
}
