// Package memplan fits work on a network into the memory there is: it resolves the budget, plans within it, says what
// would fit where the plan does not, and accounts for every byte of the one that does.
package memplan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/procmem"
	"github.com/ctclass/ctclass/internal/session"
)

// Workload is what memory is planned for.
type Workload struct {
	Device  engine.Device
	Config  *config.Config
	Options session.Options // Beside and Budget excepted
	Beside  Beside
	Budget  int64 // most bytes of the process; 0: no limit
}

// Beside is what the process takes beside the session and the runtime.
type Beside struct {
	Data    int64 // the data set itself
	Scans   int64 // being read
	Samples int64 // of the network's shape, being made and changed
	Batches int64 // of samples, made ahead and in use
}

// Total is all of it.
func (b Beside) Total() int64 { return b.Data + b.Scans + b.Samples + b.Batches }

func (b Beside) parts() []session.Part {
	return []session.Part{
		{Name: "the data set itself", Bytes: b.Data},
		{Name: "scans being read", Bytes: b.Scans},
		{Name: "samples in work", Bytes: b.Samples},
		{Name: "batches read ahead", Bytes: b.Batches},
	}
}

// scaled bounds it for n volumes of a shape, where the configuration has batch ones of usual. A smaller batch
// does not count as less: with more accumulation as many volumes are in memory.
func (b Beside) scaled(n, batch int, shape, usual [3]int) int64 {
	ratio := float64(voxels(shape)) / float64(voxels(usual))
	return b.Data + b.Scans + int64(ratio*(float64(b.Samples)+float64(b.Batches)*max(1, float64(n)/float64(batch))))
}

func voxels(shape [3]int) int64 { return int64(shape[0]) * int64(shape[1]) * int64(shape[2]) }

// Budget resolves memory.budget to bytes, 0 for none. A budget that the machine does not have is kept, with a
// warning.
func Budget(c *config.Config, log *slog.Logger) (int64, error) {
	b, err := config.ParseBudget(c.Memory.Budget)
	if err != nil {
		return 0, exitcode.Errorf(exitcode.Usage, "memory.budget: %w", err)
	}
	if b.Share > 0 {
		free, ok := procmem.Available()
		if !ok { // this system does not tell
			return 0, nil
		}
		own, _ := procmem.Resident()
		return b.Limit(free + own), nil
	}
	if physical, ok := procmem.Physical(); ok && b.Bytes > physical {
		log.Warn("memory.budget is more than this machine has, or its control group allows",
			"budget", mebibytes(b.Bytes), "available in all", mebibytes(physical))
	}
	return b.Bytes, nil
}

// Plan compiles the workload within its budget. The error says what is missing and what would help.
func (w *Workload) Plan(ctx context.Context) (*session.Plan, error) {
	p, err := w.compile(w.Budget)
	var none *session.BudgetError
	if errors.As(err, &none) {
		return nil, w.refuse(ctx, none)
	}
	return p, exitcode.Wrap(exitcode.Usage, err)
}

func (w *Workload) compile(budget int64) (*session.Plan, error) {
	opt := w.Options
	opt.Beside, opt.Budget = w.Beside.Total(), budget
	return session.Compile(w.Device, opt)
}

