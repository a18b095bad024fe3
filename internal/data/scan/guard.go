package scan

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/volume"
)

// guardVoxels is how many voxels CheckHU looks at; larger volumes are sampled evenly.
const guardVoxels = 1 << 24

// Where the parts of a CT lie, in HU.
const (
	fillBelow         = -1500 // nothing in a body or around it is that thin
	airLow, airHigh   = -1100, -800
	softLow, softHigh = -200, 200
	thinBelow         = -500 // air, lung and table foam
)

// ExpectsHU reports whether preprocessing takes the values for Hounsfield units. It does not with intensity
// raw, nor with a window that is the whole range of other grey values: 0 to 1, 255, 4095 or 65535.
func ExpectsHU(p config.Preprocess) bool {
	if p.Intensity != "window" {
		return false
	}
	for _, window := range p.Windows() {
		for _, top := range []float64{1, 255, 4095, 65535} {
			if window == [2]float64{0, top} {
				return false
			}
		}
	}
	return true
}

// CheckHU looks for signs that a volume does not hold Hounsfield units and returns a sentence for each, none
// for a plausible volume. The voxels must be finite. The signs: one value only; values that CT cannot have;
// nothing below 0 HU, but for one fill value outside the field of view (not rescaled); many values below
// -1500 HU that are no fill (rescaled twice); no air (cropped, or a wrong intercept); air far below
// -1000 HU; no soft tissue; a fill value over a part of the image, which is darker than air.
func CheckHU(v *volume.Volume) []string {
	h := newHistogram(v)
	switch {
	case h.count == 0:
		return nil
	case h.low == h.high:
		return []string{fmt.Sprintf("all voxels have the value %g", h.low)}
	case h.low < -4000 || h.high > 32767:
		return []string{fmt.Sprintf("values from %g to %g HU: beyond what CT can measure, the rescale is probably wrong", h.low, h.high)}
	}
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	floor := h.low // of what is no fill
	if deep := h.between(math.MinInt32, fillBelow); h.low < fillBelow {
		// A fill value is one value; tissue and air shifted by a second rescale are many.
		switch filled := h.exactly(v, h.low); {
		case filled >= 0.9*deep:
			floor = h.above(fillBelow)
			if filled >= 0.005 {
				warn("%.0f%% of the voxels hold %g HU: a fill value outside the field of view", 100*filled, h.low)
			}
		case deep >= 0.005:
			warn("%.0f%% of the voxels lie below %d HU: they may have been rescaled to HU twice", 100*deep, fillBelow)
			return warnings
		}
	}
	switch {
	case floor >= 0:
		warn("no value below 0 HU (%g to %g): the grey values are probably not rescaled to HU", floor, h.high)
		return warnings
	case floor > airHigh:
		warn("no air: the lowest value is %g HU, expected about -1000; the rescale may be wrong or the image is cropped", floor)
		return warnings
	}
	if peak, share := h.peak(fillBelow, thinBelow); share >= 0.05 && peak < airLow {
		// Upwards nothing can be said: the thinnest parts of a crop may be dense lung.
		warn("the air lies at %d HU, expected about -1000: the rescale may be wrong", peak)
	}
	if soft := h.between(softLow, softHigh); soft < 0.002 {
		warn("no soft tissue: only %.1f%% of the voxels lie between %d and %d HU", 100*soft, softLow, softHigh)
	}
	return warnings
}

// histogram counts voxels by whole HU, all values from -4096 to 32767.
type histogram struct {
	bins      []int
	count     int
	stride    int
	low, high float32
}

const histogramLow = -4096

func newHistogram(v *volume.Volume) *histogram {
	h := &histogram{bins: make([]int, 32768-histogramLow), stride: max(1, len(v.HU)/guardVoxels)}
	h.low, h.high = float32(math.Inf(1)), float32(math.Inf(-1))
	for i := 0; i < len(v.HU); i += h.stride {
		x := v.HU[i]
		h.low, h.high = min(h.low, x), max(h.high, x)
		h.count++
		h.bins[min(max(int(x)-histogramLow, 0), len(h.bins)-1)]++
	}
	return h
}

// between returns the share of voxels from a to below b.
func (h *histogram) between(a, b int) float64 {
	n := 0
	for _, c := range h.bins[h.bin(a):h.bin(b)] {
		n += c
	}
	return float64(n) / float64(h.count)
}

func (h *histogram) bin(x int) int { return min(max(x-histogramLow, 0), len(h.bins)) }

// exactly returns the share of voxels that are x.
func (h *histogram) exactly(v *volume.Volume, x float32) float64 {
	n := 0
	for i := 0; i < len(v.HU); i += h.stride {
		if v.HU[i] == x {
			n++
		}
	}
	return float64(n) / float64(h.count)
}

// above returns the lowest value from x on.
func (h *histogram) above(x int) float32 {
	for i := h.bin(x); i < len(h.bins); i++ {
		if h.bins[i] > 0 {
			return float32(i + histogramLow)
		}
	}
	return float32(x)
}

// peak returns the middle of the fullest stretch of 50 HU between a and b, and the share of voxels from a to b.
func (h *histogram) peak(a, b int) (at int, share float64) {
	const width = 50
	best := -1
	for x := a; x+width <= b; x += width / 2 {
		n := 0
		for _, c := range h.bins[h.bin(x):h.bin(x+width)] {
			n += c
		}
		if n > best {
			best, at = n, x+width/2
		}
	}
	return at, h.between(a, b)
}
