package scan

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/volume"
)

// guardVoxels is how many voxels CheckHU looks at; larger volumes are sampled evenly.
const guardVoxels = 1 << 24

// CheckHU looks for signs that a volume does not hold Hounsfield units: nothing below 0 HU (not rescaled),
// no air (cropped, or a wrong intercept), much below -1500 HU (rescaled twice, or filled outside the field of
// view), values that CT cannot have, one value only. It returns a sentence for each, none for a plausible
// volume. The voxels must be finite.
func CheckHU(v *volume.Volume) []string {
	stride := max(1, len(v.HU)/guardVoxels)
	low, high := float32(math.Inf(1)), float32(math.Inf(-1))
	count, deep := 0, 0
	for i := 0; i < len(v.HU); i += stride {
		x := v.HU[i]
		low, high = min(low, x), max(high, x)
		count++
		if x < -1500 {
			deep++
		}
	}
	switch {
	case count == 0:
		return nil
	case low == high:
		return []string{fmt.Sprintf("all voxels have the value %g", low)}
	case low < -4000 || high > 32767:
		return []string{fmt.Sprintf("values from %g to %g HU: beyond what CT can measure, the rescale is probably wrong", low, high)}
	case low >= 0:
		return []string{fmt.Sprintf("no value below 0 HU (%g to %g): the grey values are probably not rescaled to HU", low, high)}
	case low > -800:
		return []string{fmt.Sprintf("no air: the lowest value is %g HU, expected about -1000; the rescale may be wrong or the image is cropped", low)}
	}
	share := float64(deep) / float64(count)
	if share < 0.005 {
		return nil
	}
	// A fill value is one value; tissue and air shifted by a second rescale are many.
	filled := 0
	for i := 0; i < len(v.HU); i += stride {
		if v.HU[i] == low {
			filled++
		}
	}
	if float64(filled) >= 0.9*float64(deep) {
		return []string{fmt.Sprintf("%.0f%% of the voxels hold %g HU: a fill value outside the field of view", 100*share, low)}
	}
	return []string{fmt.Sprintf("%.0f%% of the voxels lie below -1500 HU: they may have been rescaled to HU twice", 100*share)}
}
