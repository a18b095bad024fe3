package preprocess

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/ctclass/ctclass/internal/kernels"
)

// A volume is resampled plane by plane: a chain of sources, each made of the one before it, gives any rows of
// any plane on demand. Nothing but a few planes is held at a time, and these stay in the processor's caches.
// Planes are numbered along d, rows along h, columns along w. A chain belongs to one goroutine; what it gives
// depends on the volume alone.

// source gives parts of planes.
type source interface {
	// rows returns rows lo..hi-1 of a plane and the distance from one row to the next. They hold until the
	// next call, those of a steady source until another plane than the last few is asked for.
	rows(plane, lo, hi int) (data []float32, stride int)
	// width is the number of columns of a row.
	width() int
}

// stored is an array [d][h][w], read where it lies. It is steady.
type stored struct {
	data []float32
	size [3]int
}

func (s *stored) rows(plane, lo, hi int) ([]float32, int) {
	h, w := s.size[1], s.size[2]
	return s.data[(plane*h+lo)*w : (plane*h+hi)*w], w
}

func (s *stored) width() int { return s.size[2] }

// gatherGroup is how many neighbouring planes are gathered together: a cache line's worth of voxels.
const gatherGroup = 16

// gathered is an array whose axes are stored in another order, brought into planes a group at a time.
type gathered struct {
	data   []float32
	size   [3]int // of d, h, w
	stride [3]int
	ring   ring
}

func newGathered(data []float32, size, stride [3]int, span int) *gathered {
	g := &gathered{data: data, size: size, stride: stride}
	groups := (span+gatherGroup-2)/gatherGroup + 1
	g.ring = newRing(min(groups*gatherGroup, (size[0]+gatherGroup-1)/gatherGroup*gatherGroup), size[1]*size[2])
	return g
}

func (g *gathered) rows(plane, lo, hi int) ([]float32, int) {
	w := g.size[2]
	p, ok := g.ring.get(plane)
	if !ok {
		first := plane / gatherGroup * gatherGroup
		g.gather(first, min(gatherGroup, g.size[0]-first))
		p, _ = g.ring.get(plane)
	}
	return p[lo*w : hi*w], w
}

// gather fills n planes from first on, along the axis whose voxels lie closest together.
func (g *gathered) gather(first, n int) {
	planes := make([][]float32, n)
	for i := range planes {
		planes[i] = g.ring.put(first + i)
	}
	h, w := g.size[1], g.size[2]
	sd, sh, sw := g.stride[0], g.stride[1], g.stride[2]
	switch {
	case sd == 1:
		for y := range h {
			for x := range w {
				from := g.data[y*sh+x*sw+first:][:n]
				for i, v := range from {
					planes[i][y*w+x] = v
				}
			}
		}
	case sh == 1:
		for i, p := range planes {
			for x := range w {
				for y, v := range g.data[(first+i)*sd+x*sw:][:h] {
					p[y*w+x] = v
				}
			}
		}
	default:
		for i, p := range planes {
			for y := range h {
				copy(p[y*w:(y+1)*w], g.data[(first+i)*sd+y*sh:])
			}
		}
	}
}

func (g *gathered) width() int { return g.size[2] }

// ring keeps the last planes.
type ring struct {
	planes [][]float32
	holds  []int // plane in each place; -1: none
	size   int
}

func newRing(places, size int) ring {
	r := ring{planes: make([][]float32, places), holds: make([]int, places), size: size}
	for i := range r.holds {
		r.holds[i] = -1
	}
	return r
}

func (r *ring) get(plane int) ([]float32, bool) {
	i := plane % len(r.planes)
	return r.planes[i], r.holds[i] == plane
}

// put returns the memory for a plane, which takes the place of an earlier one.
func (r *ring) put(plane int) []float32 {
	i := plane % len(r.planes)
	if r.planes[i] == nil {
		r.planes[i] = make([]float32, r.size)
	}
	r.holds[i] = plane
	return r.planes[i]
}

// kept makes a source steady: it holds its last planes.
type kept struct {
	from   source
	height int
	ring   ring
}

func newKept(from source, height, span int) *kept {
	return &kept{from: from, height: height, ring: newRing(span, height*from.width())}
}

