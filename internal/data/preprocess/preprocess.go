// Package preprocess turns a volume into the array that a network takes: one orientation, one voxel
// spacing, one or more intensity scales, one shape.
//
// The steps, in this order: orientation, cropping to the body, resampling to the spacing, fit to the shape,
// windows and scale. Orientation and both kinds of interpolation act on each axis alone, so they are carried
// out together: every axis is resampled once, straight from the stored voxels to the output's, a few planes at
// a time. Besides the volume and its result only those planes are in memory.
package preprocess

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/procmem"
	"github.com/ctclass/ctclass/internal/volume"
)

const (
	maxVoxels    = math.MaxInt32 // of an output
	maxSkew      = 1.0           // degrees from right angles that pass without a warning
	maxObliquity = 20.0          // degrees from the patient axes that pass without a warning
)

// Result is a preprocessed volume.
type Result struct {
	// Data holds the voxels [c][d][h][w], w fastest, a channel for each window: window-scaled, or HU with
	// intensity raw. All finite.
	Data []float32
	// Channels is the number of windows, 1 with intensity raw.
	Channels int
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
// Crop body cuts the volume to the box of the largest connected part above -500 HU, the patient without the
// table, and crop_margin_mm around it.
//
// spacing_mm keeps the physical extent of each axis: n voxels become round(n·spacing/target), whose
// centres divide the extent evenly. With fit resize the extent is then stretched to the shape, which
// makes one interpolation from n to the shape's size, whatever the spacing was. With crop_pad the middle
// of the resampled volume is cut out, or it is padded around: with what the window's lower bound maps to,
// or the volume's minimum with intensity raw. When an odd number of voxels is to cut or pad, the one more
// is at the end of the axis.
//
// Interpolation is trilinear with the edge voxels repeated outside the volume. An axis that shrinks by
// factor f > 1 is filtered against aliasing. With antialias triangle by a triangle of half-width f stored
// voxels, the linear interpolation kernel stretched by f. With gaussian by a Gaussian of sigma (f-1)/2 stored
// voxels before interpolation, as scikit-image does. With none not at all: PyTorch's trilinear interpolate
// without align_corners. Interpolation nearest takes the nearest voxel, for masks. Intensities are windowed
// after interpolation.
//
// Recipe ct_rate_classifier is described at [recipe].
//
// It fails for an unsound volume, for settings outside their range, for a volume so thin that the spacing
// leaves no voxel, with crop body where there is nothing above -500 HU, and with intensity raw for a volume
// without a finite voxel.
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
	r := Result{Shape: p.ShapeDHW, Channels: len(scale.windows), ToSource: plan.toSource(v)}
	r.Data = plan.run(v, scale)

	var warnings []string
	if skew := volume.Skew(v.Affine); skew > maxSkew {
		warnings = append(warnings, fmt.Sprintf("the voxel axes are %.1f degrees off right angles (a tilted gantry?); the shear is kept", skew))
	}
	if turned := volume.Obliquity(v.Affine); p.Orientation == "LPS" && turned > maxObliquity {
		warnings = append(warnings, fmt.Sprintf("the voxel axes are up to %.1f degrees off the patient axes; the volume is not rotated", turned))
	}
	if bad := scale.bad.Load(); bad > 0 {
		warnings = append(warnings, fmt.Sprintf("%d of %d output voxels were not finite; set to %g", bad, len(r.Data)/r.Channels, scale.pad(0)))
	}
	return r, warnings, nil
}

// run makes the output: resampled, cut or padded, and scaled.
func (pl *plan) run(v *volume.Volume, s *scaler) []float32 {
	d, h, w := &pl.axes[0], &pl.axes[1], &pl.axes[2]
	voxels := d.out * h.out * w.out
	out := make([]float32, len(s.windows)*voxels)
	procmem.AdviseHugePages(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(out))), 4*len(out)))
	if d.kept < d.out || h.kept < h.out || w.kept < w.out {
		for c := range s.windows {
			fill(out[c*voxels:(c+1)*voxels], s.pad(c))
		}
	}
	step := pl.steps()
	from := d.first*step[0] + h.first*step[1] + w.first*step[2]
	part := max(4, 4*d.taps.span()) // planes that parts share are made twice
	parallel(d.kept, part, func() func(lo, hi int) {
		src := pl.chain(v, s)
		return func(lo, hi int) {
			for i := lo; i < hi; i++ {
				for j := 0; j < h.kept; {
					n := min(tileRows(w.size), h.kept-j)
					data, stride := src.rows(i, j, j+n)
					for y := range n {
						row := data[y*stride:][:w.kept]
						at := from + i*step[0] + (j+y)*step[1]
						if pl.recipe { // scaled before
							spread(out[at:], row, step[2])
							continue
						}
						for c := range s.windows {
							s.scale(c, out[c*voxels+at:][:w.kept], row)
						}
					}
					j += n
				}
			}
		}
	})
	return out
}

// spread copies values to places that lie step apart.
func spread(dst, src []float32, step int) {
	for i, x := range src {
		dst[i*step] = x
	}
}

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}

func finite(xs ...float64) bool {
	for _, x := range xs {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}
