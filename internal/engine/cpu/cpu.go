// Package cpu is the CPU device: it binds operations to the kernels of internal/kernels, chooses layouts and
// says the workspaces. Feature maps are stored in blocks of 16 channels (kernels.Map), everything else
// row-major, convolution weights in the order that the convolution's algorithm wants.
package cpu

import (
	"fmt"
	"slices"
	"sync"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/ops"
)

// The layout formats of this device.
const (
	rowMajor    uint8 = iota // everything but feature maps, and the volumes that a program is given
	blocked                  // kernels.Map; Segments are its Channels
	convWeight               // packed for a convolution of blocked maps; Segments are the input's Channels
	convWeightP              // packed for a convolution of a row-major volume
)

// Device runs programs on the processor's cores: in float32, or in hybrid precision (half.go).
type Device struct {
	m      *kernels.Machine
	tuning kernels.Tuning
	half   bool // activations are bfloat16

	mu    sync.Mutex
	convs map[string]*kernels.Conv // by what they were made of: their tables are shared by all operations
}

// Options say how a device computes.
type Options struct {
	Tuning kernels.Tuning // choices of algorithms; nil: the defaults
	Half   bool           // hybrid precision: activations in bfloat16
}

// New returns the device with the best instruction set of this processor and the given number of threads.
func New(threads int) *Device { return NewWith(threads, Options{}) }

// NewWith is New with options.
func NewWith(threads int, o Options) *Device { return On(kernels.NewMachine(threads), o) }

// On is NewWith on a machine of one's own.
func On(m *kernels.Machine, o Options) *Device {
	return &Device{m: m, tuning: o.Tuning, half: o.Half}
}

// Machine returns what the device's kernels run on.
func (d *Device) Machine() *kernels.Machine { return d.m }

// Close stops the device's threads.
func (d *Device) Close() { d.m.Close() }

// Threads returns the number of threads.
func (d *Device) Threads() int { return d.m.Threads() }

// Ceilings measures what the device can do at most, in a fraction of a second.
func (d *Device) Ceilings() kernels.Ceilings { return d.m.MeasureCeilings() }

// Name names the device, its instruction set and its precision where that is not float32: bf16, or bf16-storage where the
// processor does not multiply bfloat16.
func (d *Device) Name() string {
	name := "cpu-" + d.m.ISA.String()
	switch {
	case d.half && d.m.Pairs:
		name += "-bf16"
	case d.half:
		name += "-bf16-storage"
	}
	return name
}

// ElementSize is that of float32.
func (d *Device) ElementSize() int { return 4 }

func plain(t graph.Type) engine.Layout { return engine.Layout{Type: t, Size: t.Elements()} }

// mapLayout is the blocked layout of a feature map with the given channel segments.
func mapLayout(t graph.Type, segments []int) engine.Layout {
	s := t.Shape
	stride := kernels.Channels(segments).Blocks() * kernels.Block * s[2] * s[3] * s[4]
	return engine.Layout{Format: blocked, Type: t, Segments: segments, Stride: stride, Size: s[0] * stride}
}

// weightLayout is the layout of the weight (K, C, kd, kh, kw) of a convolution over x.
func weightLayout(x engine.Layout, t graph.Type) engine.Layout {
	l := engine.Layout{Format: convWeight, Type: t, Segments: x.Segments}
	if x.Format == rowMajor {
		l.Format, l.Segments = convWeightP, []int{x.Type.Shape[1]}
	}
	return l
}

// InputLayout is row-major, volumes included.
func (d *Device) InputLayout(t graph.Type) engine.Layout { return plain(t) }

// ParameterLayout packs convolution weights and leaves the rest row-major.
func (d *Device) ParameterLayout(op graph.Op, i int, in []engine.Layout, t graph.Type) engine.Layout {
	if i != 1 {
		return plain(t)
	}
	switch c := op.(type) {
	case ops.Conv3D:
		return d.convWeight(in[0], t, c.Stride, c.Pad)
	case ops.ConvNorm:
		return d.convWeight(in[0], t, c.Stride, c.Pad)
	case ops.ConvNormPool:
		return d.convWeight(in[0], t, c.Stride, c.Pad)
	}
	return plain(t)
}

func (d *Device) convWeight(x engine.Layout, t graph.Type, stride, pad [3]int) engine.Layout {
	l := weightLayout(x, t)
	l.Size = d.conv(x, t.Shape, stride, pad).WeightLen()
	return l
}

