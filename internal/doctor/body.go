package doctor

import (
	"math"

	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/volume"
)

const (
	bodyHU   = -500 // what is denser belongs to a body, or to the table
	gridMost = 96   // points along an axis at which the body is looked for
)

// cut is how much of a body a preprocessing leaves outside of its output.
type cut struct {
	share float64    // of the body's voxels
	mm    [3]float64 // farthest point of the body beyond the output, along d, h, w of the output
}

// cropped measures how much of the body in v lies outside the output r. ok is false where no body is found. The body
// is the largest connected part above bodyHU on a grid of the volume, which keeps a table that the patient does not
// touch out of it; air inside the body does not count.
func cropped(v *volume.Volume, r preprocess.Result) (c cut, ok bool) {
	var n, step [3]int
	for a := range n {
		step[a] = max(1, (v.Size[a]+gridMost-1)/gridMost)
		n[a] = (v.Size[a] + step[a] - 1) / step[a]
	}
	at := func(i int) [3]int {
		return [3]int{i / (n[1] * n[2]) * step[0], i / n[2] % n[1] * step[1], i % n[2] * step[2]}
	}
	dense := make([]bool, n[0]*n[1]*n[2])
	for i := range dense {
		p := at(i)
		dense[i] = v.At(p[0], p[1], p[2]) > bodyHU
	}
	body := largestPart(dense, n)
	if len(body)*100 < len(dense) { // under 1 %: noise, or a scan of something else
		return c, false
	}
	fromSource := volume.Inverse(r.ToSource)
	outside := 0
	for _, i := range body {
		p := at(i)
		mm := volume.Transform(v.Affine, float64(p[2]), float64(p[1]), float64(p[0]))
		out := volume.Transform(fromSource, mm[0], mm[1], mm[2]) // w, h, d
		beyond := false
		for a := range 3 {
			x, most := out[2-a], float64(r.Shape[a])-0.5
			if d := max(-0.5-x, x-most); d > 0 {
				beyond = true
				spacing := volume.SpacingOf(r.ToSource)
				c.mm[a] = max(c.mm[a], d*spacing[a])
			}
		}
		if beyond {
			outside++
		}
	}
	c.share = float64(outside) / float64(len(body))
	return c, true
}

// largestPart returns the indices of the largest part of a grid of n points, connected along the axes.
func largestPart(in []bool, n [3]int) []int {
	seen := make([]bool, len(in))
	var best, queue []int
	strides := [3]int{n[1] * n[2], n[2], 1}
	for start := range in {
		if !in[start] || seen[start] {
			continue
		}
		queue = append(queue[:0], start)
		seen[start] = true
		for head := 0; head < len(queue); head++ {
			i := queue[head]
			at := [3]int{i / strides[0], i / n[2] % n[1], i % n[2]}
			for a := range 3 {
				for _, d := range []int{-1, 1} {
					if x := at[a] + d; x < 0 || x >= n[a] {
						continue
					}
					if j := i + d*strides[a]; in[j] && !seen[j] {
						seen[j] = true
						queue = append(queue, j)
					}
				}
			}
		}
		if len(queue) > len(best) {
			best = append(best[:0], queue...)
		}
	}
	return best
}

// spread is the range of some values.
type spread struct{ low, high float64 }

func spreadOf(x []float32) spread {
	s := spread{math.Inf(1), math.Inf(-1)}
	for _, v := range x {
		s.low, s.high = min(s.low, float64(v)), max(s.high, float64(v))
	}
	return s
}