func (k *kept) rows(plane, lo, hi int) ([]float32, int) {
	w := k.width()
	p, ok := k.ring.get(plane)
	if !ok {
		p = k.ring.put(plane)
		for at := 0; at < k.height; {
			n := min(tileRows(w), k.height-at)
			data, stride := k.from.rows(plane, at, at+n)
			for r := range n {
				copy(p[(at+r)*w:(at+r+1)*w], data[r*stride:])
			}
			at += n
		}
	}
	return p[lo*w : hi*w], w
}

func (k *kept) width() int { return k.from.width() }

// alongD resamples along d. Its source is steady.
type alongD struct {
	from  source
	taps  *taps
	loops *kernels.Resampler
	buf   []float32
	part  [][]float32
}

func (a *alongD) rows(plane, lo, hi int) ([]float32, int) {
	index, weight := a.taps.of(plane)
	if a.taps.plain {
		return a.from.rows(index[0], lo, hi)
	}
	a.part = a.part[:0]
	stride := 0
	for _, i := range index {
		var p []float32
		p, stride = a.from.rows(i, lo, hi)
		a.part = append(a.part, p)
	}
	a.buf = grow(a.buf, (hi-lo)*stride)
	a.loops.WeightedSum(a.buf, a.part, weight)
	return a.buf, stride
}

func (a *alongD) width() int { return a.from.width() }

// inPlane resamples along h and w, and along d at the same time where it has taps for that; its source is then steady.
type inPlane struct {
	from   source
	d      *taps // nil: planes are taken as they are
	h      *taps
	w      *kernels.Row
	loops  *kernels.Resampler
	buf    []float32
	row    []float32
	planes [][]float32
	part   [][]float32
	weight []float32
}

func (s *inPlane) rows(plane, lo, hi int) ([]float32, int) {
	first, end := s.h.bounds(lo, hi)
	n, m := s.from.width(), s.width()
	index, weight := []int{plane}, []float32{1}
	if s.d != nil {
		index, weight = s.d.of(plane)
	}
	s.planes = s.planes[:0]
	stride := 0
	for _, i := range index {
		var p []float32
		p, stride = s.from.rows(i, first, end)
		s.planes = append(s.planes, p)
	}
	s.buf, s.row = grow(s.buf, (hi-lo)*m), grow(s.row, n)
	for r := lo; r < hi; r++ {
		across, share := s.h.of(r)
		var row []float32
		if s.h.plain && s.d == nil {
			row = s.planes[0][(across[0]-first)*stride:][:n]
		} else {
			s.part, s.weight = s.part[:0], s.weight[:0]
			for k, i := range across {
				for l, p := range s.planes {
					s.part, s.weight = append(s.part, p[(i-first)*stride:][:n]), append(s.weight, share[k]*weight[l])
				}
			}
			row = s.row
			s.loops.WeightedSum(row, s.part, s.weight)
		}
		s.loops.Row(s.buf[(r-lo)*m:(r-lo+1)*m], row, s.w)
	}
	return s.buf, m
}

func (s *inPlane) width() int { return s.w.Count() }

// windowed scales every voxel of its source to the first window.
type windowed struct {
	from   source
	scaler *scaler
	buf    []float32
}

func (s *windowed) rows(plane, lo, hi int) ([]float32, int) {
	data, stride := s.from.rows(plane, lo, hi)
	m := s.width()
	s.buf = grow(s.buf, (hi-lo)*m)
	for r := range hi - lo {
		s.scaler.scale(0, s.buf[r*m:(r+1)*m], data[r*stride:][:m])
	}
	return s.buf, m
}

func (s *windowed) width() int { return s.from.width() }

// tileRows is how many rows are made at a time, so that what they are made of stays in the second-level cache.
func tileRows(width int) int { return max(1, 8192/max(width, 1)) }

func grow(buf []float32, n int) []float32 {
	if cap(buf) < n {
		return make([]float32, n)
	}
	return buf[:n]
}

// parallel calls f on parts of 0..n-1, on each processor, and waits. A worker's f takes one part after another, so that
// one processor that is busy with other things does not hold up the rest.
func parallel(n, part int, worker func() (f func(lo, hi int))) {
	parts := (n + part - 1) / part
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), parts) {
		wg.Go(func() {
			f := worker()
			for i := int(taken.Add(1)); i <= parts; i = int(taken.Add(1)) {
				f((i-1)*part, min(i*part, n))
			}
		})
	}
	wg.Wait()
}
