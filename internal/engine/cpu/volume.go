package cpu

import (
	"math"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/ops"
)

func (d *Device) convKernel(op graph.Op, in, out []engine.Layout) (run, int) {
	m := d.m
	c, _ := d.convOf(op, in, out)
	switch op := op.(type) {
	case ops.Conv3D:
		kept := c.Prepared(in[0].Type.Shape[0])
		return func(a *args) {
			x, y := feature(in[0], a.in[0]), feature(out[0], a.out[0])
			if kept > 0 {
				m.ConvForwardPrepared(c, x, d.prepared(c, a), nil, y, a.work)
				return
			}
			m.ConvForward(c, x, a.in[1].F32, y, a.work)
		}, m.ConvForwardWorkspace(c, in[0].Type.Shape[0]) - kept
	case ops.ConvNorm:
		return d.convNormKernel(c, op, in, out)
	case ops.ConvNormPool:
		return d.convNormPoolKernel(c, op, in, out)
	case ops.Conv3DBackwardData:
		return func(a *args) {
			m.ConvBackwardData(c, a.in[0].F32, feature(in[1], a.in[1]), feature(out[0], a.out[0]), a.work)
		}, m.ConvBackwardDataWorkspace(c, in[1].Type.Shape[0])
	case ops.Conv3DBackwardWeights:
		return func(a *args) {
			m.ConvBackwardWeights(c, feature(in[0], a.in[0]), feature(in[1], a.in[1]), a.out[0].F32, a.work)
		}, m.ConvBackwardWeightsWorkspace(c, in[0].Type.Shape[0])
	}
	return nil, 0
}

func (d *Device) volumeKernel(op graph.Op, in, out []engine.Layout) (run, int) {
	m := d.m
	switch op := op.(type) {
	case ops.BNStats, ops.BNNorm, ops.BNReduce, ops.BNBackward, ops.BNFrozenBackward:
		return d.normKernel(op, in, out)
	case ops.NormPool:
		return d.normPoolKernel(op, in, out)
	case ops.NormPoolReduce:
		return d.normPoolReduceKernel(op, in)
	case ops.NormPoolBackward:
		return d.normPoolBackwardKernel(op, in, out)
	case ops.MaxPool3D:
		return func(a *args) {
			m.MaxPool(feature(in[0], a.in[0]), feature(out[0], a.out[0]), op.Kernel, op.Stride, op.Pad)
		}, 0
	case ops.MaxPool3DBackward:
		return func(a *args) {
			m.MaxPoolBackward(feature(in[0], a.in[0]), feature(in[1], a.in[1]), feature(out[0], a.out[0]), op.Kernel, op.Stride, op.Pad)
		}, 0
	case ops.AvgPool3D:
		return func(a *args) {
			m.AvgPool(feature(in[0], a.in[0]), feature(out[0], a.out[0]), op.Kernel, op.Stride)
		}, 0
	case ops.AvgPool3DBackward:
		return func(a *args) {
			m.AvgPoolBackward(feature(in[0], a.in[0]), feature(out[0], a.out[0]), op.Kernel, op.Stride)
		}, 0
	case ops.GlobalAvgPool3D:
		return func(a *args) { m.GlobalAvgPool(feature(in[0], a.in[0]), in[0].Segments, a.out[0].F32) }, 0
	case ops.GlobalAvgPool3DBackward:
		return func(a *args) { m.GlobalAvgPoolBackward(a.in[0].F32, out[0].Segments, feature(out[0], a.out[0])) }, 0
	case ops.Concat:
		return func(a *args) {
			y := feature(out[0], a.out[0])
			first := feature(in[0], a.in[0])
			copyBlocks(m, first, y, 0)
			copyBlocks(m, feature(in[1], a.in[1]), y, first.CB)
		}, 0
	case ops.ChannelSlice:
		block, ok, _ := cut(in[0].Segments, op)
		if !ok {
			return nil, 0
		}
		return func(a *args) {
			x, y := feature(in[0], a.in[0]), feature(out[0], a.out[0])
			x = x.From(block)
			x.CB = y.CB
			copyBlocks(m, x, y, 0)
		}, 0
	}
	if in[0].Format != blocked {
		return nil, 0
	}
	return d.mapKernel(op, in, out)
}

// copyBlocks copies x to the blocks of y from the given one on, unless x lies there already.
func copyBlocks(m *kernels.Machine, x, y kernels.Map, block int) {
	to := y.From(block)
	if to.Vec().Same(x.Vec()) {
		return
	}
	voxels := kernels.Block * x.D * x.H * x.W
	m.Run(x.N*x.CB, func(_, i int) {
		n, cb := i/x.CB, i%x.CB
		to.Part(n*y.Stride+cb*voxels, voxels).Copy(x.Part(n*x.Stride+cb*voxels, voxels))
	})
}

