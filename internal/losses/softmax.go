package losses

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/config"
)

// softmax is a loss on the softmax of a row of logits whose target is one class index.
type softmax struct {
	name      string
	weight    []float64 // of each class; empty: 1
	smoothing float64   // share of the target spread evenly over all classes
	gamma     float64   // focal exponent
}

// newCrossEntropy is the cross-entropy with class weights and label smoothing, in PyTorch's definition:
//
//	−(1−s)·w[y]·log p[y] − s/C·Σ w[c]·log p[c]
func newCrossEntropy(c config.Loss, classes int) (Loss, error) {
	if !(c.LabelSmoothing >= 0 && c.LabelSmoothing < 1) {
		return nil, fmt.Errorf("loss.label_smoothing is %v, want at least 0 and below 1", c.LabelSmoothing)
	}
	return softmax{"cross_entropy", c.ClassWeight, c.LabelSmoothing, 0}, perClass("loss.class_weight", c.ClassWeight, classes)
}

// newFocalSoftmax is the multi-class focal loss on the softmax: −w[y]·(1−p[y])^gamma·log p[y].
func newFocalSoftmax(c config.Loss, classes int) (Loss, error) {
	if err := gammaInRange("loss.gamma", c.Gamma); err != nil {
		return nil, err
	}
	return softmax{"focal_softmax", c.ClassWeight, 0, c.Gamma}, perClass("loss.class_weight", c.ClassWeight, classes)
}

func (l softmax) Name() string    { return l.name }
func (l softmax) Targets(int) int { return 1 }

func (l softmax) classWeight(c int) float64 {
	if len(l.weight) == 0 {
		return 1
	}
	return l.weight[c]
}

func (l softmax) Count(targets []float32) float64 {
	var n float64
	for _, t := range targets {
		if t >= 0 {
			n += l.classWeight(int(t))
		}
	}
	return n
}

// Row: with a[c] the factor of −log p[c] in the loss and A = Σ a, the derivative is A·p[c] − a[c].
func (l softmax) Row(logits, targets, grad []float64) float64 {
	clear(grad)
	if !(targets[0] >= 0) {
		return 0
	}
	y, classes := int(targets[0]), len(logits)
	lse := newLogSumExp(logits)
	a := make([]float64, classes)
	value, slope := modulate(lse.minus(logits[y]), l.gamma)
	value *= (1 - l.smoothing) * l.classWeight(y)
	a[y] = (1 - l.smoothing) * l.classWeight(y) * slope
	total := a[y]
	if l.smoothing > 0 {
		for c, z := range logits {
			w := l.smoothing / float64(classes) * l.classWeight(c)
			value += w * lse.minus(z)
			a[c] += w
			total += w
		}
	}
	for c := range grad {
		if d := lse.minus(logits[c]); d < math.Ln2 {
			// p is near 1: 1−p by expm1, so that nothing is lost where a[c] is the total.
			grad[c] = total*math.Expm1(-d) + (total - a[c])
		} else {
			grad[c] = total*math.Exp(-d) - a[c]
		}
	}
	return value
}

// logSumExp is log Σ exp(z) kept as its largest term and the rest, so that differences keep their digits.
type logSumExp struct{ top, rest float64 }

func newLogSumExp(row []float64) logSumExp {
	at := 0
	for i, z := range row {
		if z > row[at] {
			at = i
		}
	}
	var others float64
	for i, z := range row {
		if i != at {
			others += math.Exp(z - row[at])
		}
	}
	return logSumExp{row[at], math.Log1p(others)}
}

// minus returns the log-sum-exp less z, which is −log p of that logit.
func (l logSumExp) minus(z float64) float64 { return l.top - z + l.rest }
