package kernels

import (
	"math"
	"sync/atomic"
)

// adamConstants are the factors of one AdamW step. The assembly reads the fields by their place.
type adamConstants struct {
	oneMinusBeta1, beta2, oneMinusBeta2, invSqrtBias2, eps, keep, stepSize float32
}

// AdamW makes step number step (from 1) of AdamW (Loshchilov and Hutter, 2019) in PyTorch's form: w shrinks
// by lr*decay*w, then moves
// by lr/(1-beta1^step) * mom / (sqrt(vel)/sqrt(1-beta2^step) + eps). Whether the gradient was finite is as for
// all optimisers (see finiteSpans).
func (m *Machine) AdamW(w, g, mom, vel []float32, lr, beta1, beta2, eps, decay float64, step int) (finite bool) {
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
	return m.finiteSpans(g, func(lo, hi int, tail bool) {
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
func (m *Machine) SGDNesterov(w, g, mom []float32, lr, momentum, decay float64) (finite bool) {
	k := m.ewTable()
	c := &sgdConstants{float32(lr), float32(momentum), float32(decay)}
	return m.finiteSpans(g, func(lo, hi int, tail bool) {
		f := k.sgd
		if tail {
			f = ewSGD
		}
		f(w[lo:hi], g[lo:hi], mom[lo:hi], c)
	})
}

// Lion makes a step of Lion (Chen et al., 2023): w shrinks by lr*decay*w and moves by lr against the sign of
// beta1*mom + (1-beta1)*g; then mom becomes beta2*mom + (1-beta2)*g. mom starts at zero.
func (m *Machine) Lion(w, g, mom []float32, lr, beta1, beta2, decay float64) (finite bool) {
	keep, bits := float32(1-lr*decay), math.Float32bits(float32(lr))
	b1, b2 := float32(1-beta1), float32(1-beta2)
	return m.finiteSpans(g, func(lo, hi int, _ bool) {
		w, g, mom := w[lo:hi], g[lo:hi], mom[lo:hi]
		for i, gi := range g {
			d := gi - mom[i]
			step := float32(0)
			if c := mom[i] + b1*d; c != 0 { // the sign by its bit: a branch would be guessed wrong half the time
				step = math.Float32frombits(bits | math.Float32bits(c)&(1<<31))
			}
			w[i] = w[i]*keep - step
			mom[i] += b2 * d
		}
	})
}

// MovingAverage moves average towards w: average += (1-decay)*(w-average).
func (m *Machine) MovingAverage(average, w []float32, decay float64) {
	rest := float32(1 - decay)
	m.ewFlat(len(w), func(lo, hi int, _ bool) {
		average, w := average[lo:hi], w[lo:hi]
		for i, v := range w {
			average[i] += rest * (v - average[i])
		}
	})
}

// finiteSpans runs f over spans of the gradient g as ewFlat does, but leaves out those that hold a value whose
// square is not finite, which would be in the weights for ever, and reports whether there was none. The check
// costs little: f finds the span in the cache.
func (m *Machine) finiteSpans(g []float32, f func(lo, hi int, tail bool)) bool {
	k := m.ewTable()
	var bad atomic.Bool
	m.ewFlat(len(g), func(lo, hi int, tail bool) {
		sumSq := k.sumSq
		if tail {
			sumSq = ewSumSqTail
		}
		var lanes [16]float32
		sumSq(g[lo:hi], &lanes)
		var sum float64
		for _, v := range lanes {
			sum += float64(v)
		}
		if sum-sum != 0 { // NaN for NaN and infinities
			bad.Store(true)
			return
		}
		f(lo, hi, tail)
	})
	return !bad.Load()
}

// ewSumSqTail is ewSumSq of fewer floats than one for each lane.
func ewSumSqTail(x []float32, out *[16]float32) {
	for i, v := range x {
		out[i] = v * v
	}
}