// mapKernel binds what works element by element on feature maps.
func (d *Device) mapKernel(op graph.Op, in, out []engine.Layout) (run, int) {
	m := d.m
	switch op := op.(type) {
	case ops.ReLU:
		return func(a *args) { m.ReLU(feature(in[0], a.in[0]), feature(out[0], a.out[0])) }, 0
	case ops.ReLUBackward:
		return func(a *args) {
			m.ReLUBackward(feature(in[0], a.in[0]), feature(in[1], a.in[1]), feature(out[0], a.out[0]))
		}, 0
	case ops.Add:
		return func(a *args) {
			m.Add(feature(in[0], a.in[0]), feature(in[1], a.in[1]), feature(out[0], a.out[0]), false)
		}, 0
	case graph.Sum:
		return func(a *args) {
			y := feature(out[0], a.out[0])
			srcs := make([]kernels.Map, len(in))
			for i := range in {
				srcs[i] = feature(in[i], a.in[i])
			}
			if srcs[len(srcs)-1].Vec().Same(y.Vec()) { // two terms: the sum is the same either way
				srcs[0], srcs[len(srcs)-1] = srcs[len(srcs)-1], srcs[0]
			}
			m.Sum(y, srcs...)
		}, 0
	case ops.Dropout:
		return func(a *args) {
			m.DropoutMap(feature(in[0], a.in[0]), in[0].Segments, feature(out[0], a.out[0]), float32(op.P), dropoutKeys(op, a.info, in[0].Type.Shape[0]))
		}, 0
	case ops.DropPath:
		return func(a *args) {
			x, y := feature(in[0], a.in[0]), feature(out[0], a.out[0])
			dropPath(m, engine.PathFactors(op, a.info, x.N), x.Vec(), x.Stride, y.Vec(), y.Stride, kernels.Block*x.CB*x.D*x.H*x.W)
		}, 0
	}
	return nil, 0
}

func dropoutKeys(op ops.Dropout, info *engine.RunInfo, samples int) []uint64 {
	keys := make([]uint64, samples)
	for n := range keys {
		keys[n] = engine.DropoutKey(op, info, n)
	}
	return keys
}

// normCoefficients lays out scale and shift of a batch norm, half of work each. Padding lanes get zeros.
func normCoefficients(work []float32, index []int, stats, gamma, beta []float32, eps float64) (scale, shift []float32) {
	clear(work)
	c := len(index)
	scale, shift = work[:len(work)/2], work[len(work)/2:]
	for i, p := range index {
		s := float64(gamma[i]) / math.Sqrt(float64(stats[c+i])+eps)
		scale[p], shift[p] = float32(s), float32(float64(beta[i])-float64(stats[i])*s)
	}
	return scale, shift
}

// foldedNorm is the batch norm of an operation as the epilogue of its convolution, over n lanes of which index are
// channels. It lies in the first 2n floats of the workspace.
func foldedNorm(op ops.ConvNorm, a *args, index []int, n int) kernels.Epilogue {
	e := kernels.Epilogue{ReLU: op.ReLU}
	e.Scale, e.Shift = normCoefficients(a.work[:2*n], index, a.in[2].F32, a.in[3].F32, a.in[4].F32, op.Eps)
	return e
}

// convNormKernel binds a convolution with the batch norm behind it.
func (d *Device) convNormKernel(c *kernels.Conv, op ops.ConvNorm, in, out []engine.Layout) (run, int) {
	index, n := lanes(out[0])
	kept := c.Prepared(in[0].Type.Shape[0])
	return func(a *args) {
		e := foldedNorm(op, a, index, n)
		if op.Add {
			e.Add = ptr(feature(in[5], a.in[5]))
		}
		x, y := feature(in[0], a.in[0]), feature(out[0], a.out[0])
		if kept > 0 {
			d.m.ConvForwardPrepared(c, x, d.prepared(c, a), &e, y, a.work[2*n:])
			return
		}
		d.m.ConvForwardNorm(c, x, a.in[1].F32, &e, y, a.work[2*n:])
	}, 2*n + d.m.ConvForwardWorkspace(c, in[0].Type.Shape[0]) - kept
}

// convNormPoolKernel binds a convolution with the batch norm and the max-pool behind it.
func (d *Device) convNormPoolKernel(c *kernels.Conv, op ops.ConvNormPool, in, out []engine.Layout) (run, int) {
	index, n := lanes(out[0])
	kept := c.Prepared(in[0].Type.Shape[0])
	return func(a *args) {
		e := foldedNorm(op.ConvNorm, a, index, n)
		var prepared []float32
		if kept > 0 {
			prepared = d.prepared(c, a)
		}
		d.m.ConvForwardPool(c, feature(in[0], a.in[0]), a.in[1].F32, prepared, &e, kernels.Window(op.Pool), feature(out[0], a.out[0]), a.work[2*n:])
	}, 2*n + d.m.ConvPoolWorkspace(c, kernels.Window(op.Pool), feature(out[0], kernels.Vec{})) - kept
}

