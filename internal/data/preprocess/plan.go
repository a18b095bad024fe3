package preprocess

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/volume"
)

// plan says how each output axis (d, h, w) comes from the stored array.
type plan struct {
	orient volume.Axes
	axes   [3]axis
	recipe bool // see setRecipe; the output array's axes run along w, h, d
}

// axis is the way of one output axis.
type axis struct {
	line
	stored int     // the stored axis it runs along
	size   int     // voxels stored, of which the line is the part inside the crop
	grid   int     // voxels after resampling of the line
	start  int     // first resampled voxel kept
	first  int     // output voxel that it goes to
	kept   int     // how many are kept
	out    int     // output voxels
	taps   taps    // of the kept voxels
	before *taps   // recipe: of the voxels that taps are of
	origin float64 // recipe: see position
	pitch  float64 // recipe: stored voxels an output voxel spans
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
	voxels := 1
	for _, n := range p.ShapeDHW {
		if n < 1 || n > maxVoxels/voxels {
			return nil, fmt.Errorf("preprocess.shape_dhw %v is no shape: it needs sizes of at least 1 and at most %d voxels", p.ShapeDHW, maxVoxels)
		}
		voxels *= n
	}
	box, err := cropBox(v, p)
	if err != nil {
		return nil, err
	}
	for i := range pl.axes {
		a := &pl.axes[i]
		a.stored, a.out = pl.orient.Stored[i], p.ShapeDHW[i]
		a.size = v.Size[a.stored]
		a.line = line{base: box[a.stored][0], n: box[a.stored][1] - box[a.stored][0], flip: pl.orient.Flip[i]}
	}
	switch p.Recipe {
	case "", "standard":
	case "ct_rate_classifier":
		return pl, pl.setRecipe(v, p)
	default:
		return nil, fmt.Errorf("preprocess.recipe is %q, want standard or ct_rate_classifier", p.Recipe)
	}
	if p.Fit != "resize" && p.Fit != "crop_pad" {
		return nil, fmt.Errorf("preprocess.fit is %q, want resize or crop_pad", p.Fit)
	}
	for i := range pl.axes {
		a := &pl.axes[i]
		if err := a.setGrid(i, v.Spacing[a.stored], p); err != nil {
			return nil, err
		}
		// The integer halves make the odd voxel fall at the end, for cutting as for padding.
		a.kept = min(a.grid, a.out)
		a.start = (a.grid - a.kept) / 2
		a.first = (a.out - a.kept) / 2
		if err := a.setTaps(p); err != nil {
			return nil, err
		}
	}
	return pl, nil
}

// setGrid computes how many voxels the whole extent of output axis i (0 d, 1 h, 2 w) gets.
func (a *axis) setGrid(i int, spacing float64, p config.Preprocess) error {
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
	grid := math.Round(float64(a.n) * spacing / target)
	if grid < 1 || grid > maxVoxels {
		return fmt.Errorf("preprocess.spacing_mm of %g mm along %c would make %.0f voxels of the volume's %d with %.3g mm", target, "dhw"[i], grid, a.n, spacing)
	}
	a.grid = int(grid)
	return nil
}

func (a *axis) setTaps(p config.Preprocess) error {
	centre := func(o int) float64 { return a.position(float64(a.first + o)) }
	switch p.Interpolation {
	case "", "linear":
	case "nearest":
		a.taps = a.nearest(a.kept, centre)
		return nil
	default:
		return fmt.Errorf("preprocess.interpolation is %q, want linear or nearest", p.Interpolation)
	}
	switch p.Antialias {
	case "", "triangle":
		a.taps = a.triangle(a.kept, a.ratio(), centre)
	case "gaussian":
		a.taps = a.gaussian(a.kept, a.ratio(), centre)
	case "none":
		a.taps = a.triangle(a.kept, 1, centre)
	default:
		return fmt.Errorf("preprocess.antialias is %q, want triangle, gaussian or none", p.Antialias)
	}
	return nil
}

// ratio is how many voxels of the line a resampled one spans.
func (a *axis) ratio() float64 {
	if a.before != nil {
		return a.pitch
	}
	return float64(a.n) / float64(a.grid)
}

