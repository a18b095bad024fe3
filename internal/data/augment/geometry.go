package augment

import (
	"math"
	"math/bits"
	"slices"

	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/kernels"
)

// matrix maps an output index (d, h, w, 1) to an input index.
type matrix [3][4]float64

// matrixOf composes the maps of a draw, from the output back: scale, rotation and move about the centre in the
// proportions of the voxels, then the crop, then the flips.
func (a *Augmenter) matrixOf(d *Draw) matrix {
	m := rotation(d.Rotate)
	var out matrix
	for i, n := range a.o.Shape {
		centre := float64(n-1) / 2
		out[i][3] = centre - d.Move[i]*float64(n)
		for j, k := range a.o.Shape {
			f := m[i][j] / d.Scale * a.o.VoxelMM[j] / a.o.VoxelMM[i]
			out[i][j] = f
			out[i][3] -= f * float64(k-1) / 2
		}
		factor, offset := 1.0, 0.0
		if start, length := d.Crop[i][0], d.Crop[i][1]; length > 0 {
			factor = length / float64(n)
			offset = start + factor/2 - 0.5
		}
		if d.Flip[i] {
			factor, offset = -factor, float64(n-1)-offset
		}
		for j := range out[i] {
			out[i][j] *= factor
		}
		out[i][3] += offset
	}
	return out
}

// rotation turns by degrees about w, then h, then d; axes in the order d, h, w.
func rotation(degrees [3]float64) [3][3]float64 {
	m := [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
	for axis, deg := range degrees {
		sin, cos := math.Sincos(deg * math.Pi / 180)
		i, j := (axis+1)%3, (axis+2)%3
		r := [3][3]float64{}
		r[axis][axis], r[i][i], r[i][j], r[j][i], r[j][j] = 1, cos, -sin, sin, cos
		var p [3][3]float64
		for x := range 3 {
			for y := range 3 {
				for z := range 3 {
					p[x][y] += m[x][z] * r[z][y]
				}
			}
		}
		m = p
	}
	return m
}

// geometry writes one channel through the map of a draw; what comes from outside is fill.
func (a *Augmenter) geometry(dst, src []float32, fill float32, d *Draw, w *Workspace) {
	if d.Rotate == [3]float64{} && d.Scale == 1 && d.Move == [3]float64{} && d.Crop == [3][2]float64{} && d.Elastic == 0 {
		copy(dst, src)
		preprocess.Flip(dst, a.o.Shape, d.Flip)
		return
	}
	m := a.matrixOf(d)
	s := sampler{data: src, d: a.o.Shape[0], h: a.o.Shape[1], w: a.o.Shape[2], fill: fill}
	if d.Elastic > 0 {
		a.grid.draw(d.elasticKey, d.Elastic, w)
	}
	w.still = grow(w.still, s.w) // zeros
	w.inside = slices.Grow(w.inside[:0], (s.w+7)/8)[:(s.w+7)/8]
	p := &kernels.Points{Move: [3][]float32{w.still, w.still, w.still}}
	for i := range p.Step {
		p.Step[i] = float32(m[i][2])
	}
	for z := range s.d {
		if d.Elastic > 0 {
			a.grid.plane(z, w, a.loops)
		}
		for y := range s.h {
			for i := range p.Start {
				p.Start[i] = float32(m[i][0]*float64(z) + m[i][1]*float64(y) + m[i][3])
			}
			if d.Elastic > 0 {
				p.Move = a.grid.row(y, w, a.loops)
			}
			row := dst[(z*s.h+y)*s.w:][:s.w]
			a.loops.Trilinear(row, w.inside, src, a.o.Shape, p)
			s.border(row, w.inside, p)
		}
	}
}

// sampler interpolates in one channel [d][h][w].
type sampler struct {
	data    []float32
	d, h, w int
	fill    float32
}

// border makes the points of a row that do not lie inside.
func (s *sampler) border(row []float32, inside []uint8, p *kernels.Points) {
	for k, marks := range inside {
		for ; marks != 0xFF; marks |= marks + 1 { // sets the lowest bit that is not set
			x := 8*k + bits.TrailingZeros8(^marks)
			if x >= len(row) {
				break
			}
			var at [3]float32
			for i := range at {
				at[i] = p.Start[i] + float32(x)*p.Step[i] + p.Move[i][x]
			}
			row[x] = s.edge(at[0], at[1], at[2])
		}
	}
}

// edge interpolates at any point; voxels outside are fill.
func (s *sampler) edge(z, y, x float32) float32 {
	if !(z > -1 && y > -1 && x > -1 && z < float32(s.d) && y < float32(s.h) && x < float32(s.w)) {
		return s.fill
	}
	iz, iy, ix := int(math.Floor(float64(z))), int(math.Floor(float64(y))), int(math.Floor(float64(x)))
	fz, fy, fx := z-float32(iz), y-float32(iy), x-float32(ix)
	sum := float32(0)
	for k := range 8 {
		dz, dy, dx := k>>2, k>>1&1, k&1
		weight := side(fz, dz) * side(fy, dy) * side(fx, dx)
		if weight == 0 {
			continue
		}
		v := s.fill
		if pz, py, px := iz+dz, iy+dy, ix+dx; pz >= 0 && py >= 0 && px >= 0 && pz < s.d && py < s.h && px < s.w {
			v = s.data[(pz*s.h+py)*s.w+px]
		}
		sum += weight * v
	}
	return sum
}

func side(f float32, second int) float32 {
	if second == 1 {
		return f
	}
	return 1 - f
}
