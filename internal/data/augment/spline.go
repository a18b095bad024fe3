package augment

import (
	"math"

	"github.com/ctclass/ctclass/internal/rng"
)

// spline is a grid of control points whose uniform cubic B-spline is a smooth displacement of every voxel (Rueckert
// et al., "Nonrigid registration using free-form deformations", IEEE TMI 1999).
type spline struct {
	size   [3]int       // control points along d, h, w
	axes   [2][]support // of the voxels along d and h
	first  []int        // of the voxels along w: the first of four control points
	weight [][4]float32
}

// support is the control points that a voxel hangs on.
type support struct {
	first  int
	weight [4]float32
}

// newSpline puts a control point every spacing voxels.
func newSpline(shape [3]int, spacing float64) *spline {
	g := &spline{}
	for axis, n := range shape {
		g.size[axis] = int(float64(n-1)/spacing) + 4
		for i := range n {
			at := float64(i) / spacing
			cell := math.Floor(at)
			t := at - cell
			s := support{int(cell), [4]float32{
				float32((1 - t) * (1 - t) * (1 - t) / 6),
				float32((3*t*t*t - 6*t*t + 4) / 6),
				float32((-3*t*t*t + 3*t*t + 3*t + 1) / 6),
				float32(t * t * t / 6),
			}}
			if axis < 2 {
				g.axes[axis] = append(g.axes[axis], s)
				continue
			}
			g.first = append(g.first, s.first)
			g.weight = append(g.weight, s.weight)
		}
	}
	return g
}

// splineEnergy is the mean over a cell of the sum of the squared weights along one axis: the share of the control
// points' variance that is left.
const splineEnergy = 151.0 / 315

// control draws control points [3][d][h][w] whose spline has the given root mean square along each axis, and behind
// them makes room for a plane and a row.
func (g *spline) control(key uint64, rms float64, w *Workspace) []float32 {
	n := g.size[0] * g.size[1] * g.size[2]
	w.field = grow(w.field, 3*(n+g.size[1]*g.size[2]+g.size[2]))
	s := rng.New(key)
	scale := rms / math.Pow(splineEnergy, 1.5)
	for i := range 3 * n {
		w.field[i] = float32(s.Normal() * scale)
	}
	return w.field
}

// plane interpolates along d: control points [3][h][w] for the voxels of plane z.
func (g *spline) plane(control []float32, z int) []float32 {
	n, m := g.size[0]*g.size[1]*g.size[2], g.size[1]*g.size[2]
	out := control[3*n:][:3*m]
	s := g.axes[0][z]
	for c := range 3 {
		for i := range m {
			sum := float32(0)
			for k, b := range s.weight {
				sum += b * control[c*n+(s.first+k)*m+i]
			}
			out[c*m+i] = sum
		}
	}
	return out
}

// row interpolates along h: control points [3][w] for the voxels of row y.
func (g *spline) row(control, plane []float32, y int) []float32 {
	n, m := g.size[1]*g.size[2], g.size[2]
	out := control[len(control)-3*m:]
	s := g.axes[1][y]
	for c := range 3 {
		for i := range m {
			sum := float32(0)
			for k, b := range s.weight {
				sum += b * plane[c*n+(s.first+k)*m+i]
			}
			out[c*m+i] = sum
		}
	}
	return out
}
