package dicom

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/ctclass/ctclass/internal/volume"
)

// maxVoxels bounds a volume: 32 GiB of float32.
const maxVoxels = 1 << 33

// source says from which slices of the stack one slice of the volume is made: (1-t)·low + t·(low+1).
type source struct {
	low int
	t   float64
}

// Read stacks the series into a volume in HU and returns it with the warnings. Slices are read on
// GOMAXPROCS goroutines; besides the volume each holds two slices at most.
//
// Unless asStored, voxels marked by PixelPaddingValue become air (-1024 HU), a stack with missing or
// unevenly spaced slices is interpolated linearly to a regular grid of the median distance, and a stack
// that drifts sideways (gantry tilt) is sheared back by linear interpolation within the slices, in a box
// enlarged so that nothing is cut off, the rest of it air. The voxel axes are then orthogonal.
// With asStored the volume is the plain rescaled stack with the Affine of the series.
func (s *Series) Read(asStored bool) (*volume.Volume, []string, error) {
	if s.Err != nil {
		return nil, nil, s.Err
	}
	warnings := s.Warnings
	if asStored {
		warnings = s.storedWarnings
	}
	warnings = append([]string(nil), warnings...)
	if err := s.checkDuplicates(); err != nil {
		return nil, nil, err
	}
	if n := len(s.duplicates); n > 0 {
		warnings = append(warnings, fmt.Sprintf("%d identical slices at the position of another are left out", n))
	}
	g := &s.geometry
	size, affine := s.Size(), g.affine
	sources := make([]source, size[0])
	for i := range sources {
		sources[i].low = i
	}
	var offset [2]int
	straight := !asStored && (g.uneven || g.tilted)
	if straight {
		step := g.step
		if g.uneven {
			step = g.median
			sources = g.resampled()
			size[0] = len(sources)
		}
		if g.tilted {
			var err error
			if offset, size, err = g.upright(size); err != nil {
				return nil, nil, err
			}
		}
		affine = g.orthogonal(offset, step)
	}
	if int64(size[0])*int64(size[1])*int64(size[2]) > maxVoxels {
		return nil, nil, fmt.Errorf("series %s: %d x %d x %d voxels are too many", s.Slices[0].SeriesUID, size[0], size[1], size[2])
	}
	plane := size[1] * size[2]
	hu := make([]float32, size[0]*plane)
	err := parallel(len(sources), func() func(int) error {
		w := worker{series: s, asStored: asStored, held: [2]int{-1, -1}}
		return func(i int) error {
			out := hu[i*plane : (i+1)*plane]
			if !straight || !g.tilted && sources[i].t == 0 {
				return w.decode(sources[i].low, out)
			}
			return w.blend(sources[i], offset, [2]int{size[1], size[2]}, out)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	v, err := volume.FromAffine(size, hu, affine)
	if err != nil {
		return nil, nil, fmt.Errorf("series %s: %w", s.Slices[0].SeriesUID, err)
	}
	return v, warnings, nil
}

// resampled returns the sources of the regular grid that replaces an uneven stack.
func (g *geometry) resampled() []source {
	sources := make([]source, g.gridSlices())
	low := 0
	for k := range sources {
		z := float64(k) * g.median
		for low+2 < len(g.along) && g.along[low+1] <= z {
			low++
		}
		t := (z - g.along[low]) / (g.along[low+1] - g.along[low])
		switch {
		case t < 0.01: // a slice that lies there is taken as it is
			sources[k] = source{low: low}
		case t > 0.99:
			sources[k] = source{low: low + 1}
		default:
			sources[k] = source{low, t}
		}
	}
	return sources
}

// orthogonal is the affine of the corrected grid.
func (g *geometry) orthogonal(offset [2]int, step float64) [4][4]float64 {
	origin := [3]float64{g.affine[0][3], g.affine[1][3], g.affine[2][3]}
	origin = added(origin, g.column, float64(offset[0])*g.pitch[0])
	origin = added(origin, g.row, float64(offset[1])*g.pitch[1])
	return affineOf(scaled(g.row, g.pitch[1]), scaled(g.column, g.pitch[0]), scaled(g.normal, step), origin)
}

// worker reads slices for one goroutine. It holds the two slices read last, so that neighbours of an
// interpolated stack are decoded once.
type worker struct {
	series   *Series
	asStored bool
	pixels   slice
	held     [2]int
	planes   [2][]float32
	shifted  []float32
}

// decode reads slice i of the stack into dst, rows x columns HU.
func (w *worker) decode(i int, dst []float32) error {
	return w.pixels.readHU(dst, &w.series.Slices[i], w.asStored)
}

// plane returns slice i in HU, valid until another two slices are asked for.
func (w *worker) plane(i int) ([]float32, error) {
	slot := i % 2
	if w.held[slot] == i {
		return w.planes[slot], nil
	}
	w.held[slot] = -1
	h := &w.series.Slices[i]
	w.planes[slot] = resized(w.planes[slot], h.Rows*h.Columns)
	if err := w.decode(i, w.planes[slot]); err != nil {
		return nil, err
	}
	w.held[slot] = i
	return w.planes[slot], nil
}

// blend makes one slice of the corrected volume, box (H, W) voxels whose corner lies at offset.
func (w *worker) blend(src source, offset, box [2]int, out []float32) error {
	if err := w.shift(src.low, offset, box, out); err != nil || src.t == 0 {
		return err
	}
	w.shifted = resized(w.shifted, len(out))
	if err := w.shift(src.low+1, offset, box, w.shifted); err != nil {
		return err
	}
	t := float32(src.t)
	for i, v := range w.shifted {
		out[i] += t * (v - out[i])
	}
	return nil
}

// shift writes slice i, moved by its sideways drift, into the box; what it does not cover is air.
func (w *worker) shift(i int, offset, box [2]int, out []float32) error {
	in, err := w.plane(i)
	if err != nil {
		return err
	}
	g, h := &w.series.geometry, &w.series.Slices[i]
	var drift [2]float64
	if g.tilted {
		drift = g.drift[i]
	}
	y0, fy := splitShift(float64(offset[0]) - drift[0]/g.pitch[0])
	x0, fx := splitShift(float64(offset[1]) - drift[1]/g.pitch[1])
	for y := range box[0] {
		row := out[y*box[1] : (y+1)*box[1]]
		a := y + y0
		if a < 0 || a >= h.Rows || a == h.Rows-1 && fy > 0 {
			fill(row, airHU)
			continue
		}
		top := in[a*h.Columns : (a+1)*h.Columns]
		bottom := top
		if fy > 0 {
			bottom = in[(a+1)*h.Columns : (a+2)*h.Columns]
		}
		for x := range row {
			b := x + x0
			if b < 0 || b >= h.Columns || b == h.Columns-1 && fx > 0 {
				row[x] = airHU
				continue
			}
			v := top[b] + fy*(bottom[b]-top[b])
			if fx > 0 {
				right := top[b+1] + fy*(bottom[b+1]-top[b+1])
				v += fx * (right - v)
			}
			row[x] = v
		}
	}
	return nil
}

// splitShift divides a shift in voxels into whole voxels and a fraction; within 1e-4 of whole it is whole.
func splitShift(s float64) (int, float32) {
	whole := math.Floor(s + 1e-4)
	if s-whole < 1e-4 {
		return int(whole), 0
	}
	return int(whole), float32(s - whole)
}

func fill(row []float32, v float32) {
	for i := range row {
		row[i] = v
	}
}

// checkDuplicates compares the files that lie at one position. Different images there mean several volumes
// in one series, which cannot be told apart.
func (s *Series) checkDuplicates() error {
	return parallel(len(s.duplicates), func() func(int) error {
		var a, b slice
		return func(i int) error {
			d := &s.duplicates[i]
			h, other := &d.header, &s.Slices[d.of]
			if err := a.read(h); err != nil {
				return err
			}
			if err := b.read(other); err != nil {
				return err
			}
			same := h.Slope == other.Slope && h.Intercept == other.Intercept && h.lut.equal(other.lut)
			for k := range a.stored {
				same = same && a.stored[k] == b.stored[k]
			}
			if !same {
				return fmt.Errorf("series %s holds different images at one position (%s and %s): several phases or reconstructions in one series cannot be told apart",
					h.SeriesUID, other.Name(), h.Name())
			}
			return nil
		}
	})
}

// parallel calls a task for 0..n-1 on GOMAXPROCS goroutines, each with its own task from newTask and its own
// contiguous range. It returns the error of the smallest index among those met; the rest is then left undone. A panic of a
// task is one: on a goroutine of its own it would end the process.
func parallel(n int, newTask func() func(int) error) error {
	workers := min(n, runtime.GOMAXPROCS(0))
	errs := make([]error, workers)
	var failed atomic.Bool
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			task := newTask()
			for i := n * w / workers; i < n*(w+1)/workers && !failed.Load(); i++ {
				if errs[w] = guarded(task, i); errs[w] != nil {
					failed.Store(true)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// guarded calls a task and makes an error of a panic.
func guarded(task func(int) error, i int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error while reading: %v", p)
		}
	}()
	return task(i)
}
