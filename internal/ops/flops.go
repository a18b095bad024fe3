package ops

import "github.com/ctclass/ctclass/internal/graph"

// FLOP counts the floating-point operations of the forward convolutions, linear layers and attention among
// the values, a multiplication and an addition as two. Everything else costs little beside them. A
// convolution's padding counts as if it were data, and the softmax is left out, as is usual.
func FLOP(values []*graph.Value) int64 {
	var sum int64
	for _, v := range values {
		switch op := v.Op.(type) {
		case Conv3D, Linear:
			w := v.In[1] // (out, …): each element of the output is a product with one row of it
			sum += 2 * int64(v.Elements()) * int64(w.Elements()/w.Dim(0))
		case Attention:
			n, t, e := int64(v.Dim(0)), int64(v.Dim(1)), int64(v.Dim(2))
			perHead := 2 * t * t * (e / int64(op.Heads)) // q·kᵀ, and as much for the weighted sum of v
			sum += n * int64(op.Heads) * 2 * perHead
		}
	}
	return sum
}
