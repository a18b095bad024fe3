package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/procmem"
	"github.com/ctclass/ctclass/internal/runs"
	"github.com/ctclass/ctclass/internal/tracking"
)

// ConfigID names everything in the configuration that decides the result of a run; where the data lie, and how
// the run is carried out and logged, does not.
func ConfigID(cfg *config.Config) (string, error) {
	c := *cfg
	c.Eval = config.Eval{Threshold: c.Eval.Threshold} // the only one that training looks at
	c.Output, c.Memory, c.Train.Threads, c.Train.Kernels, c.Data.Workers = config.Output{}, config.Memory{}, 0, "", 0
	c.Data.Table, c.Data.Root, c.Data.Index, c.Data.Metadata, c.Data.SplitFile = "", "", "", "", "" // the fingerprint stands for the data, wherever they lie
	if c.Data.Cache.Dir == "" {
		c.Data.Cache.Storage = "" // nothing is rounded to it
	}
	c.Data.Cache.Dir, c.Data.Cache.Size = "", ""
	c.Train.SaveMinutes = 0
	c.Train.OnNaN = "" // it decides what becomes of a step that would end the run, nothing else
	raw, err := config.Marshal(&c)
	if err != nil {
		return "", err
	}
	return fingerprint(raw), nil
}

// openTracking notes what works on the run, and begins to tell others about it.
func (r *run) openTracking(ctx context.Context, device string) error {
	id, err := ConfigID(r.cfg)
	if err != nil {
		return err
	}
	dataID := r.ds.Fingerprint()
	session := runs.NewSession(device, r.threads(), r.planned, r.at.Step)
	session.Kernels = r.kernels.ID()
	if err := runs.AddSession(r.Dir, id, dataID, session); err != nil {
		return err
	}
	r.Log.Info("run", "config", runs.ShortID(id), "data", runs.ShortID(dataID), "ctclass", session.Version)
	if err := r.writeStatus(runs.Running, nil); err != nil {
		return err
	}
	resolved, err := config.Marshal(r.cfg)
	if err != nil {
		return err
	}
	params, err := config.Flatten(resolved)
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(r.Dir)
	if err != nil {
		abs = r.Dir
	}
	r.track, err = tracking.Open(ctx, r.cfg.Output, tracking.Run{
		Dir: r.Dir, Name: filepath.Base(abs), Step: r.at.Step, Params: params,
		Tags: map[string]string{"ctclass.version": session.Version, "ctclass.config_id": id, "ctclass.data_id": dataID},
	}, r.Log)
	return exitcode.Wrap(exitcode.Usage, err)
}

// closeTracking says how the run ended.
func (r *run) closeTracking(ctx context.Context, err error) error {
	state, end := runs.Finished, tracking.Finished
	switch {
	case err != nil && ctx.Err() != nil, errors.Is(err, ErrEnded), err == nil && !r.at.Finished:
		state, end = runs.Interrupted, tracking.Interrupted
	case err != nil:
		state, end = runs.Failed, tracking.Failed
	}
	return errors.Join(r.writeStatus(state, err), r.track.Close(end))
}

func (r *run) writeStatus(state string, reason error) error {
	s := runs.Status{
		State: state, Step: r.at.Step, Steps: r.total, Epoch: r.at.Epoch, Epochs: r.cfg.Train.Epochs,
		Monitor: r.cfg.Train.Monitor, Best: r.at.Best, BestEpoch: r.at.BestEpoch,
	}
	if n := len(r.at.Epochs); n > 0 {
		var last epochLine
		if err := json.Unmarshal(r.at.Epochs[n-1], &last); err != nil {
			return fmt.Errorf("the history of the run cannot be read: %w", err)
		}
		s.TrainLoss = &last.TrainLoss
	}
	if state == runs.Failed && reason != nil {
		s.Reason = reason.Error()
	}
	return runs.WriteStatus(r.Dir, s)
}

