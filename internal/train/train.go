// Package train is the training loop: data, session, schedule, validation, and a run folder from which every
// run can be continued.
package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/session"
)

// Options say how a run is carried out; none of them changes its result, but MaxSteps ends it early.
type Options struct {
	Dir      string // run folder
	Resume   bool   // continue the run in Dir
	Threads  int    // 0: as the configuration says
	MaxSteps int    // optimiser steps at most; 0: all
	Log      *slog.Logger
	Progress *progress.Reporter
}

// Result is what a run came to.
type Result struct {
	Steps     int
	Best      eval.Score // monitored metric of the best model
	BestEpoch int        // from 1; 0: there was no validation
	ModelPath string     // the model that eval and predict use
}

// run is a training run under way.
type run struct {
	Options
	cfg   *config.Config
	ds    *data.Dataset
	net   *models.Network
	loss  losses.Loss
	sess  *session.Session
	train *data.Loader
	val   *data.Loader // nil: no validation samples
	hist  *history
	at    state
	total int // optimiser steps of the whole run
}

// Run trains as cfg says. A cancelled context saves the state and returns ctx.Err().
func Run(ctx context.Context, cfg *config.Config, opt Options) (res *Result, err error) {
	r := &run{Options: opt, cfg: cfg}
	if err := r.openFolder(); err != nil {
		return nil, err
	}
	logFile, err := os.OpenFile(filepath.Join(opt.Dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot write the log of the run: %w", err)
	}
	defer logFile.Close()
	r.Log = slog.New(slog.NewMultiHandler(opt.Log.Handler(), slog.NewTextHandler(logFile, nil)))

	if r.ds, err = data.Open(cfg.Data, cfg.Train.Seed); err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	for _, w := range r.ds.Warnings {
		r.Log.Warn(w)
	}
	dev := cpu.New(r.threads())
	defer dev.Close()
	if err := r.prepare(dev); err != nil {
		return nil, err
	}
	defer r.sess.Close()
	if r.hist, err = openHistory(r.Dir, r.at.Step); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.hist.close()) }()
	if err := r.loop(ctx); err != nil {
		return nil, err
	}
	return r.result(), nil
}

