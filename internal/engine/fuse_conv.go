package engine

import (
	"slices"

	"github.com/ctclass/ctclass/internal/ops"
)

// fuseConvNorm joins a convolution with the batch norm behind it, whose statistics are given, where there is no
// backward part that reads what lies between. It follows fuseNormForward.
func fuseConvNorm(p *Program, dead map[*Instr]bool) {
	p.Instrs = slices.DeleteFunc(p.Instrs, func(in *Instr) bool { return dead[in] }) // they read no more
	use, def := uses(p), definers(p)
	for _, norm := range p.Instrs {
		bn, ok := norm.Op.(ops.BNNorm)
		if !ok || !bn.Frozen {
			continue
		}
		x := norm.In[0]
		conv := def[x]
		if conv == nil || x.output || len(use[x]) != 1 || slices.Contains(norm.In[1:], x) {
			continue
		}
		op, ok := conv.Op.(ops.Conv3D)
		if !ok {
			continue
		}
		norm.Op = ops.ConvNorm{Stride: op.Stride, Pad: op.Pad, Eps: bn.Eps, Add: bn.Add, ReLU: bn.ReLU}
		norm.In = slices.Concat(conv.In, norm.In[1:])
		norm.Name = conv.Name
		dead[conv] = true
	}
}

// fuseConvPool joins what fuseConvNorm made with the max-pool behind it: the map between, the largest of a network, is
// then never stored.
func fuseConvPool(p *Program, dead map[*Instr]bool) {
	p.Instrs = slices.DeleteFunc(p.Instrs, func(in *Instr) bool { return dead[in] })
	use, def := uses(p), definers(p)
	for _, pool := range p.Instrs {
		op, ok := pool.Op.(ops.MaxPool3D)
		if !ok {
			continue
		}
		y := pool.In[0]
		conv := def[y]
		if conv == nil || y.output || len(use[y]) != 1 {
			continue
		}
		if norm, ok := conv.Op.(ops.ConvNorm); ok && !norm.Add {
			pool.Op, pool.In, pool.Name = ops.ConvNormPool{ConvNorm: norm, Pool: op}, conv.In, conv.Name
			dead[conv] = true
		}
	}
}