// OutputLayout keeps feature maps blocked; where an operation keeps its input's channels it keeps their
// segments too. In hybrid precision it says which values are bfloat16.
func (d *Device) OutputLayout(op graph.Op, i int, in []engine.Layout, t graph.Type) engine.Layout {
	l := d.outputLayout(op, in, t)
	l.Half = d.half && storesHalf(op, i, in, t)
	return l
}

func (d *Device) outputLayout(op graph.Op, in []engine.Layout, t graph.Type) engine.Layout {
	switch op := op.(type) {
	case ops.Conv3DBackwardWeights:
		l := weightLayout(in[0], t)
		l.Size = d.conv(in[0], op.WShape, op.Stride, op.Pad).WeightLen()
		return l
	case ops.Conv3D, ops.ConvNorm, ops.ConvNormPool, ops.PatchesBackward:
		return mapLayout(t, []int{t.Shape[1]})
	case ops.Conv3DBackwardData:
		return mapLayout(t, in[0].Segments) // the weight knows the input's channels
	case ops.Concat:
		return mapLayout(t, slices.Concat(in[0].Segments, in[1].Segments))
	case ops.ChannelSlice:
		_, _, segments := cut(in[0].Segments, op)
		return mapLayout(t, segments)
	}
	if t.Class == graph.Volume {
		for _, l := range in {
			if l.Format == blocked && l.Type.Shape[1] == t.Shape[1] {
				return mapLayout(t, l.Segments)
			}
		}
		return mapLayout(t, []int{t.Shape[1]})
	}
	return plain(t)
}

// cut finds the segments of a channel slice; ok is false where it does not end with whole segments.
func cut(segments []int, op ops.ChannelSlice) (firstBlock int, ok bool, out []int) {
	at := 0
	for _, s := range segments {
		switch {
		case at < op.From:
			firstBlock += (s + kernels.Block - 1) / kernels.Block
		case at < op.From+op.Count:
			out = append(out, s)
		}
		at += s
	}
	ok = kernels.Channels(out).Count() == op.Count
	return firstBlock, ok, out
}

// Parts lets concatenated maps, channel slices and parts of vectors share storage.
func (d *Device) Parts(op graph.Op, in []engine.Layout, out engine.Layout) []engine.View {
	switch op := op.(type) {
	case ops.Concat:
		return []engine.View{{Ok: true}, {Offset: in[0].Stride, Ok: true}}
	case ops.ChannelSlice:
		first, _, _ := cut(in[0].Segments, op)
		s := out.Type.Shape
		return []engine.View{{Offset: first * kernels.Block * s[2] * s[3] * s[4], Ok: true}}
	case ops.Part:
		return []engine.View{{Offset: op.Offset, Ok: true}}
	}
	return nil
}

// InPlace lists the inputs that elementwise kernels may overwrite.
func (d *Device) InPlace(op graph.Op, n int) []int {
	switch op := op.(type) {
	case graph.Sum:
		if n == 2 { // the order of more terms matters
			return []int{0, 1}
		}
		return []int{0}
	case ops.Add:
		return []int{0, 1}
	case ops.Linear:
		if op.Add {
			return []int{3}
		}
	case ops.BNNorm:
		if op.Add {
			return []int{0, 4}
		}
		return []int{0}
	case ops.BNBackward:
		return []int{4, 0}
	case ops.NormPoolBackward:
		return []int{0}
	case ops.BNFrozenBackward, ops.LayerNormBackward:
		return []int{2}
	case ops.ReLUBackward, ops.GELUBackward:
		return []int{1}
	case ops.ReLU, ops.GELU, ops.Scale, ops.Dropout, ops.DropPath, ops.LayerNorm:
		return []int{0}
	}
	return nil
}

// Joins says yes to what the products in float32 do on the way. Lines of patches are read where they are whole blocks.
func (d *Device) Joins(op graph.Op) bool {
	if p, ok := op.(ops.PatchEmbed); ok && p.Size[2]%kernels.Block != 0 {
		return false
	}
	return !d.half
}

// Import writes row-major values in the layout.
func (d *Device) Import(dst engine.Buf, l engine.Layout, src []float32) {
	to := vec(l, dst)
	switch {
	case l.Format == blocked:
		d.m.FromPlain(src, l.Segments, feature(l, to))
	case l.Format != rowMajor:
		d.m.PackWeights(packer(d.m.ISA, l), to.F32, src)
	case l.Half:
		d.m.Narrow(to.Half[:len(src)], src)
	default:
		copy(to.F32, src)
	}
}

