package models

import (
	"errors"
	"strconv"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/nn"
)

// DenseNet3D is the densely connected network of Huang et al. (2017) with bottleneck layers, in three
// dimensions: a 7³ stem, four blocks whose layers see everything before them, transitions that halve
// channels and size, global average pooling and a two-layer head.
type DenseNet3D struct {
	base
	DenseNet3DOptions
}

// DenseNet3DOptions are the options of the family.
type DenseNet3DOptions struct {
	InChannels   int        `yaml:"in_channels" json:"in_channels"`     // channels of the input volume
	Stem         string     `yaml:"stem" json:"stem"`                   // standard: 7³ stride 2, max-pool; small: 3³ stride 1, for 28³–64³
	Growth       int        `yaml:"growth" json:"growth"`               // channels that each layer adds
	InitFeatures int        `yaml:"init_features" json:"init_features"` // channels of the stem
	Blocks       []int      `yaml:"blocks" json:"blocks"`               // layers in each of the four blocks
	BNSize       int        `yaml:"bn_size" json:"bn_size"`             // bottleneck of a layer: BNSize·Growth channels
	DropRate     float64    `yaml:"drop_rate" json:"drop_rate"`         // dropout of what each layer adds
	Hidden       int        `yaml:"hidden" json:"hidden"`               // features between the head's two linear layers
	HeadDropout  [2]float64 `yaml:"head_dropout" json:"head_dropout"`   // before each of them
}

// densenet3D is the variant with the given growth, stem and layers in each block; saving turns both memory
// savers on by default.
func densenet3D(saving bool, growth, initFeatures int, blocks ...int) constructor {
	return func(c config.Model, classes int) (*Network, error) {
		n := &DenseNet3D{DenseNet3DOptions: DenseNet3DOptions{
			InChannels: 1, Stem: "standard", Growth: growth, InitFeatures: initFeatures, Blocks: blocks, BNSize: 4,
			Hidden: 512, HeadDropout: [2]float64{0.5, 0.3},
		}}
		var err error
		n.base, err = configure(c, classes, &n.DenseNet3DOptions, savers{&saving, &saving}, &n.HeadDropout[0], &n.HeadDropout[1])
		if err != nil {
			return nil, err
		}
		err = errors.Join(
			oneOf("stem", n.Stem, "standard", "small"), positive("in_channels", n.InChannels), positive("growth", n.Growth),
			positive("init_features", n.InitFeatures), count("blocks", n.Blocks, 4), positive("bn_size", n.BNSize),
			probability("drop_rate", n.DropRate), positive("hidden", n.Hidden), probability("head_dropout", n.HeadDropout[:]...),
		)
		return &Network{InChannels: n.InChannels, base: n.base, Options: n.DenseNet3DOptions, build: n.build}, err
	}
}

// build adds the network: x (N, C, D, H, W) → logits (N, Classes).
func (n *DenseNet3D) build(b *nn.Builder, x *graph.Value) *graph.Value {
	n.checkSize(b, x)
	b.In("features", func() {
		b.Block(func() { x = n.stem(b, x) }) // (N, InitFeatures, D/4, H/4, W/4)
		for i, layers := range n.Blocks {
			block := strconv.Itoa(i + 1)
			b.Recomputed(n.UseCheckpointing, func() {
				b.Block(func() {
					b.In("denseblock"+block, func() { x = n.denseBlock(b, x, layers) }) // (N, C + layers·Growth, …)
				})
			})
			if i < len(n.Blocks)-1 {
				b.In("transition"+block, func() { x = n.transition(b, x) }) // (N, C/2, D/2, …)
			}
		}
		x = b.ReLU(b.BatchNorm("norm5", x, 1))
	})
	x = b.GlobalAvgPool(x) // (N, F)
	return n.head(b, x)    // (N, Classes)
}

// checkSize refuses a volume of which a transition would leave nothing.
func (n *DenseNet3D) checkSize(b *nn.Builder, x *graph.Value) {
	smallest := 1 << (len(n.Blocks) - 1) // each transition halves and rounds down
	if n.Stem == "standard" {
		smallest = 4*smallest - 3 // the stem halves twice and rounds up
	}
	for _, size := range x.Shape[2:] {
		if size < smallest {
			b.Fail("a volume of %v voxels (D, H, W) is too small for its strides: the smallest is %d×%d×%d",
				x.Shape[2:], smallest, smallest, smallest)
		}
	}
}

// stem reduces the volume four times: (N, C, D, H, W) → (N, InitFeatures, D/4, H/4, W/4); the small one
// keeps its size.
func (n *DenseNet3D) stem(b *nn.Builder, x *graph.Value) *graph.Value {
	kernel, stride, pad := 7, 2, 3
	if n.Stem == "small" {
		kernel, stride, pad = 3, 1, 1
	}
	x = b.Conv3D("conv0", x, n.InitFeatures, kernel, stride, pad, nn.KaimingFanIn) // (N, InitFeatures, D/2, H/2, W/2)
	x = b.ReLU(b.BatchNorm("norm0", x, 1))
	if n.Stem == "small" {
		return x
	}
	return b.MaxPool3D(x, 3, 2, 1) // (N, InitFeatures, D/4, H/4, W/4)
}

// denseBlock joins to x what each layer makes of everything before it.
func (n *DenseNet3D) denseBlock(b *nn.Builder, x *graph.Value, layers int) *graph.Value {
	for i := range layers {
		b.In("denselayer"+strconv.Itoa(i+1), func() { x = b.Concat(x, n.denseLayer(b, x)) }) // (N, C + Growth, …)
	}
	return x
}

// denseLayer is BN – ReLU – conv 1³ – BN – ReLU – conv 3³: (N, C, …) → (N, Growth, …).
func (n *DenseNet3D) denseLayer(b *nn.Builder, x *graph.Value) *graph.Value {
	b.Dropped(n.MemoryEfficient, func() {
		x = b.ReLU(b.BatchNorm("norm1", x, 1))
		x = b.Conv3D("conv1", x, n.BNSize*n.Growth, 1, 1, 0, nn.KaimingFanIn) // (N, BNSize·Growth, …)
	})
	x = b.ReLU(b.BatchNorm("norm2", x, 1))
	x = b.Conv3D("conv2", x, n.Growth, 3, 1, 1, nn.KaimingFanIn) // (N, Growth, …)
	return b.Dropout("dropout", x, n.DropRate)
}

// transition halves channels and size, rounding down: (N, C, D, H, W) → (N, C/2, D/2, H/2, W/2).
func (n *DenseNet3D) transition(b *nn.Builder, x *graph.Value) *graph.Value {
	x = b.ReLU(b.BatchNorm("norm", x, 1))
	x = b.Conv3D("conv", x, x.Dim(1)/2, 1, 1, 0, nn.KaimingFanIn) // (N, C/2, D, H, W)
	return b.AvgPool3D(x, 2, 2)
}

// head turns features (N, F) into logits (N, Classes).
func (n *DenseNet3D) head(b *nn.Builder, x *graph.Value) *graph.Value {
	zero := nn.Constant(0)
	b.In("classifier", func() {
		x = b.Dropout("2", x, n.HeadDropout[0])
		x = b.ReLU(b.Linear("3", x, n.Hidden, nil, zero)) // (N, 512)
		x = b.Dropout("5", x, n.HeadDropout[1])
		x = b.Linear("6", x, n.Classes, nil, zero) // (N, Classes)
	})
	return x
}
