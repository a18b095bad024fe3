package train

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/memplan"
	"github.com/ctclass/ctclass/internal/procmem"
	"github.com/ctclass/ctclass/internal/session"
)

// overshoot is how far the Go heap may pass its limit, which is a soft one.
const overshoot = 8 << 20

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
	debug.SetMemoryLimit(plan.HeapBytes() + need - plan.ProcessBytes() - overshoot)
	s, err := plan.Start()
	return s, exitcode.Wrap(exitcode.Memory, err)
}

// beside bounds what the data set and reading scans take, without caches, when no scan has more than maxVoxels
// voxels. Training and validation take turns: what reading takes beside a volume, such as its growth out of a gzip
// file, finds room in the other's share.
func (r *run) beside(maxVoxels int64) memplan.Beside {
	b := memplan.Beside{Data: r.ds.Bytes()}
	r.eachLoader(func(l *data.Loader) {
		l.LimitCache(0)
		of := l.Bounds(maxVoxels)
		b.Scans += of.Scans
		b.Samples += of.Samples
		b.Batches += of.Batches
	})
	if r.mix != nil {
		d := r.cfg.Preprocess.ShapeDHW
		b.Samples += r.mix.bytes(globalBatch(r.cfg.Train), r.net.InChannels*d[0]*d[1]*d[2], r.loss.Targets(r.net.Classes))
	}
	return b
}

func (r *run) eachLoader(f func(l *data.Loader)) {
	f(r.train)
	if r.val != nil {
		f(r.val)
	}
}

// workload opens the loaders and says what memory is to be planned for. scan tells the voxels of a scan; known is
// false where it cannot.
func (r *run) workload(dev *cpu.Device, scan func() (voxels int64, known bool)) (w *memplan.Workload, known bool, err error) {
	c := r.cfg
	trained := r.loss
	if c.Train.Mixup > 0 {
		trained = losses.Mixed(r.loss, r.net.Classes)
		r.mix = &mixup{alpha: c.Train.Mixup, seed: c.Train.Seed}
	}
	if err := r.openLoaders(); err != nil {
		return nil, false, err
	}
	frozen, err := freeze(c, r.net)
	if err != nil {
		return nil, false, err
	}
	w = &memplan.Workload{Device: dev, Config: c, Options: session.Options{
		Network: r.net, ShapeDHW: c.Preprocess.ShapeDHW, EvalBatch: EvalBatch(c),
		Training: &session.Training{
			Loss: trained, BatchSizes: r.batchSizes(), Accumulate: c.Train.Accumulate > 1, Optimizer: optimizer(c.Train, r.net),
			Frozen: frozen,
		},
	}}
	if w.Budget, err = memplan.Budget(c, r.Log); err != nil {
		return nil, false, err
	}
	voxels, known := scan()
	if known {
		w.Beside = r.beside(voxels)
	}
	return w, known, nil
}

// firstScan tells the voxels of the training split's first scan. When it cannot be read, the loader says what is wrong
// with it, if it is not to be skipped.
func (r *run) firstScan() (voxels int64, known bool) {
	v, _, err := r.ds.OpenVolume(r.ds.Subset(data.Train)[0])
	if err != nil {
		return 0, false
	}
	return int64(v.Voxels()), true
}

// promise returns the peak of the process, and lets the caches of samples have what the budget leaves.
func (r *run) promise(w *memplan.Workload, plan *session.Plan, known bool) (need, caches int64, err error) {
	need = max(plan.ProcessBytes(), plan.ProcessBytes()-plan.ArenaBytes()+pretrainedBytes(r.cfg.Model.Pretrained))
	if w.Budget > 0 && need > w.Budget {
		return 0, 0, exitcode.Errorf(exitcode.Memory, "reading the weights of model.pretrained takes the run to %s, more than memory.budget %s", mebibytes(need), r.cfg.Memory.Budget)
	}
	if !known {
		return need, 0, nil
	}
	each := int64(data.DefaultCacheBytes) / 2
	if w.Budget > 0 {
		each = min(each, (w.Budget-need)/2)
	}
	r.eachLoader(func(l *data.Loader) {
		l.LimitCache(each)
		caches += l.CacheBound()
	})
	return need + caches, caches, nil
}

// reserve plans the memory of the run, states its peak, and takes it.
func (r *run) reserve(ctx context.Context, dev *cpu.Device) error {
	w, known, err := r.workload(dev, r.firstScan)
	if err != nil {
		return err
	}
	plan, err := w.Plan(ctx)
	if err != nil {
		return err
	}
	need, caches, err := r.promise(w, plan, known)
	if err != nil {
		return err
	}
	reading := "unknown"
	if known {
		reading = mebibytes(w.Beside.Total() + caches)
	}
	about := []any{"total", mebibytes(need), "network", mebibytes(plan.Bytes()), "reading scans of the first one's size", reading}
	if plan.Planned() {
		about = append(about, "recomputed to fit the budget", fmt.Sprintf("%.1f %% more operations", 100*plan.AddedFLOP()))
	}
	r.Log.Info("memory planned", append(about, "device", dev.Name(), "threads", r.threads())...)
	r.planned = need
	r.sess, err = start(plan, need)
	return err
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
