// Package train is the training loop: data, session, schedule, validation, and a run folder from which every
// run can be continued.
package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/kerneltable"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/session"
	"github.com/ctclass/ctclass/internal/tracking"
)

// Options say how a run is carried out; none of them changes its result, but MaxSteps ends it early.
type Options struct {
	Dir      string // run folder
	Resume   bool   // continue the run in Dir
	Threads  int    // 0: as the configuration says
	MaxSteps int    // optimiser steps at most; 0: all
	NoDoctor bool   // train without a look at the data set
	GoOn     string // tells the user how a run that was stopped goes on; "": with --resume
	// AfterEpoch is told the monitored metric of each validated epoch, NaN where it is undefined, once the epoch is
	// saved; an error ends the run, ErrEnded on purpose. Nil: nobody asks.
	AfterEpoch func(epoch int, value float64) error
	Log        *slog.Logger
	Progress   *progress.Reporter
}

// Result is what a run came to.
type Result struct {
	Steps     int        `json:"steps"`
	Finished  bool       `json:"finished"`   // no epoch is left
	Best      eval.Score `json:"best"`       // monitored metric of the best model
	BestEpoch int        `json:"best_epoch"` // from 1; 0: there was no validation
	ModelPath string     `json:"model"`      // the model that eval and predict use
	LastPath  string     `json:"last_model"` // the model of the last epoch
	Skipped   int        `json:"skipped"`    // scans left out, which skipped.csv in the run folder lists
}

// ErrBusy says that another process has the run folder.
var ErrBusy = errors.New("another process is working on the run")

// ErrEnded says that AfterEpoch has ended a run that has gone far enough.
var ErrEnded = errors.New("the run was ended after an epoch")

// run is a training run under way.
type run struct {
	Options
	cfg     *config.Config
	ds      *data.Dataset
	net     *models.Network
	loss    losses.Loss
	sess    *session.Session
	train   *data.Loader
	val     *data.Loader // nil: no validation samples
	hist    *history
	at      state
	mix     *mixup
	kernels *kerneltable.Table // nil: the usual ones
	total   int                // optimiser steps of the whole run

	listed  int   // scans in the list of those left out
	planned int64 // bytes that the process will take
	track   *tracking.Tracker
	value   float64 // monitored metric of the last validation
	saved   time.Time
}

// Run trains as cfg says. A cancelled context saves the state and returns ctx.Err().
func Run(ctx context.Context, cfg *config.Config, opt Options) (res *Result, err error) {
	r := &run{Options: opt, cfg: cfg}
	if err := r.openFolder(); err != nil {
		return nil, err
	}
	unlock, err := r.lockFolder()
	if err != nil {
		return nil, err
	}
	defer unlock()
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
	if err := r.ds.OpenCache(cfg.Data.Cache, func(text string) { r.Log.Warn(text) }); err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	dev, err := r.openDevice()
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	if err := r.prepare(ctx, dev); err != nil {
		return nil, err
	}
	defer r.sess.Close()
	if r.at.Step == 0 && !r.NoDoctor {
		if err := r.quickCheck(); err != nil {
			return nil, err
		}
	}
	if err := r.writeConfig(); err != nil {
		return nil, err
	}
	if err := r.recordKernels(); err != nil {
		return nil, err
	}
	if r.hist, err = openHistory(r.Dir, r.at.Step, r.at.Epoch); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.hist.close()) }()
	if err = r.openTracking(ctx, dev.Name()); err == nil {
		err = errors.Join(r.loop(ctx), r.writeSkipped())
		LogCache(r.Log, r.ds)
	}
	if err := errors.Join(err, r.closeTracking(ctx, err)); err != nil {
		return nil, r.diskFull(err)
	}
	return r.result(), nil
}

// openFolder makes the run folder; one that holds a run or a model already is refused, unless the run is to go on.
func (r *run) openFolder() error {
	for _, f := range []string{stateFile, lastFile, bestFile} {
		_, err := os.Stat(filepath.Join(r.Dir, f))
		switch {
		case err == nil && !r.Resume:
			return exitcode.Errorf(exitcode.Usage, "%s holds a run already: continue it with --resume, or choose another folder with --out", r.Dir)
		case f == stateFile && r.Resume && errors.Is(err, fs.ErrNotExist):
			r.Log.Info("there is nothing to resume, starting from the beginning", "dir", r.Dir)
		}
	}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the run folder: %w", err)
	}
	return nil
}

