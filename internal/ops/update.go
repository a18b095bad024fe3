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
// clip_grad_norm_: (g…) → (1).
type ClipFactor struct {
	stateOp
	MaxNorm float64
}

// Kind returns "clip_factor".
func (ClipFactor) Kind() string { return "clip_factor" }

// AdamW is one step of Adam with decoupled weight decay (Loshchilov & Hutter 2019), in the arithmetic of
// PyTorch: inputs w, m, v, the gradient and, if Clipped, the clip factor; outputs w, m, v.
type AdamW struct {
	stateOp
	Beta1, Beta2, Eps, Decay float64
	Clipped                  bool
}

// Kind returns "adamw".
func (AdamW) Kind() string { return "adamw" }
