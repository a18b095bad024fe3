package cpu

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/reference"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/kernels/ref"
)

// The operations of this file exist in tests only. enter makes a feature map out of a row-major value, so that
// a parameter becomes a blocked map with a gradient; leave is its inverse; dot makes a scalar with a given
// gradient out of any value.

// enter turns a row-major value into a volume whose channels the CPU device stores in the given segments, or
// as the second input's, if there is one.
type enter struct{ shape, segments []int }

func (enter) Kind() string { return "enter" }
func (o enter) Infer([]graph.Type) (graph.Type, error) {
	return graph.Type{Shape: o.shape, Class: graph.Volume}, nil
}

func (enter) Grad(in []*graph.Value, _, dout *graph.Value) []*graph.Value {
	return []*graph.Value{dout.Graph().Apply(leave{in[0].Shape}, dout)}
}

// leave turns a volume into a row-major value.
type leave struct{ shape []int }

func (leave) Kind() string { return "leave" }
func (o leave) Infer([]graph.Type) (graph.Type, error) {
	return graph.Type{Shape: o.shape}, nil
}

func (leave) Grad(in []*graph.Value, _, dout *graph.Value) []*graph.Value {
	return []*graph.Value{dout.Graph().Apply(enter{shape: in[0].Shape}, dout, in[0])}
}

// dot is the inner product of two row-major values, the second of which is given.
type dot struct{}

func (dot) Kind() string { return "dot" }
func (dot) Infer(in []graph.Type) (graph.Type, error) {
	if !in[0].Equal(in[1]) {
		return graph.Type{}, fmt.Errorf("inner product of %v and %v", in[0], in[1])
	}
	return graph.Type{}, nil
}

func (dot) Grad(in []*graph.Value, _, dout *graph.Value) []*graph.Value {
	return []*graph.Value{dout.Graph().Apply(spread{}, in[1], dout), nil}
}

// spread is a value times a scalar.
type spread struct{}

func (spread) Kind() string                                                   { return "spread" }
func (spread) Infer(in []graph.Type) (graph.Type, error)                      { return in[0], nil }
func (spread) Grad([]*graph.Value, *graph.Value, *graph.Value) []*graph.Value { return nil }

// probed is a device that knows the operations above and keeps the last value that was read, unrounded.
type probed interface {
	engine.Device
	exact() []float64
}

// last is the value that was read last.
type last struct{ values []float64 }

func (l *last) exact() []float64 { return slices.Clone(l.values) }

func keep[T ref.Float](l *last, values []T) {
	l.values = l.values[:0]
	for _, v := range values {
		l.values = append(l.values, float64(v))
	}
}

// flatProbe binds dot and spread, and as copies enter and leave.
func flatProbe[T ref.Float](view func(engine.Buf) []T, op graph.Op, n int) func(*engine.Call) {
	switch op.(type) {
	case enter, leave:
		return func(c *engine.Call) { copy(view(c.Out[0])[:n], view(c.In[0])) }
	case dot:
		return func(c *engine.Call) {
			var sum float64
			x, y := view(c.In[0]), view(c.In[1])
			for i := range n {
				sum += float64(x[i]) * float64(y[i])
			}
			view(c.Out[0])[0] = T(sum)
		}
	case spread:
		return func(c *engine.Call) {
			by := view(c.In[1])[0]
			for i, v := range view(c.In[0])[:n] {
				view(c.Out[0])[i] = v * by
			}
		}
	}
	return nil
}

// referenceProbe is a reference device.
type referenceProbe[T ref.Float] struct {
	reference.Device[T]
	*last
}

func newReferenceProbe[T ref.Float]() probed {
	return referenceProbe[T]{reference.New[T](), &last{}}
}

func (d referenceProbe[T]) Kernel(op graph.Op, in, out []engine.Layout) (engine.Kernel, error) {
	if f := flatProbe(d.Values, op, in[0].Type.Elements()); f != nil {
		return engine.Kernel{Run: f}, nil
	}
	return d.Device.Kernel(op, in, out)
}

func (d referenceProbe[T]) Export(dst []float32, l engine.Layout, src engine.Buf) {
	keep(d.last, d.Values(src)[:len(dst)])
	d.Device.Export(dst, l, src)
}

// cpuProbe is a CPU device.
type cpuProbe struct {
	*Device
	*last
}

// newCPUProbe returns a device of one instruction set; it is closed with the test.
func newCPUProbe(t *testing.T, isa kernels.ISA, threads int) probed {
	return newCPUProbeOn(t, &kernels.Machine{Pool: kernels.NewPool(threads), ISA: isa}, Options{})
}

// newCPUProbeOn is newCPUProbe on a machine of one's own.
func newCPUProbeOn(t *testing.T, m *kernels.Machine, o Options) probed {
	d := On(m, o)
	t.Cleanup(d.Close)
	return cpuProbe{d, &last{}}
}

func (d cpuProbe) OutputLayout(op graph.Op, i int, in []engine.Layout, t graph.Type) engine.Layout {
	if e, ok := op.(enter); ok {
		switch {
		case len(in) == 2:
			return d.activation(mapLayout(t, in[1].Segments))
		case e.segments != nil:
			return d.activation(mapLayout(t, e.segments))
		}
	}
	return d.Device.OutputLayout(op, i, in, t)
}

// activation is the layout of a map in the device's precision.
func (d cpuProbe) activation(l engine.Layout) engine.Layout {
	l.Half = d.half
	return l
}

func (d cpuProbe) Kernel(op graph.Op, in, out []engine.Layout) (engine.Kernel, error) {
	switch op.(type) {
	case enter:
		return engine.Kernel{Run: func(c *engine.Call) {
			d.m.FromPlain(engine.F32(c.In[0])[:in[0].Size], out[0].Segments, feature(out[0], vec(out[0], c.Out[0])))
		}}, nil
	case leave:
		return engine.Kernel{Run: func(c *engine.Call) {
			d.m.ToPlain(feature(in[0], vec(in[0], c.In[0])), in[0].Segments, engine.F32(c.Out[0])[:out[0].Size])
		}}, nil
	}
	if f := flatProbe(engine.F32, op, in[0].Type.Elements()); f != nil {
		return engine.Kernel{Run: f}, nil
	}
	return d.Device.Kernel(op, in, out)
}

func (d cpuProbe) Export(dst []float32, l engine.Layout, src engine.Buf) {
	d.Device.Export(dst, l, src)
	keep(d.last, dst)
}
