package cpu

import (
	"slices"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/ops"
)

// Hybrid precision: feature maps, tokens and their gradients are stored as bfloat16; parameters, their gradients,
// statistics, logits and all sums are float32.

// Hybrid returns the device in hybrid precision, on the same threads; false: it is that one already.
func (d *Device) Hybrid() (engine.Device, bool) {
	return On(d.m, Options{Tuning: d.tuning, Half: true}), !d.half
}

// storesHalf says whether output number i of an operation is an activation that hybrid precision stores as bfloat16.
func storesHalf(op graph.Op, i int, in []engine.Layout, t graph.Type) bool {
	if t.Class == graph.Volume {
		return true
	}
	switch op.(type) {
	case ops.Patches, ops.EmbedTokens, ops.EmbedTokensBackward, ops.FirstTokenBackward, ops.Attention, ops.AttentionBackward:
		return i == 0
	case ops.Linear, ops.LinearBackwardData, ops.LayerNorm, ops.LayerNormBackward, ops.GELU, ops.GELUBackward,
		ops.ReLU, ops.ReLUBackward, ops.Dropout, ops.DropPath, ops.Scale, ops.Add, graph.Sum:
		return i == 0 && in[0].Half
	}
	return false
}

// takesHalf says whether the kernel of an operation reads and writes bfloat16 itself.
func (d *Device) takesHalf(op graph.Op, in, out []engine.Layout) bool {
	switch op := op.(type) {
	case ops.ReLU, ops.ReLUBackward, ops.Add, graph.Sum, ops.Scale, ops.Dropout, ops.DropPath, ops.Concat, ops.ChannelSlice,
		ops.BNStats, ops.BNNorm, ops.BNReduce, ops.BNBackward, ops.BNFrozenBackward,
		ops.NormPool, ops.NormPoolReduce, ops.NormPoolBackward, ops.GlobalAvgPool3D, ops.GlobalAvgPool3DBackward,
		ops.LayerNorm, ops.LayerNormBackward, ops.LayerNormReduce, ops.GELU, ops.GELUBackward, ops.ColumnSum, ops.SumSamples:
		return true
	case ops.Linear, ops.LinearBackwardData, ops.LinearBackwardWeights:
		return d.m.Pairs && pairsFit(op, in)
	case ops.Attention:
		return d.m.Pairs && attentionShape(op.Heads, in[0]).PairsFit()
	case ops.AttentionBackward:
		return d.m.Pairs && attentionShape(op.Heads, in[0]).PairsFit()
	}
	c, pass := d.convOf(op, in, out)
	return c != nil && c.TakesHalf(pass)
}

// pairsFit reports whether a linear layer has sizes whose products are taken in pairs.
func pairsFit(op graph.Op, in []engine.Layout) bool {
	_, i, o := linearSizes(op, in)
	return kernels.PairsFit(i, o)
}

// pairKernel binds the products of linear layers on bfloat16 to those of pairs.
func (d *Device) pairKernel(op graph.Op, in, _ []engine.Layout) (run, int) {
	m := d.m
	if !in[0].Half {
		return nil, 0
	}
	switch op.(type) {
	case ops.Linear:
		rows, i, o := linearSizes(op, in)
		return func(a *args) {
			if !a.fresh {
				m.PairLinear(a.in[1].F32, i, o, a.kept, a.work)
			}
			m.LinearHalf(a.in[0], rows, i, a.kept, o, a.in[2].F32, a.out[0])
		}, m.PairLinearWorkspace(i)
	case ops.LinearBackwardData:
		rows, i, o := linearSizes(op, in)
		return func(a *args) {
			m.LinearBackwardDataHalf(a.in[0], rows, o, a.in[1].F32, i, a.out[0], a.work)
		}, m.LinearBackwardDataHalfWorkspace(i, o)
	case ops.LinearBackwardWeights:
		rows, i, o := linearSizes(op, in)
		return func(a *args) {
			m.LinearBackwardWeightsHalf(a.in[0], a.in[1], rows, o, i, a.out[0].F32, a.work)
		}, m.LinearBackwardWeightsHalfWorkspace(rows, i, o)
	}
	return nil, 0
}

func anyHalf(layouts ...[]engine.Layout) bool {
	return slices.ContainsFunc(slices.Concat(layouts...), func(l engine.Layout) bool { return l.Half })
}

// widened binds an operation to its kernel in float32, on copies in the workspace.
func (d *Device) widened(op graph.Op, in, out []engine.Layout) (run, int) {
	in32, out32 := slices.Clone(in), slices.Clone(out)
	copies := 0
	for _, layouts := range [][]engine.Layout{in32, out32} {
		for i, l := range layouts {
			if !l.Half {
				continue
			}
			if l.Format == blocked {
				layouts[i] = mapLayout(l.Type, l.Segments)
			}
			layouts[i].Half = false
			copies += layouts[i].Size
		}
	}
	f, work := d.bind(op, in32, out32)
	if f == nil {
		return nil, 0
	}
	return func(a *args) {
		b := *a
		b.in, b.out = slices.Clone(a.in), slices.Clone(a.out)
		take := func(l engine.Layout) (v kernels.Vec) {
			v = kernels.Floats(b.work[:l.Size])
			b.work = b.work[l.Size:]
			return v
		}
		for i, l := range in {
			if l.Half {
				b.in[i] = take(in32[i])
				d.convert(a.in[i], l, b.in[i], in32[i])
			}
		}
		for i, l := range out {
			if l.Half {
				b.out[i] = take(out32[i])
			}
		}
		f(&b)
		for i, l := range out {
			if l.Half {
				d.convert(b.out[i], out32[i], a.out[i], l)
			}
		}
	}, copies + work
}

// convert copies values from one precision to the other.
func (d *Device) convert(x kernels.Vec, from engine.Layout, y kernels.Vec, to engine.Layout) {
	switch {
	case from.Format == blocked:
		d.m.CopyMap(feature(from, x), feature(to, y))
	case from.Half:
		d.m.Widen(y.F32, x.Half[:len(y.F32)])
	default:
		d.m.Narrow(y.Half[:len(x.F32)], x.F32)
	}
}
