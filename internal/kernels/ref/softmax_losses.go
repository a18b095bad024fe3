package ref

import "math"

// ClassLoss is a loss on the softmax of a row of logits whose target is one class.
type ClassLoss struct {
	// Weight is the weight of each class; nil means 1.
	Weight []float64
	// Smoothing is the share of the target that is spread evenly over all classes, in [0, 1).
	Smoothing float64
	// Gamma is the focal exponent, 0 or at least 1. Smoothing and Gamma are not used together.
	Gamma float64
}

// weight returns the weight of a class.
func (l ClassLoss) weight(class int) float64 {
	if l.Weight == nil {
		return 1
	}
	return l.Weight[class]
}

// TotalWeight returns the sum of the weights of the targets, negative (missing) ones left out. One over it
// is the scale of the weighted mean.
func (l ClassLoss) TotalWeight(targets []int) float64 {
	var sum float64
	for _, y := range targets {
		if y >= 0 {
			sum += l.weight(y)
		}
	}
	return sum
}

// SoftmaxLoss returns scale * Σ over the rows with a target y >= 0; a row with y < 0 has no label. With
// p = softmax(x[n]) over classes classes:
//
//	Gamma == 0: -(1-Smoothing)*Weight[y]*log(p[y]) - Smoothing/classes * Σ over c of Weight[c]*log(p[c])
//	Gamma != 0: -Weight[y] * (1-p[y])^Gamma * log(p[y])
//
// x is [N][classes].
func SoftmaxLoss[T Float](l ClassLoss, x []T, targets []int, classes int, scale float64) float64 {
	var sum float64
	for n, y := range targets {
		if y < 0 {
			continue
		}
		row := x[n*classes:][:classes]
		lse := newLogSumExp(row)
		if l.Gamma != 0 {
			value, _ := modulate(lse.minus(float64(row[y])), l.Gamma)
			sum += l.weight(y) * value
			continue
		}
		sum += (1 - l.Smoothing) * l.weight(y) * lse.minus(float64(row[y]))
		if l.Smoothing > 0 {
			for c, z := range row {
				sum += l.Smoothing / float64(classes) * l.weight(c) * lse.minus(float64(z))
			}
		}
	}
	return scale * sum
}

// SoftmaxLossBackward is the gradient of SoftmaxLoss with respect to x; rows without a label get zero. With
// a[c] the factor of -log(p[c]) in the loss (for Gamma != 0 its derivative at y, 0 elsewhere) and A = Σ a:
//
//	dx[n][c] = scale * (A*p[c] - a[c])
func SoftmaxLossBackward[T Float](dx []T, l ClassLoss, x []T, targets []int, classes int, scale float64) {
	a := make([]float64, classes)
	for n, y := range targets {
		row, drow := x[n*classes:][:classes], dx[n*classes:][:classes]
		if y < 0 {
			clear(drow)
			continue
		}
		lse := newLogSumExp(row)
		var total float64
		for c := range a {
			a[c] = l.Smoothing / float64(classes) * l.weight(c)
		}
		if l.Gamma != 0 {
			_, slope := modulate(lse.minus(float64(row[y])), l.Gamma)
			clear(a)
			a[y] = l.weight(y) * slope
		} else {
			a[y] += (1 - l.Smoothing) * l.weight(y)
		}
		for _, v := range a {
			total += v
		}
		for c, z := range row {
			if d := lse.minus(float64(z)); d < math.Ln2 {
				// p is near 1: 1-p by expm1, so that nothing is lost where a[c] is the total.
				drow[c] = T(scale * (total*math.Expm1(-d) + (total - a[c])))
			} else {
				drow[c] = T(scale * (total*math.Exp(-d) - a[c]))
			}
		}
	}
}

// logSumExp is log Σ exp(z) over a row, kept as its maximum and the rest so that differences stay exact.
type logSumExp struct{ top, rest float64 }

func newLogSumExp[T Float](row []T) logSumExp {
	at := 0
	for c, z := range row {
		if z > row[at] {
			at = c
		}
	}
	top := float64(row[at])
	var others float64
	for c, z := range row {
		if c != at {
			others += math.Exp(float64(z) - top)
		}
	}
	return logSumExp{top, math.Log1p(others)}
}

// minus returns log Σ exp - z, which is -log of the softmax at z.
func (l logSumExp) minus(z float64) float64 { return l.top - z + l.rest }
