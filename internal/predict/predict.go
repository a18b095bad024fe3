package predict

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/session"
	"github.com/ctclass/ctclass/internal/train"
)

// Options say how predictions are made. None of them but Series changes a probability.
type Options struct {
	Threads int    // of the numeric kernels; 0: all cores
	Batch   int    // scans that go through the network together; 0: one
	Series  string // see scan.Selection
	// Found is called once, when it is known how many scans there are; it may be nil.
	Found func(scans int)
}

// Result is the answer for one scan.
type Result struct {
	Path              string
	SeriesUID         string // "" for NIfTI
	SeriesNumber      int
	SeriesDescription string
	Why               string  // why this volume of the path was chosen
	Labels            []Label // in the model's order; nil when Error is set
	Warnings          []string
	Error             string        // why there is no answer; "" when there is
	Elapsed           time.Duration // reading, preprocessing and its share of the computation
}

// Label is the probability of one finding or class.
type Label struct {
	Name        string
	Probability float64
}

// Predictor holds a model ready to run.
type Predictor struct {
	model *Model
	opt   Options
	dev   *cpu.Device
	sess  *session.Session
}

// New brings a model into memory. Close gives the memory back.
func New(m *Model, opt Options) (*Predictor, error) {
	if m.InputChannels != 1 {
		return nil, exitcode.Errorf(exitcode.Usage, "%s takes %d input channels, a scan has one", m.Path, m.InputChannels)
	}
	opt.Batch = max(1, opt.Batch)
	p := &Predictor{model: m, opt: opt, dev: cpu.New(train.Threads(opt.Threads))}
	var err error
	if p.sess, err = m.Start(p.dev, opt.Batch); err != nil {
		p.dev.Close()
		return nil, err
	}
	return p, nil
}

// Close gives the predictor's memory and threads back.
func (p *Predictor) Close() {
	p.sess.Close()
	p.dev.Close()
}

// Bytes returns the memory that the network holds.
func (p *Predictor) Bytes() int64 { return p.sess.Bytes() }

// task is one scan to answer, or the reason why a path leads to none.
type task struct {
	path string
	err  error
}

// item is a scan that has been read: the network's input or an error, in its result.
type item struct {
	Result
	x []float32
}

// Run answers for every scan that the paths hold (see scan.Expand) and hands the results to emit, in the
// order of the paths, each as soon as it is there. A scan that cannot be used gets its result with the
// reason. While one batch computes the next scan is read; at most two scans are in memory at full size.
// Run returns ctx.Err() when it is cancelled.
func (p *Predictor) Run(ctx context.Context, paths []string, emit func(Result)) error {
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
			if err := p.answer(batch, emit); err != nil {
				return err
			}
			batch, waiting = batch[:0], 0
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.answer(batch, emit)
}

// readAll reads the scans in the background and gives, in their order, a channel for each. The sender waits
// for the receiver, so that one scan is read ahead of the one that the receiver holds.
func (p *Predictor) readAll(ctx context.Context, tasks []task) <-chan <-chan item {
	order := make(chan (<-chan item))
	go func() {
		defer close(order)
		for _, t := range tasks {
			done := make(chan item, 1)
			go func() { done <- p.read(t) }()
			select {
			case order <- done:
			case <-ctx.Done():
				return
			}
		}
	}()
	return order
}

// read reads and preprocesses one scan. A fault of a decoder on a broken file costs this scan only.
func (p *Predictor) read(t task) (it item) {
	start := time.Now()
	it.Path = t.path
	defer func() {
		if r := recover(); r != nil {
			it.x, it.Error = nil, fmt.Sprintf("internal error while reading: %v", r)
		}
		it.Elapsed = time.Since(start)
	}()
	// The result names the path already.
	reason := func(err error) string { return strings.TrimPrefix(err.Error(), t.path+": ") }
	if t.err != nil {
		it.Error = reason(t.err)
		return it
	}
	v, info, err := scan.LoadSeries(t.path, scan.Selection{Series: p.opt.Series})
	it.SeriesUID, it.SeriesDescription, it.Why = info.SeriesUID, info.Description, info.Why
	it.SeriesNumber, it.Warnings = info.Candidate.SeriesNumber, info.Warnings
	if err != nil {
		it.Error = reason(err)
		return it
	}
	r, warnings, err := preprocess.Apply(v, p.model.Preprocess)
	it.Warnings = append(it.Warnings, warnings...)
	if err != nil {
		it.Error = reason(err)
		return it
	}
	it.x = r.Data
	return it
}

// answer runs the network on the items that have an input and emits all, in order.
func (p *Predictor) answer(batch []item, emit func(Result)) error {
	start := time.Now()
	var x []float32
	n := 0
	for _, it := range batch {
		if it.Error == "" {
			x = append(x, it.x...)
			n++
		}
	}
	var probabilities [][]float64
	if n > 0 {
		logits, err := p.sess.Logits(x, n)
		if err != nil {
			return err
		}
		classes := len(p.model.Labels)
		rows := make([][]float64, n)
		for i := range rows {
			for _, z := range logits[i*classes:][:classes] {
				rows[i] = append(rows[i], float64(z))
			}
		}
		probabilities = train.Probabilities(p.model.Task, rows)
	}
	share := time.Since(start) / time.Duration(max(n, 1))
	next := 0
	for _, it := range batch {
		r := it.Result
		if r.Error == "" {
			r.Labels, r.Error = p.labels(probabilities[next])
			r.Elapsed += share
			next++
		}
		emit(r)
	}
	return nil
}

// labels names the probabilities; numbers that are none are no answer.
func (p *Predictor) labels(probabilities []float64) ([]Label, string) {
	labels := make([]Label, len(probabilities))
	for i, v := range probabilities {
		if math.IsNaN(v) {
			return nil, fmt.Sprintf("the network gives no number for %q: the weights of %s are broken", p.model.Labels[i], p.model.Path)
		}
		labels[i] = Label{p.model.Labels[i], v}
	}
	return labels, ""
}
