package preprocess

import (
	"math"
	"runtime"
	"sync"
)

// array is a volume on its way: [size[0]][size[1]][size[2]], last index fastest.
type array struct {
	data []float32
	size [3]int
}

func (a array) stride(axis int) int {
	s := 1
	for i := axis + 1; i < 3; i++ {
		s *= a.size[i]
	}
	return s
}

// taps holds, for each output voxel o of an axis, the stored voxels index[begin[o]:begin[o+1]] and their
// weights, which add up to 1.
type taps struct {
	begin  []int
	index  []int
	weight []float64
}

// setTaps fills the table of the axis: linear interpolation, or the triangle filter where it shrinks.
// Indices are of the stored axis, the order of the taps is the output's direction: the sums of a flipped
// axis are then the same to the last bit.
func (a *axis) setTaps() {
	t := taps{begin: make([]int, 1, a.kept+1)}
	half := max(1, a.ratio()) // half-width of the filter in stored voxels
	for o := range a.kept {
		x := a.position(float64(a.first + o))
		begin := len(t.index)
		sum := 0.0
		for i := math.Ceil(x - half); i <= x+half; i++ {
			w := 1 - math.Abs(i-x)/half
			if w <= 0 {
				continue
			}
			sum += w
			at := int(min(max(i, 0), float64(a.n-1))) // outside the volume its edge repeats
			if a.flip {
				at = a.n - 1 - at
			}
			if last := len(t.index) - 1; last >= begin && t.index[last] == at {
				t.weight[last] += w
				continue
			}
			t.index = append(t.index, at)
			t.weight = append(t.weight, w)
		}
		for k := begin; k < len(t.weight); k++ {
			t.weight[k] /= sum
		}
		t.begin = append(t.begin, len(t.index))
	}
	a.taps = t
}

// blockLen is how many neighbouring sums are held at a time, few enough for the first-level cache.
const blockLen = 1024

// resample applies a table along one axis of the array and returns a new array. Sums are taken in double
// precision, each by one goroutine: the result is the same for any number of them.
func (a array) resample(axis int, t *taps) array {
	n, m := a.size[axis], len(t.begin)-1
	inner := a.stride(axis)
	outer := len(a.data) / (n * inner)
	out := array{size: a.size}
	out.size[axis] = m
	out.data = make([]float32, outer*m*inner)
	if inner == 1 {
		parallel(outer, func(lo, hi int) {
			for row := lo; row < hi; row++ {
				t.gather(out.data[row*m:(row+1)*m], a.data[row*n:(row+1)*n])
			}
		})
		return out
	}
	parallel(outer*m, func(lo, hi int) {
		sums := make([]float64, min(blockLen, inner))
		for row := lo; row < hi; row++ {
			o := row % m
			slab := a.data[row/m*n*inner:]
			index, weight := t.index[t.begin[o]:t.begin[o+1]], t.weight[t.begin[o]:t.begin[o+1]]
			dst := out.data[row*inner : (row+1)*inner]
			for at := 0; at < inner; at += blockLen {
				part := dst[at:min(at+blockLen, inner)]
				s := sums[:len(part)]
				clear(s)
				for k, i := range index {
					w := weight[k]
					src := slab[i*inner+at:][:len(s)]
					for j, x := range src {
						s[j] += float64(w * float64(x)) // the conversion forbids fusing: same bits everywhere
					}
				}
				for j, x := range s {
					part[j] = float32(x)
				}
			}
		}
	})
	return out
}

// gather applies the table to one contiguous row.
func (t *taps) gather(dst, src []float32) {
	for o := range dst {
		sum := 0.0
		for k := t.begin[o]; k < t.begin[o+1]; k++ {
			sum += float64(t.weight[k] * float64(src[t.index[k]]))
		}
		dst[o] = float32(sum)
	}
}

// parallel calls f on consecutive parts of 0..n-1, one for each processor, and waits.
func parallel(n int, f func(lo, hi int)) {
	parts := min(runtime.GOMAXPROCS(0), n)
	if parts <= 1 {
		f(0, n)
		return
	}
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() { f(n*i/parts, n*(i+1)/parts) })
	}
	wg.Wait()
}
