package engine

import (
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// fuseLinear joins linear layers with what else reads or writes their rows: the patches of the input before them, a sum
// behind them. (A GELU there gains nothing: its values wait for each other, and pieces of rows are too short for that.)
func fuseLinear(p *Program, dead map[*Instr]bool) {
	p.Instrs = slices.DeleteFunc(p.Instrs, func(in *Instr) bool { return dead[in] })
	use, def := uses(p), definers(p)
	// before returns the instruction that computes t for in alone.
	before := func(in *Instr, t *Tensor) *Instr {
		d := def[t]
		if d == nil || dead[d] || t.output || len(use[t]) != 1 || d.Backward != in.Backward {
			return nil
		}
		return d
	}
	join := func(in, d *Instr, name string, op graph.Op, inputs []*Tensor) {
		if p.Device.Joins(op) {
			in.Op, in.In, in.Name = op, inputs, name
			dead[d] = true
		}
	}
	for _, in := range p.Instrs {
		switch in.Op.(type) {
		case ops.Linear:
			d := before(in, in.In[0])
			if d == nil || d.In[0].Role != graph.Input {
				continue
			}
			if patches, ok := d.Op.(ops.Patches); ok {
				join(in, d, in.Name, ops.PatchEmbed(patches), slices.Concat(d.In, in.In[1:]))
			}
		case ops.Add:
			// What was computed last takes the sum: the other operand is ready by then.
			for i := 1; i >= 0; i-- {
				d, other := before(in, in.In[i]), in.In[1-i]
				if d != nil && d.Op == graph.Op(ops.Linear{}) && other != in.In[i] {
					join(in, d, d.Name, ops.Linear{Add: true}, append(slices.Clone(d.In), other))
					break
				}
			}
		}
	}
}
