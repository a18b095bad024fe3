package engine

import (
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
)

// share lets tensors live in the storage of others: the parts of a concatenation are written where the
// whole will be, a slice is read where it lies, and an output takes over the storage of an input that dies.
func share(p *Program) {
	shareParts(p)
	fixStrides(p)
	shareInPlace(p)
}

func shareParts(p *Program) {
	for _, in := range p.Instrs {
		layouts := make([]Layout, len(in.In))
		for i, t := range in.In {
			layouts[i] = t.Layout
		}
		if len(in.Out) != 1 || in.Out[0].state != "" {
			continue
		}
		out := in.Out[0]
		views := p.Device.Parts(in.Op, layouts, out.Layout)
		switch {
		case len(views) == 0:
		case len(in.In) == 1 && len(views) == 1: // a slice: the output is a part of the input
			if views[0].Ok && in.In[0].Role == graph.Computed && !out.output {
				out.base, out.offset = in.In[0], views[0].Offset
			}
		default: // a concatenation: the inputs are parts of the output
			for i, t := range in.In {
				if views[i].Ok && t.Role == graph.Computed && t.base == nil && !t.output && !t.apart && t != out {
					t.base, t.offset = out, views[i].Offset
				}
			}
		}
	}
}

// fixStrides gives parts of strided tensors the stride of the whole.
func fixStrides(p *Program) {
	for _, in := range p.Instrs {
		for _, t := range in.Out {
			if r, _ := t.root(); r != t && t.Layout.Stride > 0 && r.Layout.Stride > 0 {
				t.Layout.Stride = r.Layout.Stride
			}
		}
	}
}

// extent is the range of elements that a tensor covers in each sample of its root (or in all, unstrided).
func extent(t *Tensor) (root *Tensor, from, to int) {
	root, from = t.root()
	n := t.Layout.Size
	if t.Layout.Stride > 0 && len(t.Type.Shape) > 0 {
		n /= t.Type.Shape[0]
	}
	return root, from, from + n
}

// shareInPlace walks the program once; last[t] is the last instruction that reads t itself.
func shareInPlace(p *Program) {
	last := map[*Tensor]int{}
	members := map[*Tensor][]*Tensor{} // root → every tensor in its storage
	for at, in := range p.Instrs {
		for _, t := range in.In {
			last[t] = at
		}
		for _, t := range in.Out {
			last[t] = max(last[t], at)
			if t.Role == graph.Computed && t.state == "" {
				r, _ := t.root()
				members[r] = append(members[r], t)
			}
		}
	}
	for at, in := range p.Instrs {
		out := in.Out[0]
		if out.base != nil || out.state != "" || out.Role != graph.Computed || len(members[out]) > 1 {
			continue
		}
		for _, i := range p.Device.InPlace(in.Op, len(in.In)) {
			src := in.In[i]
			if src.Role != graph.Computed || src.state != "" || src.output || slices.Index(in.In, src) != i {
				continue
			}
			a, b := src.Layout, out.Layout
			a.Stride, b.Stride = 0, 0
			root, from, to := extent(src)
			if root.output || !a.Equal(b) || out.output && root != src {
				continue
			}
			free := true
			for _, m := range members[root] {
				_, mf, mt := extent(m)
				if mf < to && from < mt && last[m] > at || m != src && slices.Contains(in.In, m) && mf < to && from < mt {
					free = false
					break
				}
			}
			if free {
				out.base, out.offset = src, 0
				out.Layout.Stride = src.Layout.Stride
				members[root] = append(members[root], members[out]...)
				delete(members, out)
				if out.output {
					root.output = true
				}
				break
			}
		}
	}
}
