package graph

import (
	"fmt"
	"hash"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// adapter makes an Op a gorgonia.Op and gorgonia.SDOp. Gorgonia merges nodes whose hashes are equal, so
// every application gets its own uid.
type adapter struct {
	op    Op
	graph *Graph
	uid   int
	in    []int  // ranks
	fixed []bool // inputs through which no gradient flows
	out   Type
}

var _ gorgonia.SDOp = adapter{}

func (a adapter) Arity() int { return len(a.in) }

// Type returns a fresh type at each call: gorgonia recycles it.
func (a adapter) Type() hm.Type {
	ts := make([]hm.Type, 0, len(a.in)+1)
	for _, rank := range a.in {
		ts = append(ts, rankType(rank))
	}
	return hm.NewFnType(append(ts, rankType(len(a.out.Shape)))...)
}

func rankType(rank int) hm.Type {
	if rank == 0 {
		return tensor.Float32
	}
	return gorgonia.TensorType{Dims: rank, Of: tensor.Float32}
}

func (a adapter) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	return tensor.Shape(slices.Clone(a.out.Shape)), nil
}

// Do is not how programs run: the engine lowers the graph and executes it itself.
func (a adapter) Do(...gorgonia.Value) (gorgonia.Value, error) {
	return nil, fmt.Errorf("%s runs in ctclass's engine only", a.op.Kind())
}

func (a adapter) ReturnsPtr() bool      { return false }
func (a adapter) CallsExtern() bool     { return false }
func (a adapter) OverwritesInput() int  { return -1 }
func (a adapter) String() string        { return a.op.Kind() }
func (a adapter) WriteHash(h hash.Hash) { fmt.Fprintf(h, "%s#%d", a.op.Kind(), a.uid) }

func (a adapter) Hashcode() uint32 {
	h := fnv.New32a()
	a.WriteHash(h)
	return h.Sum32()
}

// DiffWRT tells where gradients flow: not to what a program is given, nor where the operation says so.
func (a adapter) DiffWRT(int) []bool {
	d := make([]bool, len(a.fixed))
	for i, f := range a.fixed {
		d[i] = !f
	}
	return d
}

// SymDiff builds the gradient values and checks their shapes, which gorgonia does not.
func (a adapter) SymDiff(inputs gorgonia.Nodes, output, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	g := a.graph
	out := g.byNode[output]
	in := make([]*Value, len(inputs))
	for i, n := range inputs {
		in[i] = g.byNode[n]
	}
	g.layer = out.Name
	defer func() { g.layer = "" }()
	dout := g.wrap(grad)
	if !dout.Type.Equal(out.Type) {
		return nil, fmt.Errorf("%s: the gradient of %s has shape %v, want %v", out.Name, a.op.Kind(), dout.Type, out.Type)
	}
	nodes := make(gorgonia.Nodes, len(in))
	for i, d := range a.op.Grad(in, out, dout) {
		if d == nil {
			continue
		}
		if !d.Type.Equal(in[i].Type) {
			return nil, fmt.Errorf("%s: %s gives input %d a gradient of shape %v, want %v", out.Name, a.op.Kind(), i, d.Type, in[i].Type)
		}
		nodes[i] = d.node
	}
	return nodes, nil
}

func newLeafNode(expr *gorgonia.ExprGraph, name string, t Type) *gorgonia.Node {
	if len(t.Shape) == 0 {
		return gorgonia.NewScalar(expr, tensor.Float32, gorgonia.WithName(name))
	}
	return gorgonia.NewTensor(expr, tensor.Float32, len(t.Shape), gorgonia.WithShape(t.Shape...), gorgonia.WithName(name))
}

