package phantom

import (
	"math"

	"github.com/ctclass/ctclass/internal/rng"
)

// patient holds what varies between phantoms. Lengths are in mm; the origin of the anatomy lies
// between the lungs at the height of the carina.
type patient struct {
	centre    vec        // the point of the anatomy in the middle of the volume
	isocentre [3]float64 // patient coordinates x, y, z of the middle of the volume
	cage      vec        // semi-axes of the inner rib cage (x, y); z: height of the lung apex
	muscle    float64    // thickness of the chest wall between cage and fat
	fat       float64
	dome      [2]float64 // height of the right and left diaphragm
	heart     float64    // scale of the heart
	lungHU    float64
	boneHU    float64
	noise     float64 // standard deviation in HU
}

// between draws a number uniform in lo..hi.
func between(s *rng.Stream, lo, hi float64) float64 { return lo + (hi-lo)*s.Float64() }

func newPatient(s *rng.Stream) *patient {
	p := &patient{
		centre:    vec{between(s, -4, 4), between(s, 6, 14), between(s, -16, -4)},
		isocentre: [3]float64{between(s, -8, 8), between(s, -180, -140), between(s, -400, -200)},
	}
	size := between(s, 0.93, 1.05)
	p.cage = vec{122 * size * between(s, 0.97, 1.03), 86 * size * between(s, 0.95, 1.05), between(s, 102, 112) * size}
	p.muscle = between(s, 9, 13)
	p.fat = between(s, 5, 18)
	p.dome = [2]float64{between(s, -66, -48), between(s, -76, -58)}
	p.heart = between(s, 0.9, 1.12)
	p.lungHU = between(s, -880, -800)
	p.boneHU = between(s, 420, 620)
	p.noise = between(s, 10, 22)
	return p
}

// narrowing returns the width of the rib cage at height z relative to its base.
func narrowing(z float64) float64 {
	t := max(0, (z+10)/150)
	return math.Sqrt(max(0.1, 1-0.75*t*t))
}

// spine returns the y of the middle of the vertebral bodies.
func (p *patient) spine() float64 { return 0.72 * p.cage.y }

// diaphragm returns the height of the diaphragm above the point x, y.
func (p *patient) diaphragm(x, y float64) float64 {
	side, top := 1.0, p.dome[1]
	if x < 0 {
		side, top = -1, p.dome[0]
	}
	a := (x - side*0.5*p.cage.x) / 75
	b := (y + 10) / 82
	return top - 46*(a*a+b*b)
}

// lungDistance is roughly the distance of q to the surface of the lungs, negative inside. cageGap is
// the same for the inner rib cage.
func (p *patient) lungDistance(q vec, cageGap float64) float64 {
	// Between the lungs: wide at the hila and in front of the spine, narrow behind the sternum.
	half := 17 + 11*math.Exp(-(q.z-5)*(q.z-5)/900-(q.y-12)*(q.y-12)/700)
	if q.y < -20 {
		half = max(6, half+(q.y+20)*0.3)
	}
	x := math.Abs(q.x)
	d := max(cageGap+3, half-x, 0.8*(p.diaphragm(q.x, q.y)-q.z))
	d = max(d, 27-math.Hypot(q.x, q.y-p.spine()))
	if q.z > 0 { // the dome of the apex
		apex := vec{0.5 * p.cage.x, 6, 0}
		d = max(d, ellipsoidDistance(vec{x, q.y, q.z}, apex, vec{0.56 * p.cage.x, 1.02 * p.cage.y, p.cage.z}))
	}
	return d
}

