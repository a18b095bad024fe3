package engine

import (
	"fmt"
	"math"
	"slices"
)

// BudgetError says that no recomputation makes a program fit.
type BudgetError struct {
	Limit    int64 // what was allowed for arena and inputs, in bytes
	Smallest int64 // the least that a plan was found for
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("a step takes at least %d MiB of activations and inputs, %d MiB are allowed", mebibytes(e.Smallest), e.Limit>>20)
}

func mebibytes(n int64) int64 { return (n + 1<<20 - 1) >> 20 }

// Prepare lowers the request for the device. What is recomputed is decided by Compile, or by Fit.
func Prepare(dev Device, req Request) (*Source, error) { return prepare(dev, req, fuse) }

// Compile returns the program that recomputes what its layers ask for.
func (s *Source) Compile() (*Program, error) { return s.compile(s.marked()) }

// KeepAll returns the program that recomputes nothing.
func (s *Source) KeepAll() (*Program, error) { return s.compile(nil) }

// most tries of the planner, each of which corrects its estimates by what the program before really takes.
const (
	budgetTries   = 10
	smallestTries = 8
)

// slack is the part of a limit, one in so many, that may be lost between liveness and placement.
const slack = 16

// candidate is a program whose storage is shared but not placed yet.
type candidate struct {
	sched  *schedule
	choice []chosen
	bytes  int64 // what liveness asks for, and the inputs
	cost   float64
}

// Fit returns the program that recomputes least, in FLOP, among those whose arena and inputs take at most
// limit bytes. The marks of the layers have no say. The error is a *BudgetError when there is none.
func (s *Source) Fit(limit int64) (*Program, error) {
	if s.forward == len(s.prog.Instrs) { // nothing to recompute
		p, err := s.Compile()
		if err == nil && RunBytes(p) > limit {
			err = &BudgetError{Limit: limit, Smallest: p.ArenaBytes + inputBytes(p)}
		}
		return p, err
	}
	if p, err := s.KeepAll(); err != nil || RunBytes(p) <= limit {
		return p, err
	}
	f, err := s.newFitter()
	if err != nil {
		return nil, err
	}
	// Liveness is a lower bound: where the arena does not reach it, the next candidate or limit has to do.
	for goal := limit; goal > limit-limit/slack; {
		found, err := f.search(goal)
		if err != nil {
			return nil, err
		}
		over := limit / slack
		for _, c := range found {
			p, err := s.compile(c.sched)
			if err != nil {
				return nil, err
			}
			n := RunBytes(p) - limit
			if n <= 0 {
				return p, nil
			}
			over = min(over, n)
		}
		goal -= over
	}
	p, err := f.smallest()
	if err != nil {
		return nil, err
	}
	if n := p.ArenaBytes + inputBytes(p); n > limit {
		return nil, &BudgetError{Limit: limit, Smallest: n}
	}
	return p, nil
}

// Smallest returns the program that takes the least memory of those that the planner knows.
func (s *Source) Smallest() (*Program, error) {
	if s.forward == len(s.prog.Instrs) {
		return s.Compile()
	}
	f, err := s.newFitter()
	if err != nil {
		return nil, err
	}
	return f.smallest()
}

// fitter searches schedules. The dynamic program knows what is kept exactly and what backward takes beside
// it from measuring: each candidate's liveness corrects the estimates for the next one.
type fitter struct {
	src   *Source
	chain []link
	names map[string]int // stage by layer name
	tried map[string]bool
	whole candidate // the one that keeps everything
}