// lockFolder keeps other processes out of the run folder until unlock is called or the process ends, and removes
// what one that was killed while it wrote has left there.
func (r *run) lockFolder() (unlock func(), err error) {
	lock := flock.New(filepath.Join(r.Dir, lockFile))
	switch ok, err := lock.TryLock(); {
	case err != nil:
		r.Log.Warn("the run folder cannot be locked: nothing else may work on this run", "dir", r.Dir, "reason", err)
		return func() {}, nil
	case !ok:
		return nil, exitcode.Errorf(exitcode.Usage, "%w in %s: wait for it, or choose another folder with --out", ErrBusy, r.Dir)
	}
	atomicfile.RemoveLeftovers(r.Dir)
	atomicfile.RemoveLeftovers(filepath.Dir(filepath.Join(r.Dir, stateFile)))
	return func() {
		_ = lock.Unlock() // it ends with the process at the latest
	}, nil
}

// writeConfig writes the resolved configuration, once it is known to be that of the run in the folder.
func (r *run) writeConfig() error {
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
func (r *run) prepare(ctx context.Context, dev *cpu.Device) error {
	c := r.cfg
	if err := r.newParts(); err != nil {
		return err
	}
	if err := r.reserve(ctx, dev); err != nil {
		return err
	}
	if err := r.sess.Initialize(c.Train.Seed); err != nil {
		return err
	}
	if err := r.loadPretrained(); err != nil {
		return err
	}
	r.sess.StartAverages()
	return r.restore()
}

// newParts makes the network and the loss for the data set.
func (r *run) newParts() (err error) {
	classes := Outputs(r.ds.Task, r.ds.Labels)
	if r.net, err = models.ForInput(r.cfg.Model, r.cfg.Preprocess, classes); err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	r.loss, err = r.newLoss(classes)
	return exitcode.Wrap(exitcode.Usage, err)
}

// restore continues from the saved state, if the run has one.
func (r *run) restore() error {
	id, err := r.identity()
	if err != nil {
		return err
	}
	r.at.Identity, r.at.Plateau.Falls = id, 1
	if !r.Resume {
		return nil
	}
	at, err := loadState(r.Dir, r.sess, id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, errOtherRun):
		return exitcode.Errorf(exitcode.Usage, "cannot resume %s: %w: give the same ones, or start a new run with --out", r.Dir, err)
	case err != nil:
		return exitcode.Wrap(exitcode.Usage, err)
	}
	r.at = at
	r.Log.Info("resumed", "epoch", min(at.Epoch+1, r.cfg.Train.Epochs), "step", at.Step)
	return nil
}

// identity names everything that decides the result of the run.
func (r *run) identity() (string, error) {
	id, err := ConfigID(r.cfg)
	if err != nil {
		return "", err
	}
	return fingerprint([]byte(id), []byte(r.ds.Fingerprint())), nil
}

// loop runs the epochs.
func (r *run) loop(ctx context.Context) error {
	goal := r.total
	if r.MaxSteps > 0 {
		goal = min(goal, r.MaxSteps)
	}
	r.saved = time.Now()
	bar := r.Progress.Start("training", int64(goal))
	defer bar.Done()
	bar.Skip(r.at.Step)
	for r.at.Epoch < r.cfg.Train.Epochs && !r.at.Finished && !r.stepsDone() {
		if err := r.runEpoch(ctx, bar); err != nil {
			if cause := ctx.Err(); cause != nil && errors.Is(err, cause) {
				r.saveInterrupted()
			}
			return err
		}
	}
	if r.stepsDone() && !r.at.Finished {
		return r.save(nil)
	}
	return nil
}

// saveInterrupted saves what an interrupted run has reached. What fails here does not change the reason of the end.
func (r *run) saveInterrupted() {
	if err := r.save(nil); err != nil {
		r.Log.Error("interrupted, and the state cannot be saved: the run goes on from the one saved before", "reason", err)
		return
	}
	r.Log.Warn("interrupted: the state is saved, "+r.goOn(), "dir", r.Dir, "step", r.at.Step)
}

