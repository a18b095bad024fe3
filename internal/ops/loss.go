package ops

import "fmt"

// LossFunc is the mathematics of a loss: it works on one sample's logits in float64.
type LossFunc interface {
	// Name is the loss's name in the registry.
	Name() string
	// Targets is the number of target columns for the given number of classes.
	Targets(classes int) int
	// Row returns the sum of the loss over one sample's valid labels (a NaN target is a missing label) and,
	// if grad is not nil, writes its derivative with respect to each logit there.
	Row(logits, targets, grad []float64) float64
}

// Loss sums a loss over all samples and multiplies it by a scale, the reciprocal of the number of valid
// labels for a mean: (logits (N, C), targets (N, T), scale (1)) → scalar.
type Loss struct{ F LossFunc }

// Kind returns "loss".
func (Loss) Kind() string { return "loss" }

// Infer gives a scalar.
func (o Loss) Infer(in []typ) (typ, error) {
	if err := rank(in[0], 2, "the logits of a loss"); err != nil {
		return typ{}, err
	}
	n, c := in[0].Shape[0], in[0].Shape[1]
	if t := in[1].Shape; len(t) != 2 || t[0] != n || t[1] != o.F.Targets(c) {
		return typ{}, fmt.Errorf("%s on logits %v wants targets of shape [%d %d], got %v", o.F.Name(), in[0].Shape, n, o.F.Targets(c), t)
	}
	return dense(), nil
}

// Grad differentiates with respect to the logits only.
func (o Loss) Grad(in []*value, _, dout *value) []*value {
	return []*value{dout.Graph().Apply(LossBackward(o), in[0], in[1], in[2], dout), nil, nil}
}

// NotDifferentiable is true for targets and scale.
func (Loss) NotDifferentiable(input int) bool { return input > 0 }

// LossBackward is the gradient of Loss: (logits, targets, scale, dout) → dlogits.
type LossBackward struct{ F LossFunc }

// Kind returns "loss_dx".
func (LossBackward) Kind() string { return "loss_dx" }

// Infer gives the logits' shape.
func (LossBackward) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad is not needed: nothing here is differentiated twice.
func (LossBackward) Grad([]*value, *value, *value) []*value { return nil }
