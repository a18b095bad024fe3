// Package augment changes preprocessed samples at random for training: geometry, sharpness, intensity.
//
// What happens to a sample in an epoch is drawn from streams keyed by the seed, the epoch and the sample, one stream
// for each kind of change. So it depends neither on the order in which samples are prepared nor on who prepares them,
// and turning one change on or off leaves the others as they were.
//
// The order of the changes: all of geometry (flips, affine map, crop, elastic deformation) as one map with one
// trilinear interpolation, or none where only flips are drawn; blur and low resolution as one filter along each axis;
// contrast, shift, gamma and noise in one pass over the voxels; cutout.
package augment

import (
	"fmt"
	"math"
	"slices"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/kernels"
)

// Options describe the samples.
type Options struct {
	Shape    [3]int // d, h, w
	Channels int
	// Lo and Hi are the values that the ends of the window were mapped to: the samples lie between them, before and
	// after augmentation, and Lo stands for what is outside a scan. When they are equal, the smallest and the largest
	// value of each sample's channel take their place.
	Lo, Hi float32
	// VoxelMM is the proportions of a voxel along d, h, w, so that a rotation keeps shapes; zeros: a cube.
	VoxelMM [3]float64
	// Reversed says that the axes of the array run along w, h, d of the patient: what the configuration says about d
	// holds for the last of them.
	Reversed bool
	Seed     uint64
}

// For returns the options of samples that p makes.
func For(p config.Preprocess, seed uint64) Options {
	o := Options{Shape: p.ShapeDHW, Channels: len(p.Windows()), Reversed: p.Recipe == "ct_rate_classifier", Seed: seed}
	if p.Intensity == "window" {
		o.Lo, o.Hi = float32(p.ScaleTo[0]), float32(p.ScaleTo[1])
	}
	if p.Fit == "crop_pad" && !p.SpacingMM.Keep && !o.Reversed {
		o.VoxelMM = p.SpacingMM.MM
	}
	return o
}

// Augmenter changes samples. It may be used by several goroutines at once, each with a Workspace of its own.
type Augmenter struct {
	c      config.Augment
	o      Options
	voxels int // of a channel
	grid   *spline
	normal *normals
	loops  *kernels.Resampler
}

// New returns an Augmenter.
func New(c config.Augment, o Options) (*Augmenter, error) {
	if o.Channels < 1 || o.Shape[0] < 1 || o.Shape[1] < 1 || o.Shape[2] < 1 {
		return nil, fmt.Errorf("augment: samples of %d channels and shape %v", o.Channels, o.Shape)
	}
	if o.VoxelMM == [3]float64{} {
		o.VoxelMM = [3]float64{1, 1, 1}
	}
	if o.Reversed {
		slices.Reverse(c.FlipP[:])
		slices.Reverse(c.Affine.RotateDeg[:])
	}
	a := &Augmenter{c: c, o: o, voxels: o.Shape[0] * o.Shape[1] * o.Shape[2], loops: kernels.NewResampler()}
	if c.Elastic.P > 0 {
		a.grid = newSpline(o.Shape, c.Elastic.GridVoxels)
	}
	if c.Noise.P > 0 {
		a.normal = newNormals()
	}
	return a, nil
}

// Workspace is memory for one goroutine.
type Workspace struct {
	other  []float32 // a channel
	plane  []float32
	rows   [][]float32
	bend   bend
	still  []float32 // zeros
	inside []uint8   // marks of the points of a row
	lookup []float32 // gamma
}

// WorkspaceBytes returns about what a Workspace comes to hold.
func (a *Augmenter) WorkspaceBytes() int64 {
	values := a.voxels + a.o.Shape[1]*a.o.Shape[2]
	if a.grid != nil {
		values += a.grid.values()
	}
	return 4 * int64(values)
}

// Apply writes the sample src as it is in an epoch to dst; both are [c][d][h][w] and do not overlap. It panics when
// they are not as long as the options say.
func (a *Augmenter) Apply(dst, src []float32, epoch int, id uint64, w *Workspace) {
	if len(src) != a.o.Channels*a.voxels || len(dst) != len(src) {
		panic(fmt.Sprintf("augment: %d values made of %d, want %d channels of shape %v", len(dst), len(src), a.o.Channels, a.o.Shape))
	}
	a.apply(dst, src, a.Draw(epoch, id), w)
}

func (a *Augmenter) apply(dst, src []float32, d *Draw, w *Workspace) {
	for c := range a.o.Channels {
		from, to := src[c*a.voxels:(c+1)*a.voxels], dst[c*a.voxels:(c+1)*a.voxels]
		lo, hi := a.o.Lo, a.o.Hi
		if lo == hi {
			lo, hi = slices.Min(from), slices.Max(from)
		}
		a.geometry(to, from, lo, d, w)
		if d.Sigma > 0 || d.Zoom < 1 {
			a.filter(to, d, w)
		}
		a.intensity(to, c, lo, hi, d, w)
		for _, b := range d.Boxes {
			a.cut(to, b, lo)
		}
	}
}

// cut fills a box.
func (a *Augmenter) cut(x []float32, b Box, v float32) {
	h, w := a.o.Shape[1], a.o.Shape[2]
	for z := b.From[0]; z < b.To[0]; z++ {
		for y := b.From[1]; y < b.To[1]; y++ {
			row := x[(z*h+y)*w:][:w]
			for i := b.From[2]; i < b.To[2]; i++ {
				row[i] = v
			}
		}
	}
}

// intensity maps every voxel: contrast and shift, gamma, noise, each kept between lo and hi.
func (a *Augmenter) intensity(x []float32, channel int, lo, hi float32, d *Draw, w *Workspace) {
	if d.Contrast != 1 || d.Shift != 0 {
		factor := float32(d.Contrast)
		mean := 0.0
		if factor != 1 {
			for _, v := range x {
				mean += float64(v)
			}
			mean /= float64(len(x))
		}
		offset := float32(mean*(1-d.Contrast) + d.Shift*float64(hi-lo))
		for i, v := range x {
			x[i] = clamp(float32(v*factor)+offset, lo, hi)
		}
	}
	if d.Gamma != 1 && hi > lo {
		a.gamma(x, lo, hi, d.Gamma, w)
	}
	if d.Noise > 0 {
		a.normal.add(x, d.noiseKey, uint64(channel)*uint64(len(x)), float32(d.Noise)*(hi-lo), lo, hi)
	}
}

// gammaSteps is how many pieces the curve of gamma is made of.
const gammaSteps = 1024

// gamma maps (x-lo)/(hi-lo) to its power, by linear interpolation between gammaSteps+1 points.
func (a *Augmenter) gamma(x []float32, lo, hi float32, gamma float64, w *Workspace) {
	w.lookup = grow(w.lookup, gammaSteps+2)
	for i := range w.lookup {
		w.lookup[i] = lo + (hi-lo)*float32(math.Pow(min(float64(i)/gammaSteps, 1), gamma))
	}
	table, scale := w.lookup[:gammaSteps+2], gammaSteps/(hi-lo)
	for i, v := range x {
		at := min(max((v-lo)*scale, 0), gammaSteps)
		k := int32(at)
		f := at - float32(k)
		p := table[k : k+2]
		x[i] = p[0] + float32(f*(p[1]-p[0]))
	}
}

func clamp(x, lo, hi float32) float32 { return min(max(x, lo), hi) }

func grow(buf []float32, n int) []float32 {
	if cap(buf) < n {
		return make([]float32, n)
	}
	return buf[:n]
}