// observeStep tells the trackers about an optimiser step.
func (r *run) observeStep(l stepLine) {
	values := []tracking.Scalar{{Name: "train/lr", Value: l.LR}}
	if l.Loss != nil {
		values = append(values, tracking.Scalar{Name: "train/loss", Value: *l.Loss})
	}
	r.track.Log(l.Step, values)
}

// observeEpoch tells the trackers about an epoch.
func (r *run) observeEpoch(l epochLine, m *meter) error {
	values := []tracking.Scalar{{Name: "train/epoch_loss", Value: l.TrainLoss}, {Name: "train/epoch", Value: float64(l.Epoch)}}
	values = append(values,
		tracking.Scalar{Name: "speed/samples_per_second", Value: m.samplesPerSecond()},
		tracking.Scalar{Name: "speed/data_wait_share", Value: m.waitShare()})
	if peak, ok := procmem.Peak(); ok {
		values = append(values, tracking.Scalar{Name: "memory/peak_mib", Value: float64(peak) / (1 << 20)})
	}
	if l.ValLoss != nil {
		values = append(values, tracking.Scalar{Name: "val/loss", Value: *l.ValLoss})
	}
	if l.Val != nil {
		more, err := scalars("val", l.Val.Macro.Metrics)
		if err != nil {
			return err
		}
		values = append(values, more...)
		for _, label := range l.Val.Labels {
			if len(l.Val.Labels) < 2 {
				break // it would say the same again
			}
			if more, err = scalars("val_"+label.Name, label.Metrics); err != nil {
				return err
			}
			values = append(values, more...)
		}
	}
	r.track.Log(l.Step, values)
	return nil
}

// scalars lists the measures that are defined, by their names in the history.
func scalars(prefix string, m eval.Metrics) ([]tracking.Scalar, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	var named map[string]any
	if err := json.Unmarshal(raw, &named); err != nil {
		return nil, err
	}
	var list []tracking.Scalar
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if v, ok := named[name].(float64); ok {
			list = append(list, tracking.Scalar{Name: prefix + "/" + name, Value: v})
		}
	}
	return list, nil
}

// meter measures how fast the steps of an epoch go.
type meter struct {
	started time.Time
	stopped time.Duration // how long it ran; 0: it still runs
	waited  func() time.Duration
	before  time.Duration // waited before the epoch
	wait    time.Duration // waited in the epoch, once it is stopped
	samples int
}

// newMeter starts a meter; waited tells how long the loop has waited for data so far.
func newMeter(waited func() time.Duration) *meter {
	return &meter{started: time.Now(), waited: waited, before: waited()}
}

func (m *meter) stop() { m.stopped, m.wait = max(time.Since(m.started), 1), m.waited()-m.before }

func (m *meter) elapsed() time.Duration {
	if m.stopped > 0 {
		return m.stopped
	}
	return max(time.Since(m.started), 1)
}

func (m *meter) samplesPerSecond() float64 { return float64(m.samples) / m.elapsed().Seconds() }

// waitShare is the share of the time in which the loop waited for data.
func (m *meter) waitShare() float64 {
	wait := m.wait
	if m.stopped == 0 {
		wait = m.waited() - m.before
	}
	return wait.Seconds() / m.elapsed().Seconds()
}

// describe is the text of the progress line.
func (r *run) describe(m *meter) string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d/%d  loss %.4f", r.at.Epoch+1, r.cfg.Train.Epochs, r.at.LossSum/float64(max(1, r.at.Steps)))
	if r.at.Best != nil {
		fmt.Fprintf(&b, "  best %s %.4f", r.cfg.Train.Monitor, *r.at.Best)
	}
	fmt.Fprintf(&b, "  %s scans/s, %.0f%% waiting for data", significant(m.samplesPerSecond()), 100*m.waitShare())
	if peak, ok := procmem.Peak(); ok {
		fmt.Fprintf(&b, "  %s of %s planned", mebibytes(peak), mebibytes(r.planned))
	}
	return b.String()
}

// significant shows a number with three digits.
func significant(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
