package engine

import (
	"cmp"
	"math"
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// elementCost is what an element written costs, in FLOP, where choices are compared: instructions without
// products are cheap, not free.
const elementCost = 8

// The most options that a link of a long and of a short chain may have.
const (
	fewOptions  = 32
	manyOptions = 160
	longChain   = 14
)

// link is a stage of the forward part as the planner sees it: a block of the network.
type link struct {
	run     float64   // cost of running it
	transit int64     // most bytes that running it takes, input and output included, when nothing is kept
	in, out int64     // bytes of what enters it and of what later links read, where that is kept
	more    int64     // bytes that keeping the output takes once the input is kept: a concatenation holds its parts
	leaves  []*Tensor // what later links read
	options []option  // what of it may be kept for backward, by ascending bytes
	work    int64     // bytes that its backward takes beside what is kept; measured
}

// option is one choice of what of a link is kept for its backward part.
type option struct {
	bytes    int64   // kept beside input and output
	again    int64   // the most bytes that are recomputed and alive together
	cost     float64 // of recomputing the rest
	refill   float64 // of computing what is kept from the link's input
	keep     []*Tensor
	measured int64 // bytes that backward takes beside what is kept, 0 while it is not known
}

// links describes the chain of blocks.
func (s *Source) links() []link {
	s.cut(func(m graph.Mark) int { return m.Block })
	most := manyOptions
	if len(s.stages) > longChain {
		most = fewOptions
	}
	chain := make([]link, len(s.stages))
	for i, stage := range s.stages {
		l := &chain[i]
		for _, in := range stage {
			l.run += instrCost(in)
		}
		if i > 0 {
			l.in = chain[i-1].out
		}
		l.leaves = s.crossing(i)
		for _, t := range l.leaves {
			n := s.bytes(t)
			l.out += n
			l.more += n - s.partBytes(t, i)
		}
		l.transit = s.transit(i)
		l.options = s.options(i, most)
	}
	return chain
}

func instrCost(in *Instr) float64 {
	n := 0
	for _, t := range in.Out {
		n += t.Type.Elements()
	}
	return float64(in.FLOP()) + elementCost*float64(n)
}

func (s *Source) bytes(t *Tensor) int64 {
	return aligned(t.Layout.bytes(s.prog.Device))
}

// crossing lists the large tensors from the stages up to i that the forward part of later ones reads.
func (s *Source) crossing(i int) []*Tensor {
	var out []*Tensor
	for _, stage := range s.stages[:i+1] {
		for _, in := range stage {
			for _, t := range in.Out {
				if s.isLarge(t) && s.leaves(t, i) {
					out = append(out, t)
				}
			}
		}
	}
	return out
}

// partBytes is the size of the parts of t, a concatenation or not, that were there before stage i.
func (s *Source) partBytes(t *Tensor, i int) int64 {
	if s.stage[t] < i {
		return s.bytes(t)
	}
	if _, ok := s.def[t].Op.(ops.Concat); !ok {
		return 0
	}
	var n int64
	for _, k := range s.def[t].In {
		if s.isForward(k) {
			n += s.partBytes(k, i)
		}
	}
	return n
}

// transit is the most bytes alive while stage i runs and keeps nothing but its results.
func (s *Source) transit(i int) int64 {
	last := map[*Tensor]int{}
	stage := s.stages[i]
	for at, in := range stage {
		for _, t := range in.In {
			if s.isForward(t) {
				last[t] = at
			}
		}
	}
	for _, t := range s.crossing(i) {
		last[t] = len(stage)
	}
	var now, peak int64
	size := func(t *Tensor) int64 { // the parts of a concatenation lie in it
		if _, ok := s.def[t].Op.(ops.Concat); ok {
			n := s.bytes(t)
			for _, k := range s.def[t].In {
				if s.isForward(k) {
					n -= s.bytes(k)
				}
			}
			return n
		}
		return s.bytes(t)
	}
	for t := range last {
		if s.stage[t] < i {
			now += s.bytes(t)
		}
	}
	for at, in := range stage {
		for _, t := range in.Out {
			now += size(t)
		}
		peak = max(peak, now)
		_, joins := in.Op.(ops.Concat)
		for k, t := range in.In {
			if !joins && s.isForward(t) && last[t] == at && slices.Index(in.In, t) == k {
				now -= size(t)
			}
		}
	}
	return peak
}

// options lists what of stage i may be kept. What backward reads falls into components that are recomputed
// independently, such as the layers of a dense block; within each every subset is tried, and of all
// combinations those are left that cost least for their bytes.
func (s *Source) options(i, most int) []option {
	out := map[*Tensor]bool{}
	for _, t := range s.crossing(i) {
		out[t] = true
	}
	s.withParts(out)
	var inner []*Tensor
	place := map[*Tensor]int{}
	for _, in := range s.stages[i] {
		for _, t := range in.Out {
			if s.isLarge(t) && !out[t] && slices.ContainsFunc(s.use[t], func(u *Instr) bool { return u.Backward }) {
				place[t] = len(inner)
				inner = append(inner, t)
			}
		}
	}
	there := func(t *Tensor) bool { return !s.isForward(t) || !s.isLarge(t) || out[t] || s.stage[t] != i }

	group := make([]int, len(inner))
	for k := range group {
		group[k] = k
	}
	for k, t := range inner {
		s.walk(t, func(d *Tensor) bool {
			j, ok := place[d]
			if ok && d != t {
				from, to := group[k], group[j]
				for m := range group {
					if group[m] == from {
						group[m] = to
					}
				}
			}
			return there(d) || ok && d != t
		})
	}
	result := []option{{}}
	for g := range inner {
		var members []*Tensor
		for k, t := range inner {
			if group[k] == g {
				members = append(members, t)
			}
		}
		if len(members) > 0 {
			result = combine(result, s.subsets(members, there), most)
		}
	}
	return result
}

// walk visits what has to be computed for t, t first; visit returns whether a value is there already.
func (s *Source) walk(t *Tensor, visit func(*Tensor) bool) (cost float64) {
	seen := map[*Instr]bool{}
	var from func(t *Tensor)
	from = func(t *Tensor) {
		if visit(t) || seen[s.def[t]] {
			return
		}
		d := s.def[t]
		seen[d] = true
		cost += instrCost(d)
		for _, k := range d.In {
			from(k)
		}
	}
	from(t)
	return cost
}

// mostSubsets is the number of tensors up to which every subset is tried.
const mostSubsets = 9

// subsets lists the options of a component that cost least for their bytes.
func (s *Source) subsets(members []*Tensor, there func(*Tensor) bool) []option {
	price := func(keep map[*Tensor]bool, want func(*Tensor) bool) (cost float64) {
		done := map[*Tensor]bool{}
		for _, t := range members {
			if want(t) {
				cost += s.walk(t, func(d *Tensor) bool {
					if there(d) || keep[d] || done[d] {
						return true
					}
					for _, o := range s.def[d].Out {
						done[o] = true
					}
					return false
				})
			}
		}
		return cost
	}
	try := func(keep map[*Tensor]bool) option {
		var o option
		for _, t := range members {
			if keep[t] {
				o.keep = append(o.keep, t)
				o.bytes += s.bytes(t)
			} else {
				o.again += s.bytes(t)
			}
		}
		o.cost = price(keep, func(t *Tensor) bool { return !keep[t] })
		o.refill = price(nil, func(t *Tensor) bool { return keep[t] })
		return o
	}
	var all []option
	if len(members) <= mostSubsets {
		for bits := range 1 << len(members) {
			keep := map[*Tensor]bool{}
			for k, t := range members {
				if bits>>k&1 == 1 {
					keep[t] = true
				}
			}
			all = append(all, try(keep))
		}
		return cheapest(all, math.MaxInt)
	}
	// Too many for every subset: leave out one after another, the one that saves most for its cost.
	keep := map[*Tensor]bool{}
	for _, t := range members {
		keep[t] = true
	}
	now := try(keep)
	all = append(all, now)
	for range members {
		var best *Tensor
		rate := 0.0
		for _, t := range members {
			if keep[t] {
				delete(keep, t)
				o := try(keep)
				if r := float64(s.bytes(t)) / (o.cost - now.cost + 1); best == nil || r > rate {
					best, rate = t, r
				}
				keep[t] = true
			}
		}
		delete(keep, best)
		now = try(keep)
		all = append(all, now)
	}
	return cheapest(all, math.MaxInt)
}

// cheapest leaves of the options those that no other one beats in both bytes and cost, by ascending bytes,
// and of more than most of them the cheapest in each range of bytes.
func cheapest(all []option, most int) []option {
	slices.SortStableFunc(all, func(a, b option) int { return cmp.Or(cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.cost, b.cost)) })
	var out []option
	for _, o := range all {
		if len(out) == 0 || o.cost < out[len(out)-1].cost {
			out = append(out, o)
		}
	}
	if len(out) <= most {
		return out
	}
	step := float64(out[len(out)-1].bytes) / float64(most-1)
	thin := out[:0:0]
	for _, o := range out { // the last one of a range is its cheapest
		if n := len(thin); n > 1 && int(float64(thin[n-1].bytes)/step) == int(float64(o.bytes)/step) {
			thin[n-1] = o
		} else {
			thin = append(thin, o)
		}
	}
	return thin
}

// combine joins the options of independent components.
func combine(a, b []option, most int) []option {
	all := make([]option, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			all = append(all, option{
				bytes: x.bytes + y.bytes, again: max(x.again, y.again), cost: x.cost + y.cost, refill: x.refill + y.refill,
				keep: append(slices.Clone(x.keep), y.keep...),
			})
		}
	}
	return cheapest(all, most)
}
