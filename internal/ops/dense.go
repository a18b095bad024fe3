package ops

import (
	"fmt"
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
)

// Linear is x·wᵀ + b over the last axis: (x (…, I), w (O, I), b (O)) → (…, O). A weight of more axes counts
// as (O, everything else). With Add, which the engine sets, it is the sum with a fourth input.
type Linear struct{ Add bool }

// Kind returns "linear".
func (Linear) Kind() string { return "linear" }

// Infer replaces the last axis by O.
func (Linear) Infer(in []typ) (typ, error) {
	x, w := in[0], in[1]
	o := w.Shape[0]
	if x.Class != graph.Dense || len(x.Shape) < 2 || x.Shape[len(x.Shape)-1]*o != w.Elements() {
		return typ{}, fmt.Errorf("a linear layer with weight %v got %v", w.Shape, x)
	}
	s := slices.Clone(x.Shape)
	s[len(s)-1] = o
	return dense(s...), nil
}

// Grad builds the gradients of x, w and b.
func (Linear) Grad(in []*value, _, dout *value) []*value {
	g := dout.Graph()
	x, w := in[0], in[1]
	return []*value{
		g.Apply(LinearBackwardData{}, dout, w),
		g.Apply(LinearBackwardWeights{w.Shape}, dout, x),
		g.Apply(ColumnSum{}, dout),
	}
}

// LinearBackwardData is dy·w: (dy (…, O), w (O, I)) → (…, I).
type LinearBackwardData struct{}

// Kind returns "linear_dx".
func (LinearBackwardData) Kind() string { return "linear_dx" }

// Infer replaces the last axis by I.
func (LinearBackwardData) Infer(in []typ) (typ, error) {
	s := slices.Clone(in[0].Shape)
	s[len(s)-1] = in[1].Elements() / in[1].Shape[0]
	return dense(s...), nil
}

// Grad is not needed: nothing here is differentiated twice.
func (LinearBackwardData) Grad([]*value, *value, *value) []*value { return nil }

// LinearBackwardWeights is dyᵀ·x: (dy (…, O), x (…, I)) → (O, I).
type LinearBackwardWeights struct{ WShape []int }

// Kind returns "linear_dw".
func (LinearBackwardWeights) Kind() string { return "linear_dw" }

// Infer gives the weight's shape.
func (o LinearBackwardWeights) Infer([]typ) (typ, error) { return dense(o.WShape...), nil }

// Grad is not needed: nothing here is differentiated twice.
func (LinearBackwardWeights) Grad([]*value, *value, *value) []*value { return nil }

// ColumnSum sums over all axes but the last: (…, O) → (O).
type ColumnSum struct{}

// Kind returns "column_sum".
func (ColumnSum) Kind() string { return "column_sum" }

// Infer gives the last axis.
func (ColumnSum) Infer(in []typ) (typ, error) {
	s := in[0].Shape
	return dense(s[len(s)-1]), nil
}

// Grad is not needed: nothing here is differentiated twice.
func (ColumnSum) Grad([]*value, *value, *value) []*value { return nil }

// PatchEmbed is a Linear of Patches in one, which the engine makes where nothing else reads the patches: (x, w, b), x the
// volume, → (N, T, O).
type PatchEmbed struct{ Size [3]int }

// Kind returns "patch_embed".
func (PatchEmbed) Kind() string { return "patch_embed" }

// Infer gives the type of the linear layer.
func (o PatchEmbed) Infer(in []typ) (typ, error) {
	patches, err := Patches(o).Infer(in[:1])
	if err != nil {
		return typ{}, err
	}
	return Linear{}.Infer([]typ{patches, in[1], in[2]})
}

// Grad is not needed: the engine makes these behind the gradients.
func (PatchEmbed) Grad([]*value, *value, *value) []*value { return nil }

// Patches cuts a volume into patches of Size voxels: (N, C, D, H, W) → (N, T, C·pd·ph·pw), patches in
// d, h, w order (w fastest), inside a patch in c, d, h, w order, as a convolution weight lists them.
type Patches struct{ Size [3]int }

// Kind returns "patches".
func (Patches) Kind() string { return "patches" }

// Infer refuses a volume that the patch does not divide and names the nearest sizes that it does.
func (o Patches) Infer(in []typ) (typ, error) {
	if err := wantVolume(in[0], "the input of a patch embedding"); err != nil {
		return typ{}, err
	}
	s := in[0].Shape
	tokens, fits := 1, true
	var lower, upper [3]int
	for i, p := range o.Size {
		n := s[2+i]
		lower[i], upper[i] = max(n/p, 1)*p, (n+p-1)/p*p
		fits = fits && n%p == 0
		tokens *= n / p
	}
	if !fits {
		return typ{}, fmt.Errorf("a volume of %v voxels (D, H, W) cannot be cut into patches of %v: the nearest sizes that fit are %v and %v",
			s[2:], o.Size, lower, upper)
	}
	return dense(s[0], tokens, s[1]*o.Size[0]*o.Size[1]*o.Size[2]), nil
}

// Grad puts the gradients of the patches together again.
func (o Patches) Grad(in []*value, _, dout *value) []*value {
	if in[0].Role == graph.Input {
		return []*value{nil}
	}
	return []*value{dout.Graph().Apply(PatchesBackward{o.Size, in[0].Shape}, dout)}
}

// PatchesBackward is the inverse of Patches.
type PatchesBackward struct {
	Size   [3]int
	XShape []int
}

// Kind returns "patches_dx".
func (PatchesBackward) Kind() string { return "patches_dx" }

// Infer gives the volume's shape.
func (o PatchesBackward) Infer([]typ) (typ, error) { return volume(o.XShape...), nil }

