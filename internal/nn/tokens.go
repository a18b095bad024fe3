package nn

import (
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// PatchEmbed is a convolution with bias whose kernel and stride are the patch:
// (N, C, D, H, W) → tokens (N, T, out) in d, h, w order, w fastest. Weight and bias start uniform in
// ±1/√fan_in. The patch must divide the volume.
func (b *Builder) PatchEmbed(name string, x *graph.Value, out int, patch [3]int) (y *graph.Value) {
	b.In(name, func() {
		c := x.Dim(1)
		init := UniformFan(c * patch[0] * patch[1] * patch[2])
		weight := b.Parameter("weight", init, out, c, patch[0], patch[1], patch[2])
		bias := b.Parameter("bias", init, out)
		y = b.Apply(ops.Linear{}, b.Apply(ops.Patches{Size: patch}, x), weight, bias)
	})
	return y
}

// EmbedTokens prepends the parameter cls (1, 1, E) to tokens (N, T, E) as token 0 and adds the parameter pos
// (1, T+1, E): (N, T+1, E).
func (b *Builder) EmbedTokens(cls, pos string, x *graph.Value, init Init) *graph.Value {
	t, e := x.Dim(1), x.Dim(2)
	return b.Apply(ops.EmbedTokens{}, x, b.Parameter(cls, init, 1, 1, e), b.Parameter(pos, init, 1, t+1, e))
}

// FirstToken takes token 0: (N, T, E) → (N, E).
func (b *Builder) FirstToken(x *graph.Value) *graph.Value { return b.Apply(ops.FirstToken{}, x) }

// Attention is softmax(q·kᵀ/√d)·v for each head: (N, T, 3E), q | k | v, head after head inside each →
// (N, T, E).
func (b *Builder) Attention(qkv *graph.Value, heads int) *graph.Value {
	return b.Apply(ops.Attention{Heads: heads}, qkv)
}
