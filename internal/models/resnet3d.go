package models

import (
	"errors"
	"strconv"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/nn"
)

// ResNet3D is the residual network of He et al. (2016) with basic blocks, in three dimensions: a 7³ stem,
// four stages of growing width and shrinking size, global average pooling and a two-layer head.
type ResNet3D struct {
	base
	ResNet3DOptions
}

// ResNet3DOptions are the options of the family.
type ResNet3DOptions struct {
	InChannels       int        `yaml:"in_channels" json:"in_channels"`               // channels of the input volume
	Stem             string     `yaml:"stem" json:"stem"`                             // standard: 7³ stride 2, max-pool; small: 3³ stride 1, for 28³–64³
	Blocks           []int      `yaml:"blocks" json:"blocks"`                         // blocks in each of the four stages
	Widths           []int      `yaml:"widths" json:"widths"`                         // channels of each stage
	Hidden           int        `yaml:"hidden" json:"hidden"`                         // features between the head's two linear layers
	HeadDropout      [2]float64 `yaml:"head_dropout" json:"head_dropout"`             // before each of them
	ZeroInitResidual bool       `yaml:"zero_init_residual" json:"zero_init_residual"` // blocks start as the identity
}

// resnet3D is the variant with the given blocks in each stage.
func resnet3D(blocks ...int) constructor {
	return func(c config.Model, classes int) (*Network, error) {
		n := &ResNet3D{ResNet3DOptions: ResNet3DOptions{
			InChannels: 1, Stem: "standard", Blocks: blocks, Widths: []int{64, 128, 256, 512},
			Hidden: 256, HeadDropout: [2]float64{0.5, 0.3},
		}}
		var err error
		n.base, err = configure(c, classes, &n.ResNet3DOptions, savers{checkpointing: off()}, &n.HeadDropout[0], &n.HeadDropout[1])
		if err != nil {
			return nil, err
		}
		err = errors.Join(
			oneOf("stem", n.Stem, "standard", "small"), positive("in_channels", n.InChannels), positive("hidden", n.Hidden),
			count("blocks", n.Blocks, 4), count("widths", n.Widths, 4), probability("head_dropout", n.HeadDropout[:]...),
		)
		return &Network{InChannels: n.InChannels, base: n.base, Options: n.ResNet3DOptions, build: n.build}, err
	}
}

// build adds the network: x (N, C, D, H, W) → logits (N, Classes).
func (n *ResNet3D) build(b *nn.Builder, x *graph.Value) *graph.Value {
	b.Block(func() { x = n.stem(b, x) }) // (N, 64, D/4, H/4, W/4)
	for s, width := range n.Widths {
		b.Recomputed(n.UseCheckpointing, func() {
			b.In("layer"+strconv.Itoa(s+1), func() { x = n.stage(b, x, s, width) }) // (N, width, D/4/2ˢ, …)
		})
	}
	x = b.GlobalAvgPool(x) // (N, 512)
	return n.head(b, x)    // (N, Classes)
}

// stem reduces the volume four times: (N, C, D, H, W) → (N, 64, D/4, H/4, W/4); the small one keeps its size.
func (n *ResNet3D) stem(b *nn.Builder, x *graph.Value) *graph.Value {
	kernel, stride, pad := 7, 2, 3
	if n.Stem == "small" {
		kernel, stride, pad = 3, 1, 1
	}
	x = b.Conv3D("conv1", x, n.Widths[0], kernel, stride, pad, nn.KaimingFanOut) // (N, 64, D/2, H/2, W/2)
	x = b.ReLU(b.BatchNorm("bn1", x, 1))
	if n.Stem == "small" {
		return x
	}
	return b.MaxPool3D(x, 3, 2, 1) // (N, 64, D/4, H/4, W/4)
}

// stage is a row of blocks; all stages but the first halve the map.
func (n *ResNet3D) stage(b *nn.Builder, x *graph.Value, s, width int) *graph.Value {
	for i := range n.Blocks[s] {
		stride := 1
		if s > 0 && i == 0 {
			stride = 2
		}
		b.Block(func() {
			b.In(strconv.Itoa(i), func() { x = n.block(b, x, width, stride) })
		})
	}
	return x
}

// block is BasicBlock3D: conv 3³ – BN – ReLU – conv 3³ – BN, plus the identity, ReLU. Where the shape changes
// the identity passes a strided 1³ convolution and a BN.
func (n *ResNet3D) block(b *nn.Builder, x *graph.Value, width, stride int) *graph.Value {
	identity := x
	if stride != 1 || x.Dim(1) != width {
		b.In("downsample", func() {
			identity = b.Conv3D("0", x, width, 1, stride, 0, nn.KaimingFanOut) // (N, width, D/stride, …)
			identity = b.BatchNorm("1", identity, 1)
		})
	}
	y := b.Conv3D("conv1", x, width, 3, stride, 1, nn.KaimingFanOut) // (N, width, D/stride, …)
	y = b.ReLU(b.BatchNorm("bn1", y, 1))
	y = b.Conv3D("conv2", y, width, 3, 1, 1, nn.KaimingFanOut)
	gamma := float32(1)
	if n.ZeroInitResidual {
		gamma = 0
	}
	y = b.BatchNorm("bn2", y, gamma)
	return b.ReLU(b.Add(y, identity))
}

// head turns features (N, 512) into logits (N, Classes).
func (n *ResNet3D) head(b *nn.Builder, x *graph.Value) *graph.Value {
	b.In("fc", func() {
		x = b.Dropout("0", x, n.HeadDropout[0])
		x = b.ReLU(b.Linear("1", x, n.Hidden, nil, nil)) // (N, 256)
		x = b.Dropout("3", x, n.HeadDropout[1])
		x = b.Linear("4", x, n.Classes, nil, nil) // (N, Classes)
	})
	return x
}
