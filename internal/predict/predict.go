package predict

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/train"
)

// Options say how predictions are made. Series, Flip, Mean and Half change probabilities, nothing else does.
type Options struct {
	Threads int     // of the numeric kernels; 0: all cores
	Flip    [3]bool // axes d, h, w of test-time augmentation, see Views
	Mean    string  // of several models, see Combine
	Half    bool    // hybrid precision: activations in bfloat16
	Point   string  // operating point whose thresholds decide; "": the first one of each label
	Batch   int     // scans that go through the network together; 0: one
	Series  string  // which volumes of a scan are answered for, see scan.Selection
	Strict  bool    // a scan with a warning is one that cannot be used
	// Skip says that a scan's path has its answer already and is to be left out; nil: none. With Skip a path is
	// answered for once, however often it is given.
	Skip func(path string) bool
	// Explain says which answers are explained by pictures; nil: none.
	Explain *Explain
	// Documents says which DICOM documents are written; nil: none. Captures need Explain.
	Documents *Documents
	// Found is called once, when it is known how many scans there are; it may be nil.
	Found func(scans int)
}

// Result is the answer for one volume, of a scan that gives one or more.
type Result struct {
	Path              string
	SeriesUID         string // "" for NIfTI
	SeriesNumber      int
	SeriesDescription string
	Why               string  // why this volume of the path was chosen
	Labels            []Label // in the model's order; nil when Error is set
	Warnings          []string
	Error             string // why there is no answer; "" when there is
	Explanations      []Explanation
	Report            string        // file of the structured report; "": none
	Captures          []string      // files of the secondary captures
	Reading           time.Duration // finding, reading and preprocessing
	Computing         time.Duration // its share of the network's time, and explaining
}

// Label is the answer for one finding or class.
type Label struct {
	Name         string
	Probability  float64 // calibrated, where the model has a calibration
	Uncalibrated float64 // the model's own; the same without a calibration
	// Present is the decision: whether the probability reaches the label's threshold, or in the multiclass task
	// whether it is the highest one.
	Present bool
}

// fallbackThreshold decides where a model has no operating point.
const fallbackThreshold = 0.5

// Predictor holds one model, or several ones that answer together, ready to run.
type Predictor struct {
	models     []*Model
	opt        Options
	dev        *cpu.Device
	ensemble   *Ensemble
	thresholds []eval.Threshold

	explainer *explainer // nil: no explanations
}

// New brings models into memory: one, or several ones for the same labels. Close gives the memory back.
func New(models []*Model, opt Options) (*Predictor, error) {
	if err := CheckEnsemble(models); err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	for _, m := range models {
		if n := len(m.Preprocess.Windows()); m.InputChannels != n {
			return nil, exitcode.Errorf(exitcode.Usage, "%s takes %d input channels, its preprocessing makes %d", m.Path, m.InputChannels, n)
		}
	}
	opt.Batch = max(1, opt.Batch)
	p := &Predictor{models: models, opt: opt, thresholds: Thresholds(models, opt.Point, fallbackThreshold)}
	switch {
	case opt.Point == "":
	case len(models) > 1:
		return nil, exitcode.Errorf(exitcode.Usage, "several models have no operating point in common: leave %q out", opt.Point)
	case !hasPoint(models, opt.Point):
		return nil, exitcode.Errorf(exitcode.Usage, "%s has no operating point %q: %s", models[0].Path, opt.Point, pointNames(models))
	}
	settings := EnsembleOptions{Batch: opt.Batch, Flip: opt.Flip, Mean: opt.Mean}
	var err error
	if opt.Explain != nil {
		if p.explainer, err = newExplainer(models[0], *opt.Explain); err != nil {
			return nil, err
		}
		settings.Probe = p.explainer.Probe
	}
	if d := opt.Documents; d != nil {
		if err := makeFolders(d.Reports, d.Captures); err != nil {
			return nil, err
		}
	}
	p.dev = cpu.NewWith(train.Threads(opt.Threads), cpu.Options{Half: opt.Half})
	if p.ensemble, err = StartEnsemble(p.dev, models, settings); err != nil {
		p.dev.Close()
		return nil, err
	}
	return p, nil
}

// Close gives the predictor's memory and threads back.
func (p *Predictor) Close() {
	p.ensemble.Close()
	p.dev.Close()
}

// Bytes returns the memory that the networks hold.
func (p *Predictor) Bytes() int64 { return p.ensemble.Bytes() }

// Labels names the labels of a result.
func (p *Predictor) Labels() []string { return p.ensemble.Labels }

// Thresholds returns the threshold of each label; in the multiclass task they decide nothing.
func (p *Predictor) Thresholds() []eval.Threshold { return p.thresholds }

