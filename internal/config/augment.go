package config

import "slices"

// Augment sets the random changes of training samples; each has a probability p, 0 by default.
type Augment struct {
	FlipP    [3]float64      `yaml:"flip_p"` // d, h, w
	Affine   AugmentAffine   `yaml:"affine"`
	Crop     AugmentCrop     `yaml:"crop"`
	Elastic  AugmentElastic  `yaml:"elastic"`
	Blur     AugmentBlur     `yaml:"blur"`
	LowRes   AugmentLowRes   `yaml:"lowres"`
	Contrast AugmentContrast `yaml:"contrast"`
	Shift    AugmentShift    `yaml:"shift"`
	Gamma    AugmentGamma    `yaml:"gamma"`
	Noise    AugmentNoise    `yaml:"noise"`
	Cutout   AugmentCutout   `yaml:"cutout"`
}

// AugmentAffine turns, scales and moves.
type AugmentAffine struct {
	P         float64    `yaml:"p"`
	RotateDeg [3]float64 `yaml:"rotate_deg"` // most, about d, h, w
	Scale     [2]float64 `yaml:"scale"`
	Translate float64    `yaml:"translate"` // most, share of each side
}

// AugmentCrop stretches a part over the whole.
type AugmentCrop struct {
	P    float64    `yaml:"p"`
	Size [2]float64 `yaml:"size"` // share of each side
}

// AugmentElastic deforms smoothly.
type AugmentElastic struct {
	P            float64    `yaml:"p"`
	GridVoxels   float64    `yaml:"grid_voxels"`
	Displacement [2]float64 `yaml:"displacement"` // voxels
}

// AugmentBlur smooths.
type AugmentBlur struct {
	P     float64    `yaml:"p"`
	Sigma [2]float64 `yaml:"sigma"` // voxels
}

// AugmentLowRes simulates a low resolution.
type AugmentLowRes struct {
	P    float64    `yaml:"p"`
	Zoom [2]float64 `yaml:"zoom"`
}

// AugmentContrast stretches around the mean.
type AugmentContrast struct {
	P      float64    `yaml:"p"`
	Factor [2]float64 `yaml:"factor"`
}

// AugmentShift adds a number to all voxels.
type AugmentShift struct {
	P     float64    `yaml:"p"`
	Range [2]float64 `yaml:"range"` // share of the range of values
}

// AugmentGamma bends the scale.
type AugmentGamma struct {
	P     float64    `yaml:"p"`
	Range [2]float64 `yaml:"range"`
}

// AugmentNoise adds noise.
type AugmentNoise struct {
	P   float64    `yaml:"p"`
	Std [2]float64 `yaml:"std"` // share of the range of values
}

// AugmentCutout fills boxes.
type AugmentCutout struct {
	P     float64    `yaml:"p"`
	Boxes int        `yaml:"boxes"`
	Size  [2]float64 `yaml:"size"` // share of each side
}

// On reports whether anything may be changed.
func (a Augment) On() bool {
	return slices.ContainsFunc([]float64{
		a.FlipP[0], a.FlipP[1], a.FlipP[2], a.Affine.P, a.Crop.P, a.Elastic.P, a.Blur.P, a.LowRes.P, a.Contrast.P,
		a.Shift.P, a.Gamma.P, a.Noise.P, a.Cutout.P,
	}, func(p float64) bool { return p > 0 })
}

// Augmentation returns the random changes of training samples, with the flips of data.flip.
func (d Data) Augmentation() Augment {
	a := d.Augment
	for i, axis := range []string{"d", "h", "w"} {
		if slices.Contains(d.Flip, axis) {
			a.FlipP[i] = 0.5
		}
	}
	return a
}