// refuse says that the budget cannot be met, the smallest one that can, and what would fit.
func (w *Workload) refuse(ctx context.Context, none *session.BudgetError) error {
	advice := w.advice(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	help := "no smaller batch and no smaller volume fits either"
	if len(advice) > 0 {
		help = "what fits: " + strings.Join(advice, "; or ")
	}
	return exitcode.Errorf(exitcode.Memory, "the run needs at least %s even when everything that can be is recomputed, more than memory.budget %s (%s); %s",
		mebibytes(none.Smallest), w.Config.Memory.Budget, mebibytes(none.Budget), help)
}

// advice lists changes of the configuration that fit the budget.
func (w *Workload) advice(ctx context.Context) (list []string) {
	batch := w.Batch()
	if h, ok := w.hybrid(); ok {
		if bytes, ok := h.need(ctx, batch, w.Options.ShapeDHW); ok && bytes <= w.Budget {
			list = append(list, hybridSetting)
		}
	}
	if n := w.largestBatch(ctx, batch-1); n > 0 && w.Options.Training == nil {
		list = append(list, fmt.Sprintf("eval.batch_size: %d", n))
	} else if n > 0 {
		s := fmt.Sprintf("train.batch_size: %d", n)
		if batch%n == 0 {
			s += fmt.Sprintf(" with train.accumulate: %d", w.Config.Train.Accumulate*batch/n)
		}
		list = append(list, s)
	}
	if shape, ok := w.largestShape(ctx, 1); ok {
		list = append(list, fmt.Sprintf("preprocess.shape_dhw: [%d, %d, %d]", shape[0], shape[1], shape[2]))
	}
	return list
}

// hybridSetting is the one that halves the memory of activations.
const hybridSetting = "train.precision: " + config.BF16

// hybrid is the workload in hybrid precision, where that is another one and training has it.
func (w *Workload) hybrid() (*Workload, bool) {
	d, ok := w.Device.(interface{ Hybrid() (engine.Device, bool) })
	if !ok || w.Options.Training == nil {
		return nil, false
	}
	other := *w
	other.Device, ok = d.Hybrid()
	return &other, ok
}

// Batch is the largest number of volumes in a pass.
func (w *Workload) Batch() int {
	n := w.Options.EvalBatch
	if w.Options.Training != nil {
		n = max(n, slices.Max(w.Options.Training.BatchSizes))
	}
	return n
}

// need returns the least that passes over n volumes of a shape are known to take, or what they take without
// recomputation where that fits the budget; ok is false where there are no such passes.
func (w *Workload) need(ctx context.Context, n int, shape [3]int) (bytes int64, ok bool) {
	opt := w.Options
	opt.Beside, opt.ShapeDHW = w.Beside.scaled(n, w.Batch(), shape, opt.ShapeDHW), shape
	input := 4 * int64(n) * int64(opt.Network.InChannels) * voxels(shape)
	if ctx.Err() != nil || input > w.Budget {
		return 0, false
	}
	if opt.EvalBatch > 0 {
		opt.EvalBatch = n
	}
	if opt.Training != nil {
		training := *opt.Training
		training.BatchSizes = []int{n}
		opt.Training = &training
	}
	p, err := session.Compile(w.Device, opt)
	if err == nil && p.ProcessBytes() > w.Budget {
		opt.Budget = 1 // the answer is the smallest
		_, err = session.Compile(w.Device, opt)
	}
	var none *session.BudgetError
	switch {
	case err == nil:
		return p.ProcessBytes(), true
	case errors.As(err, &none):
		return none.Smallest, true
	}
	return 0, false
}

// largest returns the largest number from 1 to most whose need fits the budget, as that of all smaller ones does;
// 0 if none does. Needs are about affine in sizes, which tells where to look; every answer costs a plan.
func (w *Workload) largest(first, most int, size func(k int) float64, need func(k int) (int64, bool)) int {
	lo, hi := 0, most+1 // fits, does not fit
	type point struct{ size, bytes float64 }
	var last []point
	for k, try := first, 0; lo+1 < hi; try++ {
		k = min(max(k, lo+1), hi-1)
		bytes, ok := need(k)
		if ok {
			last = append(last, point{size(k), float64(bytes)})
		}
		if ok && bytes <= w.Budget {
			lo = k
		} else {
			hi = k
		}
		k = (lo + hi) / 2
		if n := len(last); ok && n > 1 && try < 6 { // later, halving is surer
			a, b := last[n-2], last[n-1]
			goal := b.size + (float64(w.Budget)-b.bytes)*(b.size-a.size)/(b.bytes-a.bytes)
			k = lo + sort.Search(hi-lo-1, func(i int) bool { return size(lo+1+i) > goal })
		}
	}
	return lo
}

// largestBatch returns the largest number of volumes in a pass, up to most, that fits; 0: none.
func (w *Workload) largestBatch(ctx context.Context, most int) int {
	return w.largest(w.Batch(), most, func(n int) float64 { return float64(n) },
		func(n int) (int64, bool) { return w.need(ctx, n, w.Options.ShapeDHW) })
}

// shapeStep is what the sizes of a suggested shape are multiples of: strides and patches divide it.
const shapeStep = 16

// largestShape returns the largest shape that fits of about the configured proportions, with sides of less than
// the given multiple of the configured ones.
func (w *Workload) largestShape(ctx context.Context, times int) (shape [3]int, ok bool) {
	steps := (slices.Max(w.Options.ShapeDHW[:]) + shapeStep - 1) / shapeStep
	scaled := func(k int) (s [3]int) {
		for i, n := range w.Options.ShapeDHW {
			s[i] = max(1, n*k/steps/shapeStep) * shapeStep
		}
		return s
	}
	k := w.largest(steps, steps*times-1, func(k int) float64 { return float64(voxels(scaled(k))) },
		func(k int) (int64, bool) { return w.need(ctx, w.Batch(), scaled(k)) })
	return scaled(max(k, 1)), k > 0
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
