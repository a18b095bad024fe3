package volume

import (
	"fmt"
	"math"
)

// Stats summarises the voxels of a volume, in HU.
type Stats struct {
	Min, Max, Mean float64 // over the finite voxels; NaN when there are none
	NaN            float64 // share of voxels that are NaN, 0..1
	Inf            float64 // share of voxels that are infinite, 0..1
}

// HUStats computes the statistics of a volume's voxels. The mean is summed in double precision.
func HUStats(v *Volume) Stats {
	lo, hi := float32(math.Inf(1)), float32(math.Inf(-1))
	sum := 0.0
	finite, nan := 0, 0
	for _, x := range v.HU {
		if x-x != 0 { // true for NaN and the infinities only
			if x != x {
				nan++
			}
			continue
		}
		lo, hi = min(lo, x), max(hi, x)
		sum += float64(x)
		finite++
	}
	s := Stats{Min: math.NaN(), Max: math.NaN(), Mean: math.NaN()}
	if finite > 0 {
		s.Min, s.Max, s.Mean = float64(lo), float64(hi), sum/float64(finite)
	}
	if n := len(v.HU); n > 0 {
		s.NaN = float64(nan) / float64(n)
		s.Inf = float64(n-nan-finite) / float64(n)
	}
	return s
}

// Validate reports what is wrong with a volume's shape or place: sizes below 1, a number of voxels other
// than the size says, an affine that CheckAffine refuses, or a Spacing that contradicts the affine.
// Voxel values are not looked at.
func (v *Volume) Validate() error {
	n := 1
	for axis, size := range v.Size {
		if size < 1 {
			return fmt.Errorf("the volume has size %d along %c, want at least 1", size, "dhw"[axis])
		}
		if n > math.MaxInt/size {
			return fmt.Errorf("the volume's size %v is more than can be addressed", v.Size)
		}
		n *= size
	}
	if len(v.HU) != n {
		return fmt.Errorf("the volume has %d voxels, but its size %v needs %d", len(v.HU), v.Size, n)
	}
	if err := CheckAffine(v.Affine); err != nil {
		return err
	}
	want := SpacingOf(v.Affine)
	for axis, s := range v.Spacing {
		if !(math.Abs(s-want[axis]) <= 1e-3*want[axis]) {
			return fmt.Errorf("the volume's spacing along %c is %g mm, but its affine says %g mm", "dhw"[axis], s, want[axis])
		}
	}
	return nil
}
