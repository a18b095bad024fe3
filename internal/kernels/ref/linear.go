package ref

import "math"

// Linear computes y[m][o] = Σ over i of x[m][i]*w[o][i] + b[o] for rows rows, inF inputs and outF outputs;
// b may be nil.
func Linear[T Float](y, x, w, b []T, rows, inF, outF int) {
	for m := range rows {
		xm := x[m*inF:][:inF]
		for o := range outF {
			sum := dot(xm, w[o*inF:][:inF])
			if b != nil {
				sum += float64(b[o])
			}
			y[m*outF+o] = T(sum)
		}
	}
}

// LinearBackwardData computes dx[m][i] = Σ over o of dy[m][o]*w[o][i].
func LinearBackwardData[T Float](dx, dy, w []T, rows, inF, outF int) {
	acc := make([]float64, inF)
	for m := range rows {
		clear(acc)
		for o, g := range dy[m*outF:][:outF] {
			axpy(acc, float64(g), w[o*inF:][:inF])
		}
		store(dx[m*inF:][:inF], acc)
	}
}

// LinearBackwardWeights computes dw[o][i] = Σ over m of dy[m][o]*x[m][i].
func LinearBackwardWeights[T Float](dw, dy, x []T, rows, inF, outF int) {
	acc := make([]float64, inF)
	for o := range outF {
		clear(acc)
		for m := range rows {
			axpy(acc, float64(dy[m*outF+o]), x[m*inF:][:inF])
		}
		store(dw[o*inF:][:inF], acc)
	}
}

// LinearBackwardBias computes db[o] = Σ over m of dy[m][o].
func LinearBackwardBias[T Float](db, dy []T, rows, outF int) {
	acc := make([]float64, outF)
	for m := range rows {
		axpy(acc, 1, dy[m*outF:][:outF])
	}
	store(db[:outF], acc)
}

// axpy computes acc[i] += a*x[i].
func axpy[T Float](acc []float64, a float64, x []T) {
	acc = acc[:len(x)]
	for i, v := range x {
		acc[i] += a * float64(v)
	}
}

// LayerNorm normalises each row of e values and scales it:
//
//	mean = Σ x[m][i] / e, variance = Σ (x[m][i] - mean)² / e
//	y[m][i] = (x[m][i] - mean) / sqrt(variance + eps) * gamma[i] + beta[i]
//
// y may be x.
func LayerNorm[T Float](y, x, gamma, beta []T, rows, e int, eps float64) {
	for m := range rows {
		xm, ym := x[m*e:][:e], y[m*e:][:e]
		mean, r := rowStats(xm, eps)
		for i, v := range xm {
			ym[i] = T((float64(v)-mean)*r*float64(gamma[i]) + float64(beta[i]))
		}
	}
}

// LayerNormBackward computes the three gradients of LayerNorm. With u = (x-mean)*r, r = 1/sqrt(variance+eps)
// of the row and g = dy*gamma:
//
//	dx[m][i] = r * (g[i] - Σ g / e - u[i] * Σ(g*u) / e)
//	dgamma[i] = Σ over m of dy[m][i]*u[m][i]
//	dbeta[i] = Σ over m of dy[m][i]
func LayerNormBackward[T Float](dx, dgamma, dbeta, x, gamma, dy []T, rows, e int, eps float64) {
	dg, db := make([]float64, e), make([]float64, e)
	for m := range rows {
		xm, dym, dxm := x[m*e:][:e], dy[m*e:][:e], dx[m*e:][:e]
		mean, r := rowStats(xm, eps)
		var sum, product float64
		for i, v := range xm {
			u, d := (float64(v)-mean)*r, float64(dym[i])
			g := d * float64(gamma[i])
			sum += g
			product += g * u
			dg[i] += d * u
			db[i] += d
		}
		sum /= float64(e)
		product /= float64(e)
		for i, v := range xm {
			u := (float64(v) - mean) * r
			dxm[i] = T(r * (float64(dym[i])*float64(gamma[i]) - sum - u*product))
		}
	}
	store(dgamma[:e], dg)
	store(dbeta[:e], db)
}

// rowStats returns the mean of x and 1/sqrt(variance+eps).
func rowStats[T Float](x []T, eps float64) (mean, r float64) {
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(len(x))
	var squares float64
	for _, v := range x {
		d := float64(v) - mean
		squares += d * d
	}
	return mean, 1 / math.Sqrt(squares/float64(len(x))+eps)
}