// Export reads the layout's values in row-major order.
func (d *Device) Export(dst []float32, l engine.Layout, src engine.Buf) {
	from := vec(l, src)
	switch {
	case l.Format == blocked:
		d.m.ToPlain(feature(l, from), l.Segments, dst)
	case l.Format != rowMajor:
		d.m.UnpackWeights(packer(d.m.ISA, l), dst, from.F32)
	case l.Half:
		d.m.Widen(dst, from.Half[:len(dst)])
	default:
		copy(dst, from.F32)
	}
}

// packer returns a convolution with the weight layout l: packing depends on channels and kernel alone.
func packer(isa kernels.ISA, l engine.Layout) *kernels.Conv {
	s := l.Type.Shape
	return kernels.NewConv(kernels.ConvSpec{
		In: l.Segments, Out: kernels.Channels{s[0]}, PlainIn: l.Format == convWeightP,
		Size: [3]int(s[2:]), Kernel: [3]int(s[2:]), Stride: [3]int{1, 1, 1},
	}, isa)
}

// vec views a buffer as values.
func vec(l engine.Layout, b engine.Buf) kernels.Vec {
	if l.Half {
		return kernels.Vec{Half: engine.BF16(b)}
	}
	return kernels.Floats(engine.F32(b))
}

// feature views values as a map.
func feature(l engine.Layout, v kernels.Vec) kernels.Map {
	s := l.Type.Shape
	m := kernels.Map{Data: v.F32, Half: v.Half, N: s[0], D: s[2], H: s[3], W: s[4], Stride: l.Stride}
	if l.Format == rowMajor {
		m.CB, m.Stride = s[1], s[1]*s[2]*s[3]*s[4]
	} else {
		m.CB = kernels.Channels(l.Segments).Blocks()
	}
	return m
}

func (d *Device) conv(x engine.Layout, w []int, stride, pad [3]int) *kernels.Conv {
	spec := convSpec(x, w, stride, pad)
	return d.shared(spec, d.tuning.Choice(spec, d.m.ISA))
}

// inferenceConv is conv for operations that the engine makes where there is no backward part.
func (d *Device) inferenceConv(x engine.Layout, w []int, stride, pad [3]int) *kernels.Conv {
	spec := convSpec(x, w, stride, pad)
	return d.shared(spec, d.tuning.Inference(spec, d.m.ISA))
}

// shared returns the convolution of a shape and choice, made once.
func (d *Device) shared(spec kernels.ConvSpec, choice kernels.ConvChoice) *kernels.Conv {
	key := fmt.Sprint(spec, choice, d.m.ISA)
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.convs[key]
	if !ok {
		if d.convs == nil {
			d.convs = map[string]*kernels.Conv{}
		}
		c = kernels.NewConvWith(spec, d.m.ISA, choice)
		d.convs[key] = c
	}
	return c
}

func convSpec(x engine.Layout, w []int, stride, pad [3]int) kernels.ConvSpec {
	spec := kernels.ConvSpec{
		In: x.Segments, Out: kernels.Channels{w[0]}, PlainIn: x.Format == rowMajor,
		Size: [3]int(x.Type.Shape[2:]), Kernel: [3]int(w[2:]), Stride: stride, Pad: pad,
	}
	if spec.PlainIn {
		spec.In = kernels.Channels{x.Type.Shape[1]}
	}
	return spec
}

// ConvUse is a convolution in a program, with the passes that the program makes.
type ConvUse struct {
	Spec    kernels.ConvSpec
	Samples int
	Passes  [3]bool // forward, by the input, by the weights
}

