package ops

import "fmt"

// ReLU is max(x, 0).
type ReLU struct{}

// Kind returns "relu".
func (ReLU) Kind() string { return "relu" }

// Infer gives x's shape.
func (ReLU) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad masks the gradient by the output, which backward keeps anyway as the next layer's input.
func (ReLU) Grad(_ []*value, out, dout *value) []*value {
	return []*value{dout.Graph().Apply(ReLUBackward{}, out, dout)}
}

// ReLUBackward is (y, dy) → dy where y > 0, else 0.
type ReLUBackward struct{}

// Kind returns "relu_dx".
func (ReLUBackward) Kind() string { return "relu_dx" }

// Infer gives dy's shape.
func (ReLUBackward) Infer(in []typ) (typ, error) { return in[1], nil }

// Grad is not needed: nothing here is differentiated twice.
func (ReLUBackward) Grad([]*value, *value, *value) []*value { return nil }

// Add is a + b, of one shape.
type Add struct{}

// Kind returns "add".
func (Add) Kind() string { return "add" }

// Infer requires one shape.
func (Add) Infer(in []typ) (typ, error) {
	if !in[0].Equal(in[1]) {
		return typ{}, fmt.Errorf("cannot add shapes %v and %v", in[0], in[1])
	}
	return in[0], nil
}

// Grad passes the gradient on to both.
func (Add) Grad(_ []*value, _, dout *value) []*value { return []*value{dout, dout} }

// Scale is By·x.
type Scale struct{ By float64 }

// Kind returns "scale".
func (Scale) Kind() string { return "scale" }

// Infer gives x's shape.
func (Scale) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad scales the gradient.
func (o Scale) Grad(_ []*value, _, dout *value) []*value {
	return []*value{dout.Graph().Apply(o, dout)}
}

// GELU is x·Φ(x) with the exact normal distribution function (erf), not the tanh approximation.
type GELU struct{}

// Kind returns "gelu".
func (GELU) Kind() string { return "gelu" }

// Infer gives x's shape.
func (GELU) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad needs the input.
func (GELU) Grad(in []*value, _, dout *value) []*value {
	return []*value{dout.Graph().Apply(GELUBackward{}, in[0], dout)}
}

// GELUBackward is (x, dy) → dx.
type GELUBackward struct{}

// Kind returns "gelu_dx".
func (GELUBackward) Kind() string { return "gelu_dx" }

// Infer gives x's shape.
func (GELUBackward) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad is not needed: nothing here is differentiated twice.
func (GELUBackward) Grad([]*value, *value, *value) []*value { return nil }

// Dropout zeroes elements with probability P and scales the others by 1/(1−P). The mask is drawn from a
// counter-based stream keyed by the run's seed and epoch, the sample, Key and the element, so that
// applying the same op to the gradient, or recomputing it, replays the mask.
type Dropout struct {
	P   float64
	Key string // the layer's name
}

// Kind returns "dropout".
func (Dropout) Kind() string { return "dropout" }

// Infer gives x's shape; the first axis counts samples.
func (Dropout) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad applies the same mask.
func (o Dropout) Grad(_ []*value, _, dout *value) []*value {
	return []*value{dout.Graph().Apply(o, dout)}
}

// DropPath zeroes whole samples of a residual branch with probability P and scales the others by 1/(1−P):
// stochastic depth (Huang et al. 2016). Which samples is drawn as for Dropout, so that the gradient and a
// recomputation see the same ones.
type DropPath struct {
	P   float64
	Key string // the layer's name
}

// Kind returns "drop_path".
func (DropPath) Kind() string { return "drop_path" }

// Infer gives x's shape; the first axis counts samples.
func (DropPath) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad drops the same samples.
func (o DropPath) Grad(_ []*value, _, dout *value) []*value {
	return []*value{dout.Graph().Apply(o, dout)}
}
