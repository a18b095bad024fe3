package engine

import (
	"math"

	"github.com/ctclass/ctclass/internal/ops"
	"github.com/ctclass/ctclass/internal/rng"
)

// LossValue returns the sum of a loss over the rows of logits (n, C) and targets (n, T).
func LossValue(f ops.LossFunc, logits, targets []float64, n int) float64 {
	c, t := len(logits)/n, len(targets)/n
	var sum float64
	for i := range n {
		sum += f.Row(logits[i*c:][:c], targets[i*t:][:t], nil)
	}
	return sum
}

// LossGradient writes the derivative of LossValue with respect to the logits to grad (n, C).
func LossGradient(f ops.LossFunc, logits, targets, grad []float64, n int) {
	c, t := len(logits)/n, len(targets)/n
	for i := range n {
		f.Row(logits[i*c:][:c], targets[i*t:][:t], grad[i*c:][:c])
	}
}

// ClipFactor returns the factor of gradients whose squares have the given sum; NaN where it is not finite.
func ClipFactor(op ops.ClipFactor, squares float64) float64 {
	if squares-squares != 0 {
		return math.NaN()
	}
	return min(1, op.MaxNorm/(math.Sqrt(squares)+1e-6))
}

// DropoutKey is the key of the random stream that draws the dropout mask of sample n of the batch.
func DropoutKey(op ops.Dropout, info *RunInfo, n int) uint64 {
	return sampleKey("dropout "+op.Key, info, n)
}

// PathFactors returns what each sample of a batch is multiplied by: 0 where its path is dropped.
func PathFactors(op ops.DropPath, info *RunInfo, samples int) []float64 {
	f := make([]float64, samples)
	for n := range f {
		if rng.Unit(rng.At(sampleKey("drop_path "+op.Key, info, n), 0)) >= op.P {
			f[n] = 1 / (1 - op.P)
		}
	}
	return f
}

// sampleKey is the key of a random stream of sample n of the batch.
func sampleKey(purpose string, info *RunInfo, n int) uint64 {
	var id uint64
	if n < len(info.SampleIDs) {
		id = info.SampleIDs[n]
	}
	return rng.Key(info.Seed, purpose, info.Epoch, id)
}
