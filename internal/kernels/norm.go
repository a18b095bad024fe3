package kernels

import "math"

// LayerNorm normalises each row of x [rows][e] to mean 0 and variance 1 (biased, eps added) and sets
// y = normalised*gamma + beta. It leaves each row's mean and 1/sqrt(variance+eps) for the backward pass.
// y may be x, but the backward pass needs x.
func (m *Machine) LayerNorm(x Vec, rows, e int, gamma, beta []float32, eps float64, y Vec, mean, invstd []float32) {
	k := m.ewTable()
	whole := e / Block * Block
	per := rowsPerTask(e)
	m.Run((rows+per-1)/per, func(worker, i int) {
		s := m.stage(worker)
		var out [48]float32
		for r := i * per; r < min(rows, (i+1)*per); r++ {
			xs, ys := s.read(x, r*e, (r+1)*e), s.write(y, r*e, (r+1)*e)
			mu, variance := k.rowStats(xs, &out)
			a, b := float32(mu), float32(1/math.Sqrt(variance+eps))
			mean[r], invstd[r] = a, b
			k.rowNorm(ys[:whole], xs[:whole], gamma[:whole], beta[:whole], a, b)
			ewRowNorm(ys[whole:], xs[whole:], gamma[whole:], beta[whole:], a, b)
			s.done()
		}
	})
}

// LayerNormStats sets each row's mean and 1/sqrt(variance+eps), to the bit as LayerNorm leaves them.
func (m *Machine) LayerNormStats(x Vec, rows, e int, eps float64, mean, invstd []float32) {
	k := m.ewTable()
	per := rowsPerTask(e)
	m.Run((rows+per-1)/per, func(worker, i int) {
		s := m.stage(worker)
		var out [48]float32
		for r := i * per; r < min(rows, (i+1)*per); r++ {
			mu, variance := k.rowStats(s.read(x, r*e, (r+1)*e), &out)
			s.done()
			mean[r], invstd[r] = float32(mu), float32(1/math.Sqrt(variance+eps))
		}
	})
}

// rowsPerTask returns how many rows of e floats make a task of ewSpan*4 floats.
func rowsPerTask(e int) int { return max(1, ewSpan*4/max(1, e)) }

// rowStats returns the mean and the biased variance of a row. out is scratch.
func (k *ewTable) rowStats(x []float32, out *[48]float32) (mean, variance float64) {
	whole := len(x) / Block * Block
	tail := x[whole:]
	n, inv := float64(whole/Block), 0.0
	var sums [4]float64 // several, as each addition waits for the one before
	if whole > 0 {
		inv = 1 / n
		k.stats(x[:whole], out)
		for l := range Block {
			sums[l%4] += n*float64(out[l]) + float64(out[16+l])
		}
	}
	mean = sums[0] + sums[1] + (sums[2] + sums[3])
	for _, v := range tail {
		mean += float64(v)
	}
	mean /= float64(len(x))
	if whole > 0 {
		sums = [4]float64{}
		for l := range Block {
			d := float64(out[16+l])
			off := float64(out[l]) + d*inv - mean
			sums[l%4] += float64(out[32+l]) - d*d*inv + n*off*off
		}
		variance = sums[0] + sums[1] + (sums[2] + sums[3])
	}
	for _, v := range tail {
		variance += (float64(v) - mean) * (float64(v) - mean)
	}
	return mean, max(0, variance/float64(len(x)))
}

// LayerNormBackward sets dx to the gradient of LayerNorm with respect to x, and dgamma and dbeta to those
// of its parameters, summed over the rows in a fixed order. dx may be dy.
func (m *Machine) LayerNormBackward(x, dy Vec, rows, e int, gamma, mean, invstd []float32, dx Vec, dgamma, dbeta []float32) {
	k := m.ewTable()
	whole := e / Block * Block
	chunk := max(32, (rows+31)/32)
	chunks := (rows + chunk - 1) / chunk
	parts := make([]float64, chunks*2*e)
	sums := make([]float32, m.Threads()*2*e)
	m.Run(chunks, func(worker, i int) {
		s := m.stage(worker)
		var out, rest [32]float32
		var c rowConstants
		g, b := sums[worker*2*e:][:e], sums[(worker*2+1)*e:][:e]
		last := min(rows, (i+1)*chunk)
		for r := i * chunk; r < last; {
			clear(g)
			clear(b)
			for end := min(last, r+32); r < end; r++ {
				xs, gs, os := s.read(x, r*e, (r+1)*e), s.read(dy, r*e, (r+1)*e), s.write(dx, r*e, (r+1)*e)
				k.rowSums(xs[:whole], gs[:whole], gamma[:whole], mean[r], invstd[r], g[:whole], b[:whole], &out)
				ewRowSums(xs[whole:], gs[whole:], gamma[whole:], mean[r], invstd[r], g[whole:], b[whole:], &rest)
				var s1, s2 float64
				for l := range Block {
					s1 += float64(out[l]) + float64(rest[l])
					s2 += float64(out[16+l]) + float64(rest[16+l])
				}
				c = rowConstants{mean[r], invstd[r], float32(s1 / float64(e)), float32(s2 / float64(e))}
				k.rowBack(os[:whole], xs[:whole], gs[:whole], gamma[:whole], &c)
				ewRowBack(os[whole:], xs[whole:], gs[whole:], gamma[whole:], &c)
				s.done()
			}
			part := parts[i*2*e:][:2*e]
			for j, v := range g {
				part[j] += float64(v)
				part[e+j] += float64(b[j])
			}
		}
	})
	for j := range e {
		var g, b float64
		for i := range chunks {
			g += parts[i*2*e+j]
			b += parts[(i*2+1)*e+j]
		}
		dgamma[j], dbeta[j] = float32(g), float32(b)
	}
}

// GELU sets y = x*Phi(x), Phi the normal distribution function (the exact form, not the tanh one), to an
// absolute error of 2e-7*max(1, |x|). y may be x, but the backward pass needs x.
func (m *Machine) GELU(x, y Vec) {
	k := m.ewTable()
	m.ewVec(y, func(s *stage, lo, hi int, tail bool) {
		xs, ys := s.read(x, lo, hi), s.write(y, lo, hi)
		if tail { // on the same path as the rest: the result must not depend on an element's place
			var in, out [Block]float32
			copy(in[:], xs)
			k.gelu(out[:], in[:])
			copy(ys, out[:])
			return
		}
		k.gelu(ys, xs)
	})
}

// GELUBackward sets dx = dy times the derivative of GELU at x. dx may be dy.
func (m *Machine) GELUBackward(x, dy, dx Vec) {
	k := m.ewTable()
	m.ewVec(dx, func(s *stage, lo, hi int, tail bool) {
		xs, gs, os := s.read(x, lo, hi), s.read(dy, lo, hi), s.write(dx, lo, hi)
		if tail {
			var in, g, out [Block]float32
			copy(in[:], xs)
			copy(g[:], gs)
			k.geluBack(out[:], g[:], in[:])
			copy(os, out[:])
			return
		}
		k.geluBack(os, gs, xs)
	})
}
