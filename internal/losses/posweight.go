package losses

import "fmt"

// MaxAutoPosWeight bounds the weights of AutoPosWeight: the few positives of a rare label would otherwise
// drown everything else in their noise.
const MaxAutoPosWeight = 20

// AutoPosWeight returns loss.pos_weight for the targets of a training split, one row a sample with a value in
// [0, 1] for each label, NaN or negative where it is missing: the negatives over the positives of each label,
// at most MaxAutoPosWeight. A label without positives or without negatives gets 1 and a warning.
func AutoPosWeight(targets [][]float64, labels []string) (weights []float64, warnings []string) {
	for c, label := range labels {
		var positives, negatives float64
		for _, row := range targets {
			if y := row[c]; y >= 0 {
				positives += y
				negatives += 1 - y
			}
		}
		weight := 1.0
		switch {
		case positives == 0:
			warnings = append(warnings, fmt.Sprintf("label %s has no positives in the training split: loss.pos_weight auto gives it 1, and nothing about it can be learned", label))
		case negatives == 0:
			warnings = append(warnings, fmt.Sprintf("label %s has no negatives in the training split: loss.pos_weight auto gives it 1, and nothing about it can be learned", label))
		default:
			weight = min(negatives/positives, MaxAutoPosWeight)
		}
		weights = append(weights, weight)
	}
	return weights, warnings
}
