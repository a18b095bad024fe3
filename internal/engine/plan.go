package engine

import (
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
}

// plan gives every computed tensor and workspace a fixed offset in the arena: the largest first, each at
// the lowest offset that is free for its whole life.
func plan(p *Program) {
	regions := regionsOf(p)
	p.LowerBoundBytes = lowerBound(regions, len(p.Instrs))
	slices.SortStableFunc(regions, func(a, b *region) int {
		switch {
		case a.size != b.size:
			if a.size > b.size {
				return -1
			}
			return 1
		default:
			return a.from - b.from
		}
	})
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
		p.ArenaBytes = max(p.ArenaBytes, off+r.size)
	}
}

func regionsOf(p *Program) []*region {
	elem := int64(p.Device.ElementSize())
	life := map[*Tensor]*region{}
	var order []*region
	touch := func(t *Tensor, at int) {
		if t.Role != graph.Computed || t.state != "" {
			return
		}
		root, _ := t.root()
		r := life[root]
		if r == nil {
			r = &region{size: aligned(max(1, int64(root.Layout.Size)) * elem), from: at, place: &root.place}
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
		if w := in.kernel.Workspace; w > 0 {
			order = append(order, &region{size: aligned(int64(w) * elem), from: at, to: at, place: &in.work})
		}
	}
	return order
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
