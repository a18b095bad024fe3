package ops

// ConvNorm is a convolution, a batch norm with given statistics and perhaps a sum and a ReLU in one, which the engine
// makes of them: (x, w, stats (2, C), γ (C), β (C)[, add]) → like the convolution. Nothing is differentiated through it.
type ConvNorm struct {
	Stride, Pad [3]int
	Eps         float64
	Add         bool // a sixth input is added
	ReLU        bool // the result is rectified
}

// Kind returns "conv3d_bn".
func (ConvNorm) Kind() string { return "conv3d_bn" }

// Infer gives the convolution's shape.
func (o ConvNorm) Infer(in []typ) (typ, error) {
	return Conv3D{Stride: o.Stride, Pad: o.Pad}.Infer(in[:2])
}

// Grad is not needed: the engine makes it where there is no backward part.
func (ConvNorm) Grad([]*value, *value, *value) []*value { return nil }

// ConvNormPool is a ConvNorm without a sum and a max-pool of its result in one: (x, w, stats, γ, β) → the pooled map.
type ConvNormPool struct {
	ConvNorm
	Pool MaxPool3D
}

// Kind returns "conv3d_bn_pool".
func (ConvNormPool) Kind() string { return "conv3d_bn_pool" }

// Infer gives the size of the convolution, pooled.
func (o ConvNormPool) Infer(in []typ) (typ, error) {
	y, err := o.ConvNorm.Infer(in)
	if err != nil {
		return typ{}, err
	}
	return o.Pool.Infer([]typ{y})
}
