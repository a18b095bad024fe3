// Package onnx writes a network as an ONNX file (opset 17) of standard operators, with everything that
// applying it takes in the file's metadata.
package onnx

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/nn"
)

// The versions of the format that files declare.
const (
	irVersion = 8
	opset     = 17
)

// The names of the graph's input, volumes (N, C, D, H, W), and output, logits (N, classes).
const (
	InputName  = "volume"
	OutputName = "logits"
)

// Options say how a network is exported.
type Options struct {
	Half         bool // weights and computation in float16; input and output stay float32
	DynamicBatch bool // any number of volumes at a time instead of one
	Producer     string
	Metadata     []Property // in this order
}

// Property is an entry of the file's metadata.
type Property struct{ Key, Value string }

// maxFile is what protocol buffers allow.
const maxFile = math.MaxInt32

// Write exports the network for volumes of the given size (D, H, W) with the weights to path, replacing an
// older file in one step. The tensors must be exactly the network's, batch counters aside.
func Write(path string, net *models.Network, shapeDHW [3]int, tensors []modelfile.Tensor, opt Options) error {
	e, err := build(net, shapeDHW, tensors, opt)
	if err != nil {
		return fmt.Errorf("%s cannot be exported: %w", net.Name, err)
	}
	size := e.size()
	if size > maxFile {
		return fmt.Errorf("%s cannot be exported: it takes %d MiB, and an ONNX file may have at most 2048", net.Name, size>>20)
	}
	return atomicfile.Write(path, e.write)
}

// exporter gathers the nodes and constants of a graph.
type exporter struct {
	net       *models.Network
	opt       Options
	input     []int // shapes of input and output, 0 for the symbolic batch
	output    []int
	weights   map[string]modelfile.Tensor
	nodes     []node
	constants []constant
	names     map[*graph.Value]string // of computed values
	users     map[*graph.Value]int    // how many values read one
	folded    map[*graph.Value]*graph.Value
	used      map[string]bool // names of nodes and values
}

