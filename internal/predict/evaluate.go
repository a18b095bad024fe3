package predict

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
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

// worstMistakes is how many wrong answers an evaluation lists.
const worstMistakes = 12

// EvalOptions say what Evaluate measures.
type EvalOptions struct {
	Models  []string // model files or run folders; several answer together
	Compare []string // of another model, or of several, to compare with; may be empty
	Point   string   // name of the operating point that decides; "": the first of each label
}

// Evaluation is what `ctclass eval` reports.
type Evaluation struct {
	Model    string      `json:"model"` // the first model file
	Models   []ModelInfo `json:"models"`
	Ensemble string      `json:"ensemble,omitempty"` // what the mean over several models is of
	Flips    []string    `json:"flips,omitempty"`    // axes of test-time augmentation
	Split    string      `json:"split"`
	Data     string      `json:"data_fingerprint"`
	*eval.Report
	Subgroups  []eval.Subgroup `json:"subgroups,omitempty"`
	Comparison *Comparison     `json:"comparison,omitempty"`
	Mistakes   []eval.Mistake  `json:"mistakes"` // the worst ones
	LeftOut    []data.LeftOut  `json:"left_out,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`

	cases   *eval.Cases
	samples []data.Sample
	ds      *data.Dataset
	loaded  []*Model
	device  string
	threads int
}

// Cases returns the single predictions.
func (e *Evaluation) Cases() *eval.Cases { return e.cases }

// ModelInfo describes one of the models of an evaluation.
type ModelInfo struct {
	Path            string            `json:"path"`
	ID              string            `json:"id"` // first digits of the SHA-256 of the file
	Architecture    string            `json:"architecture"`
	Calibration     *eval.Calibration `json:"calibration"`      // null: none
	DataFingerprint string            `json:"data_fingerprint"` // of the data that it was trained on
}

// Comparison is the difference between the evaluated models (first) and others (second) on the same samples.
type Comparison struct {
	Models []ModelInfo `json:"models"`
	*eval.Comparison
}

// Evaluate measures a model, or several that answer together, on the split c.Eval.Split of the data set that c
// describes. Task, labels and preprocessing are the models'.
func Evaluate(ctx context.Context, c *config.Config, opt EvalOptions, log *slog.Logger, report *progress.Reporter) (*Evaluation, error) {
	r, err := openEvaluation(c, slices.Concat(opt.Models, opt.Compare), log, report)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for _, m := range r.models {
		if w := CalibrationWarning(m, r.flip); w != "" {
			r.warn(w)
		}
	}
	if opt.Point != "" && !hasPoint(r.models, opt.Point) {
		return nil, exitcode.Errorf(exitcode.Usage, "no model has an operating point %q: %s", opt.Point, pointNames(r.models))
	}
	columns, err := r.columns()
	if err != nil {
		return nil, err
	}
	probabilities, err := r.probabilities(ctx)
	if err != nil {
		return nil, err
	}
	n := len(opt.Models)
	cases := r.cases(Combine(r.ds.Task, c.Eval.Ensemble, probabilities[:n]))
	thresholds := Thresholds(r.models[:n], opt.Point, c.Eval.Threshold)
	o := eval.Options{Thresholds: thresholds, Fallback: c.Eval.Threshold, Resamples: c.Eval.Resamples, Seed: c.Train.Seed}
	if n == 1 {
		o.Points = r.models[0].OperatingPoints
	}
	e := &Evaluation{
		Model: r.models[0].Path, Models: infos(r.models[:n]), Flips: c.Eval.Flip, Split: r.split, Data: r.ds.Fingerprint(),
		LeftOut: r.leftOut, Warnings: r.warnings, Mistakes: eval.Mistakes(cases, thresholds, worstMistakes),
		cases: cases, samples: r.kept, ds: r.ds, loaded: r.models[:n], device: r.dev.Name(), threads: r.dev.Threads(),
	}
	if n > 1 {
		e.Ensemble = c.Eval.Ensemble
	}
	if e.Mistakes == nil {
		e.Mistakes = []eval.Mistake{}
	}
	if e.Report, err = eval.Analyze(cases, o); err != nil {
		return nil, err
	}
	for _, column := range columns {
		column.Cells, _, _ = r.ds.Column(column.Name, r.kept) // the column is there
		groups, err := eval.Subgroups(cases, o, column)
		if err != nil {
			return nil, exitcode.Errorf(exitcode.Usage, "eval.subgroups: %w", err)
		}
		e.Subgroups = append(e.Subgroups, groups...)
	}
	if len(opt.Compare) > 0 {
		others := r.cases(Combine(r.ds.Task, c.Eval.Ensemble, probabilities[n:]))
		both := [2][]eval.Threshold{thresholds, Thresholds(r.models[n:], opt.Point, c.Eval.Threshold)}
		result, err := eval.Compare(cases, others, both, o.Resamples, o.Seed)
		if err != nil {
			return nil, err
		}
		e.Comparison = &Comparison{infos(r.models[n:]), result}
	}
	return e, nil
}

