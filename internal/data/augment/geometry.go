package augment

import (
	"math"

	"github.com/ctclass/ctclass/internal/data/preprocess"
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
	var control []float32
	if d.Elastic > 0 {
		control = a.grid.control(d.elasticKey, d.Elastic, w)
	}
	step := [3]float32{float32(m[0][2]), float32(m[1][2]), float32(m[2][2])}
	for z := range s.d {
		var plane []float32
		if control != nil {
			plane = a.grid.plane(control, z)
		}
		for y := range s.h {
			var start [3]float32
			for i := range start {
				start[i] = float32(m[i][0]*float64(z) + m[i][1]*float64(y) + m[i][3])
			}
			row := dst[(z*s.h+y)*s.w:][:s.w]
			if control == nil {
				s.line(row, start, step)
			} else {
				s.bent(row, start, step, a.grid.row(control, plane, y), a.grid)
			}
		}
	}
}

// sampler interpolates in one channel [d][h][w].
type sampler struct {
	data    []float32
	d, h, w int
	fill    float32
}

// line samples along a straight line.
func (s *sampler) line(row []float32, start, step [3]float32) {
	from, to := s.inside(len(row), start, step)
	for x := 0; x < from; x++ {
		row[x] = s.edge(start[0]+float32(x)*step[0], start[1]+float32(x)*step[1], start[2]+float32(x)*step[2])
	}
	for x := from; x < to; x++ {
		row[x] = s.inner(start[0]+float32(x)*step[0], start[1]+float32(x)*step[1], start[2]+float32(x)*step[2])
	}
	for x := to; x < len(row); x++ {
		row[x] = s.edge(start[0]+float32(x)*step[0], start[1]+float32(x)*step[1], start[2]+float32(x)*step[2])
	}
}

// inside returns which of n points of a line surely lie where inner may be used.
func (s *sampler) inside(n int, start, step [3]float32) (from, to int) {
	const margin = 1e-3 // more than rounding moves a point
	lo, hi := 0.0, float64(n-1)
	for i, size := range [3]int{s.d, s.h, s.w} {
		a, b := float64(start[i]), float64(step[i])
		low, high := margin, float64(size-1)-margin
		if math.Abs(b) < 1e-9 {
			if a < low || a > high {
				return 0, 0
			}
			continue
		}
		t0, t1 := (low-a)/b, (high-a)/b
		lo, hi = max(lo, min(t0, t1)), min(hi, max(t0, t1))
	}
	if !(lo <= hi) {
		return 0, 0
	}
	from, to = int(math.Ceil(lo)), int(math.Floor(hi))+1
	if from >= to {
		return 0, 0
	}
	return from, to
}

// bent samples along a line that is displaced at each point.
func (s *sampler) bent(row []float32, start, step [3]float32, control []float32, g *spline) {
	n := g.size[2]
	cz, cy, cx := control[:n], control[n:2*n], control[2*n:3*n]
	maxZ, maxY, maxX := float32(s.d-1), float32(s.h-1), float32(s.w-1)
	for x := range row {
		k, b := g.first[x], &g.weight[x]
		u, v, w := cz[k:k+4], cy[k:k+4], cx[k:k+4]
		z := start[0] + float32(x)*step[0] + (b[0]*u[0] + b[1]*u[1] + b[2]*u[2] + b[3]*u[3])
		y := start[1] + float32(x)*step[1] + (b[0]*v[0] + b[1]*v[1] + b[2]*v[2] + b[3]*v[3])
		at := start[2] + float32(x)*step[2] + (b[0]*w[0] + b[1]*w[1] + b[2]*w[2] + b[3]*w[3])
		if z >= 0 && y >= 0 && at >= 0 && z < maxZ && y < maxY && at < maxX {
			row[x] = s.inner(z, y, at)
		} else {
			row[x] = s.edge(z, y, at)
		}
	}
}

// inner interpolates at a point with 0 <= index < size-1 on every axis.
func (s *sampler) inner(z, y, x float32) float32 {
	iz, iy, ix := int(int32(z)), int(int32(y)), int(int32(x))
	fz, fy, fx := z-float32(iz), y-float32(iy), x-float32(ix)
	at := (iz*s.h+iy)*s.w + ix
	a := s.data[at : at+s.w+2]
	b := s.data[at+s.h*s.w:][:s.w+2]
	a0 := a[0] + fx*(a[1]-a[0])
	a1 := a[s.w] + fx*(a[s.w+1]-a[s.w])
	b0 := b[0] + fx*(b[1]-b[0])
	b1 := b[s.w] + fx*(b[s.w+1]-b[s.w])
	a0 += fy * (a1 - a0)
	b0 += fy * (b1 - b0)
	return a0 + fz*(b0-a0)
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
