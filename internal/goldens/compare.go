package goldens

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"
)

// Sample is one element of a tensor.
type Sample struct {
	Index int // flat, row-major
	Value float64
}

// UnmarshalJSON reads a pair [index, value].
func (s *Sample) UnmarshalJSON(raw []byte) error {
	var pair []float64
	if err := json.Unmarshal(raw, &pair); err != nil || len(pair) != 2 || pair[0] != math.Trunc(pair[0]) {
		return fmt.Errorf("%s is not a pair of index and value", raw)
	}
	*s = Sample{int(pair[0]), pair[1]}
	return nil
}

// Float is an element type of results under test.
type Float interface{ ~float32 | ~float64 }

// Tolerance bounds the relative l2 error of logits, losses and running statistics.
const Tolerance = 1e-4

// Mode is the mode of a pass.
type Mode int

// The two modes of BatchNorm.
const (
	Eval  Mode = iota // running statistics, loss of the logits over EvalLogitScale
	Train             // batch statistics, one update of the running ones
)

// Result is what an implementation computed in one pass.
type Result[T Float] struct {
	Logits  []T            // (Batch, Classes)
	Loss    float64        // of the logits, in Eval divided by EvalLogitScale
	Grads   map[string][]T // of every parameter, by state_dict name
	Running map[string][]T // Train: running_mean and running_var after the pass
}

// String returns "eval" or "train".
func (m Mode) String() string {
	if m == Eval {
		return "eval"
	}
	return "train"
}

// Report lists the errors of a pass; see TensorError for those of tensors.
type Report struct {
	Logits, Loss                    float64
	GradMedian, GradMax, RunningMax float64
	WorstGrad, WorstRunning         string // names
}

// TensorError measures got against the samples g of want, a the same elements of got: the l2 norm of a-g over
// the larger of the norm of g and L2*sqrt(k/n), for k samples of n elements. It is +Inf where lengths differ
// or got is not finite, 0 for equal zeros.
func TensorError[T Float](want Tensor, got []T) float64 {
	n := want.Len()
	if len(got) != n {
		return math.Inf(1)
	}
	var diff, norm float64
	for _, s := range want.Samples {
		d := float64(got[s.Index]) - s.Value
		diff += d * d
		norm += s.Value * s.Value
	}
	return ratio(math.Sqrt(diff), max(math.Sqrt(norm), want.L2*math.Sqrt(float64(len(want.Samples))/float64(n))))
}

// LogitError returns the l2 norm of got-want over that of want, +Inf where the sizes differ.
func LogitError[T Float](want [][]float64, got []T) float64 {
	var diff, norm float64
	i := 0
	for _, row := range want {
		for _, g := range row {
			if i >= len(got) {
				return math.Inf(1)
			}
			d := float64(got[i]) - g
			diff += d * d
			norm += g * g
			i++
		}
	}
	if i != len(got) {
		return math.Inf(1)
	}
	return ratio(math.Sqrt(diff), math.Sqrt(norm))
}

// ratio returns diff/norm, 0 for 0/0 and +Inf for NaN.
func ratio(diff, norm float64) float64 {
	switch {
	case diff == 0:
		return 0
	case math.IsNaN(diff) || norm == 0:
		return math.Inf(1)
	}
	return diff / norm
}

// GradBounds returns the bounds of the gradients' errors in a mode: of the median over tensors and of the
// maximum. They grow with PyTorch's own float32 error, because near ties of ReLU and max-pooling flip.
func (m *ModelGolden) GradBounds(mode Mode) (median, maximum float64) {
	if mode == Eval {
		return max(1e-4, 5*m.Noise.Eval.GradMedian), max(5e-3, 5*m.Noise.Eval.GradMax)
	}
	return max(1e-3, 5*m.Noise.Train.GradMedian), max(2e-2, 5*m.Noise.Train.GradMax)
}

// Check compares a pass with the golden. The error names every bound that is broken and every tensor that is
// missing, unexpected or of the wrong size; the report is filled in any case.
func Check[T Float](m *ModelGolden, mode Mode, r Result[T]) (Report, error) {
	logits, loss, grads := m.EvalLogits, m.EvalLoss, m.EvalGrads
	var running map[string]Tensor
	if mode == Train {
		logits, loss, grads, running = m.TrainLogits, m.TrainLoss, m.TrainGrads, m.RunningAfterStep
	}
	rep := Report{
		Logits: LogitError(logits, r.Logits),
		Loss:   ratio(math.Abs(r.Loss-loss), math.Abs(loss)),
	}
	var errs []error
	bound := func(what string, got, limit float64) {
		if got > limit {
			errs = append(errs, fmt.Errorf("%s: error %.3g exceeds %.3g", what, got, limit))
		}
	}
	bound("logits", rep.Logits, Tolerance)
	bound("loss", rep.Loss, Tolerance)

	all, worst, err := tensorErrors(grads, r.Grads)
	errs = append(errs, err)
	if len(all) > 0 {
		rep.GradMedian, rep.GradMax, rep.WorstGrad = median(all), all[len(all)-1], worst
	}
	limit, limitMax := m.GradBounds(mode)
	bound("median of the gradients", rep.GradMedian, limit)
	bound("gradient of "+worst, rep.GradMax, limitMax)

	all, worst, err = tensorErrors(running, r.Running)
	errs = append(errs, err)
	if len(all) > 0 {
		rep.RunningMax, rep.WorstRunning = all[len(all)-1], worst
	}
	bound(worst, rep.RunningMax, Tolerance)
	return rep, errors.Join(errs...)
}

// tensorErrors returns the sorted errors of all wanted tensors and the name of the worst. Missing tensors
// count as +Inf; the error names them and those that were not asked for.
func tensorErrors[T Float](want map[string]Tensor, got map[string][]T) (all []float64, worst string, err error) {
	var errs []error
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	sort.Strings(names)
	top := -1.0
	for _, name := range names {
		g, ok := got[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s is missing", name))
		} else if n := want[name].Len(); len(g) != n {
			errs = append(errs, fmt.Errorf("%s has %d elements, want %d", name, len(g), n))
		}
		e := TensorError(want[name], g)
		if all = append(all, e); e > top {
			top, worst = e, name
		}
	}
	sort.Float64s(all)
	var extra []string
	for name := range got {
		if _, ok := want[name]; !ok {
			extra = append(extra, name)
		}
	}
	sort.Strings(extra)
	for _, name := range extra {
		errs = append(errs, fmt.Errorf("%s is not part of the golden", name))
	}
	return all, worst, errors.Join(errs...)
}

// median returns the median of sorted values, the mean of the middle two for an even number.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