// paintBody lays down everything that fills the volume: skin, fat, muscle, the inside of the rib
// cage, the lungs and the tissue below the diaphragm.
func (p *patient) paintBody(c *canvas, key uint64) {
	wall := p.muscle + p.fat
	for d := range c.size[0] {
		z := c.at(d, 0, 0).z
		k := narrowing(z)
		cage := vec{k * p.cage.x, k * p.cage.y, 1}
		// The outline stays wide at the shoulders and gets slimmer towards the waist.
		waist := min(1, 1+max(-0.06, (z+60)*0.0008))
		outline := vec{waist*p.cage.x + wall, waist*p.cage.y + wall, 1}
		inner := vec{outline.x - p.fat, outline.y - 0.7*p.fat, 1}
		for h := range c.size[1] {
			row := (d*c.size[1] + h) * c.size[2]
			for w := range c.size[2] {
				q := c.at(d, h, w)
				flat := vec{q.x, q.y, 0}
				skin := ellipsoidDistance(flat, vec{}, outline)
				if skin > c.edge {
					continue
				}
				hu := -100.0 // fat
				hu += c.cover(-skin-2) * (10 - hu)
				hu += c.cover(ellipsoidDistance(flat, vec{}, inner)) * (52 + 12*texture(key, q, 14) - hu)
				cageGap := ellipsoidDistance(flat, vec{}, cage)
				if inside := c.cover(cageGap); inside > 0 {
					hu += inside * (-75 - hu) // fat around the organs
					if lung := c.cover(p.lungDistance(q, cageGap)); lung > 0 {
						// Blood sinks in a lying patient: the lung is denser behind.
						air := p.lungHU + 35*q.y/p.cage.y + 22*texture(key, q, 22)
						hu += lung * (air - hu)
						c.lung[row+w] = float32(lung)
					}
				}
				out := c.cover(skin)
				c.hu[row+w] = float32(-1000 + out*(hu+1000))
			}
		}
	}
}

// paintAbdomen adds liver, spleen and stomach below the diaphragm.
func (p *patient) paintAbdomen(c *canvas) {
	below := func(centre, radii vec, hu float64) {
		c.paint(centre.sub(radii), centre.add(radii), over, func(q vec) (float64, float64) {
			d := ellipsoidDistance(q, centre, radii)
			return c.cover(max(d, q.z-p.diaphragm(q.x, q.y)+2)), hu
		})
	}
	k := p.cage.x / 122
	below(vec{-38 * k, -4, -122}, vec{82 * k, 0.9 * p.cage.y, 88}, 58) // liver
	below(vec{82 * k, 36, -118}, vec{30 * k, 40, 52}, 48)              // spleen
	below(vec{52 * k, -22, -116}, vec{48 * k, 46, 52}, 32)             // stomach
	below(vec{54 * k, -48, -108}, vec{24 * k, 14, 22}, -960)           // its gas
	below(vec{28 * k, p.spine() - 24, -135}, vec{20, 16, 40}, 38)      // crus and left adrenal region
	below(vec{-40 * k, p.spine() - 6, -158}, vec{26, 24, 34}, 34)      // right kidney
	below(vec{46 * k, p.spine() - 4, -162}, vec{26, 24, 34}, 34)       // left kidney
}

// heartParts returns centre and semi-axes of the ventricles and the atria.
func (p *patient) heartParts() (ventricles, ventricleRadii, atria, atriaRadii vec) {
	s := p.heart
	return vec{24, -26, -40}, vec{50 * s, 40 * s, 38 * s}, vec{-4, -8, -16}, vec{40 * s, 34 * s, 30 * s}
}

// aortaPath returns the midline of the aorta from the heart to the lower border.
func (p *patient) aortaPath() []vec {
	y := p.spine()
	return []vec{
		{0, -18, -18},
		{-12, -26, 15},
		{-10, -24, 38},
		{0, -12, 54},
		{12, 8, 58},
		{21, y - 34, 52},
		{25, y - 22, 36},
		{23, y - 18, 0},
		{18, y - 22, -60},
		{10, y - 28, -200},
	}
}

const aortaRadius = 12.5

