package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/procmem"
	"github.com/ctclass/ctclass/internal/runs"
)

// epochKind marks the history's lines of epochs.
const epochKind = "epoch"

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
func (r *run) endEpoch(ctx context.Context, m *meter) error {
	c := r.cfg.Train
	if !r.sess.Finite() { // the loss of the last step came before its update
		return r.diverged()
	}
	line := epochLine{Kind: epochKind, Step: r.at.Step, Epoch: r.at.Epoch + 1, TrainLoss: r.at.LossSum / float64(r.at.Steps)}
	last := r.at.Epoch+1 == c.Epochs
	if r.val != nil && (line.Epoch%c.ValidateEvery == 0 || last) {
		var ev *Evaluation
		err := r.sess.WithAverages(func() (err error) {
			ev, err = Evaluate(ctx, r.sess, r.val, r.ds.Task, r.ds.Labels, r.cfg.Eval.Threshold, r.loss, nil)
			return err
		})
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
	r.logEpoch(line, m)
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
	if err := errors.Join(r.save(line.Val), r.writeSkipped()); err != nil {
		return err
	}
	if err := r.observeEpoch(line, m); err != nil {
		return err
	}
	if err := r.writeStatus(runs.Running, nil); err != nil || r.AfterEpoch == nil || line.Val == nil {
		return err
	}
	return r.AfterEpoch(line.Epoch, r.value)
}

// saveInTime saves the state when the last saved one is older than the configuration allows.
func (r *run) saveInTime() error {
	if m := r.cfg.Train.SaveMinutes; m == 0 || time.Since(r.saved).Minutes() < m {
		return nil
	}
	return r.saveProgress()
}

// save writes the last model and the state, from which the run can be continued.
func (r *run) save(metrics *eval.Report) error {
	if !r.sess.Finite() {
		return r.diverged()
	}
	if err := r.saveModel(lastFile, metrics); err != nil {
		return err
	}
	return r.saveProgress()
}

// saveProgress writes the state.
func (r *run) saveProgress() error {
	if err := r.hist.sync(); err != nil {
		return err
	}
	if err := saveState(r.Dir, r.sess, r.at); err != nil {
		return err
	}
	r.saved = time.Now()
	return nil
}

// diskFull adds to the error of a full disk what is missing and how to go on.
func (r *run) diskFull(err error) error {
	if !atomicfile.IsDiskFull(err) {
		return err
	}
	need := r.sess.SavedBytes()
	missing := ""
	if free, ok := atomicfile.Free(r.Dir); ok {
		missing = fmt.Sprintf(", and %s are free", mebibytes(free))
	}
	return fmt.Errorf("%w: saving takes up to %s beside what is there%s; make room, then %s: it goes on from what was saved before",
		err, mebibytes(need), missing, r.goOn())
}

func (r *run) diverged() error {
	return fmt.Errorf("the weights are not finite numbers any more after step %d: lower train.optimizer.lr or set train.clip_norm", r.at.Step)
}

// judge compares the monitored metric with the best so far.
func (r *run) judge(ev *Evaluation) (best bool, err error) {
	name := r.cfg.Train.Monitor
	value, sign := ev.Loss, 1.0
	if eval.LowerIsBetter(name) {
		sign = -1
	}
	if name != "loss" {
		score, err := ev.Report.Metric(name)
		if err != nil {
			return false, exitcode.Wrap(exitcode.Usage, err)
		}
		value = float64(score)
	}
	r.value = value
	if math.IsNaN(value) { // undefined, such as the AUROC of a split with one class: nothing to choose by
		if best = r.at.Best == nil; best {
			if r.at.BestEpoch == 0 {
				r.Log.Warn("the monitored metric is undefined on the validation split: the newest model is kept as the best", "metric", name)
			}
			r.at.BestEpoch = r.at.Epoch + 1
		}
		return best, nil
	}
	if s := r.cfg.Train.Schedule; s.Name == "plateau" && r.at.Plateau.observe(value, sign, s) {
		r.Log.Info("the learning rate falls", "times", s.Factor, "metric", name)
	}
	if r.at.Best == nil || sign*(value-*r.at.Best) > r.cfg.Train.EarlyStop.MinDelta {
		r.at.Best, r.at.BestEpoch, r.at.Stale = &value, r.at.Epoch+1, 0
		return true, nil
	}
	r.at.Stale++
	return false, nil
}

func (r *run) logEpoch(l epochLine, m *meter) {
	args := []any{"epoch", fmt.Sprintf("%d/%d", l.Epoch, r.cfg.Train.Epochs), "train_loss", fmt.Sprintf("%.4f", l.TrainLoss)}
	if l.Val != nil {
		if l.ValLoss != nil {
			args = append(args, "val_loss", fmt.Sprintf("%.4f", *l.ValLoss))
		}
		args = append(args, "val_auroc", l.Val.Macro.AUROC.String())
	}
	args = append(args, "seconds", fmt.Sprintf("%.1f", m.elapsed().Seconds()), "scans_per_second", significant(m.samplesPerSecond()),
		"waited_for_data", fmt.Sprintf("%.0f%%", 100*m.waitShare()))
	if peak, ok := procmem.Peak(); ok {
		args = append(args, "memory", mebibytes(peak)+" of "+mebibytes(r.planned))
	}
	r.Log.Info("epoch done", args...)
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
	return r.sess.WithAverages(func() error { return modelfile.Save(path, m) })
}
