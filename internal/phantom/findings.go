package phantom

import (
	"math"

	"github.com/ctclass/ctclass/internal/rng"
)

// paintEffusion lays fluid behind and below the right lung, the left or both. The surface of the
// fluid falls towards the head and rises along the chest wall.
func (p *patient) paintEffusion(c *canvas, s *rng.Stream) []Box {
	sides := [][]float64{{-1}, {1}, {-1, 1}}[min(2, int(2.5*s.Float64()))]
	var boxes []Box
	for _, side := range sides {
		level := between(s, -20, 15)   // y of the surface at the base
		slope := between(s, 0.4, 0.65) // how fast the layer thins towards the head
		hu := between(s, 4, 20)
		lo := vec{-p.cage.x, -p.cage.y, -160}
		hi := vec{0, p.cage.y, 120}
		if side > 0 {
			lo.x, hi.x = 0, p.cage.x
		}
		done := c.paint(lo, hi, fillLung, func(q vec) (float64, float64) {
			off := (side*q.x - 0.5*p.cage.x) / (0.5 * p.cage.x)
			surface := level + slope*(q.z+100) - 14*off*off
			return c.cover((surface - q.y) / math.Hypot(1, slope)), hu
		})
		if done.present() {
			boxes = append(boxes, done.box)
		}
	}
	return boxes
}

// lungPoints draws n points whose voxel is lung, at a uniform place in the lungs.
func (c *canvas) lungPoints(s *rng.Stream, n int) []vec {
	var points []vec
	plane := c.size[1] * c.size[2]
	// Lung fills about a tenth of the volume or more; an exhausted search returns fewer points.
	for try := 0; try < 2000*n && len(points) < n; try++ {
		i := s.Intn(len(c.lung))
		if c.lung[i] > 0.9 {
			points = append(points, c.at(i/plane, i%plane/c.size[2], i%c.size[2]))
		}
	}
	return points
}

// paintConsolidation fills a patch of lung, a union of overlapping ellipsoids with a ragged border,
// and leaves air in a few bronchi that run through it from the hilum.
func (p *patient) paintConsolidation(c *canvas, s *rng.Stream) []Box {
	const lobes = 4
	var offsets, radii [lobes]vec
	for i := range lobes {
		offsets[i] = vec{s.Normal(), s.Normal(), s.Normal()}.scale(11)
		radii[i] = vec{between(s, 20, 32), between(s, 20, 32), between(s, 22, 36)}
	}
	hu := between(s, -50, 40)
	key := s.Uint64()
	reach := vec{70, 70, 75}
	patch := func(centre, q vec) float64 {
		d := math.Inf(1)
		for i := range lobes {
			d = min(d, ellipsoidDistance(q, centre.add(offsets[i]), radii[i]))
		}
		return d + 5*texture(key, q, 13)
	}
	// Of a few places take the one where most of the patch lies within lung.
	var best vec
	most := -1.0
	for _, centre := range c.lungPoints(s, 8) {
		sum := 0.0
		for x := -40.0; x <= 40; x += 10 {
			for y := -40.0; y <= 40; y += 10 {
				for z := -40.0; z <= 40; z += 10 {
					if q := centre.add(vec{x, y, z}); patch(centre, q) < 0 {
						sum += c.lungAt(q)
					}
				}
			}
		}
		if sum > most {
			best, most = centre, sum
		}
	}
	border := 2.5 // the patch fades over this many voxels
	done := c.paint(best.sub(reach), best.add(reach), fillLung, func(q vec) (float64, float64) {
		return c.cover(patch(best, q) / border), hu + 35*texture(key+1, q, 9)
	})
	if !done.present() {
		return nil
	}
	hilum := vec{math.Copysign(36, best.x), 12, 4}
	for range 5 {
		end := best.add(vec{s.Normal(), s.Normal(), s.Normal()}.scale(20))
		from := hilum.toward(end, 0.35)
		radius := between(s, 1.4, 2.4)
		faint := min(1, 2*radius/c.edge)
		lo, hi := capsuleBox(from, end, radius)
		c.paint(lo, hi, over, func(q vec) (float64, float64) {
			a := faint * c.cover(segmentDistance(q, from, end)-radius)
			if a == 0 || patch(best, q) > 0 || p.lungDistance(q, -20) > -3 {
				return 0, 0
			}
			return a, -880
		})
	}
	return []Box{done.box}
}

// paintNodules places balls in the lung that is left, count or, for 0, two to five, the first two of 22 to 30 mm
// (beyond 30 mm one speaks of a mass), the others of 8 to 20 mm.
func (p *patient) paintNodules(c *canvas, s *rng.Stream, count int) []Box {
	if drawn := 2 + s.Intn(4); count == 0 {
		count = drawn
	}
	var boxes []Box
	for i := range count {
		radius := between(s, 4, 10)
		if i < 2 {
			radius = between(s, 11, 15)
		}
		hu := between(s, 15, 90)
		// The ball should lie in the lung as a whole: take the first such place, else the best.
		var best vec
		most := -1.0
		for _, centre := range c.lungPoints(s, 60) {
			least := 1.0
			for _, o := range []vec{{1, 0, 0}, {-1, 0, 0}, {0, 1, 0}, {0, -1, 0}, {0, 0, 1}, {0, 0, -1}} {
				least = min(least, c.lungAt(centre.add(o.scale(radius+1))))
			}
			if least > most {
				best, most = centre, least
			}
			if most > 0.95 {
				break
			}
		}
		if most < 0 {
			break // no lung left
		}
		if done := c.ellipsoid(best, vec{radius, radius, radius}, fillLung, hu); done.present() {
			boxes = append(boxes, done.box)
		}
	}
	return boxes
}

// paintCalcification puts calcium along the coronary arteries on the surface of the heart and into
// the wall of the aorta.
func (p *patient) paintCalcification(c *canvas, s *rng.Stream) []Box {
	var boxes []Box
	spot := func(a, b vec, radius float64) {
		if done := c.capsule(a, b, radius, over, between(s, 600, 1000)); done.present() {
			boxes = append(boxes, done.box)
		}
	}
	v, r, _, _ := p.heartParts()
	onHeart := func(around, up float64) vec {
		sinA, cosA := math.Sincos(around)
		sinU, cosU := math.Sincos(up)
		return v.add(vec{0.94 * r.x * cosU * cosA, 0.94 * r.y * cosU * sinA, 0.94 * r.z * sinU})
	}
	for range 5 + s.Intn(4) {
		// Angles over the front left of the ventricles, where the left coronary artery branches.
		around, up := between(s, -1.7, 0.1), between(s, 0.15, 1.0)
		spot(onHeart(around, up), onHeart(around+between(s, -0.1, 0.1), up-between(s, 0.15, 0.3)), between(s, 4, 5.5))
	}
	path := p.aortaPath()
	for range 4 + s.Intn(4) {
		i := 3 + s.Intn(5) // arch and descending part
		at := path[i].toward(path[i+1], between(s, 0, 0.9))
		if i == len(path)-2 {
			at = path[i].toward(path[i+1], between(s, 0, 0.2))
		}
		along := path[i+1].sub(path[i]).unit()
		side := vec{s.Normal(), s.Normal(), s.Normal()}
		side = side.sub(along.scale(side.dot(along))).unit().scale(aortaRadius - 1)
		at = at.add(side)
		spot(at, at.add(along.scale(between(s, 10, 22))), between(s, 4.5, 6.5))
	}
	return boxes
}
