// Package session compiles a network for a device and an input shape, and holds its memory: what training,
// evaluation, prediction and the benchmark run on.
package session

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/nn"
	"github.com/ctclass/ctclass/internal/ops"
)

// Options say what to compile.
type Options struct {
	Network   *models.Network
	ShapeDHW  [3]int
	EvalBatch int // samples of a forward pass without training; 0: no such program
	Training  *Training
	// Probe chooses, in the network's graph of one sample without training, what a diagnostic pass gives beside
	// the logits; nil: no such program.
	Probe  func(logits *graph.Value) (Probe, error)
	Beside int64 // bytes of the process beside the session and the runtime: batches and what reads scans
	Budget int64 // most bytes of the process, kept to by recomputing in training; 0: as many as it takes
}

// Training says how the parameters are trained.
type Training struct {
	Loss       losses.Loss
	BatchSizes []int // of the micro-batches, such as the usual one and that of a shorter last one
	Accumulate bool  // gradients of several micro-batches make a step
	Optimizer  Optimizer
	Frozen     func(param string) bool // parameters that stay as they are; nil: none
}

// Session is a compiled network with its memory.
type Session struct {
	opt    Options
	params []nn.Param
	state  *engine.State
	exec   *engine.Exec
	eval   *engine.Program
	train  map[int]*engine.Program // by batch size
	update *engine.Program         // applies accumulated gradients
	probe  *engine.Program
	probed Probe

	batches int64     // training batches that the running statistics have seen
	weight  []float32 // a weight on its way in or out
}

// largest returns the number of elements of the largest parameter: weights go in and out one at a time.
func (s *Session) largest() int {
	n := 0
	for _, p := range s.params {
		n = max(n, p.Value.Elements())
	}
	return n
}

// buffer returns memory for one weight, always the same: garbage of that size would pass the limit of the Go heap.
func (s *Session) buffer() []float32 {
	if s.weight == nil {
		s.weight = make([]float32, s.largest())
	}
	return s.weight
}

// Observe makes every run tell how long each instruction took; nil ends it.
func (s *Session) Observe(f func(in *engine.Instr, took time.Duration)) { s.exec.Observe(f) }

// Close gives the session's memory back.
func (s *Session) Close() { s.exec.Close() }

// input adds the batch of volumes to a graph.
func (s *Session) input(g *graph.Graph, n int) *graph.Value {
	d := s.opt.ShapeDHW
	return g.Leaf(graph.Input, "x", graph.Type{Shape: []int{n, s.opt.Network.InChannels, d[0], d[1], d[2]}, Class: graph.Volume})
}

// compileEval compiles the forward pass without training, with keep one that keeps what it makes of the weights.
func (s *Session) compileEval(dev engine.Device, keep bool) (*engine.Program, error) {
	req := engine.Request{Keep: keep}
	g, err := graph.Build(func(g *graph.Graph) error {
		b := nn.New(g, false)
		req.Outputs = []*graph.Value{s.opt.Network.Build(b, s.input(g, s.opt.EvalBatch))}
		s.params = b.Params
		return nil
	})
	if err != nil {
		return nil, s.explain(err, s.opt.EvalBatch)
	}
	req.Graph = g
	return engine.Compile(dev, req)
}

func (s *Session) prepareTraining(dev engine.Device, n int) (*engine.Source, error) {
	t := s.opt.Training
	req := engine.Request{Optimizer: t.Optimizer, Accumulate: t.Accumulate}
	g, err := graph.Build(func(g *graph.Graph) (err error) {
		b := nn.New(g, true)
		b.Frozen = t.Frozen
		logits := s.opt.Network.Build(b, s.input(g, n))
		targets := g.Leaf(graph.Input, "targets", graph.Type{Shape: []int{n, t.Loss.Targets(s.opt.Network.Classes)}})
		scale := g.Leaf(graph.Input, "scale", graph.Type{Shape: []int{1}})
		loss := g.Apply(ops.Loss{F: t.Loss}, logits, targets, scale)
		req.Outputs = []*graph.Value{loss, logits}
		req.Params = b.Trainable()
		req.Gradients, err = g.Gradients(loss, req.Params...)
		req.Updates = g.Updates
		s.params = b.Params
		return err
	})
	if err != nil {
		return nil, s.explain(err, n)
	}
	req.Graph = g
	return engine.Prepare(dev, req)
}

func (s *Session) explain(err error, n int) error {
	return fmt.Errorf("%s cannot take a batch of %d volumes of %d×%d×%d voxels (D, H, W): %w",
		s.opt.Network.Name, n, s.opt.ShapeDHW[0], s.opt.ShapeDHW[1], s.opt.ShapeDHW[2], err)
}

