package train

import (
	"crypto/sha256"
	"encoding/hex"
	"runtime"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/session"
)

// Outputs returns the number of logits of a task.
func Outputs(task string, labels []string) int {
	if task == data.Binary {
		return 1
	}
	return len(labels)
}

// Threads resolves a configured number of threads; 0 means all cores.
func Threads(n int) int {
	if n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

// EvalBatch is the batch size of passes without training.
func EvalBatch(c *config.Config) int {
	if c.Eval.BatchSize > 0 {
		return c.Eval.BatchSize
	}
	return c.Train.BatchSize
}

// globalBatch is the number of samples of an optimiser step.
func globalBatch(t config.Train) int { return t.BatchSize * t.Accumulate }

// openLoaders makes the loaders of the training and validation samples and counts the steps.
func (r *run) openLoaders() error {
	c := r.cfg
	training, validation := r.ds.Subset(data.Train), r.ds.Subset(data.Val)
	global := globalBatch(c.Train)
	if len(training) == 0 {
		return exitcode.Errorf(exitcode.NoInput, "%s has no training samples: its split column has no row with the value train", c.Data.Table)
	}
	if c.Train.DropLast && len(training) < global {
		return exitcode.Errorf(exitcode.Usage,
			"the training split has %d samples, fewer than one batch of %d (train.batch_size × train.accumulate): lower them, or set train.drop_last: false", len(training), global)
	}
	var err error
	cache := int64(data.DefaultCacheBytes) / 2
	warned := func(s data.Sample, w string) { r.Log.Warn(w, "scan", s.Name) }
	if r.train, err = data.NewLoader(training, data.Options{
		BatchSize: global, Shuffle: true, Sampler: samplers()[c.Train.Sampler], Task: r.ds.Task, DropLast: c.Train.DropLast, Seed: c.Train.Seed, Augment: c.Data.Augmentation(),
		Workers: workers(c, r.threads()), Preprocess: c.Preprocess, OpenVolume: r.ds.OpenVolume, Stored: r.ds.Stored(c.Preprocess),
		Strict: c.Data.Strict, SkipErrors: c.Data.OnError == "skip", Warn: warned, CacheBytes: cache,
	}); err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	perEpoch := r.train.Batches()
	r.total = perEpoch * c.Train.Epochs
	if len(validation) == 0 {
		if key := watcher(c.Train); key != "" {
			return exitcode.Errorf(exitcode.Usage, "%s goes by the validation split, which has no samples: name a split column, set data.val_fraction, or leave it out", key)
		}
		r.Log.Warn("there are no validation samples: the model of the last epoch is the result")
		return nil
	}
	r.val, err = EvalLoader(c, r.ds, validation, r.threads(), cache, warned)
	return err
}

// watcher names a setting that needs validations; "": there is none.
func watcher(t config.Train) string {
	switch {
	case t.Schedule.Name == "plateau":
		return "train.schedule.name plateau"
	case t.EarlyStop.Patience > 0:
		return "train.early_stop"
	}
	return ""
}

// EvalLoader reads samples in order, without augmentation.
func EvalLoader(c *config.Config, ds *data.Dataset, samples []data.Sample, threads int, cache int64, warn func(data.Sample, string)) (*data.Loader, error) {
	l, err := data.NewLoader(samples, data.Options{
		BatchSize: EvalBatch(c), Workers: workers(c, threads), Preprocess: c.Preprocess, OpenVolume: ds.OpenVolume, Stored: ds.Stored(c.Preprocess),
		Strict: c.Data.Strict, SkipErrors: c.Data.OnError == "skip", Warn: warn, CacheBytes: cache,
	})
	return l, exitcode.Wrap(exitcode.Usage, err)
}

func workers(c *config.Config, threads int) int {
	if c.Data.Workers > 0 {
		return c.Data.Workers
	}
	return threads
}

// samplers are the values of train.sampler.
func samplers() map[string]data.Sampler {
	return map[string]data.Sampler{"shuffle": data.Each, "balanced": data.Balanced, "class_aware": data.ClassAware}
}

// batchSizes lists the sizes of micro-batches: the usual one and, when short batches are kept, the last one's.
func (r *run) batchSizes() []int {
	t := r.cfg.Train
	n := len(r.ds.Subset(data.Train))
	if t.DropLast {
		return []int{t.BatchSize}
	}
	var sizes []int
	if n >= t.BatchSize {
		sizes = append(sizes, t.BatchSize)
	}
	if rest := n % globalBatch(t) % t.BatchSize; rest > 0 {
		sizes = append(sizes, rest)
	}
	return sizes
}

// microBatches blends a batch, where mixup is on, and cuts it. When scans that could not be read leave a rest of a size that no program was
// planned for, the rest is left out of the step.
func (r *run) microBatches(b *data.Batch) []session.MicroBatch {
	if r.mix != nil {
		r.mix.apply(b, r.at.Epoch)
	}
	var out []session.MicroBatch
	n := len(b.IDs)
	x, y := len(b.X)/n, len(b.Y)/n
	for from := 0; from < n; from += r.cfg.Train.BatchSize {
		to := min(n, from+r.cfg.Train.BatchSize)
		if !r.sess.Trains(to - from) {
			r.Log.Warn("left out the rest of a batch, whose size was not planned for", "scans", to-from)
			break
		}
		out = append(out, session.MicroBatch{X: b.X[from*x : to*x], Targets: b.Y[from*y : to*y], IDs: b.IDs[from:to]})
	}
	return out
}

func fingerprint(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256(p)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}
