package engine

import (
	"fmt"
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// smallTensor is the number of elements up to which a marked tensor is kept all the same: statistics cost
// nothing to keep.
const smallTensor = 16 << 10

// recompute inserts, before the backward instructions that need a value which is not kept, clones of the
// instructions that compute it (gradient checkpointing, Chen et al. 2016). Clones change no state and
// replay dropout masks, so gradients are bit-identical to those without recomputation.
func recompute(p *Program) error {
	kept := keptTensors(p)
	def := definers(p)
	clones := map[*Tensor]*Tensor{}
	var out []*Instr
	var clone func(t *Tensor) (*Tensor, error)
	clone = func(t *Tensor) (*Tensor, error) {
		d := def[t]
		if d == nil || d.Backward || kept[t] {
			return t, nil
		}
		if c := clones[t]; c != nil {
			return c, nil
		}
		c := &Instr{Op: d.Op, Name: d.Name, Backward: true, Clone: true}
		for _, k := range d.In {
			if k.state != "" && writesState(p, k) {
				return nil, fmt.Errorf("%s cannot be recomputed: %s changes in between", d, k.Name)
			}
			kc, err := clone(k)
			if err != nil {
				return nil, err
			}
			c.In = append(c.In, kc)
		}
		for _, o := range d.Out {
			n := &Tensor{Name: o.Name, Type: o.Type}
			c.Out = append(c.Out, n)
			clones[o] = n
		}
		out = append(out, c)
		return clones[t], nil
	}
	for _, in := range p.Instrs {
		if in.Backward {
			for i, t := range in.In {
				c, err := clone(t)
				if err != nil {
					return err
				}
				in.In[i] = c
			}
		}
		out = append(out, in)
	}
	p.Instrs = out
	return nil
}

// keptTensors decides which forward tensors stay for the backward part: everything without a mark, small
// ones, what leaves its segment, and what lies in the storage of a kept concatenation anyway.
func keptTensors(p *Program) map[*Tensor]bool {
	use := uses(p)
	kept := map[*Tensor]bool{}
	for _, in := range slices.Backward(p.Instrs) {
		if in.Backward {
			continue
		}
		for _, t := range in.Out {
			keep := t.output || t.mark == graph.Mark{} || t.Type.Elements() <= smallTensor
			if !keep && !t.mark.Drop {
				for _, u := range use[t] {
					if !u.Backward && len(u.Out) > 0 && u.Out[0].state == "" && u.Out[0].mark.Segment != t.mark.Segment {
						keep = true
					}
				}
			}
			for _, u := range use[t] {
				if _, ok := u.Op.(ops.Concat); ok && !u.Backward && kept[u.Out[0]] {
					keep = true
				}
			}
			if keep {
				kept[t] = true
			}
		}
	}
	return kept
}

// writesState reports whether the forward part changes a state tensor.
func writesState(p *Program, t *Tensor) bool {
	for _, in := range p.Instrs {
		if !in.Backward && slices.Contains(in.Out, t) {
			return true
		}
	}
	return false
}
