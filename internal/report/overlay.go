package report

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"strings"

	"github.com/ctclass/ctclass/internal/volume"
)

// Overlay draws the axial, coronal and sagittal slice of v through the peak of heat, a volume of values 0 to 1 on
// the same voxels (without any heat, through the middle): above as they are, from hu[0] black to hu[1] white, below with the heat over them, from clear
// over red to yellow. Above all stands the caption, in capitals; directions are as in WritePreview.
func Overlay(v, heat *volume.Volume, hu [2]float64, caption string) (*image.RGBA, error) {
	if v.Size != heat.Size || v.Affine != heat.Affine {
		return nil, fmt.Errorf("the heat has other voxels than the scan")
	}
	v, err := volume.Reorient(v, volume.Canonical)
	if err != nil {
		return nil, err
	}
	if heat, err = volume.Reorient(heat, volume.Canonical); err != nil {
		return nil, err
	}
	peak := 0
	for i, x := range heat.HU {
		if x > heat.HU[peak] {
			peak = i
		}
	}
	at := [3]int{peak / (v.Size[1] * v.Size[2]), peak / v.Size[2] % v.Size[1], peak % v.Size[2]}
	if !(heat.HU[peak] > 0) {
		at = [3]int{v.Size[0] / 2, v.Size[1] / 2, v.Size[2] / 2}
	}
	planes := []plane{axialAt(v, at[0]), coronalAt(v, at[1]), sagittalAt(v, at[2])}
	scale := pixelsPerMM(v)
	width, height := gap, 0
	for i := range planes {
		planes[i].fit(scale)
		width += planes[i].width + gap
		height = max(height, planes[i].height)
	}
	top := gap + glyphHeight*letter + gap
	gray := image.NewGray(image.Rect(0, 0, width, top+2*(height+gap)))
	write(gray, gap, gap, strings.ToUpper(caption))
	m := image.NewRGBA(gray.Bounds())
	win := window{low: hu[0], high: hu[1]}
	for row := range 2 {
		left := gap
		for _, p := range planes {
			p.draw(gray, left, top+row*(height+gap), win)
			left += p.width + gap
		}
	}
	for y := range gray.Rect.Dy() {
		for x := range gray.Rect.Dx() {
			g := gray.GrayAt(x, y).Y
			m.SetRGBA(x, y, color.RGBA{g, g, g, 255})
		}
	}
	left := gap
	for _, p := range planes {
		p.v = heat
		for y := range p.height {
			for x := range p.width {
				blend(m, left+x, top+height+gap+y, p.value(x, y))
			}
		}
		left += p.width + gap
	}
	return m, nil
}

// blend lays heat, 0 to 1, over a pixel.
func blend(m *image.RGBA, x, y int, heat float64) {
	const most = 0.6 // opacity at the peak
	heat = min(max(heat, 0), 1)
	a := most * heat
	mix := func(under uint8, over float64) uint8 { return uint8(math.Round((1-a)*float64(under) + a*over)) }
	c := m.RGBAAt(x, y)
	m.SetRGBA(x, y, color.RGBA{mix(c.R, 255), mix(c.G, 255*heat*heat), mix(c.B, 0), 255})
}
