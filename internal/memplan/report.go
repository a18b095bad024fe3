package memplan

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/session"
)

// Report tells where the memory of a training goes, and what other choices would take.
type Report struct {
	Model             string         `json:"model"`
	Batch             int            `json:"batch"`
	ShapeDHW          [3]int         `json:"shape_dhw"`
	Device            string         `json:"device"`
	Data              string         `json:"data"`         // what the bytes of reading scans are those of
	BudgetBytes       int64          `json:"budget_bytes"` // 0: no limit
	Fits              bool           `json:"fits"`         // otherwise this is the smallest plan
	PromisedPeakBytes int64          `json:"promised_peak_bytes"`
	Parts             []session.Part `json:"parts"` // at the peak; they add up to the promise
	Peak              session.Peak   `json:"peak"`
	PlanSeconds       float64        `json:"plan_seconds"` // that planning within the budget took
	Rate              Rate           `json:"rate"`
	GFLOP             float64        `json:"gflop"`             // of a training step without recomputation
	Choices           []Choice       `json:"choices"`           // the plan, and its neighbours
	LargestBatch      int            `json:"largest_batch"`     // that fits the budget, up to MostBatch; 0: none
	LargestShapeDHW   [3]int         `json:"largest_shape_dhw"` // of about these proportions; zeros: none

	Plan     *session.Plan   `json:"-"`
	Timeline []engine.Moment `json:"-"` // of the training step
	Refusal  error           `json:"-"` // why it does not fit, and what would
}

// Rate is how fast a step is reckoned to be, and why: operations a second in instructions that have any (see
// ops.OpFLOP), bytes a second in all others.
type Rate struct {
	GFLOPS float64 `json:"gflops"`
	GBPS   float64 `json:"gbps"`
	Source string  `json:"source"`
}

// Seconds predicts the time of a step, and the part of it that recomputes.
func (r Rate) Seconds(p *engine.Program) (step, added float64) {
	for _, in := range p.Instrs {
		flop, bytes := in.Work(p.Device)
		took := float64(bytes) / (r.GBPS * 1e9)
		if flop > 0 {
			took = float64(flop) / (r.GFLOPS * 1e9)
		}
		step += took
		if in.Clone {
			added += took
		}
	}
	return step, added
}

// Choice is a way to spend memory and time.
type Choice struct {
	Name              string  `json:"name"`
	PromisedPeakBytes int64   `json:"promised_peak_bytes"`
	AddedFLOP         float64 `json:"added_flop"` // recomputation, as a share of the step without it
	StepSeconds       float64 `json:"step_seconds"`
	AddedSeconds      float64 `json:"added_seconds"` // of them, for recomputation
	Fits              bool    `json:"fits"`
}

// The searches for what fits end at this batch, and at this multiple of the sides of the volume.
const (
	MostBatch = 1024
	mostTimes = 16
)

// Report plans the workload, which trains, and its neighbours. A budget that cannot be met is part of the answer.
func (w *Workload) Report(ctx context.Context, rate Rate, progress func()) (*Report, error) {
	r := &Report{
		Model: w.Options.Network.Name, Batch: w.Batch(), ShapeDHW: w.Options.ShapeDHW, Device: w.Device.Name(),
		BudgetBytes: w.Budget, Fits: true, Rate: rate,
	}
	start := time.Now()
	p, err := w.compile(w.Budget)
	r.PlanSeconds = time.Since(start).Seconds()
	var none *session.BudgetError
	if errors.As(err, &none) {
		r.Fits, r.Refusal = false, w.refuse(ctx, none)
		p, err = w.compile(none.Smallest)
	}
	if err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	progress()
	prog := p.Training(w.Options.Training.BatchSizes[0])
	r.GFLOP = float64(prog.FLOP) / 1e9
	r.PromisedPeakBytes, r.Peak, r.Timeline = p.ProcessBytes(), p.Peak(), prog.Timeline()
	r.Plan, r.Parts = p, session.Used(append(p.Account(), w.Beside.parts()...))
	add := func(name string, p *session.Plan) {
		c := Choice{Name: name, PromisedPeakBytes: p.ProcessBytes(), AddedFLOP: p.AddedFLOP()}
		c.Fits = w.Budget == 0 || c.PromisedPeakBytes <= w.Budget
		c.StepSeconds, c.AddedSeconds = rate.Seconds(p.Training(w.Options.Training.BatchSizes[0]))
		r.Choices = append(r.Choices, c)
		progress()
	}
	name := "as configured"
	if !r.Fits {
		name = "as configured, with the smallest budget"
	}
	add(name, p)
	if err := w.neighbours(ctx, add); err != nil {
		return nil, err
	}
	if w.Budget > 0 {
		r.LargestBatch = w.largestBatch(ctx, MostBatch)
		progress()
		if shape, ok := w.largestShape(ctx, mostTimes); ok {
			r.LargestShapeDHW = shape
		}
		progress()
	}
	return r, ctx.Err()
}

// neighbours plans the manual savers, none of them, the other precision, and budgets between the least and what that takes.
func (w *Workload) neighbours(ctx context.Context, add func(name string, p *session.Plan)) error {
	yes, no := true, false
	var free int64 // without savers
	for _, manual := range []struct {
		name                  string
		checkpoint, efficient *bool
	}{
		{"no savers", &no, nil},
		{"use_checkpointing", &yes, nil},
		{"memory_efficient", &no, &yes},
		{"both savers", &yes, &yes},
	} {
		c := w.Config.Model
		c.UseCheckpointing, c.MemoryEfficient = manual.checkpoint, manual.efficient
		if manual.efficient == nil && w.efficient() {
			c.MemoryEfficient = &no
		} else if manual.efficient != nil && !w.efficient() {
			continue
		}
		net, err := models.ForInput(c, w.Config.Preprocess, w.Options.Network.Classes)
		if err != nil {
			return err
		}
		other := *w
		other.Options.Network = net
		p, err := other.compile(0)
		if err != nil {
			return err
		}
		add(manual.name, p)
		if manual.name == "no savers" {
			free = p.ProcessBytes()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if h, ok := w.hybrid(); ok {
		p, err := h.compile(0)
		if err != nil {
			return err
		}
		add(hybridSetting, p)
	}
	_, err := w.compile(1)
	var none *session.BudgetError
	if !errors.As(err, &none) {
		return err
	}
	least, last := none.Smallest, free
	for quarters := int64(3); quarters >= 0; quarters-- {
		budget := least + (free-least)*quarters/4
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := w.compile(budget)
		if errors.As(err, &none) { // between what placement reaches
			continue
		}
		if err != nil {
			return err
		}
		name := fmt.Sprintf("budget %s", mebibytes(budget))
		if quarters == 0 {
			name += ", the smallest"
		} else if p.ProcessBytes() == last {
			continue
		}
		last = p.ProcessBytes()
		add(name, p)
	}
	return nil
}

// efficient reports whether the network's family has memory_efficient.
func (w *Workload) efficient() bool {
	c, yes := w.Config.Model, true
	c.MemoryEfficient = &yes
	_, err := models.ForInput(c, w.Config.Preprocess, w.Options.Network.Classes)
	return err == nil
}
