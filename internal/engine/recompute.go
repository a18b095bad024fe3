package engine

import (
	"fmt"
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// smallTensor is the number of elements up to which a tensor is always kept: statistics cost nothing to keep.
const smallTensor = 16 << 10

// schedule says what a run of stages keeps for its backward part and what it computes again. A list of
// schedules, linked by next, covers the stages in order; each covers [from, to) of them.
//
// Without again, the stages are run once; backward takes what is kept and computes the rest where it is
// needed. With again, only keep outlives the stages (what later ones need): when backward comes to them they
// are run again as again says, which may keep less than everything, too.
type schedule struct {
	from, to int
	keep     map[*Tensor]bool
	again    *schedule
	next     *schedule
}

// emitter writes a program that recomputes as a schedule says: gradient checkpointing (Chen et al. 2016) in
// the nested form of rotor (Beaumont, Herrmann et al. 2019). Clones change no state and replay dropout
// masks, so gradients are bit-identical to those without recomputation.
type emitter struct {
	src     *Source
	out     []*Instr
	same    map[*Tensor]*Tensor // source tensors that exist once: leaves, and those of the backward part
	now     map[*Tensor]*Tensor // values of the forward part → the tensor that holds them now
	waiting []*schedule         // to be run again when backward needs one of their stages
	fresh   map[*Tensor]bool    // results of the rebuilding under way
	err     error
}

// emit returns the program of the source under a schedule, nil for keeping everything, without storage.
func emit(src *Source, s *schedule) (*Program, error) {
	e := &emitter{src: src, same: map[*Tensor]*Tensor{}, now: map[*Tensor]*Tensor{}}
	p := &Program{Device: src.prog.Device, Inputs: map[string]*Tensor{}, FLOP: src.flop, keep: src.prog.keep}
	for name, t := range src.prog.Inputs {
		p.Inputs[name] = e.leaf(t)
	}
	for _, t := range src.prog.states {
		p.states = append(p.states, e.leaf(t))
	}
	for _, t := range p.states {
		if t.like != nil {
			t.like = e.same[t.like]
		}
	}
	e.forward(s)
	for _, in := range src.prog.Instrs[src.forward:] {
		c := &Instr{Op: in.Op, Name: in.Name, Backward: true, kernel: in.kernel, source: in}
		for _, t := range in.In {
			c.In = append(c.In, e.need(t))
		}
		for _, t := range in.Out {
			c.Out = append(c.Out, e.once(t))
		}
		e.out = append(e.out, c)
	}
	for _, t := range src.prog.Outputs {
		p.Outputs = append(p.Outputs, e.same[t])
	}
	p.Instrs = e.out
	for _, in := range p.Instrs {
		if in.Clone {
			p.AddedFLOP += in.FLOP()
		}
	}
	return p, e.err
}

func (e *emitter) leaf(t *Tensor) *Tensor {
	c := *t
	e.same[t] = &c
	return &c
}

// once returns the one copy of a source tensor.
func (e *emitter) once(t *Tensor) *Tensor {
	if c := e.same[t]; c != nil {
		return c
	}
	return e.leaf(t)
}

// forward copies the forward part and then forgets what the schedule does not keep.
func (e *emitter) forward(s *schedule) {
	keep := map[*Tensor]bool{}
	for n := s; n != nil; n = n.next {
		for t := range n.keep {
			keep[t] = true
		}
		if n.again != nil {
			e.waiting = append(e.waiting, n.again)
		}
	}
	kept := func(t *Tensor) bool { return s == nil || keep[t] || t.output || t.Type.Elements() <= smallTensor }
	for _, in := range e.src.prog.Instrs[:e.src.forward] {
		c := &Instr{Op: in.Op, Name: in.Name, kernel: in.kernel, source: in}
		for _, t := range in.In {
			c.In = append(c.In, e.once(t))
		}
		for _, t := range in.Out {
			o := e.once(t)
			c.Out = append(c.Out, o)
			if t.state == "" && kept(t) {
				e.now[t] = o
			}
		}
		if _, ok := in.Op.(ops.Concat); ok && !kept(in.Out[0]) {
			for i, t := range in.In {
				c.In[i].apart = c.In[i].apart || kept(t) && t.Role == graph.Computed
			}
		}
		e.out = append(e.out, c)
	}
}

// need returns the tensor that holds a value which the backward part reads, computing it again if it has to.
func (e *emitter) need(t *Tensor) *Tensor {
	if !e.src.isForward(t) {
		return e.once(t)
	}
	if e.now[t] == nil {
		stage := e.src.stage[t]
		for i, s := range slices.Backward(e.waiting) {
			if s.from <= stage && stage < s.end() {
				e.waiting = slices.Delete(e.waiting, i, i+1)
				e.rerun(s)
				break
			}
		}
	}
	e.fresh = map[*Tensor]bool{}
	defer func() { e.fresh = nil }()
	return e.get(t)
}

// end returns the stage behind the last one of the list.
func (s *schedule) end() int {
	for s.next != nil {
		s = s.next
	}
	return s.to
}

// rerun computes again what the schedules of a list keep, stage after stage.
func (e *emitter) rerun(s *schedule) {
	for ; s != nil; s = s.next {
		if s.again != nil {
			e.waiting = append(e.waiting, s.again)
		}
		e.fresh = map[*Tensor]bool{}
		for _, stage := range e.src.stages[s.from:s.to] {
			for _, in := range stage {
				for _, t := range in.Out {
					if s.keep[t] {
						e.get(t)
					}
				}
			}
		}
		for t := range e.fresh {
			if !s.keep[t] {
				delete(e.now, t)
			}
		}
	}
}

// get returns the tensor that holds a value, cloning what computes it if there is none.
func (e *emitter) get(t *Tensor) *Tensor {
	if !e.src.isForward(t) {
		return e.once(t)
	}
	if c := e.now[t]; c != nil {
		return c
	}
	d := e.src.def[t]
	c := &Instr{Op: d.Op, Name: d.Name, Backward: true, Clone: true, kernel: d.kernel, source: d}
	_, joins := d.Op.(ops.Concat)
	for _, k := range d.In {
		if k.state != "" && e.src.written[k] && e.err == nil {
			e.err = fmt.Errorf("%s cannot be recomputed: %s changes in between", d, k.Name)
		}
		kc := e.get(k)
		// A value from before this rebuilding must not lie in what is rebuilt: it would hold the whole.
		if joins && !e.fresh[k] && kc.Role == graph.Computed {
			kc.apart = true
		}
		c.In = append(c.In, kc)
	}
	for _, o := range d.Out {
		n := &Tensor{Name: o.Name, Type: o.Type, Layout: o.Layout}
		c.Out = append(c.Out, n)
		e.now[o] = n
		if e.fresh != nil {
			e.fresh[o] = true
		}
	}
	e.out = append(e.out, c)
	return e.now[t]
}
