package train

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/memplan"
	"github.com/ctclass/ctclass/internal/procmem"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/rng"
	"github.com/ctclass/ctclass/internal/session"
)

// Benchmark is the steady state of a step.
type Benchmark struct {
	Model             string   `json:"model"`
	Mode              string   `json:"mode"` // train or infer
	Batch             int      `json:"batch"`
	ShapeDHW          [3]int   `json:"shape_dhw"`
	Threads           int      `json:"threads"`
	Device            string   `json:"device"`
	Steps             int      `json:"steps"`
	MedianMS          float64  `json:"median_ms"`
	MinMS             float64  `json:"min_ms"`
	MaxMS             float64  `json:"max_ms"`
	ProcessorMS       float64  `json:"processor_ms,omitempty"` // of all threads, mean of the steps; absent where the system does not tell
	SamplesPerS       float64  `json:"samples_per_s"`
	ArenaBytes        int64    `json:"arena_bytes"`
	AddedFLOP         float64  `json:"added_flop"`                    // recomputation, as a share of the step without it
	PromisedPeakBytes int64    `json:"promised_peak_bytes"`           // of the whole process
	MeasuredPeakBytes int64    `json:"measured_peak_bytes,omitempty"` // absent where the system does not tell
	Profile           *Profile `json:"profile,omitempty"`
}

// BenchOptions say what Bench times.
type BenchOptions struct {
	Training bool // otherwise inference
	Steps    int
	WarmUp   int  // steps before them that are not counted
	Profile  bool // time also each instruction
}

// Bench times steps on random input of the configured shape.
func Bench(ctx context.Context, c *config.Config, o BenchOptions, report *progress.Reporter, log *slog.Logger) (*Benchmark, error) {
	net, loss, err := parts(c)
	if err != nil {
		return nil, err
	}
	dev, err := OpenDevice(c, Threads(c.Train.Threads))
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	prof := newProfiler(dev)
	b := &Benchmark{Model: net.Name, Mode: "infer", Batch: EvalBatch(c), ShapeDHW: c.Preprocess.ShapeDHW, Threads: dev.Threads(), Device: dev.Name(), Steps: o.Steps}
	opt := session.Options{Network: net, ShapeDHW: c.Preprocess.ShapeDHW, EvalBatch: b.Batch}
	if o.Training {
		b.Mode, b.Batch, opt.EvalBatch = "train", c.Train.BatchSize, 0
		opt.Training = &session.Training{Loss: loss, BatchSizes: []int{b.Batch}, Optimizer: optimizer(c.Train, net)}
	}
	micro := randomBatch(b.Batch, net.InChannels, c.Preprocess.ShapeDHW, c.Data.Task, net.Classes, loss.Targets(net.Classes))
	w := memplan.Workload{Device: dev, Config: c, Options: opt, Beside: memplan.Beside{Batches: int64(4 * len(micro.X))}}
	if w.Budget, err = memplan.Budget(c, log); err != nil {
		return nil, err
	}
	plan, err := w.Plan(ctx)
	if err != nil {
		return nil, err
	}
	b.ArenaBytes, b.PromisedPeakBytes, b.AddedFLOP = plan.ArenaBytes(), plan.ProcessBytes(), plan.AddedFLOP()
	sess, err := start(plan, b.PromisedPeakBytes)
	if err != nil {
		return nil, err
	}
	defer sess.Close()
	if err := sess.Initialize(c.Train.Seed); err != nil {
		return nil, err
	}
	bar := report.Start("timing", int64(o.Steps+o.WarmUp))
	defer bar.Done()
	var ms []float64
	var before time.Duration
	for i := range o.Steps + o.WarmUp {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if i == o.WarmUp {
			before, _ = procmem.ProcessorTime()
		}
		if o.Profile && i == o.WarmUp {
			sess.Observe(prof.observe)
		}
		start := time.Now()
		if o.Training {
			_, err = sess.Train([]session.MicroBatch{micro}, session.Step{Number: i + 1, LR: c.Train.Optimizer.LR, Seed: c.Train.Seed}, false)
		} else {
			_, err = sess.Logits(micro.X, b.Batch)
		}
		if err != nil {
			return nil, err
		}
		if i >= o.WarmUp {
			ms = append(ms, float64(time.Since(start).Microseconds())/1000)
		}
		bar.Add(1)
	}
	if after, ok := procmem.ProcessorTime(); ok {
		b.ProcessorMS = float64((after - before).Microseconds()) / 1000 / float64(o.Steps)
	}
	slices.Sort(ms)
	b.MinMS, b.MedianMS, b.MaxMS = ms[0], (ms[(len(ms)-1)/2]+ms[len(ms)/2])/2, ms[len(ms)-1]
	b.SamplesPerS = float64(b.Batch) / b.MedianMS * 1000
	b.MeasuredPeakBytes, _ = procmem.Peak()
	if o.Profile {
		prof.steps = o.Steps
		b.Profile = prof.result(dev.Ceilings())
	}
	return b, nil
}

// randomBatch is a batch of normal noise with random labels.
func randomBatch(n, channels int, shape [3]int, task string, classes, targets int) session.MicroBatch {
	s := rng.New(rng.Key(1, "bench"))
	m := session.MicroBatch{X: make([]float32, n*channels*shape[0]*shape[1]*shape[2]), Targets: make([]float32, n*targets), IDs: make([]uint64, n)}
	for i := range m.X {
		m.X[i] = float32(s.Normal())
	}
	for i := range m.Targets {
		if task == data.Multiclass {
			m.Targets[i] = float32(s.Intn(classes))
		} else {
			m.Targets[i] = float32(s.Intn(2))
		}
	}
	for i := range m.IDs {
		m.IDs[i] = uint64(i)
	}
	return m
}
