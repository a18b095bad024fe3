// Package graph is the façade over gorgonia.org/gorgonia: it builds a static expression graph of ctclass's
// own operations and lets gorgonia derive the backward part. It is the only package that knows gorgonia's
// types; what leaves it are Values, in the order in which they can be computed.
package graph

import (
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"
)

// Class says what a value is, as far as its physical layout is concerned.
type Class uint8

const (
	// Dense values are row-major: parameters, tokens, vectors.
	Dense Class = iota
	// Volume values are feature maps of shape (N, C, D, H, W) whose layout is the device's business.
	Volume
)

// Type is the shape and class of a value. A scalar has an empty shape.
type Type struct {
	Shape []int
	Class Class
}

// Equal reports whether both types have the same shape and class.
func (t Type) Equal(o Type) bool { return t.Class == o.Class && slices.Equal(t.Shape, o.Shape) }

// Elements returns the number of elements, 1 for a scalar.
func (t Type) Elements() int {
	n := 1
	for _, s := range t.Shape {
		n *= s
	}
	return n
}

func (t Type) String() string {
	if t.Class == Volume {
		return fmt.Sprintf("volume%v", t.Shape)
	}
	return fmt.Sprint(t.Shape)
}

// Op is one operation with its attributes: what it is, its shape rule and its gradient rule.
type Op interface {
	// Kind is the operation's name in programs and profiles.
	Kind() string
	// Infer returns the type of the output for inputs of the given types, or says what does not fit.
	Infer(in []Type) (Type, error)
	// Grad builds the gradients of the loss with respect to the inputs from the gradient dout with respect
	// to the output. An entry is nil where the input is an Input or Buffer or where the optional method
	// NotDifferentiable(input int) bool says so.
	Grad(in []*Value, out, dout *Value) []*Value
}

// Role tells leaves apart.
type Role uint8

const (
	// Computed values are the result of an operation.
	Computed Role = iota
	// Input values change with every run: the batch and what belongs to it.
	Input
	// Parameter values are trained.
	Parameter
	// Buffer values are state that is not trained, such as running statistics.
	Buffer
	// One is the constant gradient of the loss with respect to itself.
	One
)

// Value is a node of the graph.
type Value struct {
	Type
	Name  string // of a leaf: unique; of a computed value: the layer it belongs to
	Role  Role
	Op    Op // nil for leaves
	In    []*Value
	Seq   int // position in creation order, which is a topological order
	Mark  Mark
	graph *Graph
	node  *gorgonia.Node
}

// Mark is what a layer says about recomputing a value instead of keeping it for the backward part.
type Mark struct {
	Segment int  // >0: dropped after the forward part; values of one segment are recomputed together
	Drop    bool // dropped and recomputed on its own, also inside a segment
	Block   int  // >0: values of one block are kept or recomputed by one choice of the memory planner
}

// Dim returns the size of axis i.
func (v *Value) Dim(i int) int { return v.Shape[i] }

// Update says that a buffer takes a new value at the end of each run.
type Update struct{ Buffer, To *Value }

// Graph is an expression graph under construction.
type Graph struct {
	expr    *gorgonia.ExprGraph
	byNode  map[*gorgonia.Node]*Value
	leaves  map[string]*Value
	values  []*Value
	Updates []Update
	scope   []string
	mark    Mark
	layer   string // overrides the scope while gradients are built
	uid     int
}

// BuildError is how a shape that does not fit leaves the depths of a model; Build turns it into an error.
type BuildError struct{ Err error }

// Build runs f on a new graph and returns the graph. A shape or attribute that does not fit stops f and
// comes back as an error that names the layer.
func Build(f func(g *Graph) error) (g *Graph, err error) {
	g = &Graph{expr: gorgonia.NewGraph(), byNode: map[*gorgonia.Node]*Value{}, leaves: map[string]*Value{}}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case BuildError:
			g, err = nil, r.Err
		default:
			panic(r)
		}
	}()
	if err := f(g); err != nil {
		return nil, err
	}
	return g, nil
}

// Fail stops the Build under way with an error that names the current layer.
func (g *Graph) Fail(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if s := g.Scope(); s != "" {
		err = fmt.Errorf("%s: %w", s, err)
	}
	panic(BuildError{err})
}

// Scope returns the name of the layer under construction, such as "layer1.0.conv1".
func (g *Graph) Scope() string {
	if g.layer != "" {
		return g.layer
	}
	return strings.Join(g.scope, ".")
}

// In runs f with name appended to the scope.
func (g *Graph) In(name string, f func()) {
	g.scope = append(g.scope, name)
	f()
	g.scope = g.scope[:len(g.scope)-1]
}

// Marked runs f; the values that it creates carry the mark.
func (g *Graph) Marked(m Mark, f func()) {
	old := g.mark
	g.mark = m
	f()
	g.mark = old
}

// CurrentMark returns the mark that new values get.
func (g *Graph) CurrentMark() Mark { return g.mark }

// Leaf adds an input, a parameter or a buffer. Names are unique in a graph.
func (g *Graph) Leaf(role Role, name string, t Type) *Value {
	if g.leaves[name] != nil {
		g.Fail("the name %q is used twice", name)
	}
	v := g.add(&Value{Type: t, Name: name, Role: role}, newLeafNode(g.expr, name, t))
	g.leaves[name] = v
	return v
}

// Leaves returns the leaves of a role in creation order.
func (g *Graph) Leaves(role Role) []*Value {
	var out []*Value
	for _, v := range g.values {
		if v.Role == role {
			out = append(out, v)
		}
	}
	return out
}

// Apply adds the result of op on the inputs.
func (g *Graph) Apply(op Op, in ...*Value) *Value {
	types := make([]Type, len(in))
	for i, v := range in {
		types[i] = v.Type
	}
	t, err := op.Infer(types)
	if err != nil {
		g.Fail("%w", err)
	}
	node := g.applyNode(op, t, in)
	return g.add(&Value{Type: t, Name: g.Scope(), Op: op, In: slices.Clone(in), Mark: g.mark}, node)
}

// SetUpdate makes the buffer take the value of to at the end of each run.
func (g *Graph) SetUpdate(buffer, to *Value) {
	g.Updates = append(g.Updates, Update{buffer, to})
}

func (g *Graph) add(v *Value, node *gorgonia.Node) *Value {
	v.graph, v.node, v.Seq = g, node, len(g.values)
	g.values = append(g.values, v)
	g.byNode[node] = v
	return v
}

// Graph returns the graph that the value belongs to.
func (v *Value) Graph() *Graph { return v.graph }

// Reachable returns the values that the given ones depend on, themselves included, in creation order.
func Reachable(outs ...*Value) []*Value {
	seen := map[*Value]bool{}
	var all []*Value
	stack := slices.Clone(outs)
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || seen[v] {
			continue
		}
		seen[v] = true
		all = append(all, v)
		stack = append(stack, v.In...)
	}
	slices.SortFunc(all, func(a, b *Value) int { return a.Seq - b.Seq })
	return all
}
