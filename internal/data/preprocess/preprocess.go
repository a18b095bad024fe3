// Package preprocess turns a volume into the array that a network takes: one orientation, one voxel
// spacing, one intensity scale, one shape.
//
// The steps, in this order: orientation, resampling to the spacing, window and scale, fit to the shape.
// Orientation and both kinds of interpolation act on each axis alone, so they are carried out together:
// every axis is resampled once, straight from the stored voxels to the output's, and the array is turned
// only when it has its small final size.
package preprocess

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/volume"
)

const (
	maxVoxels    = math.MaxInt32 // of an output
	maxSkew      = 1.0           // degrees from right angles that pass without a warning
	maxObliquity = 20.0          // degrees from the patient axes that pass without a warning
)

// Result is a preprocessed volume.
type Result struct {
	// Data holds the voxels [d][h][w], w fastest: window-scaled, or HU with intensity raw. All finite.
	Data []float32
	// Shape is D, H, W, the configured shape_dhw.
	Shape [3]int
	// ToSource maps an output index (w, h, d, 1) to the patient position in mm, LPS, fractions allowed.
	ToSource [4][4]float64
}

// Apply preprocesses a volume, which it leaves alone. The second result says what was odd about it.
//
// Orientation LPS permutes and flips the axes to the closest patient directions: d grows towards the
// head, h towards posterior, w towards the patient's left. An oblique or tilted volume is not rotated.
//
// spacing_mm keeps the physical extent of each axis: n voxels become round(n·spacing/target), whose
// centres divide the extent evenly. With fit resize the extent is then stretched to the shape, which
// makes one interpolation from n to the shape's size, whatever the spacing was. With crop_pad the middle
// of the resampled volume is cut out, or it is padded around: with what the window's lower bound maps to,
// or the volume's minimum with intensity raw. When an odd number of voxels is to cut or pad, the one more
// is at the end of the axis.
//
// Interpolation is trilinear with the edge voxels repeated outside the volume. An axis that shrinks by
// factor f > 1 is filtered against aliasing by a triangle of half-width f stored voxels, the linear
// interpolation kernel stretched by f. Intensities are windowed after interpolation.
//
// It fails for an unsound volume, for settings outside their range, for a volume so thin that the spacing
// leaves no voxel, and with intensity raw for one without a finite voxel.
func Apply(v *volume.Volume, p config.Preprocess) (Result, []string, error) {
	if err := v.Validate(); err != nil {
		return Result{}, nil, err
	}
	scale, err := newScaler(v, p)
	if err != nil {
		return Result{}, nil, err
	}
	plan, err := newPlan(v, p)
	if err != nil {
		return Result{}, nil, err
	}
	r := Result{Shape: p.ShapeDHW, ToSource: plan.toSource(v)}
	cur := array{data: v.HU, size: v.Size}
	for _, a := range plan.passes() {
		cur = cur.resample(plan.axes[a].stored, &plan.axes[a].taps)
		plan.axes[a].done = true
	}
	bad := 0
	r.Data, bad = plan.finish(cur, scale)

	var warnings []string
	if skew := volume.Skew(v.Affine); skew > maxSkew {
		warnings = append(warnings, fmt.Sprintf("the voxel axes are %.1f degrees off right angles (a tilted gantry?); the shear is kept", skew))
	}
	if turned := volume.Obliquity(v.Affine); p.Orientation == "LPS" && turned > maxObliquity {
		warnings = append(warnings, fmt.Sprintf("the voxel axes are up to %.1f degrees off the patient axes; the volume is not rotated", turned))
	}
	if bad > 0 {
		warnings = append(warnings, fmt.Sprintf("%d of %d output voxels were not finite; set to %g", bad, len(r.Data), scale.pad))
	}
	return r, warnings, nil
}

// scaler maps HU to output values.
type scaler struct {
	raw    bool
	lo, hi float32 // window in HU
	to     [2]float64
	slope  float64
	pad    float32 // for what lies outside the volume
}

