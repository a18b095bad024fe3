package train

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/doctor"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/procmem"
	"github.com/ctclass/ctclass/internal/session"
)

const (
	doctorSamples = 24               // scans that Doctor reads, unless it is to read all
	doctorSteps   = 4                // training steps of its probe
	doctorFiles   = 20 * time.Second // for comparing files
	quickFiles    = 2 * time.Second  // the same at the start of a run
)

// Doctor looks for what would make a training fail or its result worthless: on some scans, with full on all of them.
// Only what keeps it from looking is an error.
func Doctor(ctx context.Context, cfg *config.Config, full bool, opt Options) (*doctor.Report, error) {
	rep := &doctor.Report{}
	defer rep.Sort()
	opt.Log = slog.New(slog.DiscardHandler) // the report has it all
	ds, faults, err := data.Examine(cfg.Data, cfg.Train.Seed)
	if err != nil {
		rep.Add(doctor.Error, doctor.CheckSettings, "the data set cannot be opened: %v", err)
		return rep, nil
	}
	for _, w := range ds.Warnings {
		rep.Add(doctor.Warning, doctor.CheckFiles, "%s", w)
	}
	rep.Faults(faults)
	rep.Labels(ds)
	r := &run{Options: opt, cfg: cfg, ds: ds}
	if r.loss, err = r.newLoss(Outputs(ds.Task, ds.Labels)); err != nil {
		rep.Add(doctor.Error, doctor.CheckLoss, "%v", err)
	} else {
		rep.Loss(r.loss, ds)
	}
	n := doctorSamples
	if full {
		n = 0
	} else {
		rep.Files(ds, doctorFiles)
	}
	chosen := doctor.Choose(ds, n, cfg.Train.Seed)
	bar := opt.Progress.Start("reading scans", int64(len(chosen)))
	times, err := rep.Scans(ctx, cfg, ds, chosen, workers(cfg, r.threads()), bar.Add)
	bar.Done()
	if err != nil {
		return nil, err
	}
	return rep, r.examineNetwork(ctx, rep, times)
}

// quickCheck is the part of Doctor that reads no scans. It logs warnings; errors end the run.
func (r *run) quickCheck() error {
	rep := &doctor.Report{}
	rep.Labels(r.ds)
	rep.Loss(r.loss, r.ds)
	rep.Files(r.ds, quickFiles)
	var lines []string
	for _, f := range rep.Findings {
		switch {
		case f.Severity == doctor.Error:
			lines = append(lines, f.Text)
		case f.Severity != doctor.Note:
			r.Log.Warn(f.Text, "check", f.Check)
		}
	}
	if len(lines) > 0 {
		return exitcode.Errorf(exitcode.Usage, "%s (ctclass doctor tells more; --no-doctor trains all the same)", strings.Join(lines, "; "))
	}
	return nil
}

// examineNetwork trains a few steps on scans of the data set and leaves what it was told about in rep.
func (r *run) examineNetwork(ctx context.Context, rep *doctor.Report, times doctor.ScanTimes) error {
	if r.loss == nil || len(rep.Errors()) > 0 && times.MaxVoxels == 0 {
		return nil // there is nothing to train, or on
	}
	cfg := *r.cfg
	cfg.Train.Optimizer.WeightDecay = 0 // a parameter without a gradient is to stay as it is
	cfg.Data.OnError = "skip"           // what cannot be read is known
	r.cfg = &cfg
	dev, err := OpenDevice(r.cfg, r.threads())
	if err != nil {
		rep.Add(doctor.Error, doctor.CheckSettings, "%v", err)
		return nil
	}
	defer dev.Close()
	if err := r.prepare(ctx, dev); err != nil {
		check := doctor.CheckSettings
		if exitcode.Of(err) == exitcode.Memory {
			check = doctor.CheckMemory
		}
		rep.Add(doctor.Error, check, "%v", err)
		return nil
	}
	defer r.sess.Close()
	p, err := r.probe(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		rep.Add(doctor.Error, doctor.CheckScans, "%v", err)
		return nil
	}
	samples := len(r.ds.Subset(data.Train)) + len(r.ds.Subset(data.Val))
	rep.Network(*p, times, samples, workers(r.cfg, r.threads()))
	return nil
}

// probe makes a few steps and times them.
func (r *run) probe(ctx context.Context) (*doctor.Probe, error) {
	p := &doctor.Probe{Steps: r.train.Batches(), Planned: r.planned}
	p.Available, _ = procmem.Available()
	if resident, ok := procmem.Peak(); ok {
		p.Available += min(resident, r.planned) // what this process holds already is the run's to have
	}
	before, err := r.parameters()
	if err != nil {
		return nil, err
	}
	bar := r.Progress.Start("training a few steps", doctorSteps)
	defer bar.Done()
	// Steps of this size show in every parameter with a gradient; plain gradients may be small.
	lr := 1e-3
	if strings.HasPrefix(r.cfg.Train.Optimizer.Name, "sgd") {
		lr = 1
	}
	var seconds []float64
	for b, err := range r.train.Epoch(ctx, 0, 0) {
		if err != nil {
			return nil, err
		}
		start := time.Now()
		_, err = r.sess.Train(r.microBatches(b), session.Step{Number: len(seconds) + 1, LR: lr, Seed: r.cfg.Train.Seed}, r.cfg.Loss.Reduction == "sum")
		seconds = append(seconds, time.Since(start).Seconds())
		b.Release()
		bar.Add(1)
		if isNotFinite(err) {
			p.Diverged = true
			break
		}
		if err != nil {
			return nil, err
		}
		if len(seconds) == doctorSteps {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(seconds) == 0 {
		return nil, fmt.Errorf("too few scans could be used for a batch of %d", globalBatch(r.cfg.Train))
	}
	p.Step = slices.Min(append(seconds[min(1, len(seconds)-1):], seconds[0])) // the first warms up
	after, err := r.parameters()
	if err != nil {
		return nil, err
	}
	for name, values := range after {
		p.Trained++
		if slices.Equal(values, before[name]) {
			p.Untouched = append(p.Untouched, name)
		}
	}
	slices.Sort(p.Untouched)
	if r.val == nil {
		return p, nil
	}
	for b, err := range r.val.Epoch(ctx, 0, 0) {
		if err != nil {
			return nil, err
		}
		start := time.Now()
		_, err = r.sess.Logits(b.X, len(b.IDs))
		p.Validation = time.Since(start).Seconds() * float64(r.val.Batches()) / float64(r.cfg.Train.ValidateEvery)
		b.Release()
		return p, err
	}
	return p, ctx.Err()
}

// parameters returns copies of the parameters that are trained.
func (r *run) parameters() (map[string][]float32, error) {
	frozen, err := freeze(r.cfg, r.net)
	if err != nil {
		return nil, err
	}
	values := map[string][]float32{}
	for _, p := range r.sess.Params() {
		if name := p.Value.Name; p.Value.Role == graph.Parameter && (frozen == nil || !frozen(name)) {
			values[name] = r.sess.State().Get(name)
		}
	}
	return values, nil
}
