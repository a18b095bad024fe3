package engine

import "math"

// slots is the number of steps into which the planner divides the memory.
const slots = 600

// rotor is the dynamic program over a chain of links for one size of memory (Beaumont, Eyraud-Dubois,
// Herrmann, Joly, Shilova: Optimal checkpointing for heterogeneous chains, 2019), with options inside each
// link. cost[s][t][m] is the least cost of running the links s to t forward and backward when m slots are
// free, what enters s is there and the gradient of what leaves t is counted to t's backward. Either s keeps
// one of its options for its backward; or s … k−1 run keeping nothing but what enters k, and are run again
// once k … t are done.
type rotor struct {
	chain  []link
	unit   int64
	cost   [][][]float64
	choice [][][]int32 // an option, or −k
}

// newRotor solves the problem for all sizes of memory up to total bytes.
func newRotor(chain []link, total int64) *rotor {
	n := len(chain)
	r := &rotor{chain: chain, unit: max(1, (total+slots-1)/slots)}
	r.cost, r.choice = make([][][]float64, n), make([][][]int32, n)
	for s := range n {
		r.cost[s], r.choice[s] = make([][]float64, n), make([][]int32, n)
	}
	for length := range n {
		for s := range n - length {
			r.solve(s, s+length)
		}
	}
	return r
}

func (r *rotor) near(bytes int64) int { return int((bytes + r.unit/2) / r.unit) }

func (r *rotor) over(bytes int64) int { return int((bytes + r.unit - 1) / r.unit) }

func (r *rotor) solve(s, t int) {
	cost, choice := make([]float64, slots+1), make([]int32, slots+1)
	for m := range cost {
		cost[m] = math.Inf(1)
	}
	l := &r.chain[s]
	for k := range l.options {
		o := &l.options[k]
		kept := r.near(o.bytes + l.more)
		least := r.over(max(o.bytes+l.more+l.backward(o), l.transit-l.in))
		price := o.cost + l.run
		if s == t && t < len(r.chain)-1 { // run again for its own sake: what leaves it is there
			price = o.cost + o.refill
		}
		for m := max(least, kept); m <= slots; m++ {
			c := price
			if s < t {
				c += r.cost[s+1][t][m-kept]
			}
			if c < cost[m] {
				cost[m], choice[m] = c, int32(k)
			}
		}
	}
	var run float64
	var transit int64
	for k := s + 1; k <= t; k++ {
		p := &r.chain[k-1]
		run += p.run
		transit = max(transit, p.transit)
		kept, least := r.near(p.out), r.over(transit-l.in)
		for m := max(least, kept); m <= slots; m++ {
			if c := run + r.cost[k][t][m-kept] + r.cost[s][k-1][m]; c < cost[m] {
				cost[m], choice[m] = c, int32(-k)
			}
		}
	}
	r.cost[s][t], r.choice[s][t] = cost, choice
}

// backward is the memory that the link's backward takes beside what is kept, as far as it is known.
func (l *link) backward(o *option) int64 {
	if o.measured != 0 {
		return o.measured
	}
	return l.work + o.again
}

// chosen tells which option a link of a schedule got, and what the planner counts as kept when its backward runs.
type chosen struct {
	link, option int
	kept         int64
}

// schedule returns the cheapest schedule for bytes of memory, nil if there is none, and its choices.
func (r *rotor) schedule(src *Source, bytes int64) (*schedule, []chosen) {
	m := min(int(bytes/r.unit), slots)
	last := len(r.chain) - 1
	if m < 0 || math.IsInf(r.cost[0][last][m], 1) {
		return nil, nil
	}
	var list []chosen
	return r.build(src, 0, last, m, 0, &list), list
}

func (r *rotor) build(src *Source, s, t, m int, kept int64, list *[]chosen) *schedule {
	l, pick := &r.chain[s], int(r.choice[s][t][m])
	keep := map[*Tensor]bool{}
	if pick < 0 {
		k := -pick
		for _, t := range r.chain[k-1].leaves {
			keep[t] = true
		}
		out := r.chain[k-1].out
		n := &schedule{from: s, to: k, keep: src.withParts(keep)}
		n.next = r.build(src, k, t, m-r.near(out), kept+out, list)
		n.again = r.build(src, s, k-1, m, kept, list)
		return n
	}
	o := &l.options[pick]
	for _, t := range l.leaves {
		keep[t] = true
	}
	for _, t := range o.keep {
		keep[t] = true
	}
	kept += o.bytes + l.more
	*list = append(*list, chosen{s, pick, kept})
	n := &schedule{from: s, to: s + 1, keep: src.withParts(keep)}
	if s < t {
		n.next = r.build(src, s+1, t, m-r.near(o.bytes+l.more), kept, list)
	}
	return n
}

// smallest returns the least memory that the planner has a schedule for.
func (r *rotor) smallest() (int64, bool) {
	for m, c := range r.cost[0][len(r.chain)-1] {
		if !math.IsInf(c, 1) {
			return int64(m) * r.unit, true
		}
	}
	return 0, false
}
