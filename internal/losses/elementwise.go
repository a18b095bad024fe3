package losses

import (
	"errors"
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/config"
)

// newFocal is the focal loss (Lin et al. 2017) with alpha as a plain multiplier of every element:
//
//	b = y·log(1+exp(−z)) + (1−y)·log(1+exp(z)),  pt = exp(−b)
//	alpha·(1−pt)^gamma·b
func newFocal(c config.Loss, _ int) (Loss, error) {
	if !(c.Alpha > 0) || math.IsInf(c.Alpha, 0) {
		return nil, fmt.Errorf("loss.alpha is %v, want a positive number", c.Alpha)
	}
	return elementwise{"focal", focal(c.Alpha, c.Gamma)}, gammaInRange("loss.gamma", c.Gamma)
}

func focal(alpha, gamma float64) element {
	return func(z, y float64, _ int) (value, slope float64) {
		b, db := bce(z, y, 1)
		value, dv := modulate(b, gamma)
		return alpha * value, alpha * dv * db
	}
}

// newFocalBalanced is the focal loss with its class balance: positives weigh alpha, negatives 1 − alpha.
func newFocalBalanced(c config.Loss, _ int) (Loss, error) {
	if !(c.Alpha > 0 && c.Alpha < 1) {
		return nil, fmt.Errorf("loss.alpha is %v, want more than 0 and less than 1: it weighs positives, 1 − alpha negatives, and at 1 negatives would teach nothing", c.Alpha)
	}
	plain := focal(1, c.Gamma)
	return elementwise{"focal_balanced", func(z, y float64, class int) (value, slope float64) {
		balance := c.Alpha*y + (1-c.Alpha)*(1-y)
		value, slope = plain(z, y, class)
		return balance * value, balance * slope
	}}, gammaInRange("loss.gamma", c.Gamma)
}

// newBCE is the binary cross-entropy on logits, positives of each label weighted by pos_weight:
//
//	w·y·log(1+exp(−z)) + (1−y)·log(1+exp(z))
func newBCE(c config.Loss, classes int) (Loss, error) {
	weights := c.PosWeight.Values
	if c.PosWeight.Auto {
		return nil, errors.New("loss.pos_weight: auto stands for weights that are taken from a training split (AutoPosWeight)")
	}
	return elementwise{"bce", func(z, y float64, class int) (value, slope float64) {
		if len(weights) > 0 {
			return bce(z, y, weights[class])
		}
		return bce(z, y, 1)
	}}, perClass("loss.pos_weight", weights, classes)
}

// newAsymmetric is the asymmetric loss for multi-label classification (Ridnik et al. 2021):
//
//	p = 1/(1+exp(−z)),  m = max(p − clip, 0)
//	−y·(1−p)^gamma_pos·log(p) − (1−y)·m^gamma_neg·log(1−m)
//
// With clip > 0 the loss of a negative is at most −log(clip) and its slope vanishes as p nears 1.
func newAsymmetric(c config.Loss, _ int) (Loss, error) {
	err := errors.Join(gammaInRange("loss.gamma_pos", c.GammaPos), gammaInRange("loss.gamma_neg", c.GammaNeg))
	if !(c.Clip >= 0 && c.Clip < 1) {
		err = errors.Join(err, fmt.Errorf("loss.clip is %v, want at least 0 and below 1", c.Clip))
	}
	return elementwise{"asymmetric", asymmetric(c.GammaPos, c.GammaNeg, c.Clip)}, err
}

func asymmetric(gammaPos, gammaNeg, clip float64) element {
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
		// Without clip, log(1−m) and q/(1−m) come from the logit: 1−m itself may round to 0.
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

// bce returns w·y·log(1+exp(−z)) + (1−y)·log(1+exp(z)) and its derivative. Every term is of one sign, so
// nothing cancels.
func bce(z, y, w float64) (value, slope float64) {
	return w*y*softplus(-z) + (1-y)*softplus(z), (1-y)*sigmoid(z) - w*y*sigmoid(-z)
}

// modulate returns (1−pt)^gamma·b with pt = exp(−b), and its derivative with respect to b.
func modulate(b, gamma float64) (value, slope float64) {
	if gamma == 0 {
		return b, 1
	}
	pt, rest := math.Exp(-b), -math.Expm1(-b)
	weight := math.Pow(rest, gamma)
	return weight * b, weight + gamma*math.Pow(rest, gamma-1)*pt*b
}

// sigmoid returns 1/(1+exp(−z)) with full relative precision on both sides.
func sigmoid(z float64) float64 {
	if z < 0 {
		e := math.Exp(z)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-z))
}

// softplus returns log(1+exp(z)).
func softplus(z float64) float64 { return max(z, 0) + math.Log1p(math.Exp(-math.Abs(z))) }
