package nn

import (
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// Eps of batch norm and layer norm, and the momentum of running statistics.
const (
	normEps  = 1e-5
	momentum = 0.1
)

func cube(n int) [3]int { return [3]int{n, n, n} }

// Conv3D is a convolution without bias with a cubic kernel: (N, C, D, H, W) → (N, out, D', H', W').
func (b *Builder) Conv3D(name string, x *graph.Value, out, kernel, stride, pad int, init Init) (y *graph.Value) {
	b.In(name, func() {
		w := b.Parameter("weight", init, out, x.Dim(1), kernel, kernel, kernel)
		y = b.Apply(ops.Conv3D{Stride: cube(stride), Pad: cube(pad)}, x, w)
	})
	return y
}

// BatchNorm normalises each channel over batch and voxels, in training by the batch's statistics, which
// move the running ones; otherwise, and where it is frozen, by the running ones. gamma is the initial scale.
func (b *Builder) BatchNorm(name string, x *graph.Value, gamma float32) (y *graph.Value) {
	b.In(name, func() {
		c := x.Dim(1)
		weight := b.Parameter("weight", Constant(gamma), c)
		bias := b.Parameter("bias", Constant(0), c)
		mean := b.Buffer("running_mean", Constant(0), c)
		variance := b.Buffer("running_var", Constant(1), c)
		if !b.Training || b.frozen(weight) && b.frozen(bias) {
			stats := b.Apply(ops.Stack2{}, mean, variance)
			y = b.Apply(ops.BNNorm{Eps: normEps, Frozen: true}, x, stats, weight, bias)
			return
		}
		stats := b.Apply(ops.BNStats{}, x)
		n := x.Elements() / c
		b.SetUpdate(mean, b.Apply(ops.BNRunning{Momentum: momentum, Count: n}, mean, stats))
		b.SetUpdate(variance, b.Apply(ops.BNRunning{Momentum: momentum, Count: n, Variance: true}, variance, stats))
		y = b.Apply(ops.BNNorm{Eps: normEps}, x, stats, weight, bias)
	})
	return y
}

// ReLU is max(x, 0).
func (b *Builder) ReLU(x *graph.Value) *graph.Value { return b.Apply(ops.ReLU{}, x) }

// Add is a + b.
func (b *Builder) Add(x, y *graph.Value) *graph.Value { return b.Apply(ops.Add{}, x, y) }

// Concat joins two volumes along their channels.
func (b *Builder) Concat(x, y *graph.Value) *graph.Value { return b.Apply(ops.Concat{}, x, y) }

// MaxPool3D takes maxima over cubic windows.
func (b *Builder) MaxPool3D(x *graph.Value, kernel, stride, pad int) *graph.Value {
	return b.Apply(ops.MaxPool3D{Kernel: cube(kernel), Stride: cube(stride), Pad: cube(pad)}, x)
}

// AvgPool3D averages over cubic windows without padding, rounding sizes down.
func (b *Builder) AvgPool3D(x *graph.Value, kernel, stride int) *graph.Value {
	return b.Apply(ops.AvgPool3D{Kernel: cube(kernel), Stride: cube(stride)}, x)
}

// GlobalAvgPool averages over the whole map: (N, C, D, H, W) → (N, C).
func (b *Builder) GlobalAvgPool(x *graph.Value) *graph.Value {
	return b.Apply(ops.GlobalAvgPool3D{}, x)
}

// Linear is x·wᵀ + bias over the last axis. A nil init is PyTorch's default, uniform ±1/√fan_in for both.
func (b *Builder) Linear(name string, x *graph.Value, out int, weight, bias Init) (y *graph.Value) {
	b.In(name, func() {
		in := x.Dim(len(x.Shape) - 1)
		if weight == nil {
			weight = UniformFan(in)
		}
		if bias == nil {
			bias = UniformFan(in)
		}
		y = b.Apply(ops.Linear{}, x, b.Parameter("weight", weight, out, in), b.Parameter("bias", bias, out))
	})
	return y
}

// Dropout zeroes elements with probability p in training; its mask is keyed by the layer's full name.
func (b *Builder) Dropout(name string, x *graph.Value, p float64) (y *graph.Value) {
	if !b.Training || p == 0 {
		return x
	}
	b.In(name, func() { y = b.Apply(ops.Dropout{P: p, Key: b.Scope()}, x) })
	return y
}

// DropPath leaves a residual branch out for whole samples, with probability p in training; which ones is keyed by
// the layer's full name.
func (b *Builder) DropPath(name string, x *graph.Value, p float64) (y *graph.Value) {
	if !b.Training || p == 0 {
		return x
	}
	b.In(name, func() { y = b.Apply(ops.DropPath{P: p, Key: b.Scope()}, x) })
	return y
}

// LayerNorm normalises the last axis.
func (b *Builder) LayerNorm(name string, x *graph.Value) (y *graph.Value) {
	b.In(name, func() {
		e := x.Dim(len(x.Shape) - 1)
		y = b.Apply(ops.LayerNorm{Eps: normEps}, x, b.Parameter("weight", Constant(1), e), b.Parameter("bias", Constant(0), e))
	})
	return y
}

// GELU is x·Φ(x).
func (b *Builder) GELU(x *graph.Value) *graph.Value { return b.Apply(ops.GELU{}, x) }