// paintMediastinum adds heart, great vessels, airways and oesophagus.
func (p *patient) paintMediastinum(c *canvas) {
	y := p.spine()
	c.chain([]vec{{6, y - 26, 200}, {4, y - 28, 20}, {8, y - 36, -60}, {16, y - 44, -100}}, 7, over, 32) // oesophagus
	v, vr, a, ar := p.heartParts()
	c.ellipsoid(a, ar, over, 42)
	c.ellipsoid(v, vr, over, 45)
	c.chain([]vec{{14, -34, -14}, {16, -22, 14}, {10, -4, 22}}, 13, over, 41)                     // pulmonary trunk
	c.chain([]vec{{10, -4, 22}, {-20, 0, 14}, {-42, 8, 6}}, 9, over, 41)                          // right branch
	c.chain([]vec{{10, -4, 22}, {30, 8, 20}, {44, 14, 8}}, 9, over, 41)                           // left branch
	c.chain([]vec{{-26, -12, -20}, {-26, -14, 40}, {-24, -14, 80}, {-34, -12, 200}}, 9, over, 39) // superior vena cava
	c.chain([]vec{{-8, -18, 56}, {-20, -10, 100}, {-26, -6, 200}}, 6, over, 41)                   // brachiocephalic artery
	c.chain([]vec{{12, 0, 60}, {18, 2, 100}, {24, 2, 200}}, 5, over, 41)                          // left carotid artery
	c.chain(p.aortaPath(), aortaRadius, over, 43)

	airways := []struct {
		path   []vec
		radius float64
	}{
		{[]vec{{0, 8, 200}, {0, 12, 80}, {1, y - 44, 24}}, 8.5},
		{[]vec{{1, y - 44, 24}, {-26, 16, 4}}, 6.5},
		{[]vec{{1, y - 44, 24}, {34, 18, 0}}, 6},
		{[]vec{{-26, 16, 4}, {-44, 22, -18}}, 4},
		{[]vec{{-26, 16, 4}, {-48, 6, 18}}, 4},
		{[]vec{{34, 18, 0}, {50, 24, -20}}, 4},
		{[]vec{{34, 18, 0}, {52, 6, 16}}, 4},
	}
	for _, a := range airways {
		c.chain(a.path, a.radius+2, over, 30)
	}
	for _, a := range airways {
		c.chain(a.path, a.radius, over, -990)
	}
}

// paintBones adds spine, ribs, sternum and shoulder blades.
func (p *patient) paintBones(c *canvas) {
	y := p.spine()
	const level = 28.0 // height of a vertebra with its disc
	low, high := c.first.z, c.at(c.size[0]-1, 0, 0).z
	c.paint(vec{-20, y - 16, low}, vec{20, y + 16, high}, over, func(q vec) (float64, float64) {
		d := ellipsoidDistance(vec{q.x, q.y, 0}, vec{0, y, 0}, vec{18.5, 15, 1})
		rise := math.Abs(math.Mod(q.z+1000*level, level) - level/2) // from the middle of the vertebra
		disc := c.cover(11.5 - rise)
		rim := max(c.cover(-d-2.5), c.cover(9-rise)*(1-disc))
		bone := 165 + rim*(0.75*p.boneHU-165)
		return c.cover(d), bone + disc*(85-bone)
	})
	c.chain([]vec{{0, y + 22, low}, {0, y + 22, high}}, 8.5, over, 28) // canal
	for k := math.Floor(low/level) - 1; k*level < high+level; k++ {
		z := (k + 0.5) * level
		for _, side := range []float64{-1, 1} {
			c.capsule(vec{side * 14, y + 12, z}, vec{side * 12, y + 28, z}, 4, over, p.boneHU*0.8)
			c.capsule(vec{side * 12, y + 28, z}, vec{0, y + 33, z - 4}, 3.5, over, p.boneHU*0.8)
			c.capsule(vec{side * 12, y + 22, z}, vec{side * 32, y + 26, z}, 4, over, p.boneHU*0.7)
		}
		c.capsule(vec{0, y + 33, z - 4}, vec{0, y + 40, z - 16}, 3.5, over, p.boneHU*0.8)
	}
	p.paintRibs(c)

	breast := p.cage.y * narrowing(30)
	c.ellipsoid(vec{0, -breast - 3, 22}, vec{17, 6.5, 68}, over, 0.6*p.boneHU)
	c.ellipsoid(vec{0, -breast - 3, 22}, vec{13, 3.5, 64}, over, 150)

	for _, side := range []float64{-1, 1} { // shoulder blades, in the muscle behind the cage
		at := func(angle, z float64) vec {
			sin, cos := math.Sincos(angle)
			gap := p.muscle * 0.75
			return vec{side * (p.cage.x*narrowing(z) + gap + 6) * sin, (p.cage.y*narrowing(z) + gap + 4) * cos, z}
		}
		c.chain([]vec{at(0.65, 100), at(0.75, 75), at(0.85, 45), at(1.0, 15)}, 3.5, over, 0.8*p.boneHU)
		c.chain([]vec{at(0.65, 100), at(1.0, 105), at(1.35, 110)}, 4.5, over, 0.8*p.boneHU)
		c.chain([]vec{at(0.85, 45), at(1.15, 70), at(1.35, 110)}, 4, over, 0.8*p.boneHU)
	}
}

