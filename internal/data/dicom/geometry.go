package dicom

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
)

// samePosition is the distance in mm below which two slices lie at the same place.
const samePosition = 0.01

// geometry places the slices of a stack in the patient. Offsets are in mm from the first slice's corner.
type geometry struct {
	row, column, normal [3]float64 // unit directions in which w, h and d grow
	pitch               [2]float64 // mm between neighbours along h, w
	along               []float64  // offset of each slice along normal
	drift               [][2]float64
	step                float64 // mean distance of the slices along normal
	affine              [4][4]float64

	// What is wrong with the stack; Read corrects it.
	uneven bool
	median float64 // of the distances along normal, set when uneven
	tilted bool    // the slices drift sideways by more than half a voxel (drift: along h, w)
}

// place works out the geometry of the sorted slices.
func (s *Series) place() error {
	g := &s.geometry
	first := &s.Slices[0]
	n := len(s.Slices)
	g.pitch = first.PixelSpacing
	if g.pitch == [2]float64{} {
		g.pitch = [2]float64{1, 1}
		s.warn("no pixel spacing: 1 mm is assumed")
	}
	if !(g.pitch[0] > 1e-3 && g.pitch[0] < 1e3 && g.pitch[1] > 1e-3 && g.pitch[1] < 1e3) {
		return fmt.Errorf("pixel spacing %g x %g mm is not usable", g.pitch[0], g.pitch[1])
	}
	g.along, g.drift = make([]float64, n), make([][2]float64, n)
	g.row, g.column, g.normal = [3]float64{1, 0, 0}, [3]float64{0, 1, 0}, [3]float64{0, 0, 1}
	if first.HasOrientation {
		g.row, g.column, g.normal = vec(first.Orientation[:3]), vec(first.Orientation[3:]), first.normal()
	}
	origin := first.Position
	if first.HasPosition && first.HasOrientation {
		for i := range s.Slices {
			d := added(s.Slices[i].Position, origin, -1)
			g.along[i] = dot(d, g.normal)
			g.drift[i] = [2]float64{dot(d, g.column), dot(d, g.row)}
		}
	} else {
		origin = [3]float64{}
		step := s.declaredStep()
		for i := range g.along {
			g.along[i] = float64(i) * step
		}
		if !first.HasOrientation {
			s.warn("no usable image orientation: axial slices, head up, are assumed")
		}
		if n > 1 || !first.HasPosition {
			s.warn("no usable image positions: %d slices are stacked by instance number, %.4g mm apart", n, step)
		}
	}
	last := n - 1
	third := scaled(g.normal, s.declaredStep())
	g.step = s.declaredStep()
	if n > 1 {
		g.step = g.along[last] / float64(last)
		third = scaled(g.normal, g.step)
		third = added(third, g.column, g.drift[last][0]/float64(last))
		third = added(third, g.row, g.drift[last][1]/float64(last))
	}
	g.affine = affineOf(scaled(g.row, g.pitch[1]), scaled(g.column, g.pitch[0]), third, origin)
	return s.findFaults()
}

// declaredStep is the distance in mm between slices where positions do not say it: from the slice
// locations, the declared spacing or the slice thickness, else 1.
func (s *Series) declaredStep() float64 {
	var gaps []float64
	for i := 1; i < len(s.Slices); i++ {
		if a, b := &s.Slices[i-1], &s.Slices[i]; a.HasSliceLocation && b.HasSliceLocation {
			gaps = append(gaps, math.Abs(b.SliceLocation-a.SliceLocation))
		}
	}
	candidates := []float64{s.Slices[0].SpacingBetween, s.Slices[0].SliceThickness}
	if len(gaps) > 0 && !s.Slices[0].HasPosition {
		candidates = slices.Insert(candidates, 0, middle(gaps))
	}
	for _, step := range candidates {
		if step > samePosition && step < 1e3 {
			return step
		}
	}
	return 1
}

