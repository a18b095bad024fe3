package engine

import (
	"cmp"
	"math"
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
)

// alignment of everything in the arena: a cache line and a 512-bit register.
const alignment = 64

func aligned(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

// region is a piece of the arena that is in use from one instruction to another, both included.
type region struct {
	size     int64
	from, to int
	place    *int64
	root     *Tensor // whose storage it is; nil: a workspace
}

// planTries is how often plan improves each of its orders, and planSlack the fraction over the lower bound
// from which on it does not try.
const (
	planTries = 12
	planSlack = 1.0 / 128
)

// plan gives every computed tensor and workspace a fixed offset in the arena: one after another, each at the
// lowest offset that is free for its whole life. It begins with the largest. While that leaves gaps, what
// reached highest is placed before everything else in the next try, and further orders begin with the
// longest lives and with the largest products of both; the best try counts.
func plan(p *Program) {
	regions := regionsOf(p)
	n := len(p.Instrs)
	p.LowerBoundBytes = lowerBound(regions, n)
	enough := p.LowerBoundBytes + int64(float64(p.LowerBoundBytes)*planSlack)
	best, places := int64(math.MaxInt64), make([]int64, len(regions))
	for _, weight := range []func(r *region) int64{
		func(r *region) int64 { return r.size },
		func(r *region) int64 { return r.size * int64(min(r.to, n)-r.from+1) },
		func(r *region) int64 { return int64(min(r.to, n) - r.from) },
	} {
		order := slices.Clone(regions)
		slices.SortStableFunc(order, func(a, b *region) int {
			return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(b.size, a.size), cmp.Compare(a.from, b.from))
		})
		for try := 0; try < planTries && best > enough; try++ {
			total := placeAll(order)
			if total < best {
				best = total
				for i, r := range regions {
					places[i] = *r.place
				}
			}
			var top, rest []*region
			for _, r := range order {
				if *r.place+r.size == total {
					top = append(top, r)
				} else {
					rest = append(rest, r)
				}
			}
			order = append(top, rest...)
		}
	}
	for i, r := range regions {
		*r.place = places[i]
		p.ArenaBytes = max(p.ArenaBytes, places[i]+r.size)
	}
}

// placeAll places the regions one after another and returns the size that they take.
func placeAll(regions []*region) (total int64) {
	var placed []*region // by offset
	for _, r := range regions {
		var off int64
		for _, q := range placed {
			if q.to < r.from || r.to < q.from {
				continue
			}
			if off+r.size <= *q.place {
				break
			}
			off = max(off, *q.place+q.size)
		}
		*r.place = off
		at, _ := slices.BinarySearchFunc(placed, off, func(q *region, off int64) int {
			if *q.place <= off {
				return -1
			}
			return 1
		})
		placed = slices.Insert(placed, at, r)
		total = max(total, off+r.size)
	}
	return total
}

func regionsOf(p *Program) []*region {
	life := map[*Tensor]*region{}
	var order []*region
	touch := func(t *Tensor, at int) {
		if t.Role != graph.Computed || t.state != "" {
			return
		}
		root, _ := t.root()
		r := life[root]
		if r == nil {
			r = &region{size: aligned(root.Layout.bytes(p.Device)), from: at, place: &root.place, root: root}
			life[root] = r
			order = append(order, r)
		}
		r.to = max(r.to, at)
		if root.output || t.output {
			r.to = math.MaxInt
		}
	}
	for at, in := range p.Instrs {
		for _, t := range in.In {
			touch(t, at)
		}
		for _, t := range in.Out {
			touch(t, at)
		}
		if w := p.workBytes(in); w > 0 {
			order = append(order, &region{size: w, from: at, to: at, place: &in.work})
		}
	}
	return order
}

// workBytes is what an instruction takes of the arena beside its operands and results: what it does not keep from
// run to run, then its workspace.
func (p *Program) workBytes(in *Instr) int64 {
	elem := int64(p.Device.ElementSize())
	w := aligned(int64(in.kernel.Workspace) * elem)
	if !p.keep {
		w += aligned(int64(in.kernel.Kept) * elem)
	}
	return w
}

// lowerBound is the largest sum of the sizes alive at one instruction.
func lowerBound(regions []*region, n int) int64 {
	change := make([]int64, n+1)
	for _, r := range regions {
		change[r.from] += r.size
		if r.to < n {
			change[r.to+1] -= r.size
		}
	}
	var now, peak int64
	for _, c := range change {
		now += c
		peak = max(peak, now)
	}
	return peak
}