func (g *Graph) applyNode(op Op, t Type, in []*Value) *gorgonia.Node {
	ranks := make([]int, len(in))
	nodes := make([]*gorgonia.Node, len(in))
	fixed := make([]bool, len(in))
	nd, _ := op.(interface{ NotDifferentiable(input int) bool })
	for i, v := range in {
		if v.graph != g {
			panic("graph: a value of another graph was given to " + op.Kind())
		}
		ranks[i], nodes[i] = len(v.Shape), v.node
		fixed[i] = v.Role == Input || v.Role == Buffer || v.Role == One || nd != nil && nd.NotDifferentiable(i)
	}
	for {
		g.uid++
		n, err := gorgonia.ApplyOp(adapter{op: op, graph: g, uid: g.uid, in: ranks, fixed: fixed, out: t}, nodes...)
		if err != nil {
			g.Fail("%s: %w", op.Kind(), err)
		}
		if g.byNode[n] == nil { // otherwise the 32-bit hash of another node collided: take another uid
			return n
		}
	}
}

// wrap returns the Value of a node; the nodes that gorgonia adds to sum up gradients become one n-ary Sum.
func (g *Graph) wrap(n *gorgonia.Node) *Value {
	if v := g.byNode[n]; v != nil {
		return v
	}
	var terms []*Value
	var flatten func(n *gorgonia.Node)
	flatten = func(n *gorgonia.Node) {
		if v := g.byNode[n]; v != nil {
			terms = append(terms, v)
			return
		}
		if op := n.Op(); op == nil || !strings.HasPrefix(op.String(), "+") {
			panic(fmt.Sprintf("graph: gorgonia added a node that is no sum: %v", n.Op()))
		}
		// From lists a node's operands without promising an order; the order of creation is the same every time.
		var kids []*gorgonia.Node
		for it := g.expr.From(n.ID()); it.Next(); {
			kids = append(kids, it.Node().(*gorgonia.Node))
		}
		slices.SortFunc(kids, func(a, b *gorgonia.Node) int { return int(a.ID() - b.ID()) })
		for _, k := range kids {
			flatten(k)
		}
	}
	flatten(n)
	slices.SortFunc(terms, func(a, b *Value) int { return a.Seq - b.Seq })
	return g.add(&Value{Type: terms[0].Type, Name: g.Scope(), Op: Sum{}, In: terms}, n)
}

// Gradients adds the backward part and returns the gradient of the scalar loss with respect to each value,
// nil for a value that the loss does not depend on.
func (g *Graph) Gradients(loss *Value, of ...*Value) ([]*Value, error) {
	if len(loss.Shape) != 0 {
		return nil, fmt.Errorf("the loss has shape %v, but only a scalar has gradients", loss.Shape)
	}
	depends := map[*Value]bool{}
	for _, v := range Reachable(loss) {
		depends[v] = true
	}
	var wrt gorgonia.Nodes
	for _, v := range of {
		if depends[v] {
			wrt = append(wrt, v.node)
		}
	}
	one := g.Leaf(One, "one", Type{})
	nodes, err := gorgonia.Backpropagate(gorgonia.Nodes{loss.node}, gorgonia.Nodes{one.node}, wrt)
	if err != nil {
		return nil, fmt.Errorf("deriving gradients: %w", err)
	}
	grads := make([]*Value, len(of))
	for i, v := range of {
		if depends[v] {
			g.layer = v.Name
			grads[i] = g.wrap(nodes[0])
			nodes = nodes[1:]
			if !grads[i].Type.Equal(v.Type) {
				return nil, fmt.Errorf("the gradient of %s has shape %v, want %v", v.Name, grads[i].Type, v.Type)
			}
		}
	}
	g.layer = ""
	return grads, nil
}

// Sum adds two or more values of one type. Gradients that meet at a value become one Sum.
type Sum struct{}

// Kind returns "sum".
func (Sum) Kind() string { return "sum" }

// Infer requires inputs of one type.
func (Sum) Infer(in []Type) (Type, error) {
	for _, t := range in[1:] {
		if !t.Equal(in[0]) {
			return Type{}, fmt.Errorf("sum of shapes %v and %v", in[0], t)
		}
	}
	return in[0], nil
}

// Grad passes the gradient on to every term.
func (Sum) Grad(in []*Value, _, dout *Value) []*Value {
	d := make([]*Value, len(in))
	for i := range d {
		d[i] = dout
	}
	return d
}
