package engine

import (
	"fmt"
	"iter"
	"slices"
	"time"
	"unsafe"

	"github.com/ctclass/ctclass/internal/graph"
)

// F32 views a buffer as float32 values.
func F32(b Buf) []float32 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}

// F64 views a buffer as float64 values.
func F64(b Buf) []float64 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float64)(unsafe.Pointer(&b[0])), len(b)/8)
}

// BF16 views a buffer as bfloat16 values.
func BF16(b Buf) []uint16 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*uint16)(unsafe.Pointer(&b[0])), len(b)/2)
}

// State holds what outlives a run: parameters, buffers and optimiser state, in the device's layouts.
type State struct {
	dev     Device
	names   []string
	entries map[string]*entry
	memory  Buf
	bytes   int64
	changes uint64 // how often it was written
}

type entry struct {
	layout Layout
	role   graph.Role
	place  int64
	buf    Buf
}

// NewState lays out the state of the given programs, which must agree on every tensor that they share.
// Memory is taken by NewExec.
func NewState(dev Device, programs ...*Program) (*State, error) {
	s := &State{dev: dev, entries: map[string]*entry{}}
	for _, p := range programs {
		for _, t := range p.states {
			if e := s.entries[t.state]; e != nil {
				if !e.layout.Equal(t.Layout) {
					return nil, fmt.Errorf("engine: two programs disagree on the layout of %s: %+v and %+v", t.state, e.layout, t.Layout)
				}
				continue
			}
			s.entries[t.state] = &entry{layout: t.Layout, role: t.Role, place: s.bytes}
			s.names = append(s.names, t.state)
			s.bytes += s.BytesOf(t.state)
		}
	}
	return s, nil
}

// Bytes returns the size of the state.
func (s *State) Bytes() int64 { return s.bytes }

// Names lists the state's tensors: parameters and buffers by their names in the network, then training state.
func (s *State) Names() []string { return slices.Clone(s.names) }

// Shape returns the logical shape of a tensor of the state.
func (s *State) Shape(name string) []int { return s.entries[name].layout.Type.Shape }

// Role tells parameters from buffers.
func (s *State) Role(name string) graph.Role { return s.entries[name].role }

// BytesOf returns the size of a tensor of the state.
func (s *State) BytesOf(name string) int64 {
	return aligned(int64(s.entries[name].layout.Size) * s.entries[name].layout.width(s.dev))
}

// Has reports whether the state has a tensor of this name.
func (s *State) Has(name string) bool { return s.entries[name] != nil }

// Set writes a tensor from row-major values.
func (s *State) Set(name string, values []float32) error {
	e := s.entries[name]
	if e == nil {
		return fmt.Errorf("engine: no tensor %s in the state", name)
	}
	if n := e.layout.Type.Elements(); n != len(values) {
		return fmt.Errorf("engine: %d values for %s of %v", len(values), name, e.layout.Type.Shape)
	}
	s.dev.Import(e.buf, e.layout, values)
	s.changes++
	return nil
}

// Get returns a tensor as row-major values.
func (s *State) Get(name string) []float32 {
	return s.GetInto(nil, name)
}

// GetInto is Get into the memory of dst, where that is enough.
func (s *State) GetInto(dst []float32, name string) []float32 {
	e := s.entries[name]
	n := e.layout.Type.Elements()
	if cap(dst) < n {
		dst = make([]float32, n)
	}
	s.dev.Export(dst[:n], e.layout, e.buf)
	return dst[:n]
}

// Copy gives a tensor of the state the values of another one of the same form.
func (s *State) Copy(to, from string) {
	a, b := s.sameForm(to, from)
	copy(a, b)
	s.changes++
}

// Swap exchanges the values of two tensors of the state, which have the same form.
func (s *State) Swap(x, y string) {
	s.changes++
	a, b := s.sameForm(x, y)
	var tmp [4096]byte
	for len(a) > 0 {
		n := copy(tmp[:], a)
		copy(a, b[:n])
		copy(b, tmp[:n])
		a, b = a[n:], b[n:]
	}
}

