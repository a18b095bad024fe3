package report

import (
	"image"

	"github.com/ctclass/ctclass/internal/volume"
)

// thumbnailShare is the size of a thumbnail's tile over that of a preview.
const thumbnailShare = 0.5

// Thumbnail draws the middle axial, coronal and sagittal slice of a volume side by side, from hu[0] black to hu[1]
// white. Directions are as in WritePreview.
func Thumbnail(v *volume.Volume, hu [2]float64) (*image.Gray, error) {
	v, err := volume.Reorient(v, volume.Canonical)
	if err != nil {
		return nil, err
	}
	planes := []plane{axialAt(v, v.Size[0]/2), coronalAt(v, v.Size[1]/2), sagittalAt(v, v.Size[2]/2)}
	width, height := gap/2, 0
	for i := range planes {
		planes[i].fit(thumbnailShare * pixelsPerMM(v))
		width += planes[i].width + gap/2
		height = max(height, planes[i].height)
	}
	m := image.NewGray(image.Rect(0, 0, width, height+gap))
	left := gap / 2
	for _, p := range planes {
		p.draw(m, left, gap/2+(height-p.height)/2, window{low: hu[0], high: hu[1]})
		left += p.width + gap/2
	}
	return m, nil
}
