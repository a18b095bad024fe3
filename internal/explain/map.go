package explain

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/volume"
)

// Map is an explanation on a grid of cells: the higher the heat of a cell, the more it speaks for the label. No
// heat is negative.
type Map struct {
	Cells
	Heat []float64 // [d][h][w] of the cells
}

// Peak returns the cell of the greatest heat, the first of equal ones, and the heat.
func (m *Map) Peak() (cell [3]int, heat float64) {
	best := 0
	for i, v := range m.Heat {
		if v > m.Heat[best] {
			best = i
		}
	}
	return [3]int{best / (m.Size[1] * m.Size[2]), best / m.Size[2] % m.Size[1], best % m.Size[2]}, m.Heat[best]
}

// levels is the resolution of a heat volume. Multiples of a power of two compress well.
const levels = 1024

// Over carries the map to the voxels of the scan v, of which the network saw the input of the given shape whose
// indices (w, h, d) toSource places in the patient (see preprocess.Result). The values are the heat in shares of
// its peak, 0 to 1, interpolated between the centres of the cells; voxels that the network has not seen are 0, and
// so is all of a map without heat.
func (m *Map) Over(v *volume.Volume, shape [3]int, toSource [4][4]float64) (*volume.Volume, error) {
	toInput := volume.Mul(volume.Inverse(toSource), v.Affine)
	var lines [3]line // of the scan's axes
	for a := range 3 {
		l, err := m.line(a, v.Size[a], shape, toInput)
		if err != nil {
			return nil, err
		}
		lines[a] = l
	}
	out := &volume.Volume{Size: v.Size, HU: make([]float32, v.Voxels()), Spacing: v.Spacing, Affine: v.Affine}
	_, peak := m.Peak()
	if !(peak > 0) {
		return out, nil
	}
	scale := levels / peak
	row := make([]float64, m.Size[lines[2].axis])
	for d, td := range lines[0].taps {
		for h, th := range lines[1].taps {
			if !td.seen || !th.seen {
				continue
			}
			for k := range row {
				at := k * lines[2].stride
				low := (1-th.t)*m.Heat[td.low+th.low+at] + th.t*m.Heat[td.low+th.high+at]
				high := (1-th.t)*m.Heat[td.high+th.low+at] + th.t*m.Heat[td.high+th.high+at]
				row[k] = ((1-td.t)*low + td.t*high) * scale
			}
			dst := out.HU[(d*v.Size[1]+h)*v.Size[2]:][:v.Size[2]]
			for w, t := range lines[2].taps {
				if t.seen {
					x := (1-t.t)*row[t.low/lines[2].stride] + t.t*row[t.high/lines[2].stride]
					dst[w] = float32(math.Round(x) / levels)
				}
			}
		}
	}
	return out, nil
}

// line says which cells an axis of the scan runs through.
type line struct {
	axis   int // of the cells
	stride int // in Map.Heat, from one cell to the next
	taps   []tap
}

// tap interpolates between two cells of an axis.
type tap struct {
	seen      bool
	low, high int // offsets in Map.Heat
	t         float64
}

// line returns the cells along axis a (0 d, 1 h, 2 w) of a scan of n voxels.
func (m *Map) line(a, n int, shape [3]int, toInput [4][4]float64) (line, error) {
	column := 2 - a
	l := line{axis: -1, taps: make([]tap, n)}
	for axis := range 3 {
		step := math.Abs(toInput[2-axis][column])
		if step*float64(n) < 1e-3 { // rounding
			continue
		}
		if l.axis >= 0 {
			return l, fmt.Errorf("explain: the input's axes are not those of the scan: %v", toInput)
		}
		l.axis = axis
	}
	if l.axis < 0 {
		return l, fmt.Errorf("explain: an axis of the scan is none of the input: %v", toInput)
	}
	l.stride = [3]int{m.Size[1] * m.Size[2], m.Size[2], 1}[l.axis]
	first, step := toInput[2-l.axis][3], toInput[2-l.axis][column]
	for i := range l.taps {
		at := first + step*float64(i) // in the input
		if at < -0.5-1e-6 || at > float64(shape[l.axis])-0.5+1e-6 {
			continue
		}
		c := min(max((at-m.First[l.axis])/m.Step[l.axis], 0), float64(m.Size[l.axis]-1))
		low := int(c)
		high := min(low+1, m.Size[l.axis]-1)
		l.taps[i] = tap{true, low * l.stride, high * l.stride, c - float64(low)}
	}
	return l, nil
}