func (s *Source) newFitter() (*fitter, error) {
	f := &fitter{src: s, chain: s.links(), names: map[string]int{}, tried: map[string]bool{}}
	for i, stage := range s.stages {
		for _, in := range stage {
			f.names[in.Name] = i
		}
	}
	// Keeping everything is the first candidate: it tells what each link's backward takes.
	var choice []chosen
	var root, end *schedule
	var kept int64
	for i := range f.chain {
		l := &f.chain[i]
		last := len(l.options) - 1
		kept += l.options[last].bytes + l.more
		choice = append(choice, chosen{i, last, kept})
		keep := map[*Tensor]bool{}
		for _, t := range slices.Concat(l.leaves, l.options[last].keep) {
			keep[t] = true
		}
		n := &schedule{from: i, to: i + 1, keep: s.withParts(keep)}
		if root == nil {
			root = n
		} else {
			end.next = n
		}
		end = n
	}
	var err error
	f.whole, err = f.try(root, choice)
	for i := range f.chain {
		l := &f.chain[i]
		l.work = l.options[len(l.options)-1].measured
	}
	return f, err
}

// try arranges a schedule, and notes what the backward part of each link takes.
func (f *fitter) try(sched *schedule, choice []chosen) (candidate, error) {
	p, err := f.src.arrange(sched)
	if err != nil {
		return candidate{}, err
	}
	c := candidate{sched: sched, choice: choice}
	for _, in := range p.Instrs {
		if in.Clone {
			c.cost += instrCost(in)
		}
	}
	live := liveBytes(p)
	c.bytes = slices.Max(live) + inputBytes(p)
	peak := make([]int64, len(f.chain))
	at := len(f.chain) - 1
	var clones []int
	for i, in := range p.Instrs {
		switch {
		case !in.Backward:
		case in.Clone:
			clones = append(clones, i)
		default:
			if n, ok := f.names[in.Name]; ok && n < at {
				at = n
			}
			peak[at] = max(peak[at], live[i])
			for _, k := range clones { // those of other links belong to a rerun
				if f.src.stage[p.Instrs[k].source.Out[0]] == at {
					peak[at] = max(peak[at], live[k])
				}
			}
			clones = clones[:0]
		}
	}
	for _, ch := range choice {
		f.chain[ch.link].options[ch.option].measured = max(1, peak[ch.link]-ch.kept)
	}
	return c, nil
}

// liveBytes returns what is alive at each instruction, workspaces included.
func liveBytes(p *Program) []int64 {
	n := len(p.Instrs)
	live := make([]int64, n+1)
	for _, r := range regionsOf(p) {
		live[r.from] += r.size
		if r.to < n {
			live[r.to+1] -= r.size
		}
	}
	for i := 1; i < n; i++ {
		live[i] += live[i-1]
	}
	return live[:n]
}

// search returns candidates within the limit, the cheapest first.
func (f *fitter) search(limit int64) ([]candidate, error) {
	f.tried = map[string]bool{}
	var fit []candidate
	goal := limit - inputBytes(f.src.prog)
	for range budgetTries {
		if goal <= 0 {
			break
		}
		r := newRotor(f.chain, goal)
		sched, choice := r.schedule(f.src, goal)
		if sched == nil {
			break
		}
		key := fmt.Sprint(choice)
		if f.tried[key] {
			// The estimates agree with this candidate: only another goal brings another one.
			if len(fit) > 0 {
				break
			}
			goal -= goal / 64
			continue
		}
		f.tried[key] = true
		c, err := f.try(sched, choice)
		if err != nil {
			return nil, err
		}
		if c.bytes <= limit {
			fit = append(fit, c)
			goal += limit - c.bytes // rounding left something: the next one may use it
		}
	}
	slices.SortStableFunc(fit, func(a, b candidate) int {
		if a.cost < b.cost {
			return -1
		}
		if a.cost > b.cost {
			return 1
		}
		return 0
	})
	return fit, nil
}

// smallest returns the program of the smallest candidate that it finds.
func (f *fitter) smallest() (*Program, error) {
	best := candidate{bytes: math.MaxInt64}
	total := f.whole.bytes
	for range smallestTries {
		r := newRotor(f.chain, total)
		least, ok := r.smallest()
		if !ok {
			break
		}
		sched, choice := r.schedule(f.src, least)
		c, err := f.try(sched, choice)
		if err != nil {
			return nil, err
		}
		if c.bytes < best.bytes {
			best = c
		}
		total = min(total, 2*best.bytes)
	}
	if best.sched == nil {
		best = f.whole
	}
	return f.src.compile(best.sched)
}