// build walks the network's evaluation graph.
func build(net *models.Network, shapeDHW [3]int, tensors []modelfile.Tensor, opt Options) (*exporter, error) {
	e := &exporter{
		net: net, opt: opt, weights: map[string]modelfile.Tensor{}, names: map[*graph.Value]string{},
		users: map[*graph.Value]int{}, folded: map[*graph.Value]*graph.Value{}, used: map[string]bool{},
	}
	var x, logits *graph.Value
	var specs []modelfile.Spec
	_, err := graph.Build(func(g *graph.Graph) error {
		b := nn.New(g, false)
		shape := []int{1, net.InChannels, shapeDHW[0], shapeDHW[1], shapeDHW[2]}
		x = g.Leaf(graph.Input, "x", graph.Type{Shape: shape, Class: graph.Volume})
		logits = net.Build(b, x)
		for _, p := range b.Params {
			specs = append(specs, modelfile.Spec{Name: p.Value.Name, Shape: p.Value.Shape, DType: modelfile.F32})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, t := range tensors {
		if t.DType() == modelfile.F32 {
			e.weights[t.Name] = t
		}
	}
	floats := slices.DeleteFunc(slices.Clone(tensors), func(t modelfile.Tensor) bool { return t.DType() != modelfile.F32 })
	if err := modelfile.MatchTensors(floats, specs); err != nil {
		return nil, err
	}
	values := graph.Reachable(logits)
	e.fold(values)
	e.input, e.output = slices.Clone(x.Shape), slices.Clone(logits.Shape)
	if opt.DynamicBatch {
		e.input[0], e.output[0] = 0, 0
	}
	e.names[x] = InputName
	e.used[InputName], e.used[OutputName] = true, true
	if opt.Half {
		e.names[x] = e.emit("to_half", "Cast", []string{InputName}, attribute{"to", float16Type})
	}
	for _, v := range values {
		if v.Op == nil {
			continue
		}
		if err := e.add(v); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	last := node{op: "Identity", name: "output", in: []string{e.names[logits]}, out: []string{OutputName}}
	if opt.Half {
		last.op, last.attrs = "Cast", []attribute{{"to", float32Type}}
	}
	e.nodes = append(e.nodes, last)
	return e, e.checkHalf()
}

// checkHalf refuses weights that float16 cannot hold.
func (e *exporter) checkHalf() error {
	if !e.opt.Half {
		return nil
	}
	for _, c := range e.constants {
		if !c.half {
			continue
		}
		for _, v := range c.f32 {
			if math.Abs(float64(v)) >= 65520 {
				return fmt.Errorf("%s has the value %v, beyond the range of float16: export without half precision", c.name, v)
			}
		}
	}
	return nil
}

// unique makes a name of nodes or values that nothing else has.
func (e *exporter) unique(name string) string {
	out := name
	for i := 2; e.used[out]; i++ {
		out = fmt.Sprintf("%s_%d", name, i)
	}
	e.used[out] = true
	return out
}

// emit adds a node with one output and returns the output's name.
func (e *exporter) emit(name, op string, in []string, attrs ...attribute) string {
	out := e.unique(name)
	e.nodes = append(e.nodes, node{op: op, name: out, in: in, out: []string{out}, attrs: attrs})
	return out
}

// constant adds an initializer of floats and returns its name.
func (e *exporter) constant(name string, shape []int, values []float32) string {
	name = e.unique(name)
	e.constants = append(e.constants, constant{name: name, shape: shape, f32: values, half: e.opt.Half})
	return name
}

// exact adds an initializer that stays float32, as the statistics of a batch norm may.
func (e *exporter) exact(name string, values []float32) string {
	name = e.unique(name)
	e.constants = append(e.constants, constant{name: name, shape: []int{len(values)}, f32: values})
	return name
}

// numbers adds an initializer of integers; shape nil is a scalar.
func (e *exporter) numbers(name string, shape []int, values ...int64) string {
	name = e.unique(name)
	e.constants = append(e.constants, constant{name: name, shape: shape, ints: values})
	return name
}

// parameter returns the values of a leaf.
func (e *exporter) parameter(v *graph.Value) []float32 { return e.weights[v.Name].F32 }

// leaf adds the weights of a leaf under its own name.
func (e *exporter) leaf(v *graph.Value) string { return e.constant(v.Name, v.Shape, e.parameter(v)) }

var errUnknown = errors.New("no standard operator is known for it")

// graphProto returns the parts of the GraphProto before and after its initializers, and its whole size.
func (e *exporter) graphProto() (before, after []byte, size int) {
	for _, n := range e.nodes {
		before = appendMessage(before, 1, n.encode())
	}
	before = appendText(before, 2, e.net.Name)
	after = appendMessage(nil, 11, valueInfo(InputName, e.input))
	after = appendMessage(after, 12, valueInfo(OutputName, e.output))
	size = len(before) + len(after)
	for _, c := range e.constants {
		n := len(c.header()) + c.rawBytes()
		size += protowire.SizeTag(5) + protowire.SizeBytes(n)
	}
	return before, after, size
}

// envelope returns the parts of the ModelProto before and after its graph.
func (e *exporter) envelope() (before, after []byte) {
	before = appendInt(nil, 1, irVersion)
	before = appendText(before, 2, "ctclass")
	before = appendText(before, 3, e.opt.Producer)
	after = appendMessage(nil, 8, appendInt(appendText(nil, 1, ""), 2, opset))
	for _, p := range e.opt.Metadata {
		after = appendMessage(after, 14, appendText(appendText(nil, 1, p.Key), 2, p.Value))
	}
	return before, after
}

// size returns the bytes of the file.
func (e *exporter) size() int64 {
	before, after := e.envelope()
	_, _, n := e.graphProto()
	return int64(len(before) + len(after) + protowire.SizeTag(7) + protowire.SizeBytes(n))
}

// write writes the ModelProto.
func (e *exporter) write(w io.Writer) error {
	before, after := e.envelope()
	graphBefore, graphAfter, size := e.graphProto()
	head := protowire.AppendTag(before, 7, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(size))
	if _, err := w.Write(append(head, graphBefore...)); err != nil {
		return err
	}
	for _, c := range e.constants {
		h := c.header()
		b := protowire.AppendTag(nil, 5, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(len(h)+c.rawBytes()))
		if _, err := w.Write(append(b, h...)); err != nil {
			return err
		}
		if err := c.write(w); err != nil {
			return err
		}
	}
	_, err := w.Write(append(graphAfter, after...))
	return err
}