// findFaults looks for slices at one place that cannot be told apart, uneven spacing and tilt.
func (s *Series) findFaults() error {
	g := &s.geometry
	n := len(g.along)
	gaps := make([]float64, n-1)
	for i := range gaps {
		gaps[i] = g.along[i+1] - g.along[i]
		if gaps[i] <= samePosition {
			return fmt.Errorf("%s and %s lie side by side in one plane: no stack of slices",
				s.Slices[i].Name(), s.Slices[i+1].Name())
		}
	}
	if n > 2 {
		// Rounded positions scatter around the regular ones; a missing slice moves them by whole steps.
		tolerance := min(max(0.1*g.step, 0.1), 0.3*g.step)
		for i, z := range g.along {
			g.uneven = g.uneven || math.Abs(z-float64(i)*g.step) > tolerance
		}
	}
	if g.uneven {
		g.median = middle(gaps)
		widest := 0
		for i := range gaps {
			if gaps[i] > gaps[widest] {
				widest = i
			}
		}
		if k := g.gridSlices(); k > 2*n {
			return fmt.Errorf("%d slices with distances from %.4g to %.4g mm: more than half of a regular stack would be made up",
				n, slices.Min(gaps), gaps[widest])
		}
		s.warnCorrected(fmt.Sprintf("slices are missing or unevenly spaced (%.4g to %.4g mm, widest after %s)",
			slices.Min(gaps), gaps[widest], filepath.Base(s.Slices[widest].Name())),
			fmt.Sprintf("interpolated to %d slices %.4g mm apart", g.gridSlices(), g.median))
	}
	for _, d := range g.drift {
		g.tilted = g.tilted || math.Abs(d[0]) > 0.5*g.pitch[0] || math.Abs(d[1]) > 0.5*g.pitch[1]
	}
	if g.tilted {
		if _, box, err := g.upright(s.Size()); err != nil || box[1]*box[2] > 4*s.Slices[0].Rows*s.Slices[0].Columns {
			return errors.New("the slices are shifted sideways too far for one stack")
		}
		d := g.drift[n-1]
		angle := math.Atan2(math.Hypot(d[0], d[1]), g.along[n-1]) * 180 / math.Pi
		s.warnCorrected(fmt.Sprintf("the stack is sheared by %.1f degrees (gantry tilt)", angle),
			"sheared back by linear interpolation")
	}
	return nil
}

// gridSlices is the number of slices of the regular grid that replaces an uneven stack.
func (g *geometry) gridSlices() int {
	return int(math.Floor(g.along[len(g.along)-1]/g.median+0.01)) + 1
}

// upright returns the box of voxels that holds all slices of a tilted stack once they are shifted back: the
// offset (h, w) of its corner from the first slice's corner in voxels, and its size (D, H, W).
func (g *geometry) upright(size [3]int) (offset [2]int, box [3]int, err error) {
	box = size
	for axis := range 2 {
		low, high := 0.0, 0.0
		for _, d := range g.drift {
			low, high = min(low, d[axis]/g.pitch[axis]), max(high, d[axis]/g.pitch[axis])
		}
		if high-low > 1e6 {
			return offset, box, errors.New("shifted too far")
		}
		// A shift within 1e-4 voxels of a whole one is that whole one.
		offset[axis] = int(math.Floor(low + 1e-4))
		box[axis+1] += int(math.Ceil(high-1e-4)) - offset[axis]
	}
	return offset, box, nil
}

// middle returns the lower median.
func middle(x []float64) float64 {
	sorted := slices.Clone(x)
	slices.Sort(sorted)
	return sorted[(len(sorted)-1)/2]
}

func affineOf(w, h, d, origin [3]float64) [4][4]float64 {
	var a [4][4]float64
	for i := range 3 {
		a[i] = [4]float64{w[i], h[i], d[i], origin[i]}
	}
	a[3][3] = 1
	return a
}

// singleFrames is the placeholder geometry of a multi-frame file that does not say its real one.
func singleFrames(h *Header) geometry {
	pitch := h.PixelSpacing
	if pitch == [2]float64{} {
		pitch = [2]float64{1, 1}
	}
	g := geometry{row: [3]float64{1, 0, 0}, column: [3]float64{0, 1, 0}, normal: [3]float64{0, 0, 1}, pitch: pitch, step: 1}
	g.affine = affineOf(scaled(g.row, pitch[1]), scaled(g.column, pitch[0]), g.normal, [3]float64{})
	return g
}