// paintRibs adds eleven pairs of ribs that fall from the spine to the front, where they end in
// cartilage.
func (p *patient) paintRibs(c *canvas) {
	const steps = 20
	for rib := range 11 {
		start := 122 - 23.5*float64(rib)
		reach := 0.88 * math.Pi // angle from the back to the front end
		if rib > 6 {
			reach = (0.88 - 0.1*float64(rib-6)) * math.Pi
		}
		for _, side := range []float64{-1, 1} {
			var last vec
			for step := range steps + 1 {
				angle := 0.16*math.Pi + (reach-0.16*math.Pi)*float64(step)/steps
				z := start - 16*(angle/math.Pi) - 44*smooth(angle/math.Pi)
				k := narrowing(z)
				sin, cos := math.Sincos(angle)
				point := vec{side * (k*p.cage.x + 4) * sin, (k*p.cage.y + 4) * cos, z}
				if step > 0 {
					hu := p.boneHU
					if angle > 0.76*math.Pi {
						hu = 110
					}
					c.capsule(last, point, 4.6, over, hu)
				}
				last = point
			}
		}
	}
}

// paintVessels grows a branching tree of vessels from each hilum into the lung.
func (p *patient) paintVessels(c *canvas, s *rng.Stream) {
	var grow func(from, direction vec, length, radius float64, depth int)
	grow = func(from, direction vec, length, radius float64, depth int) {
		to := from.add(direction.scale(length))
		c.capsule(from, to, radius, within, 38)
		for range 2 {
			turn := vec{s.Normal(), s.Normal(), s.Normal()}.scale(0.42)
			next := direction.add(turn).unit()
			shorter := length * between(s, 0.7, 0.9)
			if depth > 1 && c.lungAt(to) > 0.5 {
				grow(to, next, shorter, radius*between(s, 0.68, 0.8), depth-1)
			}
		}
	}
	for _, side := range []float64{-1, 1} {
		for i := range 7 {
			angle := 2 * math.Pi * (float64(i) + between(s, -0.3, 0.3)) / 7
			sin, cos := math.Sincos(angle)
			direction := vec{side * between(s, 0.45, 0.9), sin, 1.2 * cos}.unit()
			grow(vec{side * 36, 12 + 8*sin, 6 + 14*cos}, direction, between(s, 26, 36), between(s, 2.8, 3.8), 5)
		}
	}
}

// paintTable adds the table under the patient: two thin shells with foam between them.
func (p *patient) paintTable(c *canvas) {
	top := p.cage.y + p.muscle + p.fat + 3
	low, high := c.at(0, 0, 0), c.at(c.size[0]-1, c.size[1]-1, c.size[2]-1)
	lo, hi := vec{max(low.x, -205), top - 45, low.z}, vec{min(high.x, 205), top + 28, high.z}
	c.paint(lo, hi, over, func(q vec) (float64, float64) {
		depth := q.y - top + 0.00085*q.x*q.x // below the upper surface
		mat := c.cover(math.Abs(depth-12) - 12)
		shell := max(c.cover(math.Abs(depth-1.5)-1.5), c.cover(math.Abs(depth-22.5)-1.5)) * min(1, 3/c.edge)
		if mat == 0 && shell == 0 {
			return 0, 0
		}
		return max(mat, shell), -930 + shell*(-60+930)
	})
}
