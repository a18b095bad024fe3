package cpu

import (
	"math"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/ops"
)

// lanes gives each logical channel's place among the physical ones of a map, and how many of those there are.
func lanes(l engine.Layout) (index []int, n int) {
	ch := kernels.Channels(l.Segments)
	return ch.Physical(), ch.Blocks() * kernels.Block
}

// normPool prepares the pass over x with the arguments (x, stats, γ, β, …): scale and shift take the first
// 2·lanes floats of the workspace, the rest of which it returns.
func (d *Device) normPool(op ops.NormPool, x engine.Layout, a *args) (*kernels.NormPool, []float32) {
	index, n := lanes(x)
	scale, shift := normCoefficients(a.work[:2*n], index, a.in[1].F32, a.in[2].F32, a.in[3].F32, op.Eps)
	return &kernels.NormPool{Scale: scale, Shift: shift, Kernel: op.Kernel, Stride: op.Stride, Pad: op.Pad}, a.work[2*n:]
}

func (d *Device) normPoolWorkspace(op ops.NormPool, x engine.Layout) int {
	s := x.Type.Shape
	return d.m.NormPoolWorkspace(op.Kernel, s[3], s[4])
}

func (d *Device) normPoolKernel(op ops.NormPool, in, out []engine.Layout) (run, int) {
	x := in[0]
	_, n := lanes(x)
	return func(a *args) {
		p, work := d.normPool(op, x, a)
		d.m.NormPoolForward(p, feature(x, a.in[0]), feature(out[0], a.out[0]), work)
	}, 2*n + d.normPoolWorkspace(op, x)
}

func (d *Device) normPoolReduceKernel(op ops.NormPoolReduce, in []engine.Layout) (run, int) {
	x := in[0]
	index, n := lanes(x)
	c := len(index)
	return func(a *args) {
		p, work := d.normPool(ops.NormPool(op), x, a)
		invstd := work[:c]
		for i := range invstd {
			invstd[i] = float32(1 / math.Sqrt(float64(a.in[1].F32[c+i])+op.Eps))
		}
		d.m.NormPoolReduce(p, feature(x, a.in[0]), feature(in[4], a.in[4]), kernels.Channels(x.Segments),
			a.in[1].F32[:c], invstd, a.out[0].F32[:c], a.out[0].F32[c:2*c], work[n:])
	}, 3*n + d.normPoolWorkspace(ops.NormPool(op), x)
}

func (d *Device) normPoolBackwardKernel(op ops.NormPoolBackward, in, out []engine.Layout) (run, int) {
	x := in[0]
	index, n := lanes(x)
	s := x.Type.Shape
	count := float64(s[0] * s[2] * s[3] * s[4])
	return func(a *args) {
		p, work := d.normPool(ops.NormPool(op), x, a)
		k := bnCoefficients(work[:4*n], n, index, a.in[1].F32, a.in[2].F32, a.in[5].F32, op.Eps, count)
		d.m.NormPoolBackward(p, feature(x, a.in[0]), feature(in[4], a.in[4]), k[0], k[1], k[2], k[3], feature(out[0], a.out[0]), work[4*n:])
	}, 6*n + d.normPoolWorkspace(ops.NormPool(op), x)
}

// bnCoefficients lays out what BNBackward multiplies with: scale, kx, mean and dmean, of n lanes each, from the
// statistics and the reduction (2, C) over count values a channel. Padding lanes get zeros.
func bnCoefficients(work []float32, n int, index []int, stats, gamma, red []float32, eps, count float64) [4][]float32 {
	clear(work)
	c := len(index)
	k := [4][]float32{work[:n], work[n : 2*n], work[2*n : 3*n], work[3*n : 4*n]}
	for i, p := range index {
		inv := 1 / math.Sqrt(float64(stats[c+i])+eps)
		g := float64(gamma[i]) * inv
		k[0][p], k[1][p] = float32(g), float32(-g*inv*float64(red[c+i])/count)
		k[2][p], k[3][p] = stats[i], float32(float64(red[i])/count)
	}
	return k
}
