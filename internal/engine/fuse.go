package engine

import (
	"slices"

	"github.com/ctclass/ctclass/internal/ops"
)

// uses maps each tensor to the instructions that read it, in program order.
func uses(p *Program) map[*Tensor][]*Instr {
	u := map[*Tensor][]*Instr{}
	for _, in := range p.Instrs {
		for i, t := range in.In {
			if !slices.Contains(in.In[:i], t) {
				u[t] = append(u[t], in)
			}
		}
	}
	return u
}

// definers maps each computed tensor to the instruction that writes it.
func definers(p *Program) map[*Tensor]*Instr {
	d := map[*Tensor]*Instr{}
	for _, in := range p.Instrs {
		for _, t := range in.Out {
			if t.state == "" {
				d[t] = in
			}
		}
	}
	return d
}

// fuse joins instructions where that saves a pass over memory or a buffer. What is fused depends on the
// graph and the device alone, so that a net computes the same bits with and without recomputation.
func fuse(p *Program) {
	dead := map[*Instr]bool{}
	fuseNormForward(p, dead)
	fuseMaskBackward(p, dead)
	fuseNormPool(p, dead)
	fuseConvNorm(p, dead)
	fuseConvPool(p, dead)
	fuseAttention(p, dead)
	fuseLayerNormBackward(p, dead)
	fuseLinear(p, dead)
	p.Instrs = slices.DeleteFunc(p.Instrs, func(in *Instr) bool { return dead[in] })
}

// fuseNormForward joins BN + ReLU and BN + add + ReLU: the value before the ReLU is never stored.
func fuseNormForward(p *Program, dead map[*Instr]bool) {
	use, def := uses(p), definers(p)
	for _, in := range p.Instrs {
		if _, ok := in.Op.(ops.ReLU); !ok {
			continue
		}
		src := in.In[0]
		d := def[src]
		if d == nil || src.output || len(use[src]) != 1 {
			continue
		}
		switch op := d.Op.(type) {
		case ops.BNNorm:
			op.ReLU = true
			in.Op, in.In = op, slices.Clone(d.In)
			dead[d] = true
		case ops.Add:
			// The norm that was computed last takes the sum: the other operand is ready by then.
			for i := 1; i >= 0; i-- {
				n := def[d.In[i]]
				if n == nil || d.In[i].output || len(use[d.In[i]]) != 1 || dead[n] {
					continue
				}
				norm, ok := n.Op.(ops.BNNorm)
				if !ok || norm.ReLU || norm.Add {
					continue
				}
				norm.Add, norm.ReLU = true, true
				in.Op, in.In = norm, append(slices.Clone(n.In), d.In[1-i])
				dead[n], dead[d] = true, true
				break
			}
		}
	}
}

// fuseMaskBackward lets batch norm's backward apply the ReLU mask itself where nothing else needs the
// masked gradient.
func fuseMaskBackward(p *Program, dead map[*Instr]bool) {
	use := uses(p)
	for _, in := range p.Instrs {
		if _, ok := in.Op.(ops.ReLUBackward); !ok || in.Out[0].output {
			continue
		}
		y, dy, dz := in.In[0], in.In[1], in.Out[0]
		all := len(use[dz]) > 0
		for _, u := range use[dz] {
			switch u.Op.(type) {
			case ops.BNReduce, ops.BNBackward, ops.BNFrozenBackward:
			default:
				all = false
			}
		}
		if !all {
			continue
		}
		for _, u := range use[dz] {
			switch op := u.Op.(type) {
			case ops.BNReduce:
				op.Masked = true
				u.Op = op
			case ops.BNBackward:
				op.Masked = true
				u.Op = op
			case ops.BNFrozenBackward:
				op.Masked = true
				u.Op = op
			}
			for i, t := range u.In {
				if t == dz {
					u.In[i] = dy
				}
			}
			u.In = append(u.In, y)
		}
		dead[in] = true
	}
}

// fuseAttention computes the log-sum-exp together with the attention that it belongs to.
func fuseAttention(p *Program, dead map[*Instr]bool) {
	forward := map[*Tensor]*Instr{}
	for _, in := range p.Instrs {
		switch op := in.Op.(type) {
		case ops.Attention:
			forward[in.In[0]] = in
		case ops.AttentionLSE:
			if f := forward[in.In[0]]; f != nil && f.Op.(ops.Attention).Heads == op.Heads {
				in.Out[0].mark = f.Out[0].mark
				f.Out = append(f.Out, in.Out[0])
				dead[in] = true
			}
		}
	}
}

// fuseLayerNormBackward computes the gradients of a layer norm's parameters together with that of its input.
func fuseLayerNormBackward(p *Program, dead map[*Instr]bool) {
	type inputs struct{ x, dy *Tensor }
	reduce := map[inputs]*Instr{}
	for _, in := range p.Instrs {
		switch op := in.Op.(type) {
		case ops.LayerNormReduce:
			reduce[inputs{in.In[0], in.In[1]}] = in
		case ops.LayerNormBackward:
			// The reduction has no reader before the gradient: it was built right before it.
			r := reduce[inputs{in.In[0], in.In[2]}]
			if r != nil && !dead[r] && !r.Out[0].output && r.Op.(ops.LayerNormReduce).Eps == op.Eps {
				in.Out = append(in.Out, r.Out[0])
				dead[r] = true
			}
		}
	}
}