// keptOf returns the elements that the kernel of an operation keeps: what it makes of its weights.
func (d *Device) keptOf(op graph.Op, in, out []engine.Layout) int {
	switch op.(type) {
	case ops.Linear, ops.PatchEmbed:
		return d.linearKept(op, in)
	}
	if c, pass := d.convOf(op, in, out); c != nil && pass == kernels.Forward {
		return c.Prepared(in[0].Type.Shape[0])
	}
	return 0
}

// convOf returns the convolution of an operation and which pass of it that is; nil: it is none.
func (d *Device) convOf(op graph.Op, in, out []engine.Layout) (c *kernels.Conv, pass int) {
	switch op := op.(type) {
	case ops.Conv3D:
		return d.conv(in[0], in[1].Type.Shape, op.Stride, op.Pad), kernels.Forward
	case ops.ConvNorm:
		return d.inferenceConv(in[0], in[1].Type.Shape, op.Stride, op.Pad), kernels.Forward
	case ops.ConvNormPool:
		return d.inferenceConv(in[0], in[1].Type.Shape, op.Stride, op.Pad), kernels.Forward
	case ops.Conv3DBackwardData:
		return d.conv(out[0], in[0].Type.Shape, op.Stride, op.Pad), kernels.BackwardData
	case ops.Conv3DBackwardWeights:
		return d.conv(in[0], op.WShape, op.Stride, op.Pad), kernels.BackwardWeights
	}
	return nil, 0
}

// prepared returns what the convolution makes of its weights, made now unless that was kept.
func (d *Device) prepared(c *kernels.Conv, a *args) []float32 {
	if !a.fresh {
		d.m.PrepareForward(c, a.in[1].F32, a.kept)
	}
	return a.kept
}

// normKernel binds batch norm. Per-channel coefficients are computed in float64 and laid out as the map's
// physical channels in the workspace; padding lanes get zeros.
func (d *Device) normKernel(op graph.Op, in, out []engine.Layout) (run, int) {
	m := d.m
	x := in[0]
	if _, ok := op.(ops.BNFrozenBackward); ok {
		x = in[2]
	}
	ch := kernels.Channels(x.Segments)
	index, c := ch.Physical(), ch.Count()
	lanes := ch.Blocks() * kernels.Block
	switch op := op.(type) {
	case ops.BNStats:
		return func(a *args) { m.BNStats(feature(x, a.in[0]), ch, a.out[0].F32[:c], a.out[0].F32[c:2*c]) }, 0
	case ops.BNNorm:
		return func(a *args) {
			scale, shift := normCoefficients(a.work[:2*lanes], index, a.in[1].F32, a.in[2].F32, a.in[3].F32, op.Eps)
			var add *kernels.Map
			if op.Add {
				add = ptr(feature(in[4], a.in[4]))
			}
			m.BNNorm(feature(x, a.in[0]), scale, shift, add, op.ReLU, feature(out[0], a.out[0]))
		}, 2 * lanes
	case ops.BNReduce:
		return func(a *args) {
			invstd := a.work[:c]
			for i := range invstd {
				invstd[i] = float32(1 / math.Sqrt(float64(a.in[1].F32[c+i])+op.Eps))
			}
			m.BNReduce(feature(x, a.in[0]), feature(in[2], a.in[2]), maskOf(in, a, 3, op.Masked), ch,
				a.in[1].F32[:c], invstd, a.out[0].F32[:c], a.out[0].F32[c:2*c])
		}, c
	case ops.BNBackward:
		s := x.Type.Shape
		count := float64(s[0] * s[2] * s[3] * s[4])
		return func(a *args) {
			k := bnCoefficients(a.work[:4*lanes], lanes, index, a.in[1].F32, a.in[2].F32, a.in[3].F32, op.Eps, count)
			m.BNBackward(feature(x, a.in[0]), feature(in[4], a.in[4]), maskOf(in, a, 5, op.Masked), k[0], k[1], k[2], k[3],
				feature(out[0], a.out[0]), false)
		}, 4 * lanes
	case ops.BNFrozenBackward:
		return func(a *args) {
			scale := a.work[:lanes]
			clear(scale)
			for i, p := range index {
				scale[p] = float32(float64(a.in[1].F32[i]) / math.Sqrt(float64(a.in[0].F32[c+i])+op.Eps))
			}
			dy := feature(x, a.in[2])
			m.BNBackward(dy, dy, maskOf(in, a, 3, op.Masked), scale, nil, nil, nil, feature(out[0], a.out[0]), false)
		}, lanes
	}
	return nil, 0
}

func ptr(m kernels.Map) *kernels.Map { return &m }

// maskOf is the fused ReLU's output, input number i, if there is one.
func maskOf(in []engine.Layout, a *args, i int, on bool) *kernels.Map {
	if !on {
		return nil
	}
	return ptr(feature(in[i], a.in[i]))
}
