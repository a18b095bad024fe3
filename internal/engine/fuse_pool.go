package engine

import (
	"slices"

	"github.com/ctclass/ctclass/internal/ops"
)

// fuseNormPool joins BN + ReLU + max-pool of a training program, forward and backward, where nothing else
// reads what lies between: the largest map of a network, the one behind its first convolution, is then stored
// once instead of three times. It follows fuseNormForward and fuseMaskBackward.
func fuseNormPool(p *Program, dead map[*Instr]bool) {
	p.Instrs = slices.DeleteFunc(p.Instrs, func(in *Instr) bool { return dead[in] }) // they read no more
	use, def := uses(p), definers(p)
	for _, pool := range p.Instrs {
		op, ok := pool.Op.(ops.MaxPool3D)
		if !ok || dead[pool] {
			continue
		}
		y := pool.In[0]
		norm := def[y]
		if norm == nil || y.output {
			continue
		}
		bn, ok := norm.Op.(ops.BNNorm)
		if !ok || !bn.ReLU || bn.Add || bn.Frozen {
			continue
		}
		fused := ops.NormPool{Eps: bn.Eps, Kernel: op.Kernel, Stride: op.Stride, Pad: op.Pad}
		var back, reduce, dx *Instr
		for _, u := range use[y] {
			switch o := u.Op.(type) {
			case ops.MaxPool3DBackward:
				back = u
			case ops.BNReduce:
				if o.Masked {
					reduce = u
				}
			case ops.BNBackward:
				if o.Masked {
					dx = u
				}
			}
		}
		if len(use[y]) != 4 || back == nil || reduce == nil || dx == nil {
			continue
		}
		dz := back.Out[0]
		if dz.output || len(use[dz]) != 2 || reduce.In[2] != dz || dx.In[4] != dz {
			continue
		}
		in, dy := norm.In[:4:4], back.In[1] // x, stats, γ, β
		red := reduce.Out[0]
		pool.Op, pool.In = fused, in
		reduce.Op, reduce.In = ops.NormPoolReduce(fused), append(in, dy)
		dx.Op, dx.In = ops.NormPoolBackward(fused), append(in, dy, red)
		dead[norm], dead[back] = true, true
	}
}
