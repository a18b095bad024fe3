package preprocess

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/volume"
)

// scaler maps HU to output values, one way a channel.
type scaler struct {
	raw     bool
	floor   float32 // raw: for what lies outside the volume or is no number
	windows []window
	loops   *kernels.Resampler
	bad     atomic.Int64 // voxels that were no numbers
}

// window maps lo..hi HU to values from offset on.
type window struct {
	lo, hi         float32
	factor, offset float64
}

func newScaler(v *volume.Volume, p config.Preprocess) (*scaler, error) {
	s := &scaler{loops: kernels.NewResampler()}
	switch p.Intensity {
	case "raw":
		stats := volume.HUStats(v)
		if math.IsNaN(stats.Min) {
			return nil, errors.New("the volume has no voxel with a finite value")
		}
		s.raw, s.floor, s.windows = true, float32(stats.Min), make([]window, 1)
		return s, nil
	case "window":
		for _, hu := range p.Windows() {
			lo, hi := hu[0], hu[1]
			to := p.ScaleTo
			if !finite(lo, hi, to[0], to[1]) || !(float32(lo) < float32(hi)) {
				return nil, fmt.Errorf("preprocess.hu_window %v with scale_to %v is no window: it needs a lower and a greater upper bound", hu, p.ScaleTo)
			}
			s.windows = append(s.windows, window{float32(lo), float32(hi), (to[1] - to[0]) / (hi - lo), to[0]})
		}
		return s, nil
	}
	return nil, fmt.Errorf("preprocess.intensity is %q, want window or raw", p.Intensity)
}

// pad is the value of channel c for what lies outside the volume.
func (s *scaler) pad(c int) float32 {
	if s.raw {
		return s.floor
	}
	return float32(s.windows[c].offset)
}

// scale maps voxels to channel c. What is no number, with intensity raw also what is infinite, becomes the
// lowest value and is counted, in the first channel. Else infinities fall on the window's bounds.
func (s *scaler) scale(c int, dst, src []float32) {
	src = src[:len(dst)]
	if s.raw {
		bad := 0
		for i, x := range src {
			if x-x != 0 { // NaN and the infinities only
				x = s.floor
				bad++
			}
			dst[i] = x
		}
		s.bad.Add(int64(bad))
		return
	}
	w := s.windows[c]
	if s.loops.WindowScale(dst, src, w.lo, w.hi, w.factor, w.offset) && c == 0 {
		bad := 0
		for _, x := range src {
			if x != x {
				bad++
			}
		}
		s.bad.Add(int64(bad))
	}
}
