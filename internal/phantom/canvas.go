package phantom

import (
	"math"

	"github.com/ctclass/ctclass/internal/rng"
)

// vec is a point or direction in mm: x to the left, y to posterior, z to the head.
type vec struct{ x, y, z float64 }

func (a vec) add(b vec) vec               { return vec{a.x + b.x, a.y + b.y, a.z + b.z} }
func (a vec) sub(b vec) vec               { return vec{a.x - b.x, a.y - b.y, a.z - b.z} }
func (a vec) scale(f float64) vec         { return vec{a.x * f, a.y * f, a.z * f} }
func (a vec) dot(b vec) float64           { return a.x*b.x + a.y*b.y + a.z*b.z }
func (a vec) norm() float64               { return math.Sqrt(a.dot(a)) }
func (a vec) unit() vec                   { return a.scale(1 / max(a.norm(), 1e-9)) }
func (a vec) toward(b vec, t float64) vec { return a.add(b.sub(a).scale(t)) }

// canvas is the volume being painted.
type canvas struct {
	size    [3]int
	spacing [3]float64
	first   vec // centre of voxel 0, 0, 0
	edge    float64
	hu      []float32
	lung    []float32 // share of each voxel that is aerated lung
}

// newCanvas returns a canvas of air whose middle lies at the point centre of the anatomy.
func newCanvas(size [3]int, spacing [3]float64, centre vec) *canvas {
	n := size[0] * size[1] * size[2]
	c := &canvas{size: size, spacing: spacing, hu: make([]float32, n), lung: make([]float32, n)}
	half := func(axis int) float64 { return float64(size[axis]-1) / 2 * spacing[axis] }
	c.first = vec{centre.x - half(2), centre.y - half(1), centre.z - half(0)}
	c.edge = (spacing[0] + spacing[1] + spacing[2]) / 3
	for i := range c.hu {
		c.hu[i] = -1000
	}
	return c
}

// at returns the centre of voxel d, h, w.
func (c *canvas) at(d, h, w int) vec {
	return vec{c.first.x + float64(w)*c.spacing[2], c.first.y + float64(h)*c.spacing[1], c.first.z + float64(d)*c.spacing[0]}
}

// index returns the offset of the voxel nearest to p, or false outside the volume.
func (c *canvas) index(p vec) (int, bool) {
	d := int(math.Round((p.z - c.first.z) / c.spacing[0]))
	h := int(math.Round((p.y - c.first.y) / c.spacing[1]))
	w := int(math.Round((p.x - c.first.x) / c.spacing[2]))
	if d < 0 || h < 0 || w < 0 || d >= c.size[0] || h >= c.size[1] || w >= c.size[2] {
		return 0, false
	}
	return (d*c.size[1]+h)*c.size[2] + w, true
}

// lungAt returns the share of lung in the voxel at p, 0 outside the volume.
func (c *canvas) lungAt(p vec) float64 {
	i, ok := c.index(p)
	if !ok {
		return 0
	}
	return float64(c.lung[i])
}

// cover turns a distance to a surface (negative inside) into the share of a voxel that lies within,
// as if the surface crossed the voxel at right angles.
func (c *canvas) cover(distance float64) float64 {
	return min(1, max(0, 0.5-distance/c.edge))
}

// mode says how a shape mixes with what is there.
type mode int

const (
	over     mode = iota // replaces everything, lung included
	within               // only inside the lung, which stays lung: vessels
	fillLung             // only inside the lung, which it displaces
)

// painted tells what a shape covered.
type painted struct {
	box Box     // voxels covered at least to a third
	mm3 float64 // covered volume
}

// present reports whether some voxel shows the shape.
func (p painted) present() bool { return p.box.Max[0] > p.box.Min[0] }

// paint mixes a shape into all voxels between the corners lo and hi. The shape returns for a point
// the share of the voxel there that it covers and its density in HU.
func (c *canvas) paint(lo, hi vec, m mode, shape func(p vec) (cover, hu float64)) painted {
	var out painted
	d0, d1 := c.span(0, lo.z, hi.z, c.first.z)
	h0, h1 := c.span(1, lo.y, hi.y, c.first.y)
	w0, w1 := c.span(2, lo.x, hi.x, c.first.x)
	for d := d0; d < d1; d++ {
		for h := h0; h < h1; h++ {
			row := (d*c.size[1] + h) * c.size[2]
			for w := w0; w < w1; w++ {
				i := row + w
				if m != over && c.lung[i] == 0 {
					continue
				}
				a, hu := shape(c.at(d, h, w))
				if a <= 0 {
					continue
				}
				switch m {
				case over:
					c.lung[i] *= float32(1 - a)
				case within:
					a *= float64(c.lung[i])
				case fillLung:
					// A voxel on the border of the lung is filled whole, or a dark rim would be
					// left between the filling and the chest wall.
					lung := c.lung[i]
					c.lung[i] *= float32(1 - a)
					a *= float64(min(1, 4*lung))
				}
				c.hu[i] += float32(a * (hu - float64(c.hu[i])))
				out.add(d, h, w, a)
			}
		}
	}
	out.mm3 *= c.spacing[0] * c.spacing[1] * c.spacing[2]
	return out
}