// Multiclass reports whether exactly one label is present.
func (p *Predictor) Multiclass() bool { return p.ensemble.Task == eval.Multiclass }

// ID names the models, by their IDs joined by +, and the options that change answers.
func (p *Predictor) ID() string {
	var ids []string
	for _, m := range p.models {
		ids = append(ids, m.ID)
	}
	id := strings.Join(ids, "+")
	if axes := AxisNames(p.opt.Flip); axes != nil {
		id += "/flip=" + strings.Join(axes, "")
	}
	if p.opt.Mean == MeanLogits && len(p.models) > 1 {
		id += "/mean=" + p.opt.Mean
	}
	if p.opt.Half {
		id += "/precision=" + config.BF16
	}
	if p.opt.Point != "" {
		id += "/point=" + p.opt.Point
	}
	return id
}

// Warnings says what about the models and options may make answers worse.
func (p *Predictor) Warnings() []string {
	var all []string
	for _, m := range p.models {
		if w := CalibrationWarning(m, p.opt.Flip); w != "" {
			all = append(all, w)
		}
	}
	return all
}

// task is one scan to answer, or the reason why a path leads to none.
type task struct {
	path string
	err  error
}

// item is a volume that has been read: the network's input or an error, in its result.
type item struct {
	Result
	x      [][]float32 // for each of the ensemble's Inputs
	source source      // empty when nothing is explained
}

