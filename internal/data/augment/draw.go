package augment

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/rng"
)

// Draw is what happens to a sample in an epoch. Axes are those of the array.
type Draw struct {
	Flip     [3]bool
	Rotate   [3]float64    // degrees about d, h, w
	Scale    float64       // above 1: what is shown grows
	Move     [3]float64    // shares of the sides
	Crop     [3][2]float64 // first index and length of the part that is stretched over the whole; length 0: none
	Elastic  float64       // root mean square of the displacement in voxels
	Sigma    float64       // blur, in voxels
	Zoom     float64       // low resolution: share of the voxels along each axis that are left
	Contrast float64       // factor around the mean
	Shift    float64       // share of the range
	Gamma    float64
	Noise    float64 // standard deviation, share of the range
	Boxes    []Box   // cut out

	elasticKey, noiseKey uint64
}

// Box is the voxels from From up to, without, To along d, h, w.
type Box struct{ From, To [3]int }

// stream is a stream of random numbers for one kind of change.
type stream struct{ rng.Stream }

// happens draws whether a change takes place.
func (s *stream) happens(p float64) bool { return s.Float64() < p }

func (s *stream) within(r [2]float64) float64 { return r[0] + s.Float64()*(r[1]-r[0]) }

// sided draws from -most to most.
func (s *stream) sided(most float64) float64 { return (2*s.Float64() - 1) * most }

// Draw returns what happens to the sample with that ID in an epoch.
func (a *Augmenter) Draw(epoch int, id uint64) *Draw {
	key := func(kind string) uint64 { return rng.Key(a.o.Seed, kind, uint64(epoch), id) }
	of := func(kind string) *stream { return &stream{rng.New(key("augment." + kind))} }
	d := &Draw{Scale: 1, Zoom: 1, Contrast: 1, Gamma: 1, elasticKey: key("augment.elastic.grid"), noiseKey: key("augment.noise.voxels")}
	c := &a.c
	flips := stream{rng.New(key("augment"))}
	for i, p := range c.FlipP {
		d.Flip[i] = flips.happens(p)
	}
	if s := of("affine"); s.happens(c.Affine.P) {
		for i, most := range c.Affine.RotateDeg {
			d.Rotate[i] = s.sided(most)
		}
		d.Scale = s.within(c.Affine.Scale)
		for i := range d.Move {
			d.Move[i] = s.sided(c.Affine.Translate)
		}
	}
	if s := of("crop"); s.happens(c.Crop.P) {
		for i, n := range a.o.Shape {
			length := max(1, s.within(c.Crop.Size)*float64(n))
			d.Crop[i] = [2]float64{s.Float64() * (float64(n) - length), length}
		}
	}
	if s := of("elastic"); s.happens(c.Elastic.P) {
		d.Elastic = s.within(c.Elastic.Displacement)
	}
	if s := of("blur"); s.happens(c.Blur.P) {
		d.Sigma = s.within(c.Blur.Sigma)
	}
	if s := of("lowres"); s.happens(c.LowRes.P) {
		d.Zoom = s.within(c.LowRes.Zoom)
	}
	if s := of("contrast"); s.happens(c.Contrast.P) {
		d.Contrast = s.within(c.Contrast.Factor)
	}
	if s := of("shift"); s.happens(c.Shift.P) {
		d.Shift = s.within(c.Shift.Range)
	}
	if s := of("gamma"); s.happens(c.Gamma.P) {
		d.Gamma = s.within(c.Gamma.Range)
	}
	if s := of("noise"); s.happens(c.Noise.P) {
		d.Noise = s.within(c.Noise.Std)
	}
	if s := of("cutout"); s.happens(c.Cutout.P) {
		for range c.Cutout.Boxes {
			d.Boxes = append(d.Boxes, a.box(s))
		}
	}
	return d
}

func (a *Augmenter) box(s *stream) Box {
	var b Box
	for i, n := range a.o.Shape {
		length := min(n, max(1, int(math.Round(s.within(a.c.Cutout.Size)*float64(n)))))
		b.From[i] = s.Intn(n - length + 1)
		b.To[i] = b.From[i] + length
	}
	return b
}

// Describe lists the changes in a few words each; none for a sample that stays as it is.
func (d *Draw) Describe() []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for i, flip := range d.Flip {
		if flip {
			add("flip %c", "dhw"[i])
		}
	}
	if d.Rotate != [3]float64{} {
		add("rotate %.1f %.1f %.1f°", d.Rotate[0], d.Rotate[1], d.Rotate[2])
	}
	if d.Scale != 1 {
		add("scale %.2f", d.Scale)
	}
	if d.Move != [3]float64{} {
		add("move %.0f %.0f %.0f%%", 100*d.Move[0], 100*d.Move[1], 100*d.Move[2])
	}
	if d.Crop[0][1] > 0 {
		add("crop %.0f×%.0f×%.0f", d.Crop[0][1], d.Crop[1][1], d.Crop[2][1])
	}
	for _, v := range []struct {
		what  string
		value float64
		none  float64
	}{
		{"elastic", d.Elastic, 0},
		{"blur", d.Sigma, 0},
		{"low resolution", d.Zoom, 1},
		{"contrast", d.Contrast, 1},
		{"shift", d.Shift, 0},
		{"gamma", d.Gamma, 1},
		{"noise", d.Noise, 0},
	} {
		if v.value != v.none {
			add("%s %.2g", v.what, v.value)
		}
	}
	if n := len(d.Boxes); n > 0 {
		add("cutout %d", n)
	}
	return list
}
