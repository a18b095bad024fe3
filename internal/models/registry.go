// Package models holds the twelve classifiers. A network's file reads from its options through its blocks to
// the whole; the table of all variants is here.
package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/nn"
)

// Entry is one row of the registry.
type Entry struct {
	Name, Family string
	New          constructor
}

// constructor configures a variant for a number of classes.
type constructor func(c config.Model, classes int) (*Network, error)

// Registry lists the variants. It is a function so that nobody can change it.
func Registry() []Entry {
	return []Entry{
		{"resnet18_3d", "ResNet3D", resnet3D(2, 2, 2, 2)},
		{"resnet34_3d", "ResNet3D", resnet3D(3, 4, 6, 3)},
		{"densenet121_3d", "DenseNet3D", densenet3D(false, 32, 64, 6, 12, 24, 16)},
		{"densenet169_3d", "DenseNet3D", densenet3D(false, 32, 64, 6, 12, 32, 32)},
		{"densenet201_3d", "DenseNet3D", densenet3D(false, 32, 64, 6, 12, 48, 32)},
		{"densenet161_3d", "DenseNet3D", densenet3D(false, 48, 96, 6, 12, 36, 24)},
		{"densenet_small_3d", "DenseNet3D", densenet3D(true, 16, 32, 4, 8, 12, 8)},
		{"densenet_tiny_3d", "DenseNet3D", densenet3D(true, 12, 24, 3, 6, 9, 6)},
		{"vit_tiny_3d", "ViT3D", vit3D(192, 12, 3)},
		{"vit_small_3d", "ViT3D", vit3D(384, 12, 6)},
		{"vit_base_3d", "ViT3D", vit3D(768, 12, 12)},
		{"vit_large_3d", "ViT3D", vit3D(1024, 24, 16)},
	}
}

// Names lists the variants' names.
func Names() []string {
	var names []string
	for _, e := range Registry() {
		names = append(names, e.Name)
	}
	return names
}

// New configures the network that c names, for a number of classes.
func New(c config.Model, classes int) (*Network, error) {
	for _, e := range Registry() {
		if e.Name == c.Name {
			n, err := e.New(c, classes)
			if err != nil {
				return nil, fmt.Errorf("model %s: %w", c.Name, err)
			}
			n.Name, n.Family = e.Name, e.Family
			return n, nil
		}
	}
	return nil, fmt.Errorf("unknown model %q%s; there are %s", c.Name, config.DidYouMean(c.Name, Names()), strings.Join(Names(), ", "))
}

// ForInput configures the network that c names for what preprocessing makes: an input channel for each window.
// model.options.in_channels may say the same, nothing else.
func ForInput(c config.Model, p config.Preprocess, classes int) (*Network, error) {
	const option = "in_channels"
	channels := len(p.Windows())
	if _, given := c.Options[option]; !given && channels > 1 {
		options := maps.Clone(c.Options)
		if options == nil {
			options = map[string]any{}
		}
		options[option] = channels
		c.Options = options
	}
	n, err := New(c, classes)
	if err == nil && n.InChannels != channels {
		return nil, fmt.Errorf("model.options.in_channels is %d, but preprocess.hu_windows makes %d: leave in_channels out", n.InChannels, channels)
	}
	return n, err
}

// Network is a configured classifier.
type Network struct {
	Name, Family string
	InChannels   int
	base
	// Options are the family's options as they hold, defaults filled in.
	Options any

	build func(b *nn.Builder, x *graph.Value) *graph.Value
}

// Build adds the network to a graph: x (N, C, D, H, W) → logits (N, Classes).
func (n *Network) Build(b *nn.Builder, x *graph.Value) *graph.Value {
	if c := x.Dim(1); c != n.InChannels {
		b.Fail("%s takes %d input channels, got %d", n.Name, n.InChannels, c)
	}
	return n.build(b, x)
}

// StoredOptions returns Options as plain JSON values, as a model file keeps them.
func (n *Network) StoredOptions() (map[string]any, error) {
	raw, err := json.Marshal(n.Options)
	if err != nil {
		return nil, fmt.Errorf("the options of %s cannot be stored: %w", n.Name, err)
	}
	var options map[string]any
	if err := json.Unmarshal(raw, &options); err != nil {
		return nil, fmt.Errorf("the options of %s cannot be stored: %w", n.Name, err)
	}
	return options, nil
}

// base is what every network has.
type base struct {
	Classes          int
	UseCheckpointing bool // recompute the family's segments in backward
	MemoryEfficient  bool // recompute the cheap parts of dense layers in backward
}

// savers are a family's manual memory savers by default; nil says that the family has no such saver.
type savers struct{ checkpointing, memoryEfficient *bool }

// off is a default of savers.
func off() *bool { b := false; return &b }

// configure decodes model.options into opts, which holds the defaults, and settles what all families share:
// the memory savers and the dropout rates of the head.
func configure(c config.Model, classes int, opts any, s savers, head ...*float64) (base, error) {
	if classes < 1 {
		return base{}, fmt.Errorf("a classifier of %d classes", classes)
	}
	if err := config.DecodeOptions(c.Options, opts); err != nil {
		return base{}, err
	}
	if c.Dropout != nil {
		for _, p := range head {
			*p = *c.Dropout
		}
	}
	b := base{Classes: classes}
	return b, errors.Join(
		saver("use_checkpointing", c.UseCheckpointing, s.checkpointing, &b.UseCheckpointing),
		saver("memory_efficient", c.MemoryEfficient, s.memoryEfficient, &b.MemoryEfficient),
	)
}

func saver(key string, wanted, byDefault, to *bool) error {
	switch {
	case byDefault == nil && wanted != nil && *wanted:
		return fmt.Errorf("model.%s is not an option of this family: remove it", key)
	case byDefault == nil:
	case wanted != nil:
		*to = *wanted
	default:
		*to = *byDefault
	}
	return nil
}

// The checks of options name the option, its value and what is allowed.

func oneOf(name, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("model.options.%s is %q, allowed: %s", name, value, strings.Join(allowed, ", "))
}

func positive(name string, values ...int) error {
	for _, v := range values {
		if v < 1 || v > 1<<20 {
			return fmt.Errorf("model.options.%s is %d, want a positive number", name, v)
		}
	}
	return nil
}

func count(name string, values []int, want int) error {
	if len(values) != want {
		return fmt.Errorf("model.options.%s has %d numbers, want %d", name, len(values), want)
	}
	return positive(name, values...)
}

func probability(name string, values ...float64) error {
	for _, v := range values {
		if !(v >= 0 && v < 1) {
			return fmt.Errorf("model.options.%s is %v, want at least 0 and below 1", name, v)
		}
	}
	return nil
}