// Params lists the network's parameters and buffers in the order of creation.
func (s *Session) Params() []nn.Param { return s.params }

// State returns the parameters, buffers and training state.
func (s *Session) State() *engine.State { return s.state }

// Classes returns the number of logits of a sample.
func (s *Session) Classes() int { return s.opt.Network.Classes }

// EvalBatch returns the largest batch of Logits.
func (s *Session) EvalBatch() int { return s.opt.EvalBatch }

// Bytes returns the memory that the session holds.
func (s *Session) Bytes() int64 { return s.exec.Bytes() }

// Initialize gives every parameter and buffer its first value.
func (s *Session) Initialize(seed uint64) error {
	buf := s.buffer()
	for _, p := range s.params {
		if err := s.state.Set(p.Value.Name, nn.Initialize(p, seed, buf)); err != nil {
			return err
		}
	}
	return nil
}

// Logits runs the network without training on n ≤ EvalBatch samples x (n, C, D, H, W) and returns their
// logits (n, classes). A sample's logits do not depend on the others in its batch.
func (s *Session) Logits(x []float32, n int) ([]float32, error) {
	per := s.sampleLen()
	if n < 1 || n > s.opt.EvalBatch || len(x) != n*per {
		return nil, fmt.Errorf("session: %d values for %d samples of %d, at most %d samples", len(x), n, per, s.opt.EvalBatch)
	}
	in := engine.F32(s.exec.Input(s.eval, "x"))
	clear(in[copy(in, x):])
	s.exec.Run(s.eval, &engine.RunInfo{})
	return s.exec.Output(s.eval, 0)[:n*s.opt.Network.Classes], nil
}

func (s *Session) sampleLen() int {
	d := s.opt.ShapeDHW
	return s.opt.Network.InChannels * d[0] * d[1] * d[2]
}

// MicroBatch is what one training pass takes.
type MicroBatch struct {
	X       []float32 // (n, C, D, H, W)
	Targets []float32 // (n, T), NaN where a label is missing
	IDs     []uint64  // of the samples, the keys of dropout masks
}

// Trains reports whether the session can train on micro-batches of n samples.
func (s *Session) Trains(n int) bool { return s.train[n] != nil }

// Step is one optimiser step.
type Step struct {
	Number int     // from 1
	LR     float64 // learning rate
	Seed   uint64  // of dropout masks
	Epoch  int
}

// Train makes one optimiser step over the micro-batches and returns the loss over all of them: the sum over
// their valid labels ÷ their count (or the plain sum). It reports ErrDiverged or ErrGradient where the loss or a
// gradient is not a finite number; gradients that are not, or with Optimizer.Gate the whole step, are not applied.
func (s *Session) Train(batches []MicroBatch, step Step, sum bool) (float64, error) {
	t := s.opt.Training
	if len(batches) == 0 || len(batches) > 1 && !t.Accumulate {
		return 0, fmt.Errorf("session: %d micro-batches in a step, accumulation %v", len(batches), t.Accumulate)
	}
	scale := s.scale(batches, sum)
	var loss float64
	notApplied := false
	for i, b := range batches {
		p := s.train[len(b.IDs)]
		if p == nil {
			return 0, fmt.Errorf("session: no program for a batch of %d", len(b.IDs))
		}
		if err := s.set(p, b, scale); err != nil {
			return 0, err
		}
		info := s.runInfo(b, step, i == 0)
		s.exec.Run(p, info)
		loss += float64(s.exec.Output(p, 0)[0])
		s.batches++
		notApplied = notApplied || info.NotApplied
	}
	if s.update != nil {
		info := engine.RunInfo{LR: step.LR, Step: step.Number}
		s.exec.Run(s.update, &info)
		notApplied = notApplied || info.NotApplied
	}
	switch {
	case math.IsNaN(loss) || math.IsInf(loss, 0):
		return loss, ErrDiverged
	case notApplied:
		return loss, ErrGradient
	}
	return loss, nil
}

// Finite reports whether all parameters and buffers are finite numbers.
func (s *Session) Finite() bool {
	buf := s.buffer()
	for _, p := range s.params {
		for _, v := range s.state.GetInto(buf, p.Value.Name) {
			if v-v != 0 { // NaN for NaN and infinities
				return false
			}
		}
	}
	return true
}

// What Train says of a step that came to values that are not finite numbers.
var (
	ErrDiverged = errors.New("the loss is not a finite number any more")
	ErrGradient = errors.New("a gradient is not a finite number any more")
)