func (s *State) sameForm(x, y string) (a, b Buf) {
	ex, ey := s.entries[x], s.entries[y]
	if ex == nil || ey == nil || !ex.layout.Equal(ey.layout) {
		panic(fmt.Sprintf("engine: %s and %s do not have the same form", x, y))
	}
	return ex.buf, ey.buf
}

// Exec owns the memory of a set of programs over one state and runs them one at a time.
type Exec struct {
	dev      Device
	state    *State
	arena    Buf
	kept     Buf
	programs map[*Program]*bound
	bytes    int64
	observe  func(in *Instr, took time.Duration)
}

// bound is a program with its memory.
type bound struct {
	calls   []Call
	made    []uint64 // by call, the state that what it keeps was made of: State.changes + 1
	inputs  map[string]Buf
	outputs []Buf
}

// Bytes returns what an Exec over these programs and this state takes: state, inputs, the largest arena and what
// the programs keep.
func Bytes(s *State, programs ...*Program) int64 {
	return s.bytes + RunBytes(programs...) + KeptBytes(programs...)
}

// KeptBytes returns what the programs keep from run to run.
func KeptBytes(programs ...*Program) int64 {
	var n int64
	for _, p := range programs {
		n += p.KeptBytes
	}
	return n
}

// RunBytes returns what the arena and the inputs of the largest of the programs take.
func RunBytes(programs ...*Program) int64 {
	var most int64
	for _, p := range programs {
		most = max(most, p.ArenaBytes+inputBytes(p))
	}
	return most
}

func inputBytes(p *Program) int64 {
	var n int64
	for _, t := range p.Inputs {
		n += aligned(t.Layout.bytes(p.Device))
	}
	return n
}

// NewExec takes the memory of the state and of the largest of the programs.
func NewExec(s *State, programs ...*Program) (*Exec, error) {
	e := &Exec{dev: s.dev, state: s, programs: map[*Program]*bound{}, bytes: Bytes(s, programs...)}
	var err error
	if s.memory, err = allocate(s.bytes); err != nil {
		return nil, err
	}
	for _, en := range s.entries {
		n := int64(en.layout.Size) * en.layout.width(s.dev)
		en.buf = s.memory[en.place : en.place+n : en.place+n]
	}
	if e.arena, err = allocate(RunBytes(programs...)); err != nil {
		release(s.memory)
		return nil, err
	}
	if e.kept, err = allocate(KeptBytes(programs...)); err != nil {
		release(s.memory)
		release(e.arena)
		return nil, err
	}
	kept := e.kept
	for _, p := range programs {
		e.programs[p] = e.bind(p, kept[:p.KeptBytes])
		kept = kept[p.KeptBytes:]
	}
	return e, nil
}

// Bytes returns the memory that the Exec holds.
func (e *Exec) Bytes() int64 { return e.bytes }

// State returns the state that the programs work on.
func (e *Exec) State() *State { return e.state }

// Close gives the memory back; neither the Exec nor its State may be used afterwards.
func (e *Exec) Close() {
	release(e.arena)
	release(e.kept)
	release(e.state.memory)
	e.arena, e.kept, e.state.memory = nil, nil, nil
}

