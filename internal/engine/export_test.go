package engine

import (
	"fmt"
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
)

// CompileUnfused is Compile without fusion, and so with every value stored.
func CompileUnfused(dev Device, req Request) (*Program, error) {
	src, err := prepare(dev, req, func(*Program) {})
	if err != nil {
		return nil, err
	}
	return src.compile(src.marked())
}

// memory is a symbolic run of a program: each element of the arena holds the identity of the value that was
// last written there, and each tensor has the identities that it must consist of. It knows offsets and
// shapes only, nothing of liveness.
type memory struct {
	prog  *Program
	cells []int64
	want  map[*Tensor][]int64
	next  int64
}

// CheckMemory runs the program symbolically. The error names an instruction that would read anything but what
// was computed for it, or that writes over what it reads without being able to.
func CheckMemory(p *Program) error {
	elem := int64(p.Device.ElementSize())
	m := &memory{prog: p, cells: make([]int64, p.ArenaBytes/elem), want: map[*Tensor][]int64{}}
	for _, in := range p.Instrs {
		for i, t := range in.In {
			if err := m.check(t); err != nil {
				return fmt.Errorf("%s reads input %d: %w", in, i, err)
			}
		}
		var work []int64
		if n := p.workBytes(in) / elem; n > 0 {
			work = m.cells[in.work/elem : in.work/elem+n]
			for i := range work {
				work[i] = -1
			}
		}
		for i, t := range in.In { // the workspace is apart
			if err := m.check(t); err != nil {
				return fmt.Errorf("the workspace of %s covers input %d: %w", in, i, err)
			}
		}
		if err := m.checkOverlap(in); err != nil {
			return err
		}
		for _, t := range in.Out {
			if !inArena(t) {
				continue
			}
			m.want[t] = m.values(in, t)
			for i, at := range m.places(t) {
				m.cells[at] = m.want[t][i]
			}
		}
		for i, t := range in.Out {
			if err := m.check(t); err != nil {
				return fmt.Errorf("%s writes output %d over another: %w", in, i, err)
			}
		}
		if slices.ContainsFunc(work, func(v int64) bool { return v != -1 }) {
			return fmt.Errorf("an output of %s lies in its workspace", in)
		}
	}
	for i, t := range p.Outputs {
		if err := m.check(t); err != nil {
			return fmt.Errorf("after the run, output %d: %w", i, err)
		}
	}
	return nil
}

func inArena(t *Tensor) bool { return t.Role == graph.Computed && t.state == "" }

// samples returns how many equal pieces a tensor consists of, and their size and distance.
func samples(t *Tensor) (n, size, stride int) {
	if t.Layout.Stride == 0 {
		return 1, t.Layout.Size, t.Layout.Size
	}
	n = t.Type.Shape[0]
	return n, t.Layout.Size / n, t.Layout.Stride
}

// places lists the cells of a tensor in ascending order.
func (m *memory) places(t *Tensor) []int {
	root, offset := t.root()
	start := int(root.place)/m.prog.Device.ElementSize() + offset
	n, size, stride := samples(t)
	out := make([]int, 0, n*size)
	for s := range n {
		for i := range size {
			out = append(out, start+s*stride+i)
		}
	}
	return out
}

func (m *memory) check(t *Tensor) error {
	if !inArena(t) {
		return nil
	}
	want, ok := m.want[t]
	if !ok {
		return fmt.Errorf("%s was never computed", t.Name)
	}
	for i, at := range m.places(t) {
		if m.cells[at] != want[i] {
			return fmt.Errorf("element %d of %s %v was overwritten", i, t.Name, t.Type)
		}
	}
	return nil
}

// values returns what an output consists of: parts of the inputs where the operation only moves them,
// otherwise new values.
func (m *memory) values(in *Instr, t *Tensor) []int64 {
	n, size, _ := samples(t)
	out := make([]int64, n*size)
	for i := range out {
		m.next++
		out[i] = m.next
	}
	own := func(t *Tensor) Layout { // as if it lay in no other tensor
		l := t.Layout
		if l.Stride > 0 {
			l.Stride = l.Size / l.Type.Shape[0]
		}
		return l
	}
	var layouts []Layout
	for _, k := range in.In {
		layouts = append(layouts, own(k))
	}
	views := m.prog.Device.Parts(in.Op, layouts, own(t))
	for i, v := range views {
		from := m.want[in.In[i]]
		if !v.Ok || from == nil {
			continue
		}
		_, part, _ := samples(in.In[i])
		for s := range n {
			if len(in.In) == 1 { // a slice
				copy(out[s*size:][:size], from[s*part+v.Offset:])
			} else {
				copy(out[s*size+v.Offset:], from[s*part:][:part])
			}
		}
	}
	return out
}

// checkOverlap allows an output to lie on an input only where the device says so or nothing moves.
func (m *memory) checkOverlap(in *Instr) error {
	for o, t := range in.Out {
		if !inArena(t) {
			continue
		}
		places := m.places(t)
		first, last := places[0], places[len(places)-1]
		for i, k := range in.In {
			if !inArena(k) || !slices.ContainsFunc(m.places(k), func(at int) bool {
				if at < first || at > last {
					return false
				}
				_, here := slices.BinarySearch(places, at)
				return here
			}) {
				continue
			}
			moves := m.prog.Device.Parts(in.Op, layoutsOf(in.In), t.Layout) != nil
			same := o == 0 && slices.Equal(places, m.places(k)) && slices.Contains(m.prog.Device.InPlace(in.Op, len(in.In)), i)
			if !moves && !same {
				return fmt.Errorf("%s writes output %d over input %d", in, o, i)
			}
		}
	}
	return nil
}

func layoutsOf(ts []*Tensor) []Layout {
	var out []Layout
	for _, t := range ts {
		out = append(out, t.Layout)
	}
	return out
}

// Clobber lets a program's first two overlapping regions in time lie at one place.
func Clobber(p *Program) bool {
	regions := regionsOf(p)
	for i, a := range regions {
		for _, b := range regions[:i] {
			if a.from <= b.to && b.from <= a.to && a.from != b.from {
				*a.place = *b.place
				return true
			}
		}
	}
	return false
}
