package cpu

import (
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/ops"
)

// tokenKernel binds the operations of transformers.
func (d *Device) tokenKernel(op graph.Op, in, out []engine.Layout) (run, int) {
	m := d.m
	switch op := op.(type) {
	case ops.Patches:
		if in[0].Format != rowMajor {
			return nil, 0 // only the network's input is cut into patches
		}
		return d.patches(op, in[0].Type.Shape), 0
	case ops.EmbedTokens:
		n, t, e := dims3(in[0])
		return func(a *args) {
			m.Run(n, func(_, i int) {
				row := a.out[0].F32[i*(t+1)*e:][:(t+1)*e]
				copy(row, a.in[1].F32[:e])
				copy(row[e:], a.in[0].F32[i*t*e:][:t*e])
				for j, p := range a.in[2].F32[:len(row)] {
					row[j] += p
				}
			})
		}, 0
	case ops.EmbedTokensBackward:
		n, t, e := dims3(out[0])
		return func(a *args) {
			m.Run(n, func(_, i int) { copy(a.out[0].F32[i*t*e:][:t*e], a.in[0].F32[(i*(t+1)+1)*e:]) })
		}, 0
	case ops.FirstToken:
		n, t, e := dims3(in[0])
		return func(a *args) {
			for i := range n {
				copy(a.out[0].F32[i*e:][:e], a.in[0].F32[i*t*e:])
			}
		}, 0
	case ops.FirstTokenBackward:
		n, t, e := dims3(out[0])
		return func(a *args) {
			clear(a.out[0].F32[:n*t*e])
			for i := range n {
				copy(a.out[0].F32[i*t*e:], a.in[0].F32[i*e:][:e])
			}
		}, 0
	case ops.GELU:
		return func(a *args) { m.GELU(a.in[0], a.out[0]) }, 0
	case ops.GELUBackward:
		return func(a *args) { m.GELUBackward(a.in[0], a.in[1], a.out[0]) }, 0
	case ops.LayerNorm, ops.LayerNormBackward, ops.LayerNormReduce:
		return d.layerNormKernel(op, in, out)
	case ops.Attention, ops.AttentionBackward:
		return d.attentionKernel(op, in, out)
	}
	return nil, 0
}

// patches cuts volumes of shape (N, C, D, H, W), a row of patches at a time.
func (d *Device) patches(op ops.Patches, shape []int) run {
	c, h, w := shape[1], shape[3], shape[4]
	pd, ph, pw := op.Size[0], op.Size[1], op.Size[2]
	td, th, tw := shape[2]/pd, h/ph, w/pw
	width := c * pd * ph * pw
	return func(a *args) {
		d.m.Run(shape[0]*td*th, func(_, i int) {
			n, z, y := i/th/td, i/th%td, i%th
			row := a.out[0].F32[i*tw*width:][:tw*width]
			for j := range c * pd * ph { // each line of voxels goes to all patches of the row
				ch, dz, dy := j/ph/pd, j/ph%pd, j%ph
				line := a.in[0].F32[(((n*c+ch)*shape[2]+z*pd+dz)*h+y*ph+dy)*w:][:w]
				for t := range tw {
					copy(row[t*width+j*pw:][:pw], line[t*pw:])
				}
			}
		})
	}
}

// layerNormKernel binds layer norm. Backward takes each row's statistics again rather than keeping them.
func (d *Device) layerNormKernel(op graph.Op, in, out []engine.Layout) (run, int) {
	m := d.m
	shape := in[0].Type.Shape
	e := shape[len(shape)-1]
	rows := in[0].Type.Elements() / e
	stats := func(a *args) (mean, invstd []float32) { return a.work[:rows], a.work[rows : 2*rows] }
	switch op := op.(type) {
	case ops.LayerNorm:
		return func(a *args) {
			mean, invstd := stats(a)
			m.LayerNorm(a.in[0], rows, e, a.in[1].F32, a.in[2].F32, op.Eps, a.out[0], mean, invstd)
		}, 2 * rows
	case ops.LayerNormBackward:
		return func(a *args) {
			mean, invstd := stats(a)
			m.LayerNormStats(a.in[0], rows, e, op.Eps, mean, invstd)
			red := a.work[2*rows:]
			if len(out) == 2 {
				red = a.out[1].F32
			}
			m.LayerNormBackward(a.in[0], a.in[2], rows, e, a.in[1].F32, mean, invstd, a.out[0], red[e:2*e], red[:e])
		}, 2*rows + 2*e
	case ops.LayerNormReduce: // on its own only where nobody wants the input's gradient
		return func(a *args) {
			mean, invstd := stats(a)
			m.LayerNormStats(a.in[0], rows, e, op.Eps, mean, invstd)
			gamma, dx := a.work[2*rows:][:e], a.work[2*rows+e:][:rows*e]
			clear(gamma)
			m.LayerNormBackward(a.in[0], a.in[1], rows, e, gamma, mean, invstd, kernels.Floats(dx), a.out[0].F32[e:2*e], a.out[0].F32[:e])
		}, 2*rows + e + rows*e
	}
	return nil, 0
}

// attentionKernel binds attention, whose second output, where there is one, is the log-sum-exp of the rows.
func (d *Device) attentionKernel(op graph.Op, in, out []engine.Layout) (run, int) {
	m := d.m
	switch op := op.(type) {
	case ops.Attention:
		s := attentionShape(op.Heads, in[0])
		workspace := s.Workspace()
		if in[0].Half {
			workspace = s.HalfWorkspace()
		}
		return func(a *args) {
			var lse []float32
			if len(out) == 2 {
				lse = a.out[1].F32
			}
			if in[0].Half {
				m.AttentionHalf(a.in[0], s, a.out[0], lse, a.work)
				return
			}
			m.Attention(a.in[0].F32, s, a.out[0].F32, s.Heads*s.HeadDim, lse, a.work)
		}, m.Threads() * workspace
	case ops.AttentionBackward: // (qkv, out, lse, dout)
		s := attentionShape(op.Heads, in[0])
		e := s.Heads * s.HeadDim
		if in[0].Half {
			return func(a *args) {
				m.AttentionBackwardHalf(a.in[0], s, a.in[1], a.in[3], a.in[2].F32, a.out[0], a.work)
			}, m.Threads() * s.HalfBackwardWorkspace()
		}
		return func(a *args) {
			m.AttentionBackward(a.in[0].F32, s, a.in[1].F32, a.in[3].F32, e, a.in[2].F32, a.out[0].F32, a.work)
		}, m.Threads() * s.BackwardWorkspace()
	}
	return nil, 0
}

// attentionShape returns the sizes of an attention over qkv.
func attentionShape(heads int, qkv engine.Layout) kernels.AttentionShape {
	n, t, e := dims3(qkv)
	return kernels.AttentionShape{N: n, T: t, Heads: heads, HeadDim: e / 3 / heads}
}

func dims3(l engine.Layout) (n, t, e int) {
	s := l.Type.Shape
	return s[0], s[1], s[2]
}
