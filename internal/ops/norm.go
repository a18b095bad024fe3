package ops

import (
	"fmt"

	"github.com/ctclass/ctclass/internal/graph"
)

// BNStats is the batch mean and biased variance of each channel: (N, C, D, H, W) → (2, C).
type BNStats struct{}

// Kind returns "bn_stats".
func (BNStats) Kind() string { return "bn_stats" }

// Infer refuses one value per channel, of which no variance can be taken.
func (BNStats) Infer(in []typ) (typ, error) {
	if err := wantVolume(in[0], "the input of a batch norm"); err != nil {
		return typ{}, err
	}
	s := in[0].Shape
	if in[0].Elements() == s[1] {
		return typ{}, fmt.Errorf("batch norm cannot train on one value per channel (batch of 1, map of 1×1×1): use a larger batch or volume")
	}
	return dense(2, s[1]), nil
}

// Grad is nil: BNNorm differentiates through the statistics itself.
func (BNStats) Grad([]*value, *value, *value) []*value { return []*value{nil} }

// NotDifferentiable says that gradients do not flow through the statistics; see BNNorm.
func (BNStats) NotDifferentiable(int) bool { return true }

// BNRunning moves a running mean or variance towards the batch's: (old (C), stats (2, C)) → (C),
// new = (1 − Momentum)·old + Momentum·batch, the variance unbiased: n/(n−1).
type BNRunning struct {
	Momentum float64
	Count    int  // n, values per channel in the batch
	Variance bool // the variance instead of the mean
}

// Kind returns "bn_running".
func (BNRunning) Kind() string { return "bn_running" }

// Infer gives (C).
func (BNRunning) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad is nil: running statistics are not part of the loss.
func (BNRunning) Grad([]*value, *value, *value) []*value { return []*value{nil, nil} }

// BNNorm normalises with given statistics: (x, stats (2, C), γ (C), β (C)) → γ·(x − mean)/√(var + Eps) + β,
// then optionally adds a value of x's shape (fused residual) and rectifies.
// Frozen says that stats do not depend on x; otherwise the gradient flows through them.
type BNNorm struct {
	Eps    float64
	Frozen bool
	Add    bool // a fifth input is added (set by fusion)
	ReLU   bool // the result is rectified (set by fusion)
}

// Kind returns "bn_norm".
func (BNNorm) Kind() string { return "bn_norm" }

// Infer gives x's shape.
func (BNNorm) Infer(in []typ) (typ, error) {
	if err := wantVolume(in[0], "the input of a batch norm"); err != nil {
		return typ{}, err
	}
	if c := in[0].Shape[1]; in[2].Elements() != c {
		return typ{}, fmt.Errorf("batch norm of %d channels got %d", in[2].Elements(), c)
	}
	return in[0], nil
}

// Grad builds one reduction, shared by the gradients of x, γ and β.
func (o BNNorm) Grad(in []*value, _, dout *value) []*value {
	g := dout.Graph()
	x, stats, gamma := in[0], in[1], in[2]
	c := x.Dim(1)
	red := g.Apply(BNReduce{Eps: o.Eps}, x, stats, dout)
	dbeta := g.Apply(Part{Offset: 0, Shape: []int{c}}, red)
	dgamma := g.Apply(Part{Offset: c, Shape: []int{c}}, red)
	var dx *value
	if o.Frozen {
		dx = g.Apply(BNFrozenBackward{Eps: o.Eps}, stats, gamma, dout)
	} else {
		dx = g.Apply(BNBackward{Eps: o.Eps}, x, stats, gamma, red, dout)
	}
	return []*value{dx, nil, dgamma, dbeta}
}

// NotDifferentiable is true for the statistics.
func (BNNorm) NotDifferentiable(input int) bool { return input == 1 }

// BNReduce gives the sums of batch norm's backward: (x, stats, dy) → (2, C), row 0 Σdy (dβ), row 1
// Σdy·(x − mean)/√(var + Eps) (dγ). With Masked, a fourth input y masks dy where y ≤ 0 (fused ReLU).
type BNReduce struct {
	Eps    float64
	Masked bool
}

// Kind returns "bn_reduce".
func (BNReduce) Kind() string { return "bn_reduce" }

// Infer gives (2, C).
func (BNReduce) Infer(in []typ) (typ, error) { return dense(2, in[0].Shape[1]), nil }

// Grad is not needed: nothing here is differentiated twice.
func (BNReduce) Grad([]*value, *value, *value) []*value { return nil }