func newScaler(v *volume.Volume, p config.Preprocess) (*scaler, error) {
	switch p.Intensity {
	case "raw":
		stats := volume.HUStats(v)
		if math.IsNaN(stats.Min) {
			return nil, errors.New("the volume has no voxel with a finite value")
		}
		return &scaler{raw: true, pad: float32(stats.Min)}, nil
	case "window":
		lo, hi := p.HUWindow[0], p.HUWindow[1]
		to := p.ScaleTo
		if !finite(lo, hi, to[0], to[1]) || !(float32(lo) < float32(hi)) {
			return nil, fmt.Errorf("preprocess.hu_window %v with scale_to %v is no window: it needs a lower and a greater upper bound", p.HUWindow, p.ScaleTo)
		}
		return &scaler{
			lo: float32(lo), hi: float32(hi), to: to,
			slope: (to[1] - to[0]) / (hi - lo), pad: float32(to[0]),
		}, nil
	}
	return nil, fmt.Errorf("preprocess.intensity is %q, want window or raw", p.Intensity)
}

// value maps one voxel, and reports whether it is a number. Infinities fall on the window's bounds.
func (s *scaler) value(x float32) (y float32, ok bool) {
	switch {
	case x != x, s.raw && x-x != 0:
		return s.pad, false
	case s.raw:
		return x, true
	case x <= s.lo:
		return float32(s.to[0]), true
	case x >= s.hi:
		return float32(s.to[1]), true
	}
	return float32(s.to[0] + float64((float64(x)-float64(s.lo))*s.slope)), true
}

// plan says how each output axis (d, h, w) comes from the stored array.
type plan struct {
	orient volume.Axes
	axes   [3]axis
}

// axis is the way of one output axis.
type axis struct {
	stored  int  // the stored axis it runs along
	flip    bool // against the stored index
	n       int  // voxels stored
	grid    int  // voxels after resampling of the whole extent
	start   int  // first resampled voxel kept
	first   int  // output voxel that it goes to
	kept    int  // how many are kept
	out     int  // output voxels
	taps    taps
	done    bool // resampled, flipped and cropped by a pass
	spacing float64
}

func newPlan(v *volume.Volume, p config.Preprocess) (*plan, error) {
	pl := &plan{orient: volume.Axes{Stored: [3]int{0, 1, 2}}}
	switch p.Orientation {
	case "LPS":
		var err error
		if pl.orient, err = volume.AxesTo(v.Affine, volume.Canonical); err != nil {
			return nil, err
		}
	case "stored":
	default:
		return nil, fmt.Errorf("preprocess.orientation is %q, want LPS or stored", p.Orientation)
	}
	if p.Fit != "resize" && p.Fit != "crop_pad" {
		return nil, fmt.Errorf("preprocess.fit is %q, want resize or crop_pad", p.Fit)
	}
	voxels := 1
	for i := range pl.axes {
		a := &pl.axes[i]
		a.stored, a.flip, a.out = pl.orient.Stored[i], pl.orient.Flip[i], p.ShapeDHW[i]
		a.n, a.spacing = v.Size[a.stored], v.Spacing[a.stored]
		if a.out < 1 || a.out > maxVoxels/voxels {
			return nil, fmt.Errorf("preprocess.shape_dhw %v is no shape: it needs sizes of at least 1 and at most %d voxels", p.ShapeDHW, maxVoxels)
		}
		voxels *= a.out
		if err := a.setGrid(i, p); err != nil {
			return nil, err
		}
		// The integer halves make the odd voxel fall at the end, for cutting as for padding.
		a.kept = min(a.grid, a.out)
		a.start = (a.grid - a.kept) / 2
		a.first = (a.out - a.kept) / 2
	}
	for i := range pl.axes {
		pl.axes[i].setTaps()
	}
	return pl, nil
}

