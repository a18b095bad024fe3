package augment

import (
	"math"

	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/rng"
)

// spline is a grid of control points whose uniform cubic B-spline is a smooth displacement of every voxel (Rueckert
// et al., "Nonrigid registration using free-form deformations", IEEE TMI 1999).
type spline struct {
	size [3]int       // control points along d, h, w
	axes [3][]support // of the voxels along d, h, w
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
			g.axes[axis] = append(g.axes[axis], s)
		}
	}
	return g
}

// splineEnergy is the mean over a cell of the sum of the squared weights along one axis: the share of the control
// points' variance that is left.
const splineEnergy = 151.0 / 315

// bend is the displacement that a spline makes, interpolated along one axis after the other.
type bend struct {
	points []float32    // control points [3][d][h][w]
	along  []float32    // [3][d][h], a value for each voxel along w
	plane  []float32    // [3][h], the same for one plane
	row    [3][]float32 // and for one row
	part   [4][]float32
}

// values is how many values a bend holds, but for a row.
func (g *spline) values() int {
	return 3 * (g.size[0]*g.size[1]*(g.size[2]+len(g.axes[2])) + g.size[1]*len(g.axes[2]))
}

// draw draws control points whose spline has the given root mean square along each axis, and interpolates along w.
func (g *spline) draw(key uint64, rms float64, w *Workspace) {
	b := &w.bend
	lines, voxels := 3*g.size[0]*g.size[1], len(g.axes[2])
	b.points, b.along = grow(b.points, lines*g.size[2]), grow(b.along, lines*voxels)
	s := rng.New(key)
	scale := rms / math.Pow(splineEnergy, 1.5)
	for i := range b.points {
		b.points[i] = float32(s.Normal() * scale)
	}
	for l := range lines {
		points, out := b.points[l*g.size[2]:], b.along[l*voxels:][:voxels]
		for x, s := range g.axes[2] {
			out[x] = 0
			for k, weight := range s.weight {
				out[x] += float32(weight * points[s.first+k])
			}
		}
	}
}

// plane interpolates along d for the voxels of plane z.
func (g *spline) plane(z int, w *Workspace, loops *kernels.Resampler) {
	b := &w.bend
	n := g.size[1] * len(g.axes[2])
	b.plane = grow(b.plane, 3*n)
	s := &g.axes[0][z]
	for c := range 3 {
		for k := range b.part {
			b.part[k] = b.along[(c*g.size[0]+s.first+k)*n:][:n]
		}
		loops.WeightedSum(b.plane[c*n:(c+1)*n], b.part[:], s.weight[:])
	}
}

// row interpolates along h, in the plane before, and returns the displacement along d, h, w of the voxels of row y.
func (g *spline) row(y int, w *Workspace, loops *kernels.Resampler) [3][]float32 {
	b := &w.bend
	n := len(g.axes[2])
	s := &g.axes[1][y]
	for c := range b.row {
		for k := range b.part {
			b.part[k] = b.plane[(c*g.size[1]+s.first+k)*n:][:n]
		}
		b.row[c] = grow(b.row[c], n)
		loops.WeightedSum(b.row[c], b.part[:], s.weight[:])
	}
	return b.row
}
