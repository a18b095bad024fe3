// Package ops says what each operation is: its kind and attributes, the shape rule and the gradient rule.
// Kernels live elsewhere; a device binds each kind to one.
//
// Feature maps ("volumes") have the shape (N, C, D, H, W), convolution weights (K, C, kd, kh, kw), linear
// weights (out, in), tokens (N, T, E).
package ops

import (
	"fmt"
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
)

// value and typ are the graph's types, which every rule here speaks of.
type (
	value = graph.Value
	typ   = graph.Type
)

func dense(shape ...int) typ { return typ{Shape: shape} }

func volume(shape ...int) typ { return typ{Shape: shape, Class: graph.Volume} }

func rank(t typ, n int, what string) error {
	if len(t.Shape) != n {
		return fmt.Errorf("%s has shape %v, want %d axes", what, t.Shape, n)
	}
	return nil
}

func wantVolume(t typ, what string) error {
	if t.Class != graph.Volume || len(t.Shape) != 5 {
		return fmt.Errorf("%s has shape %v, want a volume (N, C, D, H, W)", what, t.Shape)
	}
	return nil
}

// Conv3D is the cross-correlation of x (N, C, D, H, W) with w (K, C, kd, kh, kw), without bias.
type Conv3D struct{ Stride, Pad [3]int }

// Kind returns "conv3d".
func (Conv3D) Kind() string { return "conv3d" }

// Infer gives (N, K, D', H', W') with D' = (D + 2·pad − kd)/stride + 1, rounded down.
func (o Conv3D) Infer(in []typ) (typ, error) {
	x, w := in[0], in[1]
	if err := wantVolume(x, "the input of a convolution"); err != nil {
		return typ{}, err
	}
	if err := rank(w, 5, "the weight of a convolution"); err != nil {
		return typ{}, err
	}
	if x.Shape[1] != w.Shape[1] {
		return typ{}, fmt.Errorf("a convolution for %d input channels got %d", w.Shape[1], x.Shape[1])
	}
	out, err := windowed(x.Shape, [3]int(w.Shape[2:]), o.Stride, o.Pad)
	if err != nil {
		return typ{}, err
	}
	return volume(x.Shape[0], w.Shape[0], out[0], out[1], out[2]), nil
}

// windowed returns the size after sliding a window over the last three axes of shape.
func windowed(shape []int, kernel, stride, pad [3]int) ([3]int, error) {
	var out [3]int
	for i := range out {
		n := shape[2+i] + 2*pad[i] - kernel[i]
		if n < 0 {
			return out, fmt.Errorf("a map of %v voxels (D, H, W) is too small for a window of %v with padding %v", shape[2:], kernel, pad)
		}
		out[i] = n/stride[i] + 1
	}
	return out, nil
}

// Grad builds the two backward convolutions.
func (o Conv3D) Grad(in []*value, _, dout *value) []*value {
	g := dout.Graph()
	x, w := in[0], in[1]
	var dx *value
	if x.Role != graph.Input {
		dx = g.Apply(Conv3DBackwardData{Stride: o.Stride, Pad: o.Pad, XShape: x.Shape}, w, dout)
	}
	return []*value{dx, g.Apply(Conv3DBackwardWeights{Stride: o.Stride, Pad: o.Pad, WShape: w.Shape}, x, dout)}
}

// Conv3DBackwardData is the gradient of a convolution with respect to its input: (w, dy) → dx.
type Conv3DBackwardData struct {
	Stride, Pad [3]int
	XShape      []int
}

// Kind returns "conv3d_dx".
func (Conv3DBackwardData) Kind() string { return "conv3d_dx" }

// Infer gives the input's shape.
func (o Conv3DBackwardData) Infer([]typ) (typ, error) { return volume(o.XShape...), nil }

// Grad is not needed: nothing here is differentiated twice.
func (Conv3DBackwardData) Grad([]*value, *value, *value) []*value { return nil }

// Conv3DBackwardWeights is the gradient of a convolution with respect to its weight: (x, dy) → dw.
type Conv3DBackwardWeights struct {
	Stride, Pad [3]int
	WShape      []int
}

// Kind returns "conv3d_dw".
func (Conv3DBackwardWeights) Kind() string { return "conv3d_dw" }

// Infer gives the weight's shape.
func (o Conv3DBackwardWeights) Infer([]typ) (typ, error) { return dense(o.WShape...), nil }

// Grad is not needed: nothing here is differentiated twice.
func (Conv3DBackwardWeights) Grad([]*value, *value, *value) []*value { return nil }

// MaxPool3D takes the maximum over windows; padding counts as −∞.
type MaxPool3D struct{ Kernel, Stride, Pad [3]int }

// Kind returns "max_pool3d".
func (MaxPool3D) Kind() string { return "max_pool3d" }

// Infer gives the windowed size. Padding beyond half a window would leave windows without a voxel.
func (o MaxPool3D) Infer(in []typ) (typ, error) {
	for i, p := range o.Pad {
		if p > o.Kernel[i]/2 {
			return typ{}, fmt.Errorf("max-pool windows of %v cannot be padded by %v: at most half a window", o.Kernel, o.Pad)
		}
	}
	return pooled(in[0], o.Kernel, o.Stride, o.Pad)
}

// Grad gives each window's gradient to its first maximum.
func (o MaxPool3D) Grad(in []*value, _, dout *value) []*value {
	return []*value{dout.Graph().Apply(MaxPool3DBackward(o), in[0], dout)}
}

// MaxPool3DBackward is the gradient of MaxPool3D: (x, dy) → dx.
type MaxPool3DBackward MaxPool3D

