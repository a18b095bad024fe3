package ref

import "math"

// ReLU computes y[i] = max(x[i], 0); NaN stays NaN. y may be x.
func ReLU[T Float](y, x []T) {
	for i, v := range x {
		if v < 0 {
			v = 0
		}
		y[i] = v
	}
}

// ReLUBackward computes dx[i] = dy[i] where the output y[i] > 0, else 0. dx may be dy.
func ReLUBackward[T Float](dx, y, dy []T) {
	for i, v := range y {
		if v > 0 {
			dx[i] = dy[i]
		} else {
			dx[i] = 0
		}
	}
}

// Add computes y[i] = a[i] + b[i]; its gradient is dy for both. y may be a or b.
func Add[T Float](y, a, b []T) {
	for i, v := range a {
		y[i] = v + b[i]
	}
}

// GELU is the Gaussian error linear unit in its exact form (Hendrycks and Gimpel 2016):
//
//	y[i] = x[i] * Φ(x[i]),  Φ(z) = (1 + erf(z/√2)) / 2
//
// y may be x.
func GELU[T Float](y, x []T) {
	for i, v := range x {
		y[i] = T(float64(v) * normalCDF(float64(v)))
	}
}

// GELUBackward computes dx[i] = dy[i] * (Φ(x[i]) + x[i]*φ(x[i])), φ(z) = exp(-z²/2)/√(2π). dx may be dy.
func GELUBackward[T Float](dx, x, dy []T) {
	for i, v := range x {
		z := float64(v)
		density := math.Exp(-z*z/2) / math.Sqrt(2*math.Pi)
		dx[i] = T(float64(dy[i]) * (normalCDF(z) + z*density))
	}
}

// normalCDF is Φ; by erfc it keeps its relative precision in the left tail.
func normalCDF(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }
