package ops

// The operations here change state. They are appended to a compiled program by the engine and are never
// part of a graph that is differentiated.

// stateOp gives the shape of the first input and no gradient.
type stateOp struct{}

// Infer gives the first input's shape.
func (stateOp) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad is not needed: state changes are not differentiated.
func (stateOp) Grad([]*value, *value, *value) []*value { return nil }

// Accumulate adds a gradient to its accumulator (acc, g), or overwrites it in the first micro-batch of a step.
type Accumulate struct{ stateOp }

// Kind returns "accumulate".
func (Accumulate) Kind() string { return "accumulate" }

// ClipFactor is min(1, MaxNorm/(‖g‖ + 1e-6)) over the global 2-norm of all inputs, as in PyTorch's
// clip_grad_norm_: (g…) → (1). It is NaN where the norm is not a finite number: no update changes anything then.
type ClipFactor struct {
	stateOp
	MaxNorm float64 // +Inf: no clipping
}

// Kind returns "clip_factor".
func (ClipFactor) Kind() string { return "clip_factor" }

// Update is what every optimiser's change of a parameter has. Its inputs are the parameter w, the optimiser's
// states, the average of w where there is one, the gradient and, if Clipped, the clip factor; its outputs are w,
// the states and the average. A gradient that is not finite is not applied.
type Update struct {
	stateOp
	Decay   float64 // weight decay
	Rate    float64 // multiplies the learning rate of the step
	Clipped bool
	// Average is the decay of an exponential moving average of w; 0: there is none. In step n it is
	// min(Average, (1+n)/(10+n)), so that the first weights are soon forgotten.
	Average float64
}

// AverageDecay is the decay of the average in an optimiser step (from 1).
func (u Update) AverageDecay(step int) float64 {
	n := float64(step)
	return min(u.Average, (1+n)/(10+n))
}

// AdamW is one step of Adam with decoupled weight decay (Loshchilov & Hutter 2019), in the arithmetic of
// PyTorch; its states are the moments m and v.
type AdamW struct {
	Update
	Beta1, Beta2, Eps float64
}

// Kind returns "adamw".
func (AdamW) Kind() string { return "adamw" }

// SGD is one step of gradient descent with Nesterov's momentum in PyTorch's form: the weight decay is part of
// the gradient. Its state is the momentum buffer.
type SGD struct {
	Update
	Momentum float64
}

// Kind returns "sgd".
func (SGD) Kind() string { return "sgd" }

// Lion is one step of the sign of an interpolated momentum with decoupled weight decay (Chen et al. 2023,
// "Symbolic discovery of optimization algorithms", algorithm 2); its state is the momentum m.
type Lion struct {
	Update
	Beta1, Beta2 float64
}

// Kind returns "lion".
func (Lion) Kind() string { return "lion" }
