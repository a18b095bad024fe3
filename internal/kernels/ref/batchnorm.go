package ref

import "math"

// BNStats computes the statistics of a batch per channel, over samples and voxels, in two passes:
//
//	m = N*D*H*W
//	mean[c] = Σ x[n][c][d][h][w] / m
//	variance[c] = Σ (x[n][c][d][h][w] - mean[c])² / m
func BNStats[T Float](mean, variance, x []T, s Shape) {
	v := s.Spatial()
	m := float64(s.N * v)
	for c := range s.C {
		var sum float64
		for n := range s.N {
			for _, xi := range x[(n*s.C+c)*v:][:v] {
				sum += float64(xi)
			}
		}
		mu := sum / m
		var squares float64
		for n := range s.N {
			for _, xi := range x[(n*s.C+c)*v:][:v] {
				d := float64(xi) - mu
				squares += d * d
			}
		}
		mean[c], variance[c] = T(mu), T(squares/m)
	}
}

// BNNorm normalises with given statistics (those of the batch in training, the running ones in evaluation):
//
//	y[n][c][...] = (x[n][c][...] - mean[c]) / sqrt(variance[c] + eps) * gamma[c] + beta[c]
//
// y may be x.
func BNNorm[T Float](y, x, mean, variance, gamma, beta []T, s Shape, eps float64) {
	v := s.Spatial()
	for i := range s.N * s.C {
		c := i % s.C
		mu, shift := float64(mean[c]), float64(beta[c])
		scale := float64(gamma[c]) / math.Sqrt(float64(variance[c])+eps)
		yc := y[i*v:][:v]
		for j, xi := range x[i*v:][:v] {
			yc[j] = T((float64(xi)-mu)*scale + shift)
		}
	}
}

// BNReduce computes the gradients of the affine parameters, which BNBackward needs too:
//
//	dbeta[c] = Σ dy[n][c][...]
//	dgamma[c] = Σ dy[n][c][...] * (x[n][c][...] - mean[c]) / sqrt(variance[c] + eps)
func BNReduce[T Float](dbeta, dgamma, x, mean, variance, dy []T, s Shape, eps float64) {
	v := s.Spatial()
	for c := range s.C {
		mu := float64(mean[c])
		var sum, product float64
		for n := range s.N {
			xc := x[(n*s.C+c)*v:][:v]
			for j, g := range dy[(n*s.C+c)*v:][:v] {
				sum += float64(g)
				product += float64(g) * (float64(xc[j]) - mu)
			}
		}
		dbeta[c] = T(sum)
		dgamma[c] = T(product / math.Sqrt(float64(variance[c])+eps))
	}
}

// BNBackward is the gradient with respect to the input in training, through the statistics of the batch;
// mean and variance are those of BNStats, dbeta and dgamma those of BNReduce:
//
//	r = 1 / sqrt(variance[c] + eps), m = N*D*H*W
//	dx[n][c][...] = gamma[c] * r * (dy[n][c][...] - dbeta[c]/m - (x[n][c][...] - mean[c]) * r * dgamma[c]/m)
//
// dx may be dy.
func BNBackward[T Float](dx, x, mean, variance, gamma, dy, dbeta, dgamma []T, s Shape, eps float64) {
	v := s.Spatial()
	m := float64(s.N * v)
	for i := range s.N * s.C {
		c := i % s.C
		r := 1 / math.Sqrt(float64(variance[c])+eps)
		mu, scale := float64(mean[c]), float64(gamma[c])*r
		shift, slope := float64(dbeta[c])/m, r*float64(dgamma[c])/m
		xc, dxc := x[i*v:][:v], dx[i*v:][:v]
		for j, g := range dy[i*v:][:v] {
			dxc[j] = T(scale * (float64(g) - shift - (float64(xc[j])-mu)*slope))
		}
	}
}

// BNBackwardFrozen is the gradient with respect to the input where the statistics are constants (evaluation
// mode): dx[n][c][...] = gamma[c] / sqrt(variance[c] + eps) * dy[n][c][...]. dx may be dy.
func BNBackwardFrozen[T Float](dx, variance, gamma, dy []T, s Shape, eps float64) {
	v := s.Spatial()
	for i := range s.N * s.C {
		c := i % s.C
		scale := float64(gamma[c]) / math.Sqrt(float64(variance[c])+eps)
		dxc := dx[i*v:][:v]
		for j, g := range dy[i*v:][:v] {
			dxc[j] = T(scale * float64(g))
		}
	}
}

// BNRunning updates the running statistics with those of a batch of n > 1 values a channel, the variance
// made unbiased:
//
//	runningMean[c] = (1-momentum)*runningMean[c] + momentum*mean[c]
//	runningVar[c] = (1-momentum)*runningVar[c] + momentum*variance[c]*n/(n-1)
func BNRunning[T Float](runningMean, runningVar, mean, variance []T, n int, momentum float64) {
	unbias := float64(n) / float64(n-1)
	for c := range mean {
		runningMean[c] = T((1-momentum)*float64(runningMean[c]) + momentum*float64(mean[c]))
		runningVar[c] = T((1-momentum)*float64(runningVar[c]) + momentum*float64(variance[c])*unbias)
	}
}
