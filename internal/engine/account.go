package engine

// Part says what a piece of the arena is used for.
type Part int

// The parts of the arena.
const (
	Activations        Part = iota // values of the forward part
	Recomputed                     // those that are computed again in the backward part
	Gradients                      // of activations
	ParameterGradients             // until the optimiser or the accumulator has taken them
	Workspaces                     // of kernels
	parts
)

// Parts lists all of them.
func Parts() []Part {
	return []Part{Activations, Recomputed, Gradients, ParameterGradients, Workspaces}
}

func (p Part) String() string {
	return [...]string{"activations", "recomputed activations", "gradients of activations", "gradients of parameters", "workspaces"}[p]
}

// Moment is the arena while one instruction runs.
type Moment struct {
	Layer    string
	Kind     string // of the operation
	Backward bool
	Clone    bool // recomputes a value
	Bytes    [parts]int64
}

// Total is all that is alive at the moment.
func (m *Moment) Total() (n int64) {
	for _, b := range m.Bytes {
		n += b
	}
	return n
}

// Timeline tells what is alive in the arena at each instruction.
func (p *Program) Timeline() []Moment {
	line := make([]Moment, len(p.Instrs))
	for i, in := range p.Instrs {
		line[i] = Moment{Layer: in.Name, Kind: in.Op.Kind(), Backward: in.Backward, Clone: in.Clone}
	}
	taken := map[*Tensor]bool{} // by an instruction that changes state
	for _, in := range p.Instrs {
		if in.Backward && len(in.Out) > 0 && in.Out[0].state != "" {
			for _, t := range in.In {
				root, _ := t.root()
				taken[root] = true
			}
		}
	}
	for _, r := range regionsOf(p) {
		part := Workspaces
		if in := p.Instrs[r.from]; r.root != nil {
			switch {
			case in.Clone:
				part = Recomputed
			case !in.Backward:
				part = Activations
			case taken[r.root]:
				part = ParameterGradients
			default:
				part = Gradients
			}
		}
		for i := r.from; i <= min(r.to, len(line)-1); i++ {
			line[i].Bytes[part] += r.size
		}
	}
	return line
}

// Peak returns the instruction at which most is alive, by its number from 0, and what is alive then.
func (p *Program) Peak() (at int, m Moment) {
	line := p.Timeline()
	for i := range line {
		if line[i].Total() > line[at].Total() {
			at = i
		}
	}
	return at, line[at]
}