func (r *run) goOn() string { return cmp.Or(r.GoOn, "continue with --resume") }

func (r *run) stepsDone() bool { return r.MaxSteps > 0 && r.at.Step >= r.MaxSteps }

// runEpoch makes the remaining steps of the current epoch, validates and saves.
func (r *run) runEpoch(ctx context.Context, bar *progress.Bar) error {
	m := newMeter(r.train.WaitTime)
	for b, err := range r.train.Epoch(ctx, r.at.Epoch, r.at.Position) {
		if r.stepsDone() { // known to be in the middle of an epoch only now that another batch has come
			return nil
		}
		if err != nil {
			return exitcode.Wrap(exitcode.NoInput, err)
		}
		m.samples += len(b.IDs)
		err = r.step(b)
		b.Release()
		if err != nil {
			return err
		}
		bar.Add(1)
		bar.Describe(r.describe(m))
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.saveInTime(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.at.Steps == 0 && r.at.Skipped > 0 {
		return fmt.Errorf("every step of epoch %d was left out, because its loss or gradients were not finite numbers: lower train.optimizer.lr or set train.clip_norm", r.at.Epoch+1)
	}
	if r.at.Steps == 0 {
		return exitcode.Errorf(exitcode.NoInput, "no training step in a whole epoch: too few scans could be used for a batch of %d", globalBatch(r.cfg.Train))
	}
	m.stop()
	return r.endEpoch(ctx, m)
}

// stepLine is the history's record of an optimiser step.
type stepLine struct {
	Kind  string   `json:"kind"` // step
	Step  int      `json:"step"` // from 1
	Epoch int      `json:"epoch"`
	Loss  *float64 `json:"loss,omitempty"` // absent where the step is left out
	LR    float64  `json:"lr"`
	// Skipped marks a step that came to values that are not finite and changed nothing (train.on_nan: skip).
	Skipped bool `json:"skipped,omitempty"`
}

// step makes one optimiser step of a global batch, cut into micro-batches.
func (r *run) step(b *data.Batch) error {
	c := r.cfg.Train
	lr := learningRate(c.Optimizer.LR, c.Schedule, moment{r.at.Step, r.total, r.at.Epoch, r.at.Plateau.Falls})
	micro := r.microBatches(b)
	if len(micro) == 0 {
		r.at.Position = b.Next
		return nil
	}
	line := stepLine{Kind: "step", Step: r.at.Step + 1, Epoch: r.at.Epoch + 1, LR: lr}
	step := session.Step{Number: r.at.Step + 1 - r.at.Skipped, LR: lr, Seed: c.Seed, Epoch: r.at.Epoch}
	loss, err := r.sess.Train(micro, step, r.cfg.Loss.Reduction == "sum")
	switch {
	case isNotFinite(err):
		if err := r.notFinite(b, micro, step, err); err != nil {
			return err
		}
		line.Skipped = true
		r.at.Skipped++
	case err != nil:
		return fmt.Errorf("step %d: %w", r.at.Step+1, err)
	default:
		line.Loss = &loss
		r.at.Steps++
		r.at.LossSum += loss
	}
	r.at.Step++
	r.at.Position = b.Next
	r.observeStep(line)
	_, err = r.hist.add(line)
	return err
}

// LogCache tells how many samples came from the cache on disk, if there is one.
func LogCache(log *slog.Logger, ds *data.Dataset) {
	if hits, misses, healed := ds.CacheCounts(); hits+misses > 0 {
		log.Info("samples and the cache on disk", "from_cache", hits, "made", misses, "of_damaged_entries", healed)
	}
}

func (r *run) result() *Result {
	res := &Result{Skipped: len(r.skipped()), Steps: r.at.Step, Finished: r.at.Finished, Best: eval.Undefined(), BestEpoch: r.at.BestEpoch, LastPath: filepath.Join(r.Dir, lastFile)}
	res.ModelPath = res.LastPath
	if r.at.Best != nil {
		res.Best = eval.Score(*r.at.Best)
	}
	if _, err := os.Stat(filepath.Join(r.Dir, bestFile)); err == nil && r.cfg.Output.Save == "best" {
		res.ModelPath = filepath.Join(r.Dir, bestFile)
	}
	return res
}
