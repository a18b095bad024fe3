package ref

import "math"

// AdamW holds the settings of AdamW (Loshchilov and Hutter 2019), Adam with decoupled weight decay.
type AdamW struct{ LR, Beta1, Beta2, Eps, WeightDecay float64 }

// AdamWStep does step number step (from 1) on the weights w with gradient g and the moments m and v, which
// start at zero:
//
//	w[i] *= 1 - LR*WeightDecay
//	m[i] = Beta1*m[i] + (1-Beta1)*g[i]
//	v[i] = Beta2*v[i] + (1-Beta2)*g[i]²
//	w[i] -= LR * m[i]/(1-Beta1^step) / (sqrt(v[i]/(1-Beta2^step)) + Eps)
func AdamWStep[T Float](w, m, v, g []T, step int, o AdamW) {
	c1 := 1 - math.Pow(o.Beta1, float64(step))
	c2 := 1 - math.Pow(o.Beta2, float64(step))
	for i, gi := range g {
		d := float64(gi)
		mi := o.Beta1*float64(m[i]) + (1-o.Beta1)*d
		vi := o.Beta2*float64(v[i]) + (1-o.Beta2)*d*d
		m[i], v[i] = T(mi), T(vi)
		w[i] = T(float64(w[i])*(1-o.LR*o.WeightDecay) - o.LR*(mi/c1)/(math.Sqrt(vi/c2)+o.Eps))
	}
}

// SGD holds the settings of stochastic gradient descent with momentum; its weight decay is part of the
// gradient.
type SGD struct {
	LR, Momentum, WeightDecay float64
	Nesterov                  bool
}

// SGDStep does one step on the weights w with gradient g and the momentum buffer, which starts at zero:
//
//	d = g[i] + WeightDecay*w[i]
//	buffer[i] = Momentum*buffer[i] + d
//	w[i] -= LR * (Nesterov ? d + Momentum*buffer[i] : buffer[i])
func SGDStep[T Float](w, buffer, g []T, o SGD) {
	for i, gi := range g {
		d := float64(gi) + o.WeightDecay*float64(w[i])
		b := o.Momentum*float64(buffer[i]) + d
		buffer[i] = T(b)
		if o.Nesterov {
			b = d + o.Momentum*b
		}
		w[i] = T(float64(w[i]) - o.LR*b)
	}
}

// Lion holds the settings of Lion (Chen et al. 2023), whose weight decay is decoupled.
type Lion struct{ LR, Beta1, Beta2, WeightDecay float64 }

// LionStep does one step on the weights w with gradient g and the momentum m, which starts at zero:
//
//	w[i] -= LR * (sign(Beta1*m[i] + (1-Beta1)*g[i]) + WeightDecay*w[i])
//	m[i] = Beta2*m[i] + (1-Beta2)*g[i]
func LionStep[T Float](w, m, g []T, o Lion) {
	for i, gi := range g {
		d, mi := float64(gi), float64(m[i])
		var sign float64
		switch c := o.Beta1*mi + (1-o.Beta1)*d; {
		case c > 0:
			sign = 1
		case c < 0:
			sign = -1
		}
		w[i] = T(float64(w[i])*(1-o.LR*o.WeightDecay) - o.LR*sign)
		m[i] = T(o.Beta2*mi + (1-o.Beta2)*d)
	}
}

// Average moves the average towards w: average[i] = decay*average[i] + (1-decay)*w[i].
func Average[T Float](average, w []T, decay float64) {
	for i, v := range w {
		average[i] = T(decay*float64(average[i]) + (1-decay)*float64(v))
	}
}