func infos(models []*Model) []ModelInfo {
	var out []ModelInfo
	for _, m := range models {
		out = append(out, ModelInfo{m.Path, m.ID, m.Arch, m.Calibration, m.DataFingerprint})
	}
	return out
}

func hasPoint(models []*Model, name string) bool {
	return slices.ContainsFunc(models, func(m *Model) bool {
		return slices.ContainsFunc(m.OperatingPoints, func(p eval.OperatingPoint) bool { return p.Name == name })
	})
}

// pointNames lists the operating points that there are.
func pointNames(models []*Model) string {
	var names []string
	for _, m := range models {
		for _, p := range m.OperatingPoints {
			if !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	if names == nil {
		return "there are none; `ctclass calibrate` chooses them"
	}
	return "there are " + strings.Join(names, ", ")
}

// evaluation is a pass of models over a split.
type evaluation struct {
	cfg      *config.Config
	models   []*Model
	ds       *data.Dataset
	split    string
	flip     [3]bool
	samples  []data.Sample // of the split
	kept     []data.Sample // that every model has answered for
	targets  [][]float64   // of kept
	leftOut  []data.LeftOut
	warnings []string

	log    *slog.Logger
	report *progress.Reporter
	dev    *cpu.Device
}

// openEvaluation loads the models and opens the data set.
func openEvaluation(c *config.Config, paths []string, log *slog.Logger, report *progress.Reporter) (*evaluation, error) {
	r := &evaluation{cfg: c, log: log, report: report}
	var err error
	if r.split, err = ParseSplit(c.Eval.Split); err != nil {
		return nil, err
	}
	if r.flip, err = ParseAxes(c.Eval.Flip); err != nil {
		return nil, exitcode.Errorf(exitcode.Usage, "eval.flip: %w", err)
	}
	for _, path := range paths {
		m, err := Load(path)
		if err != nil {
			return nil, exitcode.Wrap(exitcode.Usage, err)
		}
		r.models = append(r.models, m)
	}
	if err := CheckEnsemble(r.models); err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	if r.ds, err = data.Open(c.Data, c.Train.Seed); err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	if m := r.models[0]; r.ds.Task != m.Task || !slices.Equal(r.ds.Labels, m.Labels) {
		return nil, exitcode.Errorf(exitcode.Usage, "the model is for %s %s, the data set has %s %s",
			m.Task, strings.Join(m.Labels, ", "), r.ds.Task, strings.Join(r.ds.Labels, ", "))
	}
	if r.samples = r.ds.Subset(r.split); len(r.samples) == 0 {
		return nil, exitcode.Errorf(exitcode.NoInput, "%s has no samples in the split %s: choose another one with --split", c.Data.Table, r.split)
	}
	for _, w := range r.ds.Warnings {
		r.warn(w)
	}
	if err := r.ds.OpenCache(c.Data.Cache, func(text string) { log.Warn(text) }); err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	if r.dev, err = train.OpenDevice(c, train.Threads(c.Train.Threads)); err != nil {
		return nil, err
	}
	return r, nil
}

// Close gives the threads back.
func (r *evaluation) Close() { r.dev.Close() }

func (r *evaluation) warn(text string) {
	r.log.Warn(text)
	r.warnings = append(r.warnings, text)
}

// columns checks the columns of the subgroups before the work; their cells come later.
func (r *evaluation) columns() ([]eval.Column, error) {
	var out []eval.Column
	for _, name := range r.cfg.Eval.Subgroups {
		_, all, err := r.ds.Column(name, nil)
		if err != nil {
			return nil, exitcode.Wrap(exitcode.Usage, err)
		}
		out = append(out, eval.Column{Name: name, All: all})
	}
	return out, nil
}

// answers are what one model says.
type answers struct {
	samples []data.Sample
	logits  [][]float64
	targets [][]float64
}

// logits runs the models one after the other, each in the memory of the one before, and returns the logits
// [model][n][labels] for the samples that could be read.
func (r *evaluation) logits(ctx context.Context) ([][][]float64, error) {
	bar := r.report.Start("evaluating", int64(len(r.samples)*len(r.models)))
	defer bar.Done()
	var all []answers
	loaders := map[int]*data.Loader{} // by the first model that prepares scans in its way
	var made []*data.Loader
	for i, m := range r.models {
		k := slices.IndexFunc(r.models, func(o *Model) bool { return reflect.DeepEqual(o.Preprocess, m.Preprocess) })
		if loaders[k] == nil {
			l, err := r.loader(m, i == 0)
			if err != nil {
				return nil, err
			}
			loaders[k], made = l, append(made, l)
		}
		a, err := r.run(ctx, m, loaders[k], bar)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	// A scan that cannot be prepared for one of the models is none that can be compared.
	count := map[uint64]int{}
	for _, a := range all {
		for _, s := range a.samples {
			count[s.ID]++
		}
	}
	out := make([][][]float64, len(all))
	for i, a := range all {
		for j, s := range a.samples {
			if count[s.ID] < len(all) {
				continue
			}
			out[i] = append(out[i], a.logits[j])
			if i == 0 {
				r.kept, r.targets = append(r.kept, s), append(r.targets, a.targets[j])
			}
		}
	}
	train.LogCache(r.log, r.ds)
	r.leftOut = slices.DeleteFunc(r.ds.LeftOut(made...), func(l data.LeftOut) bool {
		return l.Split != "" && l.Split != r.split
	})
	if len(r.kept) < len(r.samples) {
		r.warn(fmt.Sprintf("%d of %d samples could not be used and are left out", len(r.samples)-len(r.kept), len(r.samples)))
	}
	return out, nil
}

// loader reads the samples as a model wants them. When several models share them they are kept as far as there is room.
func (r *evaluation) loader(m *Model, warns bool) (*data.Loader, error) {
	settings := *r.cfg
	settings.Preprocess = m.Preprocess
	cache := int64(0)
	if len(r.models) > 1 {
		cache = data.DefaultCacheBytes
	}
	warn := func(data.Sample, string) {}
	if warns {
		warn = func(s data.Sample, w string) { r.log.Warn(w, "scan", s.Name) }
	}
	return train.EvalLoader(&settings, r.ds, r.samples, r.dev.Threads(), cache, warn)
}

// run runs one model.
func (r *evaluation) run(ctx context.Context, m *Model, l *data.Loader, bar *progress.Bar) (answers, error) {
	sess, err := m.Start(r.dev, train.EvalBatch(r.cfg))
	if err != nil {
		return answers{}, exitcode.Wrap(exitcode.Usage, err)
	}
	defer sess.Close()
	ev, err := train.Evaluate(ctx, NewViews(sess, m, r.flip), l, m.Task, m.Labels, r.cfg.Eval.Threshold, nil, bar.Add)
	if err != nil {
		if ctx.Err() == nil {
			err = exitcode.Wrap(exitcode.NoInput, err)
		}
		return answers{}, err
	}
	return answers{ev.Samples, ev.Logits, ev.Targets}, nil
}

// probabilities are the calibrated probabilities [model][n][labels].
func (r *evaluation) probabilities(ctx context.Context) ([][][]float64, error) {
	logits, err := r.logits(ctx)
	if err != nil {
		return nil, err
	}
	for i, m := range r.models {
		logits[i] = m.Calibration.Probabilities(m.Task, logits[i])
	}
	return logits, nil
}

// cases joins probabilities with what is known about the samples.
func (r *evaluation) cases(probabilities [][]float64) *eval.Cases {
	c := &eval.Cases{Task: r.ds.Task, Labels: r.ds.Labels, Prob: probabilities, Target: r.targets}
	for _, s := range r.kept {
		c.Names, c.Patients = append(c.Names, s.Name), append(c.Patients, s.Group)
	}
	return c
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
