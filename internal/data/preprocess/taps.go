package preprocess

import (
	"math"

	"github.com/ctclass/ctclass/internal/kernels"
)

// taps says how each output voxel o of an axis is made: of the stored voxels index[begin[o]:begin[o+1]] with
// their weights, which add up to 1. The order of the taps is the output's direction: the sums of a flipped
// axis are then the same to the last bit.
type taps struct {
	begin  []int
	index  []int
	weight []float32
	plain  bool // every output voxel is one stored voxel
}

// row returns the table for an axis of n stored voxels whose neighbours lie side by side.
func (t *taps) row(n int) *kernels.Row { return kernels.NewRow(n, t.begin, t.index, t.weight) }

// lo and hi bound the stored voxels that the outputs a..b-1 are made of: lo <= index < hi.
func (t *taps) bounds(a, b int) (lo, hi int) {
	lo, hi = math.MaxInt, 0
	for _, i := range t.index[t.begin[a]:t.begin[b]] {
		lo, hi = min(lo, i), max(hi, i+1)
	}
	return lo, hi
}

// of returns the taps of one output voxel.
func (t *taps) of(o int) (index []int, weight []float32) {
	return t.index[t.begin[o]:t.begin[o+1]], t.weight[t.begin[o]:t.begin[o+1]]
}

// count is the number of output voxels.
func (t *taps) count() int { return len(t.begin) - 1 }

// span is the largest number of stored voxels from the first to the last tap of one output voxel.
func (t *taps) span() int {
	span := 0
	for o := range t.count() {
		lo, hi := t.bounds(o, o+1)
		span = max(span, hi-lo)
	}
	return span
}

// line is the stored voxels of an axis, in the output's direction.
type line struct {
	base, n int  // the stored voxels base..base+n-1
	flip    bool // the output runs against the stored index
}

func (l line) stored(i int) int {
	if l.flip {
		return l.base + l.n - 1 - i
	}
	return l.base + i
}

// table makes the taps of count output voxels. weigh calls put for the voxels of the line that output o is
// made of; voxels outside the line stand for the nearest one in it.
func (l line) table(count int, weigh func(o int, put func(i int, w float64))) taps {
	t := taps{begin: make([]int, 1, count+1), plain: true}
	acc := make([]float64, l.n)
	for o := range count {
		lo, hi := l.n, -1
		sum := 0.0
		weigh(o, func(i int, w float64) {
			if w <= 0 {
				return
			}
			i = min(max(i, 0), l.n-1)
			acc[i] += w
			lo, hi = min(lo, i), max(hi, i)
			sum += w
		})
		for i := lo; i <= hi; i++ {
			if acc[i] > 0 {
				t.index = append(t.index, l.stored(i))
				t.weight = append(t.weight, float32(acc[i]/sum))
			}
			acc[i] = 0
		}
		n := len(t.index) - t.begin[o]
		t.begin = append(t.begin, len(t.index))
		t.plain = t.plain && n == 1
	}
	return t
}

// The filters. position is the index in the line, fractions allowed, of an output voxel's centre; ratio is how
// many voxels of the line an output voxel spans.

// nearest takes the voxel whose centre is nearest, the later one of two: PyTorch's nearest-exact.
func (l line) nearest(count int, position func(o int) float64) taps {
	return l.table(count, func(o int, put func(int, float64)) {
		put(int(math.Floor(position(o)+0.5)), 1)
	})
}

// triangle interpolates linearly; where the axis shrinks the kernel is stretched by the ratio.
func (l line) triangle(count int, ratio float64, position func(o int) float64) taps {
	half := max(1, ratio)
	return l.table(count, func(o int, put func(int, float64)) {
		x := position(o)
		for i := math.Ceil(x - half); i <= x+half; i++ {
			put(int(i), 1-math.Abs(i-x)/half)
		}
	})
}

// gaussian interpolates linearly; where the axis shrinks by a ratio above 1 the line is smoothed before by a
// sampled Gaussian of sigma (ratio-1)/2 voxels, cut off at 4 sigma: scipy.ndimage.gaussian_filter, mode nearest.
func (l line) gaussian(count int, ratio float64, position func(o int) float64) taps {
	sigma := max(0, (ratio-1)/2)
	radius := int(4*sigma + 0.5)
	kernel := make([]float64, 2*radius+1)
	for k := range kernel {
		d := float64(k - radius)
		kernel[k] = 1
		if radius > 0 {
			kernel[k] = math.Exp(-d * d / (2 * sigma * sigma))
		}
	}
	return l.table(count, func(o int, put func(int, float64)) {
		x := position(o)
		left := math.Floor(x)
		for side := range 2 {
			share := math.Abs(float64(1-side) - (x - left))
			if share == 0 {
				continue
			}
			// What is interpolated is the smoothed line, whose own edge voxels repeat.
			at := min(max(int(left)+side, 0), l.n-1)
			for k, w := range kernel {
				put(at+k-radius, share*w)
			}
		}
	})
}

// area averages the voxels that an output voxel touches, each as a whole: PyTorch's adaptive average pooling.
func (l line) area(count int) taps {
	return l.table(count, func(o int, put func(int, float64)) {
		for i := o * l.n / count; i < ((o+1)*l.n+count-1)/count; i++ {
			put(i, 1)
		}
	})
}
