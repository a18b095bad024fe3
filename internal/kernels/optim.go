package kernels

import "math"

// adamConstants are the factors of one AdamW step. The assembly reads the fields by their place.
type adamConstants struct {
	oneMinusBeta1, beta2, oneMinusBeta2, invSqrtBias2, eps, keep, stepSize float32
}

// AdamW makes step number step (from 1) of AdamW (Loshchilov and Hutter, 2019) in PyTorch's form: w shrinks
// by lr*decay*w, then moves
// by lr/(1-beta1^step) * mom / (sqrt(vel)/sqrt(1-beta2^step) + eps).
func (m *Machine) AdamW(w, g, mom, vel []float32, lr, beta1, beta2, eps, decay float64, step int) {
	k := m.ewTable()
	c := &adamConstants{
		oneMinusBeta1: float32(1 - beta1),
		beta2:         float32(beta2),
		oneMinusBeta2: float32(1 - beta2),
		invSqrtBias2:  float32(1 / math.Sqrt(1-math.Pow(beta2, float64(step)))),
		eps:           float32(eps),
		keep:          float32(1 - lr*decay),
		stepSize:      float32(lr / (1 - math.Pow(beta1, float64(step)))),
	}
	m.ewFlat(len(w), func(lo, hi int, tail bool) {
		f := k.adamW
		if tail {
			f = ewAdamW
		}
		f(w[lo:hi], g[lo:hi], mom[lo:hi], vel[lo:hi], c)
	})
}

// sgdConstants are the factors of one SGD step. The assembly reads the fields by their place.
type sgdConstants struct{ lr, momentum, decay float32 }

// SGDNesterov makes a step of stochastic gradient descent with Nesterov momentum in PyTorch's form: with
// g' = g + decay*w, mom becomes momentum*mom + g' and w moves by -lr*(g' + momentum*mom). mom starts at zero.
func (m *Machine) SGDNesterov(w, g, mom []float32, lr, momentum, decay float64) {
	k := m.ewTable()
	c := &sgdConstants{float32(lr), float32(momentum), float32(decay)}
	m.ewFlat(len(w), func(lo, hi int, tail bool) {
		f := k.sgd
		if tail {
			f = ewSGD
		}
		f(w[lo:hi], g[lo:hi], mom[lo:hi], c)
	})
}
