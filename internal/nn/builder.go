// Package nn holds the layers: each adds its parameters, with names and initialisers, and its operations to
// a graph. Parameter names are those of PyTorch's state_dict.
package nn

import (
	"github.com/ctclass/ctclass/internal/graph"
)

// Builder builds a network's layers in a graph.
type Builder struct {
	*graph.Graph
	// Training chooses batch statistics and dropout; otherwise running statistics and no dropout.
	Training bool
	// Frozen tells the parameters that are not trained; nil: none. A batch norm whose weight and bias are
	// frozen normalises by its running statistics, in training too, and leaves them as they are.
	Frozen func(name string) bool
	// Params lists the parameters and buffers in the order of creation.
	Params []Param

	segments, blocks int
}

// Param is a parameter or buffer of a network.
type Param struct {
	Value *graph.Value
	Init  Init
}

// New returns a builder on the graph.
func New(g *graph.Graph, training bool) *Builder { return &Builder{Graph: g, Training: training} }

// Trainable returns the parameters, without buffers and without those that are frozen.
func (b *Builder) Trainable() []*graph.Value {
	var out []*graph.Value
	for _, p := range b.Params {
		if p.Value.Role == graph.Parameter && !b.frozen(p.Value) {
			out = append(out, p.Value)
		}
	}
	return out
}

func (b *Builder) frozen(v *graph.Value) bool { return b.Frozen != nil && b.Frozen(v.Name) }

// Recomputed runs f, whose values are not kept for backward but recomputed, all of one segment together, if
// on is set.
func (b *Builder) Recomputed(on bool, f func()) {
	if !on {
		f()
		return
	}
	b.segments++
	m := b.CurrentMark()
	m.Segment, m.Drop = b.segments, false
	b.Marked(m, f)
}

// Block runs f, which adds one link of the chain that the network is, such as a residual block: the memory
// planner chooses for each of them what of it is kept for backward.
func (b *Builder) Block(f func()) {
	b.blocks++
	m := b.CurrentMark()
	m.Block = b.blocks
	b.Marked(m, f)
}

// Dropped runs f, whose values, including those that later layers read, are recomputed in backward, if on
// is set.
func (b *Builder) Dropped(on bool, f func()) {
	if !on {
		f()
		return
	}
	m := b.CurrentMark()
	m.Drop = true
	b.Marked(m, f)
}

func (b *Builder) leaf(role graph.Role, name string, init Init, shape ...int) *graph.Value {
	if s := b.Scope(); s != "" {
		name = s + "." + name
	}
	v := b.Leaf(role, name, graph.Type{Shape: shape})
	b.Params = append(b.Params, Param{v, init})
	return v
}

// Parameter adds a trained tensor named below the current scope.
func (b *Builder) Parameter(name string, init Init, shape ...int) *graph.Value {
	return b.leaf(graph.Parameter, name, init, shape...)
}

// Buffer adds a state tensor that is not trained.
func (b *Builder) Buffer(name string, init Init, shape ...int) *graph.Value {
	return b.leaf(graph.Buffer, name, init, shape...)
}