// openFolder makes the run folder and writes the configuration; a folder with another run is refused.
func (r *run) openFolder() error {
	_, err := os.Stat(filepath.Join(r.Dir, stateFile))
	switch {
	case err == nil && !r.Resume:
		return exitcode.Errorf(exitcode.Usage, "%s holds a run already: continue it with --resume, or choose another folder with --out", r.Dir)
	case errors.Is(err, fs.ErrNotExist) && r.Resume:
		r.Log.Info("there is nothing to resume, starting from the beginning", "dir", r.Dir)
	}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the run folder: %w", err)
	}
	if !r.Resume {
		// A run that ended before its first saved state leaves nothing to mix up with this one.
		for _, f := range []string{historyFile, bestFile, lastFile} {
			if err := os.Remove(filepath.Join(r.Dir, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	resolved, err := config.Marshal(r.cfg)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(r.Dir, ConfigFile), resolved)
}

func (r *run) threads() int {
	if r.Options.Threads > 0 {
		return r.Options.Threads
	}
	return Threads(r.cfg.Train.Threads)
}

// prepare plans loaders and memory, says what it will take, and brings the state of the run in place.
func (r *run) prepare(dev *cpu.Device) error {
	c := r.cfg
	labels := r.ds.Labels
	classes := Outputs(r.ds.Task, labels)
	var err error
	if r.net, err = models.New(c.Model, classes); err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	if r.loss, err = losses.New(c.Loss, r.ds.Task, classes); err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	if err := r.openLoaders(); err != nil {
		return err
	}
	plan, err := session.Compile(dev, session.Options{
		Network: r.net, ShapeDHW: c.Preprocess.ShapeDHW, EvalBatch: EvalBatch(c),
		Training: &session.Training{
			Loss: r.loss, BatchSizes: r.batchSizes(), Accumulate: c.Train.Accumulate > 1, Optimizer: adamW(c.Train),
		},
	})
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	if err := r.promise(plan, dev); err != nil {
		return err
	}
	if r.sess, err = plan.Start(); err != nil {
		return exitcode.Wrap(exitcode.Memory, err)
	}
	if err := r.sess.Initialize(c.Train.Seed); err != nil {
		return err
	}
	return r.restore()
}

func adamW(t config.Train) session.AdamW {
	o := t.Optimizer
	return session.AdamW{
		Beta1: o.Betas[0], Beta2: o.Betas[1], Eps: o.Eps, Decay: o.WeightDecay, DecayAll: o.DecayOn == "all", Clip: t.ClipNorm,
	}
}

// promise states the peak memory and holds it against the budget.
func (r *run) promise(plan *session.Plan, dev *cpu.Device) error {
	need := plan.ProcessBytes()
	first := r.ds.Subset(data.Train)[0]
	v, _, err := r.ds.OpenVolume(first)
	reading := "unknown"
	if err == nil { // otherwise the loader says what is wrong with it, if it is not to be skipped
		n := r.train.BytesBound(int64(v.Voxels()))
		if r.val != nil {
			n += r.val.BytesBound(int64(v.Voxels()))
		}
		need += n
		reading = mebibytes(n)
	}
	r.Log.Info("memory planned", "total", mebibytes(need), "network", mebibytes(plan.Bytes()),
		"reading scans of the first one's size", reading, "device", dev.Name(), "threads", dev.Threads())
	if r.cfg.Memory.Budget == "" {
		return nil
	}
	budget, err := config.ParseBytes(r.cfg.Memory.Budget)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	if need > budget {
		return exitcode.Errorf(exitcode.Memory,
			"the run needs %s, more than memory.budget %s: lower train.batch_size (with train.accumulate), preprocess.shape_dhw, or set model.use_checkpointing",
			mebibytes(need), r.cfg.Memory.Budget)
	}
	return nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// restore continues from the saved state, if the run has one.
func (r *run) restore() error {
	id, err := r.identity()
	if err != nil {
		return err
	}
	r.at.Identity = id
	if !r.Resume {
		return nil
	}
	at, err := loadState(r.Dir, r.sess)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	if at.Identity != id {
		return exitcode.Errorf(exitcode.Usage,
			"%s was started with another configuration or other data: resume with the same ones, or start a new run with --out", r.Dir)
	}
	r.at = at
	r.Log.Info("resumed", "epoch", at.Epoch+1, "step", at.Step)
	return nil
}

// identity names everything that decides the result of the run.
func (r *run) identity() (string, error) {
	c := *r.cfg
	c.Output, c.Memory, c.Train.Threads, c.Data.Workers = config.Output{}, config.Memory{}, 0, 0
	c.Data.Table, c.Data.Root = "", "" // the fingerprint stands for the data, wherever they lie
	raw, err := config.Marshal(&c)
	if err != nil {
		return "", err
	}
	return fingerprint(raw, []byte(r.ds.Fingerprint())), nil
}

// loop runs the epochs.
func (r *run) loop(ctx context.Context) error {
	goal := r.total
	if r.MaxSteps > 0 {
		goal = min(goal, r.MaxSteps)
	}
	bar := r.Progress.Start("training", int64(goal))
	defer bar.Done()
	bar.Add(r.at.Step)
	for r.at.Epoch < r.cfg.Train.Epochs && !r.at.Finished && !r.stepsDone() {
		if err := r.runEpoch(ctx, bar); err != nil {
			if ctx.Err() != nil {
				err = errors.Join(ctx.Err(), saveState(r.Dir, r.sess, r.at))
				r.Log.Warn("interrupted: the state is saved, continue with --resume", "dir", r.Dir, "step", r.at.Step)
			}
			return err
		}
	}
	if r.stepsDone() && !r.at.Finished {
		return errors.Join(r.saveModel(lastFile, nil), saveState(r.Dir, r.sess, r.at))
	}
	return nil
}

func (r *run) stepsDone() bool { return r.MaxSteps > 0 && r.at.Step >= r.MaxSteps }

// runEpoch makes the remaining steps of the current epoch, validates and saves.
func (r *run) runEpoch(ctx context.Context, bar *progress.Bar) error {
	started := time.Now()
	waited := r.train.WaitTime()
	for b, err := range r.train.Epoch(ctx, r.at.Epoch, r.at.Position) {
		if err != nil {
			return exitcode.Wrap(exitcode.NoInput, err)
		}
		err = r.step(b)
		b.Release()
		if err != nil {
			return err
		}
		bar.Add(1)
		bar.Describe(fmt.Sprintf("epoch %d/%d  loss %.4f", r.at.Epoch+1, r.cfg.Train.Epochs, r.at.LossSum/float64(r.at.Steps)))
		if r.stepsDone() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.at.Steps == 0 {
		return exitcode.Errorf(exitcode.NoInput, "no training step in a whole epoch: too few scans could be used for a batch of %d", globalBatch(r.cfg.Train))
	}
	return r.endEpoch(ctx, started, r.train.WaitTime()-waited)
}

// stepLine is the history's record of an optimiser step.
type stepLine struct {
	Kind  string  `json:"kind"` // step
	Step  int     `json:"step"` // from 1
	Epoch int     `json:"epoch"`
	Loss  float64 `json:"loss"`
	LR    float64 `json:"lr"`
}

// step makes one optimiser step of a global batch, cut into micro-batches.
func (r *run) step(b *data.Batch) error {
	lr := learningRate(r.cfg.Train.Optimizer.LR, r.cfg.Train.Schedule, r.at.Step, r.total)
	micro := r.microBatches(b)
	if len(micro) == 0 {
		r.at.Position = b.Next
		return nil
	}
	loss, err := r.sess.Train(micro, session.Step{Number: r.at.Step + 1, LR: lr, Seed: r.cfg.Train.Seed, Epoch: r.at.Epoch},
		r.cfg.Loss.Reduction == "sum")
	if err != nil {
		var names []string
		for _, s := range b.Samples {
			names = append(names, s.Name)
		}
		return fmt.Errorf("step %d: %w; lower train.optimizer.lr or set train.clip_norm; its scans: %v", r.at.Step+1, err, names)
	}
	r.at.Step++
	r.at.Steps++
	r.at.LossSum += loss
	r.at.Position = b.Next
	_, err = r.hist.add(stepLine{"step", r.at.Step, r.at.Epoch + 1, loss, lr})
	return err
}

// epochLine is the history's record of an epoch.
type epochLine struct {
	Kind      string       `json:"kind"` // epoch
	Step      int          `json:"step"`
	Epoch     int          `json:"epoch"` // from 1
	TrainLoss float64      `json:"train_loss"`
	ValLoss   *float64     `json:"val_loss,omitempty"`
	Val       *eval.Report `json:"val,omitempty"`
	Best      bool         `json:"best"`
}

// endEpoch validates, saves the best and the last model and the state.
func (r *run) endEpoch(ctx context.Context, started time.Time, waited time.Duration) error {
	c := r.cfg.Train
	line := epochLine{Kind: "epoch", Step: r.at.Step, Epoch: r.at.Epoch + 1, TrainLoss: r.at.LossSum / float64(r.at.Steps)}
	trained := time.Since(started)
	last := r.at.Epoch+1 == c.Epochs
	if r.val != nil && (line.Epoch%c.ValidateEvery == 0 || last) {
		ev, err := Evaluate(ctx, r.sess, r.val, r.ds.Task, r.ds.Labels, r.cfg.Eval.Threshold, r.loss, nil)
		if err != nil {
			return err
		}
		line.Val = ev.Report
		if !math.IsNaN(ev.Loss) {
			line.ValLoss = &ev.Loss
		}
		if line.Best, err = r.judge(ev); err != nil {
			return err
		}
	}
	raw, err := r.hist.add(line)
	if err != nil {
		return err
	}
	r.at.Epochs = append(r.at.Epochs, raw)
	r.logEpoch(line, trained, waited)
	r.at.Epoch++
	r.at.Position, r.at.LossSum, r.at.Steps = 0, 0, 0
	r.at.Finished = last || c.EarlyStop.Patience > 0 && r.at.Stale >= c.EarlyStop.Patience
	if r.at.Finished && !last {
		r.Log.Info("stopping early", "validations without improvement", r.at.Stale, "best epoch", r.at.BestEpoch)
	}
	if line.Best || r.val == nil && r.at.Finished {
		if err := r.saveModel(bestFile, line.Val); err != nil {
			return err
		}
	}
	return errors.Join(r.saveModel(lastFile, line.Val), saveState(r.Dir, r.sess, r.at))
}

// judge compares the monitored metric with the best so far.
func (r *run) judge(ev *Evaluation) (best bool, err error) {
	name := r.cfg.Train.Monitor
	value, sign := ev.Loss, -1.0
	if name != "loss" {
		score, err := ev.Report.Metric(name)
		if err != nil {
			return false, exitcode.Wrap(exitcode.Usage, err)
		}
		value, sign = float64(score), 1
	}
	if math.IsNaN(value) { // undefined, such as the AUROC of a split with one class: the first is kept
		if best = r.at.Best == nil && r.at.BestEpoch == 0; best {
			r.Log.Warn("the monitored metric is undefined on the validation split", "metric", name)
			r.at.BestEpoch = r.at.Epoch + 1
		}
		return best, nil
	}
	if r.at.Best == nil || sign*(value-*r.at.Best) > r.cfg.Train.EarlyStop.MinDelta {
		r.at.Best, r.at.BestEpoch, r.at.Stale = &value, r.at.Epoch+1, 0
		return true, nil
	}
	r.at.Stale++
	return false, nil
}

func (r *run) logEpoch(l epochLine, trained, waited time.Duration) {
	args := []any{"epoch", fmt.Sprintf("%d/%d", l.Epoch, r.cfg.Train.Epochs), "train_loss", fmt.Sprintf("%.4f", l.TrainLoss)}
	if l.Val != nil {
		if l.ValLoss != nil {
			args = append(args, "val_loss", fmt.Sprintf("%.4f", *l.ValLoss))
		}
		args = append(args, "val_auroc", l.Val.Macro.AUROC.String())
	}
	args = append(args, "seconds", fmt.Sprintf("%.1f", trained.Seconds()), "waited_for_data", fmt.Sprintf("%.0f%%", 100*waited.Seconds()/max(trained.Seconds(), 1e-9)))
	r.Log.Info("epoch done", args...)
}

func (r *run) result() *Result {
	res := &Result{Steps: r.at.Step, Best: eval.Undefined(), BestEpoch: r.at.BestEpoch, ModelPath: filepath.Join(r.Dir, lastFile)}
	if r.at.Best != nil {
		res.Best = eval.Score(*r.at.Best)
	}
	if _, err := os.Stat(filepath.Join(r.Dir, bestFile)); err == nil && r.cfg.Output.Save == "best" {
		res.ModelPath = filepath.Join(r.Dir, bestFile)
	}
	return res
}

// saveModel writes the current weights as a model file of the run folder.
func (r *run) saveModel(name string, metrics *eval.Report) error {
	path := filepath.Join(r.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	m, err := r.sess.Model(r.ds.Task, r.ds.Labels, r.cfg.Preprocess)
	if err != nil {
		return err
	}
	m.DataFingerprint = r.ds.Fingerprint()
	if metrics != nil {
		if m.Metrics, err = json.Marshal(metrics); err != nil {
			return err
		}
	}
	if m.History, err = json.Marshal(slices.Clone(r.at.Epochs)); err != nil {
		return err
	}
	return modelfile.Save(path, m)
}