// BNBackward is batch norm's gradient in training: (x, stats, γ, reduce, dy) → dx; Masked as in BNReduce.
type BNBackward struct {
	Eps    float64
	Masked bool
}

// Kind returns "bn_dx".
func (BNBackward) Kind() string { return "bn_dx" }

// Infer gives x's shape.
func (BNBackward) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad is not needed: nothing here is differentiated twice.
func (BNBackward) Grad([]*value, *value, *value) []*value { return nil }

// BNFrozenBackward is batch norm's gradient with fixed statistics: (stats, γ, dy) → dx.
type BNFrozenBackward struct {
	Eps    float64
	Masked bool
}

// Kind returns "bn_frozen_dx".
func (BNFrozenBackward) Kind() string { return "bn_frozen_dx" }

// Infer gives dy's shape.
func (BNFrozenBackward) Infer(in []typ) (typ, error) { return in[2], nil }

// Grad is not needed: nothing here is differentiated twice.
func (BNFrozenBackward) Grad([]*value, *value, *value) []*value { return nil }

// Stack2 puts two vectors (C) together as the rows of (2, C).
type Stack2 struct{}

// Kind returns "stack2".
func (Stack2) Kind() string { return "stack2" }

// Infer gives (2, C).
func (Stack2) Infer(in []typ) (typ, error) { return dense(2, in[0].Elements()), nil }

// Grad is nil: only statistics are stacked.
func (Stack2) Grad([]*value, *value, *value) []*value { return []*value{nil, nil} }

// NotDifferentiable is true: only statistics are stacked.
func (Stack2) NotDifferentiable(int) bool { return true }

// Part is a contiguous part of a dense value: elements from Offset on, with a shape of their own.
type Part struct {
	Offset int
	Shape  []int
}

// Kind returns "part".
func (Part) Kind() string { return "part" }

// Infer checks that the part lies inside.
func (o Part) Infer(in []typ) (typ, error) {
	t := dense(o.Shape...)
	if in[0].Class != graph.Dense || o.Offset+t.Elements() > in[0].Elements() {
		return typ{}, fmt.Errorf("part %v at %d of %v", o.Shape, o.Offset, in[0])
	}
	return t, nil
}

// Grad is not needed: parts only occur in backward parts.
func (Part) Grad([]*value, *value, *value) []*value { return nil }

// LayerNorm normalises the last axis: (x (…, E), γ (E), β (E)) → γ·(x − mean)/√(var + Eps) + β.
type LayerNorm struct{ Eps float64 }

// Kind returns "layer_norm".
func (LayerNorm) Kind() string { return "layer_norm" }

// Infer gives x's shape.
func (LayerNorm) Infer(in []typ) (typ, error) {
	s := in[0].Shape
	if in[0].Class != graph.Dense || len(s) == 0 || s[len(s)-1] != in[1].Elements() {
		return typ{}, fmt.Errorf("layer norm of %d features got %v", in[1].Elements(), in[0])
	}
	return in[0], nil
}

// Grad builds the gradients of x, γ and β.
func (o LayerNorm) Grad(in []*value, _, dout *value) []*value {
	g := dout.Graph()
	e := in[1].Elements()
	red := g.Apply(LayerNormReduce(o), in[0], dout)
	return []*value{
		g.Apply(LayerNormBackward(o), in[0], in[1], dout),
		g.Apply(Part{Offset: e, Shape: []int{e}}, red),
		g.Apply(Part{Offset: 0, Shape: []int{e}}, red),
	}
}

// LayerNormBackward is layer norm's gradient: (x, γ, dy) → dx. The engine may let it give LayerNormReduce's
// result as a second output.
type LayerNormBackward struct{ Eps float64 }

// Kind returns "layer_norm_dx".
func (LayerNormBackward) Kind() string { return "layer_norm_dx" }

// Infer gives x's shape.
func (LayerNormBackward) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad is not needed: nothing here is differentiated twice.
func (LayerNormBackward) Grad([]*value, *value, *value) []*value { return nil }

// LayerNormReduce gives (2, E): row 0 Σdy (dβ), row 1 Σdy·(x − mean)/√(var + Eps) (dγ), from (x, dy).
type LayerNormReduce struct{ Eps float64 }

// Kind returns "layer_norm_reduce".
func (LayerNormReduce) Kind() string { return "layer_norm_reduce" }

// Infer gives (2, E).
func (LayerNormReduce) Infer(in []typ) (typ, error) {
	s := in[0].Shape
	return dense(2, s[len(s)-1]), nil
}

// Grad is not needed: nothing here is differentiated twice.
func (LayerNormReduce) Grad([]*value, *value, *value) []*value { return nil }