// add takes a voxel covered to the share a into account; mm3 counts voxels here.
func (p *painted) add(d, h, w int, a float64) {
	p.mm3 += a
	if a < 1./3 {
		return
	}
	first := !p.present()
	for axis, i := range [3]int{d, h, w} {
		if first || i < p.box.Min[axis] {
			p.box.Min[axis] = i
		}
		if first || i >= p.box.Max[axis] {
			p.box.Max[axis] = i + 1
		}
	}
}

// span returns the half-open range of indices whose voxels touch the interval from lo to hi mm.
func (c *canvas) span(axis int, lo, hi, first float64) (int, int) {
	s := c.spacing[axis]
	from := math.Ceil((lo-first-c.edge)/s) - 1
	to := math.Floor((hi-first+c.edge)/s) + 2
	n := float64(c.size[axis])
	return int(min(n, max(0, from))), int(min(n, max(0, to)))
}

// ellipsoid paints an ellipsoid with the given semi-axes.
func (c *canvas) ellipsoid(centre, radii vec, m mode, hu float64) painted {
	return c.paint(centre.sub(radii), centre.add(radii), m, func(p vec) (float64, float64) {
		return c.cover(ellipsoidDistance(p, centre, radii)), hu
	})
}

// ellipsoidDistance is roughly the distance of p to an ellipsoid, negative inside.
func ellipsoidDistance(p, centre, radii vec) float64 {
	q := p.sub(centre)
	k := vec{q.x / radii.x, q.y / radii.y, q.z / radii.z}
	f := k.norm()
	slope := vec{k.x / radii.x, k.y / radii.y, k.z / radii.z}.norm() // f's gradient times f
	if slope < 1e-9 {
		return -min(radii.x, radii.y, radii.z)
	}
	return f * (f - 1) / slope
}

// capsule paints the points within radius of the segment from a to b. A capsule thinner than a
// voxel is painted fainter, as in a real scan.
func (c *canvas) capsule(a, b vec, radius float64, m mode, hu float64) painted {
	lo, hi := capsuleBox(a, b, radius)
	faint := min(1, 2*radius/c.edge)
	return c.paint(lo, hi, m, func(p vec) (float64, float64) {
		return faint * c.cover(segmentDistance(p, a, b)-radius), hu
	})
}

// capsuleBox returns the corners of the box around a capsule.
func capsuleBox(a, b vec, radius float64) (lo, hi vec) {
	return vec{min(a.x, b.x) - radius, min(a.y, b.y) - radius, min(a.z, b.z) - radius},
		vec{max(a.x, b.x) + radius, max(a.y, b.y) + radius, max(a.z, b.z) + radius}
}

// chain paints capsules along a polyline.
func (c *canvas) chain(points []vec, radius float64, m mode, hu float64) {
	for i := 1; i < len(points); i++ {
		c.capsule(points[i-1], points[i], radius, m, hu)
	}
}

// segmentDistance returns the distance of p to the segment from a to b.
func segmentDistance(p, a, b vec) float64 {
	ab, ap := b.sub(a), p.sub(a)
	t := ap.dot(ab) / max(ab.dot(ab), 1e-9)
	return ap.sub(ab.scale(min(1, max(0, t)))).norm()
}

// finish adds Gaussian noise of the given standard deviation and rounds to the values a 12-bit
// scanner can store.
func (c *canvas) finish(key uint64, sigma float64) {
	for i := 0; i < len(c.hu); i += 2 { // Box and Muller's transform gives two normals at a time
		u := 1 - rng.Unit(rng.At(key, uint64(i)))
		v := rng.Unit(rng.At(key, uint64(i+1)))
		r := sigma * math.Sqrt(-2*math.Log(u))
		sin, cos := math.Sincos(2 * math.Pi * v)
		c.hu[i] = store(float64(c.hu[i]) + r*cos)
		if i+1 < len(c.hu) {
			c.hu[i+1] = store(float64(c.hu[i+1]) + r*sin)
		}
	}
}

func store(hu float64) float32 { return float32(math.Round(min(3071, max(-1024, hu)))) }

// texture returns smooth noise in -1..1 with details of about the given size in mm.
func texture(key uint64, p vec, size float64) float64 {
	x, y, z := p.x/size, p.y/size, p.z/size
	fx, fy, fz := math.Floor(x), math.Floor(y), math.Floor(z)
	ix, iy, iz := int64(fx), int64(fy), int64(fz)
	corner := func(dx, dy, dz int64) float64 {
		n := uint64((iz+dz+4096)<<32 | (iy+dy+4096)<<16 | (ix + dx + 4096))
		return rng.Unit(rng.At(key, n))
	}
	sx, sy, sz := smooth(x-fx), smooth(y-fy), smooth(z-fz)
	mix := func(a, b, t float64) float64 { return a + (b-a)*t }
	plane := func(dz int64) float64 {
		return mix(mix(corner(0, 0, dz), corner(1, 0, dz), sx), mix(corner(0, 1, dz), corner(1, 1, dz), sx), sy)
	}
	return 2*mix(plane(0), plane(1), sz) - 1
}

// smooth maps 0..1 to 0..1 with flat ends.
func smooth(t float64) float64 { return t * t * (3 - 2*t) }