// Grad is not needed: nothing here is differentiated twice.
func (PatchesBackward) Grad([]*value, *value, *value) []*value { return nil }

// EmbedTokens prepends a class token and adds position embeddings:
// (x (N, T, E), cls (1, 1, E), pos (1, T+1, E)) → (N, T+1, E).
type EmbedTokens struct{}

// Kind returns "embed_tokens".
func (EmbedTokens) Kind() string { return "embed_tokens" }

// Infer gives (N, T+1, E).
func (EmbedTokens) Infer(in []typ) (typ, error) {
	x, pos := in[0].Shape, in[2].Shape
	if err := rank(in[0], 3, "a sequence of tokens"); err != nil {
		return typ{}, err
	}
	if len(pos) != 3 || pos[1] != x[1]+1 || pos[2] != x[2] || in[1].Elements() != x[2] {
		return typ{}, fmt.Errorf("position embeddings %v do not fit tokens %v and a class token", pos, x)
	}
	return dense(x[0], x[1]+1, x[2]), nil
}

// Grad builds the gradients of x, cls and pos.
func (EmbedTokens) Grad(in []*value, _, dout *value) []*value {
	g := dout.Graph()
	pos := g.Apply(SumSamples{}, dout)
	return []*value{
		g.Apply(EmbedTokensBackward{}, dout),
		g.Apply(Part{Offset: 0, Shape: in[1].Shape}, pos),
		pos,
	}
}

// EmbedTokensBackward drops the class token: (N, T+1, E) → (N, T, E).
type EmbedTokensBackward struct{}

// Kind returns "embed_tokens_dx".
func (EmbedTokensBackward) Kind() string { return "embed_tokens_dx" }

// Infer gives (N, T, E).
func (EmbedTokensBackward) Infer(in []typ) (typ, error) {
	s := in[0].Shape
	return dense(s[0], s[1]-1, s[2]), nil
}

// Grad is not needed: nothing here is differentiated twice.
func (EmbedTokensBackward) Grad([]*value, *value, *value) []*value { return nil }

// SumSamples sums over the first axis and keeps it: (N, …) → (1, …).
type SumSamples struct{}

// Kind returns "sum_samples".
func (SumSamples) Kind() string { return "sum_samples" }

// Infer sets the first axis to 1.
func (SumSamples) Infer(in []typ) (typ, error) {
	s := slices.Clone(in[0].Shape)
	s[0] = 1
	return dense(s...), nil
}

// Grad is not needed: nothing here is differentiated twice.
func (SumSamples) Grad([]*value, *value, *value) []*value { return nil }

// FirstToken takes token 0: (N, T, E) → (N, E).
type FirstToken struct{}

// Kind returns "first_token".
func (FirstToken) Kind() string { return "first_token" }

// Infer gives (N, E).
func (FirstToken) Infer(in []typ) (typ, error) {
	if err := rank(in[0], 3, "a sequence of tokens"); err != nil {
		return typ{}, err
	}
	return dense(in[0].Shape[0], in[0].Shape[2]), nil
}

// Grad gives the other tokens zero.
func (FirstToken) Grad(in []*value, _, dout *value) []*value {
	return []*value{dout.Graph().Apply(FirstTokenBackward{in[0].Shape}, dout)}
}

// FirstTokenBackward is the gradient of FirstToken.
type FirstTokenBackward struct{ XShape []int }

// Kind returns "first_token_dx".
func (FirstTokenBackward) Kind() string { return "first_token_dx" }

// Infer gives (N, T, E).
func (o FirstTokenBackward) Infer([]typ) (typ, error) { return dense(o.XShape...), nil }

// Grad is not needed: nothing here is differentiated twice.
func (FirstTokenBackward) Grad([]*value, *value, *value) []*value { return nil }

// Attention is softmax(q·kᵀ/√d)·v for each head: qkv (N, T, 3E), rows q|k|v, head-major inside each → (N, T, E).
type Attention struct{ Heads int }

// Kind returns "attention".
func (Attention) Kind() string { return "attention" }

// Infer gives (N, T, E).
func (o Attention) Infer(in []typ) (typ, error) {
	s := in[0].Shape
	if len(s) != 3 || s[2]%(3*o.Heads) != 0 {
		return typ{}, fmt.Errorf("attention with %d heads got %v", o.Heads, in[0])
	}
	return dense(s[0], s[1], s[2]/3), nil
}

// Grad needs the log-sum-exp of every row, from which backward recomputes the softmax in tiles.
func (o Attention) Grad(in []*value, out, dout *value) []*value {
	g := dout.Graph()
	lse := g.Apply(AttentionLSE(o), in[0])
	return []*value{g.Apply(AttentionBackward(o), in[0], out, lse, dout)}
}

// AttentionLSE is the log-sum-exp of each row of scores: qkv (N, T, 3E) → (N, heads, T). The engine computes
// it together with Attention.
type AttentionLSE struct{ Heads int }

// Kind returns "attention_lse".
func (AttentionLSE) Kind() string { return "attention_lse" }

// Infer gives (N, heads, T).
func (o AttentionLSE) Infer(in []typ) (typ, error) {
	s := in[0].Shape
	return dense(s[0], o.Heads, s[1]), nil
}

// Grad is not needed: nothing here is differentiated twice.
func (AttentionLSE) Grad([]*value, *value, *value) []*value { return nil }

// AttentionBackward is (qkv, out, lse, dout) → dqkv.
type AttentionBackward struct{ Heads int }

// Kind returns "attention_dx".
func (AttentionBackward) Kind() string { return "attention_dx" }

// Infer gives qkv's shape.
func (AttentionBackward) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad is not needed: nothing here is differentiated twice.
func (AttentionBackward) Grad([]*value, *value, *value) []*value { return nil }
