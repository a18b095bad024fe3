package ref

import "math"

// Loss is an elementwise loss: its value and its derivative with respect to the logit z, for target y in
// [0, 1] of the given class. Both stay finite for finite logits.
type Loss func(z, y float64, class int) (value, slope float64)

// LossValue returns scale * Σ loss(x[n][c], t[n][c]) over the elements whose target is valid; a negative or
// NaN target means that the label is missing. x and t are [N][classes].
func LossValue[T Float](loss Loss, x, t []T, classes int, scale float64) float64 {
	var sum float64
	for i, z := range x {
		if t[i] >= 0 {
			value, _ := loss(float64(z), float64(t[i]), i%classes)
			sum += value
		}
	}
	return scale * sum
}

// LossBackward is the gradient of LossValue: dx[n][c] = scale * slope, 0 where the target is missing.
func LossBackward[T Float](dx []T, loss Loss, x, t []T, classes int, scale float64) {
	for i, z := range x {
		dx[i] = 0
		if t[i] >= 0 {
			_, slope := loss(float64(z), float64(t[i]), i%classes)
			dx[i] = T(scale * slope)
		}
	}
}

// BCE is the binary cross-entropy on logits, its positive part weighted by class; posWeight nil means 1:
//
//	posWeight[class]*y*log(1+exp(-z)) + (1-y)*log(1+exp(z))
func BCE(posWeight []float64) Loss {
	return func(z, y float64, class int) (value, slope float64) {
		if posWeight != nil {
			return bce(z, y, posWeight[class])
		}
		return bce(z, y, 1)
	}
}

// Focal is the focal loss (Lin et al. 2017) with alpha as a plain multiplier:
//
//	b = log(1+exp(-z))*y + log(1+exp(z))*(1-y),  pt = exp(-b)
//	alpha * (1-pt)^gamma * b
//
// gamma must be 0 or at least 1: between them the slope is infinite at pt = 1.
func Focal(alpha, gamma float64) Loss {
	return func(z, y float64, _ int) (value, slope float64) {
		b, db := bce(z, y, 1)
		value, dv := modulate(b, gamma)
		return alpha * value, alpha * dv * db
	}
}

// FocalBalanced is the focal loss with its class balance: as Focal, but the factor is alpha for positives
// and 1-alpha for negatives, alpha*y + (1-alpha)*(1-y); alpha lies in (0, 1).
func FocalBalanced(alpha, gamma float64) Loss {
	plain := Focal(1, gamma)
	return func(z, y float64, class int) (value, slope float64) {
		balance := alpha*y + (1-alpha)*(1-y)
		value, slope = plain(z, y, class)
		return balance * value, balance * slope
	}
}

// Asymmetric is the asymmetric loss for multi-label classification (Ridnik et al. 2021):
//
//	p = 1/(1+exp(-z)),  m = max(p - clip, 0)
//	-y * (1-p)^gammaPos * log(p) - (1-y) * m^gammaNeg * log(1-m)
//
// With clip > 0 the loss of a negative is at most -log(clip) and its slope vanishes as p nears 1.
// clip lies in [0, 1); gammaPos >= 0; gammaNeg must be 0 or at least 1.
func Asymmetric(gammaPos, gammaNeg, clip float64) Loss {
	return func(z, y float64, _ int) (value, slope float64) {
		p, q := sigmoid(z), sigmoid(-z)
		if y > 0 {
			focus, l := math.Pow(q, gammaPos), softplus(-z)
			value = y * focus * l
			slope = -y * focus * (gammaPos*p*l + q)
		}
		m := p - clip
		if y >= 1 || m <= 0 {
			return value, slope
		}
		// Without clip, log(1-m) and q/(1-m) come from the logit: 1-m itself may round to 0.
		l, ratio := softplus(z), 1.0
		if clip > 0 {
			l, ratio = -math.Log1p(-m), q/(q+clip)
		}
		focus := math.Pow(m, gammaNeg)
		d := focus * ratio
		if gammaNeg > 0 {
			d += gammaNeg * math.Pow(m, gammaNeg-1) * q * l
		}
		return value + (1-y)*focus*l, slope + (1-y)*p*d
	}
}

// bce returns w*y*log(1+exp(-z)) + (1-y)*log(1+exp(z)) and its derivative. Every term is of one sign, so
// nothing cancels.
func bce(z, y, w float64) (value, slope float64) {
	return w*y*softplus(-z) + (1-y)*softplus(z), (1-y)*sigmoid(z) - w*y*sigmoid(-z)
}

// modulate returns (1-pt)^gamma * b with pt = exp(-b), and its derivative with respect to b.
func modulate(b, gamma float64) (value, slope float64) {
	if gamma == 0 {
		return b, 1
	}
	pt, rest := math.Exp(-b), -math.Expm1(-b)
	weight := math.Pow(rest, gamma)
	return weight * b, weight + gamma*math.Pow(rest, gamma-1)*pt*b
}

// sigmoid returns 1/(1+exp(-z)) with full relative precision on both sides.
func sigmoid(z float64) float64 {
	if z < 0 {
		e := math.Exp(z)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-z))
}

// softplus returns log(1+exp(z)).
func softplus(z float64) float64 { return max(z, 0) + math.Log1p(math.Exp(-math.Abs(z))) }
