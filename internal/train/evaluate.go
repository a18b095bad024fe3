package train

import (
	"context"
	"math"

	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/losses"
)

// Evaluation is what a model does on a set of samples.
type Evaluation struct {
	Report *eval.Report
	Loss   float64 // mean over the valid labels; NaN without a loss
	// Samples, Logits and Targets are in the order of evaluation.
	Samples []data.Sample
	Logits  [][]float64
	Targets [][]float64
}

// Network gives logits (n, classes) for n samples x (n, C, D, H, W); a session is one.
type Network interface {
	Logits(x []float32, n int) ([]float32, error)
}

// Evaluate runs the network on every sample of the loader, in order. after is called with the number of
// samples of each batch.
func Evaluate(ctx context.Context, s Network, l *data.Loader, task string, labels []string, threshold float64,
	loss losses.Loss, after func(n int),
) (*Evaluation, error) {
	e := &Evaluation{Loss: math.NaN()}
	var sum, count float64
	for b, err := range l.Epoch(ctx, 0, 0) {
		if err != nil {
			return nil, exitcode.Wrap(exitcode.NoInput, err)
		}
		n := len(b.IDs)
		logits, err := s.Logits(b.X, n)
		if err != nil {
			b.Release()
			return nil, err
		}
		c, t := len(logits)/n, len(b.Y)/n
		for i := range n {
			z, y := widen(logits[i*c:][:c]), widen(b.Y[i*t:][:t])
			e.Logits, e.Targets = append(e.Logits, z), append(e.Targets, y)
			if loss != nil {
				sum += loss.Row(z, y, nil)
			}
		}
		if loss != nil {
			count += loss.Count(b.Y)
		}
		e.Samples = append(e.Samples, b.Samples...)
		b.Release()
		if after != nil {
			after(n)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if loss != nil && count > 0 {
		e.Loss = sum / count
	}
	var err error
	e.Report, err = eval.Compute(task, labels, (*eval.Calibration)(nil).Probabilities(task, e.Logits), e.Targets, threshold)
	return e, err
}

func widen(x []float32) []float64 {
	w := make([]float64, len(x))
	for i, v := range x {
		w[i] = float64(v)
	}
	return w
}
