package augment

import (
	"math"

	"github.com/ctclass/ctclass/internal/kernels"
)

// row is what an output voxel of an axis is made of: the voxels from first on, with their weights.
type row struct {
	first  int
	weight []float32
}

// filter blurs a channel and lowers its resolution: along each axis one table that does both.
func (a *Augmenter) filter(x []float32, d *Draw, w *Workspace) {
	nd, nh, nw := a.o.Shape[0], a.o.Shape[1], a.o.Shape[2]
	table := [3][]row{}
	for axis, n := range a.o.Shape {
		table[axis] = rows(n, d.Sigma, d.Zoom)
	}
	area := nh * nw
	w.other = grow(w.other, len(x))
	a.sums(w.other, x, table[0], area, w)
	w.plane = grow(w.plane, area)
	columns := rowOf(table[2])
	for z := range nd {
		a.sums(w.plane, w.other[z*area:(z+1)*area], table[1], nw, w)
		for y := range nh {
			a.loops.Row(x[z*area+y*nw:][:nw], w.plane[y*nw:(y+1)*nw], columns)
		}
	}
}

// sums applies a table to an axis whose neighbours lie step values apart.
func (a *Augmenter) sums(dst, src []float32, table []row, step int, w *Workspace) {
	for i, r := range table {
		w.rows = w.rows[:0]
		for k := range r.weight {
			w.rows = append(w.rows, src[(r.first+k)*step:][:step])
		}
		a.loops.WeightedSum(dst[i*step:(i+1)*step], w.rows, r.weight)
	}
}

// rowOf returns the table of the last axis. All its voxels get as many taps, of which some have no weight, because that
// is what is fast.
func rowOf(table []row) *kernels.Row {
	taps := 0
	for _, r := range table {
		taps = max(taps, len(r.weight))
	}
	begin, index := []int{0}, make([]int, 0, taps*len(table))
	weight := make([]float32, 0, taps*len(table))
	for _, r := range table {
		first := min(r.first, len(table)-taps)
		for k := range taps {
			w := float32(0)
			if i := first + k - r.first; i >= 0 && i < len(r.weight) {
				w = r.weight[i]
			}
			index, weight = append(index, first+k), append(weight, w)
		}
		begin = append(begin, len(index))
	}
	return kernels.NewRow(len(table), begin, index, weight)
}

// rows makes the table of an axis of n voxels: a Gaussian of sigma voxels, cut off at 3 sigma, edge voxels repeated;
// then the mean over the voxels of a coarser grid of round(n·zoom) voxels; then linear interpolation back.
func rows(n int, sigma, zoom float64) []row {
	coarse := max(1, int(math.Round(float64(n)*zoom)))
	dense := identity(n)
	if sigma > 0 {
		dense = blur(n, sigma)
	}
	if coarse < n {
		dense = product(product(upsample(coarse, n), downsample(n, coarse)), dense)
	}
	out := make([]row, n)
	for i, weights := range dense {
		first, last := n, -1
		for j, v := range weights {
			if v != 0 {
				first, last = min(first, j), j
			}
		}
		r := row{first: first}
		for _, v := range weights[first : last+1] {
			r.weight = append(r.weight, float32(v))
		}
		out[i] = r
	}
	return out
}

// The tables below are matrices [output][input].

func zeros(n, m int) [][]float64 {
	out := make([][]float64, n)
	for i := range out {
		out[i] = make([]float64, m)
	}
	return out
}

func identity(n int) [][]float64 {
	out := zeros(n, n)
	for i := range out {
		out[i][i] = 1
	}
	return out
}

func blur(n int, sigma float64) [][]float64 {
	out := zeros(n, n)
	radius := int(math.Ceil(3 * sigma))
	sum := 0.0
	for k := -radius; k <= radius; k++ {
		sum += gauss(k, sigma)
	}
	for i := range out {
		for k := -radius; k <= radius; k++ {
			out[i][min(max(i+k, 0), n-1)] += gauss(k, sigma) / sum
		}
	}
	return out
}

func gauss(k int, sigma float64) float64 { return math.Exp(-float64(k*k) / (2 * sigma * sigma)) }

// downsample averages: each of m voxels covers n/m of the n.
func downsample(n, m int) [][]float64 {
	out := zeros(m, n)
	width := float64(n) / float64(m)
	for i := range out {
		lo, hi := float64(i)*width, float64(i+1)*width
		for j := int(lo); j < n && float64(j) < hi; j++ {
			out[i][j] = max(0, min(hi, float64(j+1))-max(lo, float64(j))) / width
		}
	}
	return out
}

// upsample interpolates linearly between the centres of n voxels, edges repeated.
func upsample(n, m int) [][]float64 {
	out := zeros(m, n)
	for i := range out {
		at := (float64(i)+0.5)*float64(n)/float64(m) - 0.5
		left := math.Floor(at)
		f := at - left
		out[i][min(max(int(left), 0), n-1)] += 1 - f
		out[i][min(max(int(left)+1, 0), n-1)] += f
	}
	return out
}

func product(a, b [][]float64) [][]float64 {
	out := zeros(len(a), len(b[0]))
	for i := range a {
		for k, f := range a[i] {
			if f == 0 {
				continue
			}
			for j, v := range b[k] {
				out[i][j] += f * v
			}
		}
	}
	return out
}