func (e *Exec) bind(p *Program, kept Buf) *bound {
	elem := int64(p.Device.ElementSize())
	b := &bound{inputs: map[string]Buf{}, made: make([]uint64, len(p.Instrs))}
	place := p.ArenaBytes
	names := make([]string, 0, len(p.Inputs))
	for name := range p.Inputs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t := p.Inputs[name]
		n := t.Layout.bytes(p.Device)
		b.inputs[name] = e.arena[place : place+n : place+n]
		place += aligned(n)
	}
	data := func(t *Tensor) Buf {
		switch {
		case t.state != "":
			return e.state.entries[t.state].buf
		case t.Role != graph.Computed:
			return b.inputs[t.Name]
		}
		root, off := t.root()
		from := root.place + int64(off)*root.Layout.width(p.Device)
		end := root.place + root.Layout.bytes(p.Device)
		if t.Layout.Stride == 0 { // a contiguous part: exactly its own elements
			end = from + t.Layout.bytes(p.Device)
		}
		return e.arena[from:end:end]
	}
	for _, in := range p.Instrs {
		var c Call
		for _, t := range in.In {
			c.In = append(c.In, data(t))
		}
		for _, t := range in.Out {
			c.Out = append(c.Out, data(t))
		}
		work := in.work
		if n := int64(in.kernel.Kept) * elem; n > 0 {
			if p.keep {
				c.Kept = kept[in.kept : in.kept+n : in.kept+n]
			} else {
				c.Kept = e.arena[work : work+n : work+n]
				work += aligned(n)
			}
		}
		if w := int64(in.kernel.Workspace) * elem; w > 0 {
			c.Work = e.arena[work : work+w : work+w]
		}
		b.calls = append(b.calls, c)
	}
	for _, t := range p.Outputs {
		b.outputs = append(b.outputs, data(t))
	}
	return b
}

// Input returns the memory of an input, row-major; it keeps its content between runs of this program only
// if no other program runs in between.
func (e *Exec) Input(p *Program, name string) Buf { return e.programs[p].inputs[name] }

// SetInput writes an input from row-major values.
func (e *Exec) SetInput(p *Program, name string, values []float32) error {
	t := p.Inputs[name]
	if t == nil {
		return fmt.Errorf("engine: the program has no input %q", name)
	}
	if n := t.Type.Elements(); n != len(values) {
		return fmt.Errorf("engine: %d values for input %q of %v", len(values), name, t.Type.Shape)
	}
	e.dev.Import(e.programs[p].inputs[name], t.Layout, values)
	return nil
}

// Observe makes every Run tell how long each instruction took; nil ends it.
func (e *Exec) Observe(f func(in *Instr, took time.Duration)) { e.observe = f }

// Run executes the program.
func (e *Exec) Run(p *Program, info *RunInfo) {
	if e.observe == nil {
		e.RunEach(p, info, nil)
		return
	}
	start := time.Now()
	e.RunEach(p, info, func(in *Instr) {
		e.observe(in, time.Since(start))
		start = time.Now()
	})
}

// RunEach executes the program and calls after, if given, behind each instruction.
func (e *Exec) RunEach(p *Program, info *RunInfo, after func(in *Instr)) {
	for in := range e.steps(p, info, nil) {
		if after != nil {
			after(in)
		}
	}
}

// steps executes the program one instruction after the other and yields each behind it; only those are run that
// wanted, if given, says yes to.
func (e *Exec) steps(p *Program, info *RunInfo, wanted func(in *Instr) bool) iter.Seq2[*Instr, *Call] {
	return func(yield func(*Instr, *Call) bool) {
		b := e.programs[p]
		if t := p.Inputs["one"]; t != nil && t.Role == graph.One {
			e.dev.Import(b.inputs["one"], t.Layout, []float32{1})
		}
		for i, in := range p.Instrs {
			if wanted != nil && !wanted(in) {
				continue
			}
			c := b.calls[i]
			c.Info = info
			c.Fresh = p.keep && b.made[i] == e.state.changes+1
			in.kernel.Run(&c)
			b.made[i] = e.state.changes + 1
			if slices.ContainsFunc(in.Out, func(t *Tensor) bool { return t.state != "" }) {
				e.state.changes++
			}
			if !yield(in, &c) {
				return
			}
		}
	}
}

// OutputBuf returns the memory of output i of the last run, in the device's layout and element type.
func (e *Exec) OutputBuf(p *Program, i int) Buf { return e.programs[p].outputs[i] }

// Output returns output i of the last run as row-major values.
func (e *Exec) Output(p *Program, i int) []float32 {
	t := p.Outputs[i]
	out := make([]float32, t.Type.Elements())
	e.dev.Export(out, t.Layout, e.programs[p].outputs[i])
	return out
}
