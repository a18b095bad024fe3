package train

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/memplan"
	"github.com/ctclass/ctclass/internal/procmem"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/rng"
	"github.com/ctclass/ctclass/internal/session"
)

// assumedScan is the size of scans of which none is at hand: a chest CT's.
func assumedScan() [3]int { return [3]int{400, 512, 512} }

// PlanMemory plans the memory of the training that cfg describes, as Run would, and of what could be chosen instead,
// without training. Without the data set it assumes scans of a usual size. gflops says how fast to reckon operations;
// 0: as fast as in a measured step on a small volume.
func PlanMemory(ctx context.Context, cfg *config.Config, gflops float64, log *slog.Logger, report *progress.Reporter) (*memplan.Report, error) {
	dev, err := OpenDevice(cfg, Threads(cfg.Train.Threads))
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	r := &run{Options: Options{Log: log, Progress: report}, cfg: cfg}
	scans, err := r.describeData()
	if err != nil {
		return nil, err
	}
	w, known, err := r.workload(dev, scans.first)
	if err != nil {
		return nil, err
	}
	bar := report.Start("planning", planSteps)
	defer bar.Done()
	rate, err := measureRate(ctx, dev, w, gflops)
	if err != nil {
		return nil, err
	}
	bar.Add(1)
	rep, err := w.Report(ctx, rate, func() { bar.Add(1) })
	if err != nil {
		return nil, err
	}
	rep.Data = scans.about
	if !rep.Fits {
		return rep, nil
	}
	need, caches, err := r.promise(w, rep.Plan, known && !scans.assumed)
	if err != nil {
		return nil, err
	}
	rep.Parts = session.Used(append(rep.Parts,
		session.Part{Name: "cache of samples", Bytes: caches},
		session.Part{Name: "reading model.pretrained", Bytes: need - caches - rep.PromisedPeakBytes}))
	rep.PromisedPeakBytes = need
	return rep, nil
}

// planSteps is about the number of plans that are made.
const planSteps = 12

// plannedScans are the scans that memory is planned for.
type plannedScans struct {
	about   string
	first   func() (voxels int64, known bool)
	assumed bool
}

// describeData opens the data set, or assumes one, and makes the network and the loss for it.
func (r *run) describeData() (*plannedScans, error) {
	var err error
	c := r.cfg
	if r.ds, err = data.Open(c.Data, c.Train.Seed); err == nil {
		if err := r.newParts(); err != nil {
			return nil, err
		}
		return &plannedScans{about: "scans of the size of the training split's first one", first: r.firstScan}, nil
	}
	reason := "no data set is configured"
	if c.Data.Table != "" {
		reason = err.Error()
	}
	if r.net, r.loss, err = parts(c); err != nil {
		return nil, err
	}
	r.ds = &data.Dataset{Task: c.Data.Task}
	for i := range r.net.Classes {
		r.ds.Labels = append(r.ds.Labels, strconv.Itoa(i))
	}
	for i, split := range []string{data.Train, data.Val} {
		for k := range globalBatch(c.Train) {
			name := fmt.Sprintf("%d of split %d", k, i)
			r.ds.Samples = append(r.ds.Samples, data.Sample{ID: rng.Hash(name), Name: name, Split: split, Target: make([]float64, r.loss.Targets(r.net.Classes))})
		}
	}
	size := assumedScan()
	return &plannedScans{
		about:   fmt.Sprintf("scans of %d×%d×%d voxels, as assumed (%s), without a cache of samples", size[0], size[1], size[2], reason),
		first:   func() (int64, bool) { return int64(size[0]) * int64(size[1]) * int64(size[2]), true },
		assumed: true,
	}, nil
}

// A step on at most this many voxels and volumes tells how fast a step is.
const (
	rateVoxels = 64 * 64 * 64
	rateBatch  = 2
	rateSteps  = 3
)

// measureRate times steps of the workload's training on a small volume. Where that takes too much memory, or the
// network cannot take it, or operations a second are stated, the rest is what the machine does at most.
func measureRate(ctx context.Context, dev *cpu.Device, w *memplan.Workload, gflops float64) (memplan.Rate, error) {
	if gflops > 0 {
		return memplan.Rate{GFLOPS: gflops, GBPS: dev.Ceilings().GBPS, Source: "the operations as stated, the bytes measured in reading memory"}, nil
	}
	opt := w.Options
	opt.EvalBatch = 0
	training := *opt.Training
	n := min(rateBatch, w.Batch())
	training.BatchSizes, training.Accumulate = []int{n}, false
	opt.Training = &training
	side := 1.0
	if voxels := float64(opt.ShapeDHW[0]) * float64(opt.ShapeDHW[1]) * float64(opt.ShapeDHW[2]); voxels > rateVoxels {
		side = math.Cbrt(rateVoxels / voxels)
	}
	for i, s := range opt.ShapeDHW {
		if side < 1 {
			opt.ShapeDHW[i] = min(s, 16*int(math.Ceil(side*float64(s)/16)))
		}
	}
	plan, err := session.Compile(dev, opt)
	free, told := procmem.Available()
	if err != nil || told && plan.ProcessBytes() > free || w.Budget > 0 && plan.ProcessBytes() > w.Budget {
		top := dev.Ceilings()
		return memplan.Rate{GFLOPS: top.GFLOPS, GBPS: top.GBPS, Source: "the most that this machine does: real steps are slower"}, nil
	}
	sess, err := plan.Start()
	if err != nil {
		return memplan.Rate{}, exitcode.Wrap(exitcode.Memory, err)
	}
	defer sess.Close()
	if err := sess.Initialize(w.Config.Train.Seed); err != nil {
		return memplan.Rate{}, err
	}
	net := opt.Network
	micro := randomBatch(n, net.InChannels, opt.ShapeDHW, w.Config.Data.Task, net.Classes, training.Loss.Targets(net.Classes))
	best := math.Inf(1)
	var rate memplan.Rate
	for i := range rateSteps {
		if err := ctx.Err(); err != nil {
			return rate, err
		}
		var flop, bytes int64
		var products, rest time.Duration
		sess.Observe(func(in *engine.Instr, took time.Duration) {
			if f, b := in.Work(dev); f > 0 {
				flop += f
				products += took
			} else {
				bytes += b
				rest += took
			}
		})
		if _, err := sess.Train([]session.MicroBatch{micro}, session.Step{Number: i + 1}, false); err != nil {
			return rate, err
		}
		if all := (products + rest).Seconds(); all < best {
			best = all
			rate.GFLOPS, rate.GBPS = float64(flop)/products.Seconds()/1e9, float64(bytes)/rest.Seconds()/1e9
		}
	}
	s := opt.ShapeDHW
	rate.Source = fmt.Sprintf("measured in a step on %d volumes of %d×%d×%d voxels", n, s[0], s[1], s[2])
	return rate, nil
}
