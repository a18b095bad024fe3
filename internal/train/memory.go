package train

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sort"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/procmem"
	"github.com/ctclass/ctclass/internal/session"
)

// workload is what the memory of a run is planned for.
type workload struct {
	dev    engine.Device
	cfg    *config.Config
	opt    session.Options // without budget
	budget int64           // most bytes of the process; 0: no limit
}

// budgetBytes resolves memory.budget to bytes, 0 for none. A budget that the machine does not have is kept,
// with a warning.
func budgetBytes(c *config.Config, log *slog.Logger) (int64, error) {
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

// plan compiles the workload within its budget. The error says what is missing and what would help.
func (w *workload) plan() (*session.Plan, error) {
	opt := w.opt
	opt.Budget = w.budget
	p, err := session.Compile(w.dev, opt)
	var none *session.BudgetError
	if errors.As(err, &none) {
		return nil, w.refuse(none)
	}
	return p, exitcode.Wrap(exitcode.Usage, err)
}

// refuse says that the budget cannot be met, the smallest one that can, and what would fit.
func (w *workload) refuse(none *session.BudgetError) error {
	advice := "; what fits: " + w.advice()
	if advice == "; what fits: " {
		advice = "; no smaller batch and no smaller volume fits either"
	}
	return exitcode.Errorf(exitcode.Memory, "the run needs at least %s even when everything that can be is recomputed, more than memory.budget %s (%s)%s",
		mebibytes(none.Smallest), w.cfg.Memory.Budget, mebibytes(none.Budget), advice)
}

// advice lists changes of the configuration that fit the budget.
func (w *workload) advice() string {
	var list []string
	batch := w.batch()
	if n := w.largestBatch(batch - 1); n > 0 && w.opt.Training == nil {
		list = append(list, fmt.Sprintf("eval.batch_size: %d", n))
	} else if n > 0 {
		s := fmt.Sprintf("train.batch_size: %d", n)
		if batch%n == 0 {
			s += fmt.Sprintf(" with train.accumulate: %d", w.cfg.Train.Accumulate*batch/n)
		}
		list = append(list, s)
	}
	if shape, ok := w.largestShape(1); ok {
		list = append(list, fmt.Sprintf("preprocess.shape_dhw: [%d, %d, %d]", shape[0], shape[1], shape[2]))
	}
	return strings.Join(list, "; or ")
}

// batch is the largest number of volumes in a pass.
func (w *workload) batch() int {
	n := w.opt.EvalBatch
	if w.opt.Training != nil {
		n = max(n, slices.Max(w.opt.Training.BatchSizes))
	}
	return n
}

// fits reports whether passes over n volumes of a shape fit the budget.
func (w *workload) fits(n int, shape [3]int) bool {
	opt := w.opt
	opt.Beside = opt.Beside / int64(w.batch()) * int64(n)
	if opt.EvalBatch > 0 {
		opt.EvalBatch = n
	}
	if opt.Training != nil {
		training := *opt.Training
		training.BatchSizes = []int{n}
		opt.Training = &training
	}
	opt.ShapeDHW, opt.Budget = shape, w.budget
	_, err := session.Compile(w.dev, opt)
	return err == nil
}

// largest returns the largest number from 1 to most with the property, which all smaller ones have, too; 0 if
// none has it.
func largest(most int, property func(n int) bool) int {
	return sort.Search(most, func(i int) bool { return !property(i + 1) })
}

// largestBatch returns the largest number of volumes in a pass, up to most, that fits.
func (w *workload) largestBatch(most int) int {
	return largest(most, func(n int) bool { return w.fits(n, w.opt.ShapeDHW) })
}

// shapeStep is what the sizes of a suggested shape are multiples of: strides and patches divide it.
const shapeStep = 16

// largestShape returns the largest shape that fits of about the configured proportions, with sides of at most
// the given multiple of the configured ones.
func (w *workload) largestShape(times int) (shape [3]int, ok bool) {
	steps := (slices.Max(w.opt.ShapeDHW[:]) + shapeStep - 1) / shapeStep
	scaled := func(k int) (s [3]int) {
		for i, n := range w.opt.ShapeDHW {
			s[i] = max(1, n*k/steps/shapeStep) * shapeStep
		}
		return s
	}
	k := largest(steps*times-1, func(k int) bool { return w.fits(w.batch(), scaled(k)) })
	return scaled(max(k, 1)), k > 0
}

// start takes the memory of a plan, which with what is beside it makes need bytes of the process. It fails
// where the system has less left, and bounds the Go heap.
func start(plan *session.Plan, need int64) (*session.Session, error) {
	debug.FreeOSMemory() // what compiling took is promised to others
	own, _ := procmem.Resident()
	if free, ok := procmem.Available(); ok && need > free+own {
		return nil, exitcode.Errorf(exitcode.Memory,
			"the run needs %s, and only %s are free: end other programs, or set memory.budget to auto to recompute more",
			mebibytes(need), mebibytes(free+own))
	}
	debug.SetMemoryLimit(plan.HeapBytes() + need - plan.ProcessBytes())
	s, err := plan.Start()
	return s, exitcode.Wrap(exitcode.Memory, err)
}

// scanBytes bounds what the data set itself and reading scans of the size of the training split's first one take,
// without caches; ok is false when that one cannot be read.
func (r *run) scanBytes() (bytes int64, ok bool) {
	v, _, err := r.ds.OpenVolume(r.ds.Subset(data.Train)[0])
	if err != nil { // the loader says what is wrong with it, if it is not to be skipped
		return 0, false
	}
	bytes = r.ds.Bytes()
	r.eachLoader(func(l *data.Loader) {
		l.LimitCache(0)
		bytes += l.BytesBound(int64(v.Voxels()))
	})
	return bytes, true
}

func (r *run) eachLoader(f func(l *data.Loader)) {
	f(r.train)
	if r.val != nil {
		f(r.val)
	}
}

// reserve plans the memory of the run, states its peak, and takes it. What the budget leaves goes to the
// caches of samples.
func (r *run) reserve(w *workload) error {
	var err error
	if w.budget, err = budgetBytes(r.cfg, r.Log); err != nil {
		return err
	}
	scans, known := r.scanBytes()
	w.opt.Beside = scans
	plan, err := w.plan()
	if err != nil {
		return err
	}
	need := max(plan.ProcessBytes(), plan.ProcessBytes()-plan.ArenaBytes()+pretrainedBytes(r.cfg.Model.Pretrained))
	if w.budget > 0 && need > w.budget {
		return exitcode.Errorf(exitcode.Memory, "reading the weights of model.pretrained takes the run to %s, more than memory.budget %s", mebibytes(need), r.cfg.Memory.Budget)
	}
	reading := "unknown"
	if known {
		each := int64(data.DefaultCacheBytes) / 2
		if w.budget > 0 {
			each = min(each, (w.budget-need)/2)
		}
		r.eachLoader(func(l *data.Loader) {
			l.LimitCache(each)
			scans += l.CacheBound()
			need += l.CacheBound()
		})
		reading = mebibytes(scans)
	}
	about := []any{"total", mebibytes(need), "network", mebibytes(plan.Bytes()), "reading scans of the first one's size", reading}
	if plan.Planned() {
		about = append(about, "recomputed to fit the budget", fmt.Sprintf("%.1f %% more operations", 100*plan.AddedFLOP()))
	}
	r.Log.Info("memory planned", append(about, "device", w.dev.Name(), "threads", r.threads())...)
	r.planned = need
	r.sess, err = start(plan, need)
	return err
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
