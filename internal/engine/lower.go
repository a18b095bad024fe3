package engine

import (
	"fmt"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// Request says what a Program is to compute.
type Request struct {
	Graph     *graph.Graph
	Outputs   []*graph.Value // read after each run
	Params    []*graph.Value // the parameters, for training
	Gradients []*graph.Value // their gradients; nil entries are an error
	Optimizer Optimizer      // how gradients change parameters; nil: they do not
	// Accumulate adds the gradients to accumulators instead of applying them; Update applies those.
	Accumulate bool
	// Keep lets kernels keep what they make of parameters, in memory beside the arena: for programs that run many times
	// between changes of the state.
	Keep bool
	// Updates are the changes of buffers that belong to a training run.
	Updates []graph.Update
}

// Optimizer builds the instruction that changes one parameter.
type Optimizer interface {
	// Op returns the operation for a parameter; its inputs are the parameter, the states, the gradient and,
	// when the gradients are clipped, the clip factor.
	Op(param string, shape []int, clipped bool) graph.Op
	// States names the per-element states, such as "m" and "v".
	States() []string
	// ClipNorm is the largest global norm of the gradients, 0 for no clipping.
	ClipNorm() float64
}

// lowering is a Program under construction.
type lowering struct {
	prog    *Program
	tensors map[*graph.Value]*Tensor
	byState map[string]*Tensor
}

// Compile lowers the request for the device and plans its memory.
func Compile(dev Device, req Request) (*Program, error) {
	src, err := prepare(dev, req, fuse)
	if err != nil {
		return nil, err
	}
	return src.compile(src.marked())
}

// compile makes the program of a schedule.
func (s *Source) compile(sched *schedule) (*Program, error) {
	p, err := s.arrange(sched)
	if err != nil {
		return nil, err
	}
	if err := bind(p); err != nil {
		return nil, err
	}
	plan(p)
	return p, nil
}

// arrange makes the program of a schedule and shares storage: all but kernels and places.
func (s *Source) arrange(sched *schedule) (*Program, error) {
	p, err := emit(s, sched)
	if err != nil {
		return nil, err
	}
	applyEarly(p)
	share(p)
	return p, nil
}

// CompileUpdate compiles the program that applies the accumulated gradients of prog.
func CompileUpdate(prog *Program, opt Optimizer) (*Program, error) {
	l := &lowering{prog: &Program{Device: prog.Device, Inputs: map[string]*Tensor{}}, byState: map[string]*Tensor{}}
	accumulated := map[*Tensor]bool{} // parameters that prog has a gradient for; the others are frozen
	for _, t := range prog.states {
		if t.like != nil {
			accumulated[t.like] = true
		}
	}
	var params, accs []*Tensor
	for _, t := range prog.states {
		if t.Role == graph.Parameter && accumulated[t] {
			params = append(params, l.stateLike(t))
		}
	}
	for _, p := range params {
		accs = append(accs, l.stateAs(gradState(p.state), p))
	}
	l.applyUpdates(params, accs, opt)
	if err := finish(l.prog); err != nil {
		return nil, err
	}
	return l.prog, nil
}

// finish chooses layouts, shares storage, binds kernels and plans the arena.
func finish(p *Program) error {
	assignLayouts(p)
	share(p)
	if err := bind(p); err != nil {
		return err
	}
	plan(p)
	return nil
}

func (l *lowering) lower(req Request) error {
	roots := append([]*graph.Value(nil), req.Outputs...)
	for i, g := range req.Gradients {
		if g == nil {
			return fmt.Errorf("the loss does not depend on parameter %s: it would never be trained", req.Params[i].Name)
		}
		roots = append(roots, g)
	}
	becomes := map[*graph.Value]*graph.Value{} // new value → buffer
	for _, u := range req.Updates {
		becomes[u.To] = u.Buffer
		roots = append(roots, u.To)
	}
	backward := false
	for _, v := range graph.Reachable(roots...) {
		if v.Op == nil {
			backward = backward || v.Role == graph.One
			l.leaf(v)
			continue
		}
		in := &Instr{Op: v.Op, Name: v.Name, Backward: backward}
		for _, k := range v.In {
			in.In = append(in.In, l.tensors[k])
		}
		out := &Tensor{Name: v.Name, Type: v.Type, mark: v.Mark}
		if b := becomes[v]; b != nil {
			out = l.tensors[b]
		}
		in.Out = []*Tensor{out}
		l.tensors[v] = out
		l.prog.Instrs = append(l.prog.Instrs, in)
	}
	for _, v := range req.Outputs {
		t := l.tensors[v]
		t.output = true
		l.prog.Outputs = append(l.prog.Outputs, t)
	}
	return nil
}

func (l *lowering) leaf(v *graph.Value) {
	t := &Tensor{Name: v.Name, Type: v.Type, Role: v.Role}
	l.tensors[v] = t
	switch v.Role {
	case graph.Input, graph.One:
		l.prog.Inputs[v.Name] = t
	default:
		t.state = v.Name
		l.addState(t)
	}
}

func (l *lowering) addState(t *Tensor) {
	l.byState[t.state] = t
	l.prog.states = append(l.prog.states, t)
}

// stateLike adds a copy of another program's state tensor.
func (l *lowering) stateLike(t *Tensor) *Tensor {
	c := &Tensor{Name: t.Name, Type: t.Type, Role: t.Role, state: t.state, Layout: t.Layout}
	l.addState(c)
	return c
}

// stateAs adds a state tensor with the form of another one.
func (l *lowering) stateAs(name string, like *Tensor) *Tensor {
	t := &Tensor{Name: like.Name, Type: like.Type, Role: graph.Buffer, state: name, like: like}
	l.addState(t)
	return t
}

// GradientPrefix and OptimizerPrefix mark entries of a State that belong to training only.
const (
	GradientPrefix  = "grad/"
	OptimizerPrefix = "optim."
)

func gradState(param string) string { return GradientPrefix + param }

// OptimizerState names the state of an optimiser for a parameter.
func OptimizerState(state, param string) string { return OptimizerPrefix + state + "/" + param }

// optimize appends what happens to the gradients.
func (l *lowering) optimize(req Request) error {
	if req.Optimizer == nil && !req.Accumulate {
		for _, g := range req.Gradients {
			t := l.tensors[g]
			t.output = true
			l.prog.Outputs = append(l.prog.Outputs, t)
		}
		return nil
	}
	var params, grads []*Tensor
	for i, p := range req.Params {
		params = append(params, l.tensors[p])
		grads = append(grads, l.tensors[req.Gradients[i]])
	}
	if req.Accumulate {
		for i, p := range params {
			acc := l.stateAs(gradState(p.state), p)
			l.prog.Instrs = append(l.prog.Instrs, &Instr{
				Op: ops.Accumulate{}, Name: p.Name, Backward: true, In: []*Tensor{acc, grads[i]}, Out: []*Tensor{acc},
			})
		}
		return nil
	}
	l.applyUpdates(params, grads, req.Optimizer)
	return nil
}

// applyUpdates appends the optimiser's instructions, after a global clip factor when gradients are clipped.
func (l *lowering) applyUpdates(params, grads []*Tensor, opt Optimizer) {
	var factor *Tensor
	if opt.ClipNorm() > 0 {
		factor = &Tensor{Name: "clip", Type: graph.Type{Shape: []int{1}}}
		l.prog.Instrs = append(l.prog.Instrs, &Instr{
			Op: ops.ClipFactor{MaxNorm: opt.ClipNorm()}, Name: "clip", Backward: true, In: grads, Out: []*Tensor{factor},
		})
	}
	for i, p := range params {
		in := &Instr{Op: opt.Op(p.Name, p.Type.Shape, factor != nil), Name: p.Name, Backward: true, In: []*Tensor{p}, Out: []*Tensor{p}}
		for _, s := range opt.States() {
			t := l.stateAs(OptimizerState(s, p.state), p)
			in.In, in.Out = append(in.In, t), append(in.Out, t)
		}
		in.In = append(in.In, grads[i])
		if factor != nil {
			in.In = append(in.In, factor)
		}
		l.prog.Instrs = append(l.prog.Instrs, in)
	}
}

// assignLayouts asks the device for the layout of every tensor, in program order.
func assignLayouts(p *Program) {
	done := map[*Tensor]bool{}
	for _, t := range p.Inputs {
		t.Layout = p.Device.InputLayout(t.Type)
		done[t] = true
	}
	for _, t := range p.states {
		if t.Layout.Size > 0 { // given: the update program works on another program's state
			done[t] = true
		}
	}
	for _, in := range p.Instrs {
		layouts := make([]Layout, len(in.In))
		for i, t := range in.In {
			layouts[i] = t.Layout
		}
		for i, t := range in.In {
			if !done[t] && t.state != "" {
				if t.like != nil { // a parameter's gradient or moment, stored as the parameter is
					t.Layout = t.like.Layout
				} else {
					t.Layout = p.Device.ParameterLayout(in.Op, i, layouts, t.Type)
				}
				layouts[i] = t.Layout
				done[t] = true
			}
		}
		for i, t := range in.Out {
			if !done[t] {
				t.Layout = p.Device.OutputLayout(in.Op, i, layouts, t.Type)
				done[t] = true
			}
		}
	}
}

// bind asks the device for the kernels.
func bind(p *Program) error {
	for _, in := range p.Instrs {
		inL, outL := make([]Layout, len(in.In)), make([]Layout, len(in.Out))
		for i, t := range in.In {
			inL[i] = t.Layout
		}
		for i, t := range in.Out {
			outL[i] = t.Layout
		}
		k, err := p.Device.Kernel(in.Op, inL, outL)
		if err != nil {
			return fmt.Errorf("%s: %w", in.Name, err)
		}
		in.kernel = k
		if p.keep {
			in.kept = p.KeptBytes
			p.KeptBytes += aligned(int64(k.Kept) * int64(p.Device.ElementSize()))
		}
	}
	return nil
}
