package predict

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/train"
)

// Evaluation is what `ctclass eval` reports.
type Evaluation struct {
	Model string `json:"model"` // the model file
	Split string `json:"split"`
	*eval.Report
}

// Evaluate measures a model file, or the model of a run folder, on the split c.Eval.Split of the data
// set that c describes. Task, labels and preprocessing are the model's.
func Evaluate(ctx context.Context, c *config.Config, path string, log *slog.Logger, report *progress.Reporter) (*Evaluation, error) {
	m, err := Load(path)
	if err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	ds, err := data.Open(c.Data, c.Train.Seed)
	if err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	if ds.Task != m.Task || !slices.Equal(ds.Labels, m.Labels) {
		return nil, exitcode.Errorf(exitcode.Usage, "the model is for %s %s, the data set has %s %s",
			m.Task, strings.Join(m.Labels, ", "), ds.Task, strings.Join(ds.Labels, ", "))
	}
	split, err := ParseSplit(c.Eval.Split)
	if err != nil {
		return nil, err
	}
	samples := ds.Subset(split)
	if len(samples) == 0 {
		return nil, exitcode.Errorf(exitcode.NoInput, "%s has no samples in the split %s: choose another one with --split", c.Data.Table, split)
	}
	for _, w := range ds.Warnings {
		log.Warn(w)
	}
	if err := ds.OpenCache(c.Data.Cache, func(text string) { log.Warn(text) }); err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	dev := cpu.New(train.Threads(c.Train.Threads))
	defer dev.Close()
	sess, err := m.Start(dev, train.EvalBatch(c))
	if err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	defer sess.Close()
	settings := *c
	settings.Preprocess = m.Preprocess
	l, err := train.EvalLoader(&settings, ds, samples, dev.Threads(), 0, func(s data.Sample, w string) { log.Warn(w, "scan", s.Name) })
	if err != nil {
		return nil, err
	}
	bar := report.Start("evaluating", int64(len(samples)))
	defer bar.Done()
	ev, err := train.Evaluate(ctx, sess, l, ds.Task, ds.Labels, c.Eval.Threshold, nil, bar.Add)
	if err != nil {
		if ctx.Err() == nil {
			err = exitcode.Wrap(exitcode.NoInput, err)
		}
		return nil, err
	}
	return &Evaluation{m.Path, split, ev.Report}, nil
}

// ParseSplit checks the name of a split.
func ParseSplit(name string) (string, error) {
	for _, s := range []string{data.Train, data.Val, data.Test} {
		if name == s {
			return s, nil
		}
	}
	return "", exitcode.Errorf(exitcode.Usage, "unknown split %q, allowed: train, val, test", name)
}
