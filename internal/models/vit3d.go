package models

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/nn"
)

// ViT3D is the vision transformer of Dosovitskiy et al. (2021) over patches of a volume: a patch embedding,
// a class token and learned positions, pre-norm blocks of attention and MLP, and a two-layer head on the
// class token.
type ViT3D struct {
	base
	ViT3DOptions
}

// ViT3DOptions are the options of the family.
type ViT3DOptions struct {
	InChannels   int     `yaml:"in_channels" json:"in_channels"`       // channels of the input volume
	PatchSize    [3]int  `yaml:"patch_size" json:"patch_size"`         // D, H, W, which must divide the volume
	Dim          int     `yaml:"dim" json:"dim"`                       // E, features of a token
	Depth        int     `yaml:"depth" json:"depth"`                   // blocks
	Heads        int     `yaml:"heads" json:"heads"`                   // of the attention; they divide Dim
	MLPRatio     float64 `yaml:"mlp_ratio" json:"mlp_ratio"`           // the MLP has MLPRatio·Dim features inside
	DropRate     float64 `yaml:"drop_rate" json:"drop_rate"`           // dropout of the embedded tokens
	ProjDropRate float64 `yaml:"proj_drop_rate" json:"proj_drop_rate"` // dropout of what attention and MLP add to the tokens
	DropPath     float64 `yaml:"drop_path" json:"drop_path"`           // stochastic depth: probability that the last block is left out, falling evenly to 0 at the first
	Hidden       int     `yaml:"hidden" json:"hidden"`                 // features between the head's two linear layers
	HeadDropout  float64 `yaml:"head_dropout" json:"head_dropout"`     // before the second of them
}

// vit3D is the variant of the given width, depth and number of heads.
func vit3D(dim, depth, heads int) constructor {
	return func(c config.Model, classes int) (*Network, error) {
		n := &ViT3D{ViT3DOptions: ViT3DOptions{
			InChannels: 1, PatchSize: [3]int{16, 16, 16}, Dim: dim, Depth: depth, Heads: heads, MLPRatio: 4,
			Hidden: 256, HeadDropout: 0.5,
		}}
		var err error
		n.base, err = configure(c, classes, &n.ViT3DOptions, savers{checkpointing: off()}, &n.HeadDropout)
		if err != nil {
			return nil, err
		}
		err = errors.Join(
			positive("in_channels", n.InChannels), positive("patch_size", n.PatchSize[:]...), positive("dim", n.Dim),
			positive("depth", n.Depth), positive("heads", n.Heads), positive("hidden", n.Hidden),
			probability("drop_rate", n.DropRate), probability("proj_drop_rate", n.ProjDropRate),
			probability("drop_path", n.DropPath), probability("head_dropout", n.HeadDropout), n.checkWidths(),
		)
		return &Network{InChannels: n.InChannels, base: n.base, Options: n.ViT3DOptions, build: n.build}, err
	}
}

// checkWidths checks what the heads and the MLP make of Dim.
func (n *ViT3D) checkWidths() error {
	var errs []error
	if n.Heads > 0 && n.Dim%n.Heads != 0 {
		errs = append(errs, fmt.Errorf("model.options.heads is %d, want a divisor of dim, which is %d", n.Heads, n.Dim))
	}
	if !(n.MLPRatio > 0 && n.MLPRatio <= 64) || n.mlpWidth() < 1 {
		errs = append(errs, fmt.Errorf("model.options.mlp_ratio is %v, want more than 0 and at most 64", n.MLPRatio))
	}
	return errors.Join(errs...)
}

func (n *ViT3D) mlpWidth() int { return int(float64(n.Dim) * n.MLPRatio) }

// vitSigma is the deviation of all first weights but the patch embedding's; biases of linear layers start at 0.
const vitSigma = 0.02

// build adds the network: x (N, C, D, H, W) → logits (N, Classes).
func (n *ViT3D) build(b *nn.Builder, x *graph.Value) *graph.Value {
	x = b.PatchEmbed("patch_embed.proj", x, n.Dim, n.PatchSize) // (N, T, E), T = D/pd·H/ph·W/pw
	x = b.EmbedTokens("cls_token", "pos_embed", x, nn.TruncatedNormal(vitSigma))
	x = b.Dropout("pos_drop", x, n.DropRate) // (N, T+1, E)
	for i := range n.Depth {
		b.Recomputed(n.UseCheckpointing, func() {
			b.Block(func() {
				b.In("blocks."+strconv.Itoa(i), func() { x = n.block(b, x, i) }) // (N, T+1, E), at last (N, E)
			})
		})
	}
	x = b.LayerNorm("norm", x) // (N, E)
	return n.head(b, x)        // (N, Classes)
}

// block adds to the tokens (N, T+1, E) what attention and then an MLP make of them. In training, block i is left
// out for some samples: its rate grows evenly from 0 to DropPath (Huang et al. 2016). The head reads the class token
// alone: the last block goes on with that, (N, E), as soon as the tokens have seen each other.
func (n *ViT3D) block(b *nn.Builder, x *graph.Value, i int) *graph.Value {
	rate := n.DropPath * float64(i) / float64(max(1, n.Depth-1))
	last := i == n.Depth-1
	y := n.attention(b, b.LayerNorm("norm1", x), last)
	if last {
		x = b.FirstToken(x)
	}
	x = b.Add(x, b.DropPath("drop_path1", y, rate))
	return b.Add(x, b.DropPath("drop_path2", n.mlp(b, b.LayerNorm("norm2", x)), rate))
}

// attention is multi-head self-attention: (N, T+1, E) → (N, T+1, E), or (N, E) for the class token alone.
func (n *ViT3D) attention(b *nn.Builder, x *graph.Value, class bool) *graph.Value {
	b.In("attn", func() {
		x = n.linear(b, "qkv", x, 3*n.Dim) // (N, T+1, 3E): q | k | v, head after head inside each
		x = b.Attention(x, n.Heads)        // (N, T+1, E)
		if class {
			x = b.FirstToken(x) // (N, E)
		}
		x = n.linear(b, "proj", x, n.Dim)
		x = b.Dropout("proj_drop", x, n.ProjDropRate)
	})
	return x
}

// mlp works on each token alone: (…, E) → (…, E).
func (n *ViT3D) mlp(b *nn.Builder, x *graph.Value) *graph.Value {
	b.In("mlp", func() {
		x = b.GELU(n.linear(b, "fc1", x, n.mlpWidth())) // (…, MLPRatio·E)
		x = n.linear(b, "fc2", x, n.Dim)
		x = b.Dropout("drop", x, n.ProjDropRate)
	})
	return x
}

// head turns the class token (N, E) into logits (N, Classes).
func (n *ViT3D) head(b *nn.Builder, x *graph.Value) *graph.Value {
	b.In("head", func() {
		x = b.ReLU(n.linear(b, "0", x, n.Hidden)) // (N, 256)
		x = b.Dropout("2", x, n.HeadDropout)
		x = n.linear(b, "3", x, n.Classes) // (N, Classes)
	})
	return x
}

func (n *ViT3D) linear(b *nn.Builder, name string, x *graph.Value, out int) *graph.Value {
	return b.Linear(name, x, out, nn.TruncatedNormal(vitSigma), nn.Constant(0))
}