// Kind returns "max_pool3d_dx".
func (MaxPool3DBackward) Kind() string { return "max_pool3d_dx" }

// Infer gives the input's shape.
func (MaxPool3DBackward) Infer(in []typ) (typ, error) { return in[0], nil }

// Grad is not needed: nothing here is differentiated twice.
func (MaxPool3DBackward) Grad([]*value, *value, *value) []*value { return nil }

// AvgPool3D averages over windows without padding; what the windows do not cover is dropped.
type AvgPool3D struct{ Kernel, Stride [3]int }

// Kind returns "avg_pool3d".
func (AvgPool3D) Kind() string { return "avg_pool3d" }

// Infer gives the windowed size.
func (o AvgPool3D) Infer(in []typ) (typ, error) {
	return pooled(in[0], o.Kernel, o.Stride, [3]int{})
}

// Grad spreads each window's gradient evenly.
func (o AvgPool3D) Grad(in []*value, _, dout *value) []*value {
	return []*value{dout.Graph().Apply(AvgPool3DBackward{o.Kernel, o.Stride, in[0].Shape}, dout)}
}

// AvgPool3DBackward is the gradient of AvgPool3D: dy → dx.
type AvgPool3DBackward struct {
	Kernel, Stride [3]int
	XShape         []int
}

// Kind returns "avg_pool3d_dx".
func (AvgPool3DBackward) Kind() string { return "avg_pool3d_dx" }

// Infer gives the input's shape.
func (o AvgPool3DBackward) Infer([]typ) (typ, error) { return volume(o.XShape...), nil }

// Grad is not needed: nothing here is differentiated twice.
func (AvgPool3DBackward) Grad([]*value, *value, *value) []*value { return nil }

func pooled(x typ, kernel, stride, pad [3]int) (typ, error) {
	if err := wantVolume(x, "the input of a pooling"); err != nil {
		return typ{}, err
	}
	out, err := windowed(x.Shape, kernel, stride, pad)
	if err != nil {
		return typ{}, err
	}
	return volume(x.Shape[0], x.Shape[1], out[0], out[1], out[2]), nil
}

// GlobalAvgPool3D averages each channel over its whole map: (N, C, D, H, W) → (N, C).
type GlobalAvgPool3D struct{}

// Kind returns "global_avg_pool".
func (GlobalAvgPool3D) Kind() string { return "global_avg_pool" }

// Infer gives (N, C).
func (GlobalAvgPool3D) Infer(in []typ) (typ, error) {
	if err := wantVolume(in[0], "the input of a pooling"); err != nil {
		return typ{}, err
	}
	return dense(in[0].Shape[0], in[0].Shape[1]), nil
}

// Grad spreads the gradient evenly over the map.
func (GlobalAvgPool3D) Grad(in []*value, _, dout *value) []*value {
	return []*value{dout.Graph().Apply(GlobalAvgPool3DBackward{}, dout, in[0])}
}

// GlobalAvgPool3DBackward is the gradient of GlobalAvgPool3D: (dy (N, C), x) → dx; of x only the form counts.
type GlobalAvgPool3DBackward struct{}

// Kind returns "global_avg_pool_dx".
func (GlobalAvgPool3DBackward) Kind() string { return "global_avg_pool_dx" }

// Infer gives the input's shape.
func (GlobalAvgPool3DBackward) Infer(in []typ) (typ, error) { return in[1], nil }

// Grad is not needed: nothing here is differentiated twice.
func (GlobalAvgPool3DBackward) Grad([]*value, *value, *value) []*value { return nil }

// Concat joins two volumes along the channel axis: a dense block appends each layer's output to what it has.
type Concat struct{}

// Kind returns "concat".
func (Concat) Kind() string { return "concat" }

// Infer adds up the channels; everything else must agree.
func (Concat) Infer(in []typ) (typ, error) {
	for _, t := range in {
		if err := wantVolume(t, "a concatenated value"); err != nil {
			return typ{}, err
		}
	}
	a, b := in[0].Shape, in[1].Shape
	if a[0] != b[0] || !slices.Equal(a[2:], b[2:]) {
		return typ{}, fmt.Errorf("volumes %v and %v cannot be joined along their channels", a, b)
	}
	return volume(a[0], a[1]+b[1], a[2], a[3], a[4]), nil
}

// Grad takes the gradient apart again.
func (Concat) Grad(in []*value, _, dout *value) []*value {
	g, c := dout.Graph(), in[0].Dim(1)
	return []*value{
		g.Apply(ChannelSlice{0, c, in[1].Dim(1)}, dout),
		g.Apply(ChannelSlice{c, in[1].Dim(1), 0}, dout),
	}
}

// ChannelSlice takes Count channels from channel From on; Rest channels follow.
type ChannelSlice struct{ From, Count, Rest int }

// Kind returns "channel_slice".
func (ChannelSlice) Kind() string { return "channel_slice" }

// Infer gives Count channels.
func (o ChannelSlice) Infer(in []typ) (typ, error) {
	s := slices.Clone(in[0].Shape)
	if err := wantVolume(in[0], "a sliced value"); err != nil {
		return typ{}, err
	}
	if s[1] != o.From+o.Count+o.Rest {
		return typ{}, fmt.Errorf("slice of %d+%d+%d channels from %d", o.From, o.Count, o.Rest, s[1])
	}
	s[1] = o.Count
	return volume(s...), nil
}

// Grad is not needed: a slice only occurs in backward parts.
func (ChannelSlice) Grad([]*value, *value, *value) []*value { return nil }
