package session

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
)

// What the process takes beside its arenas, measured and rounded up: the code that is in memory, and the Go
// heap and stacks, which HeapBytes bounds.
const (
	codeBytes = 28 << 20
	heapBytes = 30 << 20
)

// Plan is a Session before its memory is taken.
type Plan struct {
	Session
	programs []*engine.Program
	planned  bool
}

// BudgetError says that no recomputation makes the session fit.
type BudgetError struct {
	Budget, Smallest int64 // bytes of the process
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("%d MiB are needed even when everything that can be is recomputed, and %d MiB are allowed", (e.Smallest+1<<20-1)>>20, e.Budget>>20)
}

// Compile plans the programs of a session; ProcessBytes tells what the process will take, and Start takes it.
// What does not fit the budget with the memory savers that the network asks for is planned anew: the training
// programs then recompute what costs least, whatever the network asks for. The error is a *BudgetError when
// that is not enough. Without training the evaluation keeps what its kernels make of the weights where the budget allows.
func Compile(dev engine.Device, opt Options) (*Plan, error) {
	if opt.Training == nil {
		p, err := compile(dev, opt, true)
		if err != nil || opt.Budget == 0 || p.ProcessBytes() <= opt.Budget {
			return p, err
		}
	}
	return compile(dev, opt, false)
}

// compile is Compile; with keep the evaluation keeps what it makes of the weights, and may take more than the budget.
func compile(dev engine.Device, opt Options, keep bool) (*Plan, error) {
	p := &Plan{Session: Session{opt: opt, train: map[int]*engine.Program{}}}
	if opt.EvalBatch > 0 {
		prog, err := p.compileEval(dev, keep)
		if err != nil {
			return nil, err
		}
		p.eval = prog
		p.programs = append(p.programs, prog)
	}
	sources := map[*engine.Program]*engine.Source{}
	if t := opt.Training; t != nil {
		for _, n := range t.BatchSizes {
			if p.train[n] != nil {
				continue
			}
			src, err := p.prepareTraining(dev, n)
			if err != nil {
				return nil, err
			}
			prog, err := src.Compile()
			if err != nil {
				return nil, err
			}
			sources[prog] = src
			p.train[n] = prog
			p.programs = append(p.programs, prog)
		}
		if t.Accumulate {
			prog, err := engine.CompileUpdate(p.train[t.BatchSizes[0]], t.Optimizer)
			if err != nil {
				return nil, err
			}
			p.update = prog
			p.programs = append(p.programs, prog)
		}
	}
	if opt.Probe != nil {
		prog, err := p.compileProbe(dev)
		if err != nil {
			return nil, err
		}
		p.probe = prog
		p.programs = append(p.programs, prog)
	}
	var err error
	if p.state, err = engine.NewState(dev, p.programs...); err != nil {
		return nil, err
	}
	p.forgetGraph()
	if keep {
		return p, nil
	}
	return p, p.fit(sources)
}

// forgetGraph lets go of the graphs that the programs were made of.
func (p *Plan) forgetGraph() {
	p.params = slices.Clone(p.params)
	for i, param := range p.params {
		v := param.Value
		p.params[i].Value = &graph.Value{Type: v.Type, Name: v.Name, Role: v.Role}
	}
}

// fit replaces the training programs that do not fit the budget.
func (p *Plan) fit(sources map[*engine.Program]*engine.Source) error {
	budget := p.opt.Budget
	if budget == 0 || p.ProcessBytes() <= budget {
		return nil
	}
	limit := budget - (p.ProcessBytes() - engine.RunBytes(p.programs...)) // for arena and inputs
	var smallest int64
	for i, prog := range p.programs {
		n := engine.RunBytes(prog)
		if n > limit && sources[prog] != nil {
			fit, err := sources[prog].Fit(limit)
			var none *engine.BudgetError
			switch {
			case errors.As(err, &none):
				n = none.Smallest
			case err != nil:
				return err
			default:
				p.planned = true
				p.programs[i] = fit
				for size, old := range p.train {
					if old == prog {
						p.train[size] = fit
					}
				}
				n = engine.RunBytes(fit)
			}
		}
		smallest = max(smallest, n)
	}
	if smallest > limit {
		return &BudgetError{Budget: budget, Smallest: budget - limit + smallest}
	}
	return nil
}

// Planned reports whether the budget changed what is recomputed.
func (p *Plan) Planned() bool { return p.planned }

// Bytes returns what the session's memory will take: parameters, training state, inputs and activations.
func (p *Plan) Bytes() int64 { return engine.Bytes(p.state, p.programs...) }

// ProcessBytes returns what the whole process will take at most: Bytes, what Options put beside it, one weight
// on its way in or out, and the Go runtime.
func (p *Plan) ProcessBytes() int64 {
	return p.Bytes() + p.HeapBytes() + codeBytes
}

// HeapBytes returns what of ProcessBytes the Go runtime manages: the limit to set for it.
func (p *Plan) HeapBytes() int64 { return p.opt.Beside + p.weightBytes() + heapBytes }

// weightBytes is the size of the largest weight on its way in or out.
func (p *Plan) weightBytes() int64 { return int64(4 * p.largest()) }

// ArenaBytes returns the part of Bytes that holds activations, gradients and workspaces.
func (p *Plan) ArenaBytes() int64 {
	var most int64
	for _, prog := range p.programs {
		most = max(most, prog.ArenaBytes)
	}
	return most
}

// AddedFLOP returns the largest share of a training step's operations that recomputation adds to it.
func (p *Plan) AddedFLOP() float64 {
	var most float64
	for _, prog := range p.programs {
		most = max(most, float64(prog.AddedFLOP)/float64(max(prog.FLOP, 1)))
	}
	return most
}

// Programs returns the compiled programs.
func (p *Plan) Programs() []*engine.Program { return slices.Clone(p.programs) }

// Start takes the memory and returns the session, its parameters all zero.
func (p *Plan) Start() (*Session, error) {
	exec, err := engine.NewExec(p.state, p.programs...)
	if err != nil {
		return nil, err
	}
	p.exec = exec
	return &p.Session, nil
}