// setGrid computes how many voxels the whole extent of output axis i (0 d, 1 h, 2 w) gets.
func (a *axis) setGrid(i int, p config.Preprocess) error {
	target := p.SpacingMM.MM[i]
	keep := p.SpacingMM.Keep || p.SpacingMM.MM == [3]float64{}
	if !keep && !(target > 0 && finite(target)) {
		return fmt.Errorf("preprocess.spacing_mm %v is no spacing: it needs three lengths above 0, or keep", p.SpacingMM.MM)
	}
	a.grid = a.n
	if p.Fit == "resize" {
		a.grid = a.out
		return nil
	}
	if keep {
		return nil
	}
	grid := math.Round(float64(a.n) * a.spacing / target)
	if grid < 1 || grid > maxVoxels {
		return fmt.Errorf("preprocess.spacing_mm of %g mm along %c would make %.0f voxels of the volume's %d with %.3g mm", target, "dhw"[i], grid, a.n, a.spacing)
	}
	a.grid = int(grid)
	return nil
}

// ratio is how many stored voxels a resampled one spans.
func (a *axis) ratio() float64 { return float64(a.n) / float64(a.grid) }

// position returns the index, in the output's direction, of the stored voxel at the output index o.
func (a *axis) position(o float64) float64 {
	return (o-float64(a.first)+float64(a.start)+0.5)*a.ratio() - 0.5
}

// toSource composes output index, oriented index, stored index and patient position.
func (pl *plan) toSource(v *volume.Volume) [4][4]float64 {
	m := [4][4]float64{3: {3: 1}}
	for i := range pl.axes {
		m[2-i][2-i] = pl.axes[i].ratio()
		m[2-i][3] = pl.axes[i].position(0)
	}
	return volume.Mul(v.Affine, volume.Mul(pl.orient.IndexMap(v.Size), m))
}

// passes returns the output axes that need a pass over the array, the one that shrinks it most first. The
// order depends on the oriented sizes alone, so that the order of storage does not show in the result.
func (pl *plan) passes() []int {
	resampled := false
	for i := range pl.axes {
		resampled = resampled || pl.axes[i].grid != pl.axes[i].n
	}
	if !resampled {
		return nil // a plain cut, made while the output is written
	}
	var order []int
	for i := range pl.axes {
		a := &pl.axes[i]
		if a.grid == a.n && a.kept == a.n {
			continue
		}
		at := len(order)
		for at > 0 && a.shrink() < pl.axes[order[at-1]].shrink() {
			at--
		}
		order = append(order[:at], append([]int{i}, order[at:]...)...)
	}
	return order
}

func (a *axis) shrink() float64 { return float64(a.kept) / float64(a.n) }

// finish writes the output: turned, cut or padded, and scaled. It returns how many voxels were no numbers.
func (pl *plan) finish(cur array, s *scaler) (out []float32, bad int) {
	d, h, w := &pl.axes[0], &pl.axes[1], &pl.axes[2]
	out = make([]float32, d.out*h.out*w.out)
	if d.kept < d.out || h.kept < h.out || w.kept < w.out {
		for i := range out {
			out[i] = s.pad
		}
	}
	var step [3]int
	from := 0
	for i := range pl.axes {
		a := &pl.axes[i]
		stride := cur.stride(a.stored)
		step[i] = stride
		switch {
		case a.done:
		case a.flip:
			from += (a.n - 1 - a.start) * stride
			step[i] = -stride
		default:
			from += a.start * stride
		}
	}
	var count atomic.Int64
	parallel(d.kept*h.kept, func(lo, hi int) {
		wrong := 0
		for row := lo; row < hi; row++ {
			i, j := row/h.kept, row%h.kept
			to := ((d.first+i)*h.out+h.first+j)*w.out + w.first
			at := from + i*step[0] + j*step[1]
			for k := range w.kept {
				y, ok := s.value(cur.data[at+k*step[2]])
				if !ok {
					wrong++
				}
				out[to+k] = y
			}
		}
		count.Add(int64(wrong))
	})
	return out, int(count.Load())
}

func finite(xs ...float64) bool {
	for _, x := range xs {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}