// Convolutions lists the convolutions of programs, those of one shape once, in the order of their first use.
func Convolutions(programs ...*engine.Program) []ConvUse {
	var uses []ConvUse
	at := map[string]int{}
	add := func(pass int, x engine.Layout, w []int, stride, pad [3]int) {
		s := convSpec(x, w, stride, pad)
		i, ok := at[s.Key()]
		if !ok {
			i = len(uses)
			at[s.Key()] = i
			uses = append(uses, ConvUse{Spec: s})
		}
		uses[i].Samples = max(uses[i].Samples, x.Type.Shape[0])
		uses[i].Passes[pass] = true
	}
	for _, p := range programs {
		for _, in := range p.Instrs {
			switch op := in.Op.(type) {
			case ops.Conv3D:
				add(kernels.Forward, in.In[0].Layout, in.In[1].Type.Shape, op.Stride, op.Pad)
			case ops.ConvNorm:
				add(kernels.Forward, in.In[0].Layout, in.In[1].Type.Shape, op.Stride, op.Pad)
			case ops.ConvNormPool:
				add(kernels.Forward, in.In[0].Layout, in.In[1].Type.Shape, op.Stride, op.Pad)
			case ops.Conv3DBackwardData:
				add(kernels.BackwardData, in.Out[0].Layout, in.In[0].Type.Shape, op.Stride, op.Pad)
			case ops.Conv3DBackwardWeights:
				add(kernels.BackwardWeights, in.In[0].Layout, op.WShape, op.Stride, op.Pad)
			}
		}
	}
	return uses
}

// run is a kernel on typed arguments.
type run func(a *args)

type args struct {
	in, out []kernels.Vec
	work    []float32
	kept    []float32
	fresh   bool // kept holds what an earlier run made
	info    *engine.RunInfo
}

// Kernel binds an operation to its kernel.
func (d *Device) Kernel(op graph.Op, in, out []engine.Layout) (engine.Kernel, error) {
	for _, l := range in {
		if l.Type.Class == graph.Volume && l.Format == rowMajor && !readsPlain(op) {
			return engine.Kernel{}, fmt.Errorf("%s cannot read the network's input directly: put a convolution before it", op.Kind())
		}
	}
	if err := sameSegments(op, in); err != nil {
		return engine.Kernel{}, err
	}
	f, work := d.bind(op, in, out)
	if f == nil {
		return engine.Kernel{}, fmt.Errorf("the CPU device has no kernel for %s", op.Kind())
	}
	return engine.Kernel{Workspace: work, Kept: d.keptOf(op, in, out), Run: func(c *engine.Call) {
		a := &args{work: engine.F32(c.Work), kept: engine.F32(c.Kept), fresh: c.Fresh, info: c.Info}
		for i, b := range c.In {
			a.in = append(a.in, vec(in[i], b))
		}
		for i, b := range c.Out {
			a.out = append(a.out, vec(out[i], b))
		}
		f(a)
	}}, nil
}

// bind returns the kernel of an operation and its workspace, nil where there is none.
func (d *Device) bind(op graph.Op, in, out []engine.Layout) (run, int) {
	if anyHalf(in, out) && !d.takesHalf(op, in, out) {
		return d.widened(op, in, out)
	}
	for _, bind := range []func(graph.Op, []engine.Layout, []engine.Layout) (run, int){
		d.convKernel, d.volumeKernel, d.pairKernel, d.denseKernel, d.tokenKernel, d.stateKernel,
	} {
		if f, work := bind(op, in, out); f != nil {
			return f, work
		}
	}
	return nil, 0
}

// sameSegments refuses to go element by element through maps whose channels are grouped differently, such as
// the sum of a concatenation and a convolution.
func sameSegments(op graph.Op, in []engine.Layout) error {
	switch op := op.(type) {
	case ops.ConvNorm:
		if op.Add {
			out := in[5]
			out.Segments = []int{in[1].Type.Shape[0]}
			return sameSegments(ops.Add{}, []engine.Layout{out, in[5]})
		}
		return nil
	case graph.Sum, ops.Add, ops.ReLUBackward, ops.BNNorm, ops.BNReduce, ops.BNBackward, ops.BNFrozenBackward, ops.MaxPool3DBackward,
		ops.NormPoolReduce, ops.NormPoolBackward:
	default:
		return nil
	}
	var segments []int
	for _, l := range in {
		switch {
		case l.Format != blocked:
		case segments == nil:
			segments = l.Segments
		case !slices.Equal(l.Segments, segments):
			return fmt.Errorf("%s of maps with channels in groups of %v and %v: put a convolution before one of them", op.Kind(), segments, l.Segments)
		}
	}
	return nil
}

func readsPlain(op graph.Op) bool {
	switch op.(type) {
	case ops.Conv3D, ops.ConvNorm, ops.ConvNormPool, ops.Conv3DBackwardWeights, ops.Patches, ops.PatchEmbed:
		return true
	}
	return false
}
