// Package report makes what a person looks at: previews of volumes.
package report

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/volume"
)

// Sizes of a preview in pixels.
const (
	tilePixels = 256 // of the volume's longest side
	gap        = 6   // around tiles
	letter     = 2   // of one dot of a letter
)

// window is a range of HU that is shown from black to white.
type window struct {
	name      string
	low, high float64
}

// WritePreview writes a PNG picture of a volume: from left to right axial slices at a quarter, half and three
// quarters of its height, the middle coronal and the middle sagittal slice; from top to bottom in the windows
// for lung (-1350 to 150 HU), soft tissue (-160 to 240 HU) and bone (-700 to 1300 HU). The sides keep their
// proportions in mm. As in radiology the patient's left is on the right and the head on top; the letters at the
// edges name the directions.
func WritePreview(path string, v *volume.Volume) error {
	m, err := Preview(v)
	if err != nil {
		return fmt.Errorf("cannot draw %s: %w", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error { return png.Encode(w, m) })
}

// Preview draws what WritePreview writes.
func Preview(v *volume.Volume) (*image.Gray, error) {
	v, err := volume.Reorient(v, volume.Canonical)
	if err != nil {
		return nil, err
	}
	windows := []window{{"LUNG", -1350, 150}, {"SOFT TISSUE", -160, 240}, {"BONE", -700, 1300}}
	planes := newPlanes(v, pixelsPerMM(v))
	width, height := gap, 0
	for _, p := range planes {
		width += p.width + gap
		height = max(height, p.height)
	}
	caption := glyphHeight*letter + gap
	m := image.NewGray(image.Rect(0, 0, width, gap+len(windows)*(height+caption+gap)))
	for row, win := range windows {
		top := gap + row*(height+caption+gap)
		write(m, gap, top, fmt.Sprintf("%s %.0f TO %.0f HU", win.name, win.low, win.high))
		left := gap
		for _, p := range planes {
			p.draw(m, left, top+caption, win)
			left += p.width + gap
		}
	}
	return m, nil
}

// plane is a slice of the volume through one voxel index of an axis, as it is drawn.
type plane struct {
	v             *volume.Volume
	fixed         int // axis (0 d, 1 h, 2 w) and its index
	index         int
	down, right   int  // axes that the picture's rows and columns follow
	flipped       bool // the rows run against their axis
	width, height int
	edges         [4]string // letters at the left, right, top and bottom edge
}

// newPlanes returns the slices of a preview, from left to right.
func newPlanes(v *volume.Volume, pixelsPerMM float64) []plane {
	at := func(axis int, share float64) int {
		return min(int(share*float64(v.Size[axis])), v.Size[axis]-1)
	}
	var planes []plane
	for _, share := range []float64{0.75, 0.5, 0.25} { // from the head down
		planes = append(planes, axialAt(v, at(0, share)))
	}
	planes = append(planes, coronalAt(v, at(1, 0.5)), sagittalAt(v, at(2, 0.5)))
	for i := range planes {
		planes[i].fit(pixelsPerMM)
	}
	return planes
}

func axialAt(v *volume.Volume, d int) plane {
	return plane{v: v, fixed: 0, index: d, down: 1, right: 2, edges: [4]string{"R", "L", "A", "P"}}
}

func coronalAt(v *volume.Volume, h int) plane {
	return plane{v: v, fixed: 1, index: h, down: 0, right: 2, flipped: true, edges: [4]string{"R", "L", "S", "I"}}
}

func sagittalAt(v *volume.Volume, w int) plane {
	return plane{v: v, fixed: 2, index: w, down: 0, right: 1, flipped: true, edges: [4]string{"A", "P", "S", "I"}}
}

// pixelsPerMM lets the longest side of a volume fill a tile.
func pixelsPerMM(v *volume.Volume) float64 {
	longest := 0.0
	for a := range 3 {
		longest = max(longest, float64(v.Size[a])*v.Spacing[a])
	}
	return tilePixels / longest
}

// fit sets the plane's size in pixels.
func (p *plane) fit(pixelsPerMM float64) {
	pixels := func(axis int) int {
		return min(max(int(math.Round(float64(p.v.Size[axis])*p.v.Spacing[axis]*pixelsPerMM)), 1), tilePixels)
	}
	p.width, p.height = pixels(p.right), pixels(p.down)
}

// draw draws the plane with its left upper corner at (x0, y0).
func (p *plane) draw(m *image.Gray, x0, y0 int, win window) {
	for y := range p.height {
		for x := range p.width {
			m.SetGray(x0+x, y0+y, color.Gray{Y: win.gray(p.value(x, y))})
		}
	}
	const edge = 2
	midX, midY := x0+(p.width-glyphWidth*letter)/2, y0+(p.height-glyphHeight*letter)/2
	if p.height >= 3*glyphHeight*letter {
		write(m, x0+edge, midY, p.edges[0])
		write(m, x0+p.width-glyphWidth*letter-edge, midY, p.edges[1])
		write(m, midX, y0+edge, p.edges[2])
		write(m, midX, y0+p.height-glyphHeight*letter-edge, p.edges[3])
	}
}

// value is the mean over a pixel, of 2 x 2 linearly interpolated points.
func (p *plane) value(x, y int) float64 {
	sum := 0.0
	for _, dy := range []float64{0.25, 0.75} {
		for _, dx := range []float64{0.25, 0.75} {
			r := (float64(y)+dy)/float64(p.height)*float64(p.v.Size[p.down]) - 0.5
			c := (float64(x)+dx)/float64(p.width)*float64(p.v.Size[p.right]) - 0.5
			if p.flipped {
				r = float64(p.v.Size[p.down]-1) - r
			}
			sum += p.at(r, c)
		}
	}
	return sum / 4
}

// at interpolates the plane at fractional indices along down and right.
func (p *plane) at(r, c float64) float64 {
	r0, fr := split(r, p.v.Size[p.down])
	c0, fc := split(c, p.v.Size[p.right])
	voxel := func(r, c int) float64 {
		var i [3]int
		i[p.fixed] = p.index
		i[p.down], i[p.right] = min(r, p.v.Size[p.down]-1), min(c, p.v.Size[p.right]-1)
		return float64(p.v.At(i[0], i[1], i[2]))
	}
	top := voxel(r0, c0)*(1-fc) + voxel(r0, c0+1)*fc
	if fr == 0 {
		return top
	}
	return top*(1-fr) + (voxel(r0+1, c0)*(1-fc)+voxel(r0+1, c0+1)*fc)*fr
}

// split divides an index within n voxels into the voxel before it and the fraction beyond that.
func split(x float64, n int) (int, float64) {
	x = min(max(x, 0), float64(n-1))
	whole := math.Floor(x)
	return int(whole), x - whole
}

// gray maps HU to a grey value; what is no number is black.
func (w window) gray(hu float64) uint8 {
	share := (hu - w.low) / (w.high - w.low)
	if !(share > 0) {
		return 0
	}
	return uint8(math.Round(255 * min(share, 1)))
}