// Run answers for every scan that the paths hold (see scan.Expand) and hands the results to emit, in the
// order of the paths, each as soon as it is there; with a selection of all volumes a scan gives one result for
// each. A scan that cannot be used gets its result with the reason. While one batch computes the next volume
// is read; at most two are in memory at full size.
// Run returns ctx.Err() when it is cancelled, and stops at an error of emit, which it returns.
func (p *Predictor) Run(ctx context.Context, paths []string, emit func(Result) error) error {
	var tasks []task
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		scans, err := scan.Expand(path)
		if err != nil {
			tasks = append(tasks, task{path, err})
		}
		for _, s := range scans {
			tasks = append(tasks, task{path: s})
		}
	}
	tasks = p.left(tasks)
	if p.opt.Found != nil {
		p.opt.Found(len(tasks))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var batch []item
	waiting := 0 // items of the batch with an input
	for next := range p.readAll(ctx, tasks) {
		var it item
		select {
		case it = <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
		batch = append(batch, it)
		if it.Error == "" {
			waiting++
		}
		// A failed scan only waits for those before it.
		if waiting == p.opt.Batch || waiting == 0 {
			if err := p.answer(ctx, batch, emit); err != nil {
				return err
			}
			clear(batch) // a volume in it must not live on
			batch, waiting = batch[:0], 0
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.answer(ctx, batch, emit)
}

// left returns the tasks that Options.Skip leaves.
func (p *Predictor) left(tasks []task) []task {
	if p.opt.Skip == nil {
		return tasks
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(tasks, func(t task) bool {
		twice := seen[t.path]
		seen[t.path] = true
		return twice || p.opt.Skip(t.path)
	})
}

// readAll reads the volumes in the background and gives, in their order, a channel for each. The sender waits
// for the receiver, so that one volume is read ahead of the one that the receiver holds.
func (p *Predictor) readAll(ctx context.Context, tasks []task) <-chan <-chan item {
	order := make(chan (<-chan item))
	go func() {
		defer close(order)
		for _, t := range tasks {
			if !p.readScan(ctx, t, order) {
				return
			}
		}
	}()
	return order
}

// readScan sends the volumes of one scan; it reports false when ctx is done.
func (p *Predictor) readScan(ctx context.Context, t task, order chan<- <-chan item) bool {
	var reading sync.WaitGroup // a volume is read from the open scan
	send := func(read func(it *item) error) bool {
		done := make(chan item, 1)
		reading.Go(func() { done <- t.guarded(read) })
		select {
		case order <- done:
			return true
		case <-ctx.Done():
			return false
		}
	}
	start := time.Now()
	contents, choices, err := p.find(t)
	if err != nil {
		return send(func(*item) error { return err })
	}
	defer contents.Close()
	defer reading.Wait()
	finding := time.Since(start) / time.Duration(len(choices))
	for _, choice := range choices {
		ok := send(func(it *item) error {
			it.Reading = finding
			return p.read(contents, choice, it)
		})
		if !ok {
			return false
		}
	}
	return true
}

// find looks into a scan and chooses the volumes to answer for. A fault costs this scan only.
func (p *Predictor) find(t task) (contents *scan.Contents, choices []scan.Choice, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error while reading: %v", r)
		}
	}()
	if t.err != nil {
		return nil, nil, t.err
	}
	if contents, err = scan.Find(t.path); err != nil {
		return nil, nil, err
	}
	if choices, err = contents.Select(scan.Selection{Series: p.opt.Series}); err != nil {
		contents.Close()
	}
	return contents, choices, err
}

// guarded runs one reading and makes an error of it the item's. A fault of a decoder on a broken file costs
// this volume only.
func (t task) guarded(read func(it *item) error) (it item) {
	start := time.Now()
	it.Path = t.path
	defer func() {
		if r := recover(); r != nil {
			it.x, it.Error = nil, fmt.Sprintf("internal error while reading: %v", r)
		}
		it.Reading += time.Since(start)
	}()
	if err := read(&it); err != nil {
		// The result names the path already.
		it.Error = strings.TrimPrefix(err.Error(), t.path+": ")
	}
	return it
}

// read reads and preprocesses one volume of a scan.
func (p *Predictor) read(contents *scan.Contents, choice scan.Choice, it *item) error {
	v, info, err := contents.Load(choice)
	it.SeriesUID, it.SeriesDescription, it.Why = info.SeriesUID, info.Description, info.Why
	it.SeriesNumber, it.Warnings = info.Candidate.SeriesNumber, info.Warnings
	if err != nil {
		return err
	}
	if info.Candidate.IsCT() && slices.ContainsFunc(p.ensemble.Inputs, scan.ExpectsHU) {
		it.Warnings = append(it.Warnings, scan.CheckHU(v)...)
	}
	var inputs []preprocess.Result
	for _, settings := range p.ensemble.Inputs {
		r, warnings, err := preprocess.Apply(v, settings)
		if err != nil {
			return err
		}
		for _, w := range warnings {
			if !slices.Contains(it.Warnings, w) {
				it.Warnings = append(it.Warnings, w)
			}
		}
		inputs = append(inputs, r)
	}
	if p.opt.Strict && len(it.Warnings) > 0 {
		return fmt.Errorf("refused for its warnings (strict): %s", strings.Join(it.Warnings, "; "))
	}
	for _, r := range inputs {
		it.x = append(it.x, r.Data)
	}
	if p.explainer != nil {
		it.source.volume, it.source.input = v, inputs[0] // of the first model, which is explained
	}
	if p.opt.Documents != nil {
		origin, err := info.Candidate.Origin()
		if err != nil {
			it.Warnings = append(it.Warnings, "no DICOM document is written: "+err.Error())
		} else {
			it.source.origin = &origin
		}
	}
	return nil
}

// answer runs the network on the items that have an input and emits all, in order.
func (p *Predictor) answer(ctx context.Context, batch []item, emit func(Result) error) error {
	start := time.Now()
	x := make([][]float32, len(p.ensemble.Inputs))
	n := 0
	for _, it := range batch {
		if it.Error == "" {
			for i := range x {
				x[i] = append(x[i], it.x[i]...)
			}
			n++
		}
	}
	var probabilities, own [][]float64
	if n > 0 {
		var err error
		if probabilities, own, err = p.ensemble.answer(x, n); err != nil {
			return err
		}
	}
	share := time.Since(start) / time.Duration(max(n, 1))
	next := 0
	for _, it := range batch {
		r := it.Result
		if r.Error == "" {
			r.Labels, r.Error = p.decide(probabilities[next], own[next])
			r.Computing = share
			next++
		}
		if r.Error == "" {
			start := time.Now()
			var pictures []picture
			if p.explainer != nil {
				var err error
				if pictures, err = p.explain(ctx, &r, it.source); err != nil {
					return err
				}
			}
			if err := p.document(&r, it.source, pictures); err != nil {
				return err
			}
			r.Computing += time.Since(start)
		}
		if err := emit(r); err != nil {
			return err
		}
	}
	return nil
}

// decide names the probabilities of a sample and decides; numbers that are none are no answer.
func (p *Predictor) decide(probabilities, own []float64) ([]Label, string) {
	names := p.Labels()
	labels := make([]Label, len(names))
	for i, v := range probabilities {
		if math.IsNaN(v) {
			return nil, fmt.Sprintf("the network gives no number for %q: the weights of %s are broken", names[i], p.paths())
		}
		labels[i] = Label{names[i], v, own[i], v >= p.thresholds[i].Value}
	}
	if p.Multiclass() {
		best := 0
		for i := range labels {
			labels[i].Present = false
			if labels[i].Probability > labels[best].Probability {
				best = i
			}
		}
		labels[best].Present = true
	}
	return labels, ""
}

func (p *Predictor) paths() string {
	var paths []string
	for _, m := range p.models {
		paths = append(paths, m.Path)
	}
	return strings.Join(paths, ", ")
}
