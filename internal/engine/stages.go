package engine

import (
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// Source is a lowered and fused program of which it is not decided yet what it recomputes. Its tensors have
// layouts and its instructions kernels; emit makes programs of it.
type Source struct {
	prog    *Program
	forward int // the number of instructions of the forward part, which come first
	def     map[*Tensor]*Instr
	use     map[*Tensor][]*Instr
	written map[*Tensor]bool // state tensors that the forward part changes
	flop    int64            // of the step without recomputation

	stages [][]*Instr // the forward part, cut into the links of a chain
	stage  map[*Tensor]int
}

// prepare lowers the request and lets fuse join instructions.
func prepare(dev Device, req Request, fuse func(*Program)) (*Source, error) {
	l := &lowering{
		prog:    &Program{Device: dev, Inputs: map[string]*Tensor{}, keep: req.Keep},
		tensors: map[*graph.Value]*Tensor{},
		byState: map[string]*Tensor{},
	}
	if err := l.lower(req); err != nil {
		return nil, err
	}
	if err := l.optimize(req); err != nil {
		return nil, err
	}
	fuse(l.prog)
	return newSource(l.prog)
}

func newSource(p *Program) (*Source, error) {
	assignLayouts(p)
	if err := bind(p); err != nil {
		return nil, err
	}
	s := &Source{prog: p, def: definers(p), use: uses(p), written: map[*Tensor]bool{}}
	for s.forward < len(p.Instrs) && !p.Instrs[s.forward].Backward {
		for _, t := range p.Instrs[s.forward].Out {
			if t.state != "" {
				s.written[t] = true
			}
		}
		s.forward++
	}
	for _, in := range p.Instrs {
		s.flop += in.FLOP()
	}
	return s, nil
}

// FLOP counts the instruction's floating-point operations; see ops.OpFLOP.
func (i *Instr) FLOP() int64 {
	in := make([]graph.Type, len(i.In))
	for k, t := range i.In {
		in[k] = t.Type
	}
	return ops.OpFLOP(i.Op, in, i.Out[0].Type)
}

// isForward reports whether the forward part computes the tensor.
func (s *Source) isForward(t *Tensor) bool {
	d := s.def[t]
	return d != nil && !d.Backward
}

// isLarge reports whether whether to keep the tensor is a question at all.
func (s *Source) isLarge(t *Tensor) bool {
	return s.isForward(t) && !t.output && t.Type.Elements() > smallTensor
}

// cut divides the forward part into stages: runs of instructions whose results have the same key.
func (s *Source) cut(key func(m graph.Mark) int) {
	s.stages, s.stage = nil, map[*Tensor]int{}
	last := 0
	for _, in := range s.prog.Instrs[:s.forward] {
		t := in.Out[0]
		if t.state != "" { // running statistics belong to no stage
			continue
		}
		if k := key(t.mark); len(s.stages) == 0 || k != last {
			s.stages = append(s.stages, nil)
			last = k
		}
		n := len(s.stages) - 1
		s.stages[n] = append(s.stages[n], in)
		for _, t := range in.Out {
			s.stage[t] = n
		}
	}
}

// marked returns the schedule that the layers' marks ask for, nil for a program without backward part.
func (s *Source) marked() *schedule {
	if s.forward == len(s.prog.Instrs) {
		return nil
	}
	s.cut(func(m graph.Mark) int { return m.Segment })
	var root *schedule
	for i, stage := range slices.Backward(s.stages) {
		n := &schedule{from: i, to: i + 1, keep: map[*Tensor]bool{}, next: root}
		whole := map[*Tensor]bool{} // everything but what is to be recomputed on its own
		for _, in := range stage {
			for _, t := range in.Out {
				if !t.mark.Drop {
					whole[t] = true
				}
			}
		}
		if stage[0].Out[0].mark.Segment == 0 {
			n.keep = whole
		} else {
			n.again = &schedule{from: i, to: i + 1, keep: s.withParts(whole)}
			for t := range whole {
				if s.leaves(t, i) {
					n.keep[t] = true
				}
			}
		}
		n.keep = s.withParts(n.keep)
		root = n
	}
	return root
}

// leaves reports whether the forward part of a later stage than i reads the tensor.
func (s *Source) leaves(t *Tensor, i int) bool {
	return slices.ContainsFunc(s.use[t], func(u *Instr) bool {
		return !u.Backward && u.Out[0].state == "" && s.stage[u.Out[0]] > i
	})
}

// withParts adds to the tensors what lies in the storage of a concatenation among them.
func (s *Source) withParts(keep map[*Tensor]bool) map[*Tensor]bool {
	for _, in := range slices.Backward(s.prog.Instrs[:s.forward]) {
		if _, ok := in.Op.(ops.Concat); ok && keep[in.Out[0]] {
			for _, t := range in.In {
				if s.isForward(t) {
					keep[t] = true
				}
			}
		}
	}
	return keep
}
