package ops

// NormPool is a batch norm with the batch's statistics, a ReLU and a max-pool in one, which the engine makes
// of the three: (x, stats (2, C), γ (C), β (C)) → the pooled map. What lies between is never stored.
type NormPool struct {
	Eps                 float64
	Kernel, Stride, Pad [3]int
}

// Kind returns "bn_pool".
func (NormPool) Kind() string { return "bn_pool" }

// Infer gives the windowed size.
func (o NormPool) Infer(in []typ) (typ, error) { return pooled(in[0], o.Kernel, o.Stride, o.Pad) }

// Grad is not needed: the engine fuses after differentiation.
func (NormPool) Grad([]*value, *value, *value) []*value { return nil }

// NormPoolReduce gives the sums of BNReduce: (x, stats, γ, β, dy) → (2, C), dy the gradient of the pooled map.
type NormPoolReduce NormPool

// Kind returns "bn_pool_reduce".
func (NormPoolReduce) Kind() string { return "bn_pool_reduce" }

// Infer gives (2, C).
func (NormPoolReduce) Infer(in []typ) (typ, error) { return dense(2, in[0].Shape[1]), nil }

// Grad is not needed: nothing here is differentiated twice.
func (NormPoolReduce) Grad([]*value, *value, *value) []*value { return nil }

// NormPoolBackward is the gradient of x: (x, stats, γ, β, dy, reduce) → dx, reduce the result of NormPoolReduce.
type NormPoolBackward NormPool

// Kind returns "bn_pool_dx".
func (NormPoolBackward) Kind() string { return "bn_pool_dx" }

// Infer gives x's shape.
func (NormPoolBackward) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad is not needed: nothing here is differentiated twice.
func (NormPoolBackward) Grad([]*value, *value, *value) []*value { return nil }
