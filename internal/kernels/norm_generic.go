package kernels

import "math"

// The inner loops of layer norm, GELU and attention in plain Go.

// ewGELU sets y = x times the normal distribution function of x.
func ewGELU(y, x []float32) {
	for i, v := range x[:len(y)] {
		y[i] = float32(float64(v) * normalCDF(float64(v)))
	}
}

// ewGELUBack sets dx = dy times the derivative of GELU at x.
func ewGELUBack(dx, dy, x []float32) {
	for i, g := range dy[:len(dx)] {
		v := float64(x[i])
		dx[i] = g * float32(normalCDF(v)+v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi))
	}
}

func normalCDF(v float64) float64 { return 0.5 * math.Erfc(-v/math.Sqrt2) }

// ewRowNorm sets y = (x-mean)*invstd*gamma + beta.
func ewRowNorm(y, x, gamma, beta []float32, mean, invstd float32) {
	x, gamma, beta = x[:len(y)], gamma[:len(y)], beta[:len(y)]
	for i, v := range x {
		y[i] = (v-mean)*invstd*gamma[i] + beta[i]
	}
}

// ewRowSums returns in 16 lanes each the sums of a = dy*gamma and of a*xhat, xhat = (x-mean)*invstd, and
// adds dy*xhat to dgamma and dy to dbeta.
func ewRowSums(x, dy, gamma []float32, mean, invstd float32, dgamma, dbeta []float32, out *[32]float32) {
	*out = [32]float32{}
	for i, v := range x {
		hat, g := (v-mean)*invstd, dy[i]
		dgamma[i] += g * hat
		dbeta[i] += g
		a := g * gamma[i]
		out[i%16] += a
		out[16+i%16] += a * hat
	}
}

// rowConstants are those of one row of LayerNormBackward. The assembly reads the fields by their place.
type rowConstants struct{ mean, invstd, meanA, meanAHat float32 }

// ewRowBack sets dx = invstd*(dy*gamma - meanA - xhat*meanAHat).
func ewRowBack(dx, x, dy, gamma []float32, c *rowConstants) {
	x, dy, gamma = x[:len(dx)], dy[:len(dx)], gamma[:len(dx)]
	for i, v := range x {
		dx[i] = c.invstd * (dy[i]*gamma[i] - c.meanA - (v-c.mean)*c.invstd*c.meanAHat)
	}
}

// tileProduct describes a product of tiles, C [m][n] = A [m][k] * B [k][n]. Element (i, j) of A lies at
// i*aRow + j*aCol; rows of B and C are b and c floats apart. m is a multiple of 12 and n of 32. With add
// set to 1 the product is added to C. The assembly reads the fields by their place.
type tileProduct struct{ m, n, k, aRow, aCol, b, c, add int }

// ewTileProduct computes the product that g describes.
func ewTileProduct(c, a, b []float32, g *tileProduct) {
	for i := range g.m {
		row := c[i*g.c:][:g.n]
		if g.add == 0 {
			clear(row)
		}
		for k := range g.k {
			f := a[i*g.aRow+k*g.aCol]
			for j, v := range b[k*g.b:][:g.n] {
				row[j] += f * v
			}
		}
	}
}

// softmaxSlack is by what power of 2 scores may exceed those that the online softmax takes for the largest. The assembly
// has its own copy.
const softmaxSlack = 8

// ewSoftmaxTile makes one step of the online softmax. s holds scores, a row of len(m) queries for each of
// rows keys. m and l are each query's maximum and sum of powers so far; both are brought up to date,
// s becomes 2^(scale*(s-m)), scale > 0, and corr is set to what earlier powers must be multiplied by. A maximum stays
// where powers below 2^softmaxSlack come of it: then there is nothing to multiply.
func ewSoftmaxTile(s, m, l, corr []float32, rows int, scale float32) {
	for q, old := range m {
		best := old
		for k := range rows {
			best = max(best, s[k*len(m)+q])
		}
		if best*scale-old*scale <= softmaxSlack {
			best = old
		}
		m[q] = best
		top := best * scale // rounded alike for every tile
		corr[q] = exp2(float64(old*scale - top))
		sum := l[q] * corr[q]
		for k := range rows {
			p := exp2(float64(s[k*len(m)+q])*float64(scale) - float64(top))
			s[k*len(m)+q] = p
			sum += p
		}
		l[q] = sum
	}
}

// ewSoftmaxBack sets s = 2^(scale*s-lse) and ds = s*(ds-delta).
func ewSoftmaxBack(s, ds []float32, scale, lse, delta float32) {
	for i, v := range s {
		s[i] = exp2(float64(v)*float64(scale) - float64(lse))
		ds[i] = s[i] * (ds[i] - delta)
	}
}

func exp2(v float64) float32 { return float32(math.Exp2(v)) }