// position returns the index in the line of the output index o.
func (a *axis) position(o float64) float64 {
	if a.before != nil {
		return a.origin + o*a.pitch
	}
	return (o-float64(a.first)+float64(a.start)+0.5)*a.ratio() - 0.5
}

// toSource composes output index, oriented index, stored index and patient position.
func (pl *plan) toSource(v *volume.Volume) [4][4]float64 {
	m := [4][4]float64{3: {3: 1}}
	for i := range pl.axes {
		a := &pl.axes[i]
		column := 2 - i
		if pl.recipe {
			column = i
		}
		before := a.base // voxels of the oriented axis before the line
		if a.flip {
			before = a.size - a.base - a.n
		}
		m[2-i][column] = a.ratio()
		m[2-i][3] = a.position(0) + float64(before)
	}
	return volume.Mul(v.Affine, volume.Mul(pl.orient.IndexMap(v.Size), m))
}

// steps returns the distances in the output array between neighbours along d, h, w.
func (pl *plan) steps() [3]int {
	d, h, w := pl.axes[0].out, pl.axes[1].out, pl.axes[2].out
	if pl.recipe {
		return [3]int{1, d, d * h}
	}
	return [3]int{h * w, w, 1}
}

// chain returns the source of the kept voxels. What is computed in which order depends on the oriented sizes
// alone, so that the order of storage does not show in the result.
func (pl *plan) chain(v *volume.Volume, s *scaler) source {
	d, h, w := &pl.axes[0], &pl.axes[1], &pl.axes[2]
	along := func(from source, d *taps) source { return &alongD{from: from, taps: d, loops: s.loops} }
	in := func(from source, d, h, w *taps) source {
		return &inPlane{from: from, d: d, h: h, w: w.row(from.width()), loops: s.loops}
	}
	switch {
	case pl.recipe:
		spaced := in(along(pl.origin(v, d.before.span()), d.before), nil, h.before, w.before)
		pooled := in(&windowed{from: spaced, scaler: s}, nil, &h.taps, &w.taps)
		return along(newKept(pooled, h.kept, d.taps.span()), &d.taps)
	case pl.cross():
		return in(pl.origin(v, d.taps.span()), &d.taps, &h.taps, &w.taps)
	case pl.alongDFirst():
		return in(along(pl.origin(v, d.taps.span()), &d.taps), nil, &h.taps, &w.taps)
	}
	return along(newKept(in(pl.origin(v, 1), nil, &h.taps, &w.taps), h.kept, d.taps.span()), &d.taps)
}

// cross reports whether resampling along d and h at once takes fewer operations than along d before h.
func (pl *plan) cross() bool {
	d, h := &pl.axes[0], &pl.axes[1]
	if d.taps.plain || h.taps.plain || !pl.alongDFirst() {
		return false
	}
	perPlane := float64(len(d.taps.index)) / float64(d.kept)
	hTaps, rows := float64(len(h.taps.index)), float64(h.n)
	return perPlane*hTaps <= perPlane*rows+rows+hTaps
}

// alongDFirst reports whether resampling along d before h and w takes fewer operations than after them.
func (pl *plan) alongDFirst() bool {
	d, h, w := &pl.axes[0], &pl.axes[1], &pl.axes[2]
	if d.taps.plain {
		return true
	}
	dTaps, hTaps, wTaps := float64(len(d.taps.index)), float64(len(h.taps.index)), float64(len(w.taps.index))
	inPlane := hTaps*float64(w.n) + float64(h.kept)*wTaps
	lo, hi := d.taps.bounds(0, d.kept)
	first := dTaps*float64(h.n)*float64(w.n) + float64(d.kept)*inPlane
	last := float64(hi-lo)*inPlane + dTaps*float64(h.kept)*float64(w.kept)
	return first <= last
}

// origin returns the stored voxels as planes of the output's d, steady over span planes.
func (pl *plan) origin(v *volume.Volume, span int) source {
	if pl.orient.Stored == [3]int{0, 1, 2} {
		return &stored{v.HU, v.Size}
	}
	strides := [3]int{v.Size[1] * v.Size[2], v.Size[2], 1}
	var size, stride [3]int
	for i := range pl.axes {
		size[i], stride[i] = pl.axes[i].size, strides[pl.axes[i].stored]
	}
	return newGathered(v.HU, size, stride, span)
}
