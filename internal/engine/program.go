// Package engine turns a graph into a Program, a plain list of instructions whose memory is planned to the
// byte before the first run, and runs it on a Device.
//
// The way of a graph: Compile lowers it once (lower.go), fuses (fuse.go), inserts recomputation for values
// that are not kept (recompute.go), lets values share storage (views.go), and gives every remaining one a
// fixed place in one arena (plan.go). Exec owns the memory and runs programs (exec.go).
package engine

import (
	"fmt"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// Layout is the physical form of a tensor on a device. Its fields are the device's to interpret; the engine
// only needs Size, and Stride where one tensor is a part of another.
type Layout struct {
	Format   uint8      // device-defined
	Type     graph.Type // the logical type
	Segments []int      // device-defined: how channels are grouped
	Size     int        // elements of storage, the tensor's own (parts of a larger one excepted)
	Stride   int        // elements from one sample to the next, for formats that can be a part of another
	Half     bool       // elements are bfloat16 whatever the device's are
}

// width is the size of an element in bytes.
func (l Layout) width(dev Device) int64 {
	if l.Half {
		return 2
	}
	return int64(dev.ElementSize())
}

// bytes is what a tensor of its own takes.
func (l Layout) bytes(dev Device) int64 { return max(1, int64(l.Size)) * l.width(dev) }

// Equal reports whether two layouts put every element at the same place.
func (l Layout) Equal(o Layout) bool {
	if l.Format != o.Format || !l.Type.Equal(o.Type) || l.Size != o.Size || l.Stride != o.Stride || l.Half != o.Half || len(l.Segments) != len(o.Segments) {
		return false
	}
	for i, s := range l.Segments {
		if s != o.Segments[i] {
			return false
		}
	}
	return true
}

// Tensor is a value of a Program.
type Tensor struct {
	Name   string // leaf name, or layer name of a computed tensor
	Type   graph.Type
	Role   graph.Role
	Layout Layout

	mark   graph.Mark
	output bool    // read after the run
	state  string  // name in the State, for tensors that outlive a run
	like   *Tensor // the parameter whose training state this is, or nil
	base   *Tensor // the tensor that this one is a part of, or nil
	offset int     // elements from the start of base
	place  int64   // byte offset in the arena, for computed tensors without a base
	apart  bool    // outlives the concatenation that it is joined to, and so must not lie in it
}

// root returns the tensor that owns t's storage and t's element offset in it.
func (t *Tensor) root() (*Tensor, int) {
	off := 0
	for t.base != nil {
		off += t.offset
		t = t.base
	}
	return t, off
}

// Instr is one instruction.
type Instr struct {
	Op       graph.Op
	Name     string // the layer it belongs to
	In, Out  []*Tensor
	Backward bool
	Clone    bool // recomputes a value that was not kept
	kernel   Kernel
	work     int64  // byte offset of the workspace in the arena
	kept     int64  // byte offset of what is kept among what the program keeps
	source   *Instr // what this is a copy or clone of
}

func (i *Instr) String() string { return fmt.Sprintf("%s (%s)", i.Op.Kind(), i.Name) }

// Work returns the floating-point operations that the instruction stands for, those of ops.OpFLOP, and the
// bytes of its operands and results: what it must move at least where they lie in memory.
func (i *Instr) Work(dev Device) (flop, bytes int64) {
	in := make([]graph.Type, len(i.In))
	for j, t := range i.In {
		in[j] = t.Type
		bytes += int64(t.Type.Elements()) * t.Layout.width(dev)
	}
	for _, t := range i.Out {
		bytes += int64(t.Type.Elements()) * t.Layout.width(dev)
	}
	return ops.OpFLOP(i.Op, in, i.Out[0].Type), bytes
}

// Program is a compiled graph: what a device executes, with all memory planned.
type Program struct {
	Device  Device
	Instrs  []*Instr
	Inputs  map[string]*Tensor
	Outputs []*Tensor // in the order of Request.Outputs
	// ArenaBytes is the size of the arena that a run needs, workspaces included.
	ArenaBytes int64
	// LowerBoundBytes is what liveness alone asks for: no plan can be smaller.
	LowerBoundBytes int64
	// KeptBytes is what the program keeps beside the arena from run to run.
	KeptBytes int64
	// FLOP counts the operations of a run as ops.StepFLOP does, AddedFLOP those of them that recompute values.
	FLOP, AddedFLOP int64

	keep   bool      // kernels keep what they make of the state
	states []*Tensor // parameters, buffers and optimiser state, in creation order
}

// StateTensors returns the tensors that outlive a run, in creation order.
func (p *Program) StateTensors() []*Tensor { return p.states }

// StateName returns the tensor's name in the State.
func (t *Tensor) StateName() string { return t.state }

// Buf is a piece of memory handed to a kernel; F32, F64 and BF16 give its typed view.
type Buf []byte

// RunInfo is what a run knows beyond its tensors.
type RunInfo struct {
	Seed      uint64   // of the training run
	Epoch     uint64   // dropout masks differ from epoch to epoch
	SampleIDs []uint64 // one per sample of the batch
	LR        float64  // learning rate of this step
	Step      int      // optimiser step, from 1
	First     bool     // first micro-batch of a step: accumulators are overwritten

	// NotApplied is set by the run: an update has left out a gradient, or a part of it, that is not finite.
	NotApplied bool
}

// Call carries the arguments of one kernel call.
type Call struct {
	In, Out []Buf
	Work    Buf
	Kept    Buf
	Fresh   bool // Kept holds what an earlier run made of the state as it is
	Info    *RunInfo
}

// Kernel is an instruction bound to code.
type Kernel struct {
	Workspace int // elements
	// Kept is the number of elements that hold what the kernel makes of parameters and buffers alone. A program
	// compiled with Request.Keep lets them stay; otherwise they are a workspace.
	Kept int
	Run  func(*Call)
}

// View says where a part of a tensor starts, in elements of its sample; Ok is false where the device cannot
// share storage for it.
type View struct {
	Offset int
	Ok     bool
}

// Device is what a Program is compiled for and runs on. The graph is logical; layouts, algorithms and
// workspaces are the device's business. Choices may depend on per-sample shapes and the instruction set,
// never on the batch size or the number of threads.
type Device interface {
	Name() string
	// ElementSize is the size of an element in bytes, where its layout does not say Half.
	ElementSize() int
	// InputLayout is the layout in which the caller writes an input: row-major.
	InputLayout(t graph.Type) Layout
	// ParameterLayout is the layout of a parameter or buffer that op reads as its input number i.
	ParameterLayout(op graph.Op, i int, in []Layout, t graph.Type) Layout
	// OutputLayout is the layout in which op writes its output number i.
	OutputLayout(op graph.Op, i int, in []Layout, t graph.Type) Layout
	// Parts says for an operation that only moves data where its inputs lie in its output (a concatenation)
	// or its output lies in its input (a slice): one View, or one per input; nil for other operations.
	Parts(op graph.Op, in []Layout, out Layout) []View
	// InPlace lists the inputs, of n, whose storage the first output may take over without changing a bit.
	InPlace(op graph.Op, n int) []int
	// Joins says whether the device has a kernel for an operation that the engine would make of several.
	Joins(op graph.Op) bool
	// Kernel binds an instruction.
	Kernel(op graph.Op, in, out []Layout) (Kernel, error)
	// Import converts row-major values to the layout, Export back.
	Import(dst Buf, l Layout, src []float32)
	Export(dst []float32, l Layout, src Buf)
}
