package ops

import "github.com/ctclass/ctclass/internal/graph"

// FLOP counts the floating-point operations of the values, as OpFLOP does.
func FLOP(values []*graph.Value) int64 {
	var sum int64
	for _, v := range values {
		if v.Op == nil {
			continue
		}
		in := make([]graph.Type, len(v.In))
		for i, k := range v.In {
			in[i] = k.Type
		}
		sum += OpFLOP(v.Op, in, v.Type)
	}
	return sum
}

// OpFLOP counts the floating-point operations of a convolution, linear layer or attention, forward or
// backward, a multiplication and an addition as two. Everything else costs little beside them and counts as
// nothing. A convolution's padding counts as if it were data, and the softmax is left out, as is usual.
func OpFLOP(op graph.Op, in []graph.Type, out graph.Type) int64 {
	product := func(out, w graph.Type) int64 { // each element of out is a product with one row of w (out, …)
		return 2 * int64(out.Elements()) * int64(w.Elements()/w.Shape[0])
	}
	attention := func(o graph.Type, heads, products int) int64 { // products of (T, d) and (d, T) in each head
		n, t, d := int64(o.Shape[0]), int64(o.Shape[1]), int64(o.Shape[2]/heads)
		return n * int64(heads) * int64(products) * 2 * t * t * d
	}
	switch op := op.(type) {
	case Conv3D, ConvNorm, Linear, PatchEmbed:
		return product(out, in[1])
	case ConvNormPool:
		if between, err := op.ConvNorm.Infer(in); err == nil {
			return product(between, in[1])
		}
	case Conv3DBackwardData: // (w, dy)
		return product(in[1], in[0])
	case Conv3DBackwardWeights: // (x, dy)
		return product(in[1], graph.Type{Shape: op.WShape})
	case LinearBackwardData: // (dy, w)
		return product(in[0], in[1])
	case LinearBackwardWeights: // (dy, x)
		return product(in[0], out)
	case Attention:
		return attention(out, op.Heads, 2)
	case AttentionBackward: // (qkv, out, lse, dout); the scores are computed again
		return attention(in[1], op.Heads, 5)
	}
	return 0
}
