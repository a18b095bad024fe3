package dicomout

import (
	"errors"
	"image"
	"math"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/ctclass/ctclass/internal/dicomwrite"
)

// secondaryCapture is the SOP class Secondary Capture Image Storage.
const secondaryCapture = "1.2.840.10008.5.1.4.1.1.7"

// captureSeries is the series number of captures; scanners count from 1.
const captureSeries = 9802

// Capture is a picture of a document.
type Capture struct {
	Document
	Number      int // from 1, in the series of the document's captures
	Picture     *image.RGBA
	Title       string // of the series
	Description string // what the picture shows
}

// File returns the picture as a Secondary Capture in RGB. It has no text that identifies the patient in its pixels.
func (c *Capture) File() ([]byte, error) {
	size := c.Picture.Rect.Size()
	if size.X < 1 || size.Y < 1 || size.X > math.MaxUint16 || size.Y > math.MaxUint16 {
		return nil, errors.New("a picture of this size cannot be a secondary capture")
	}
	pixels := make([]byte, 0, 3*size.X*size.Y+1)
	for y := range size.Y {
		for x := range size.X {
			p := c.Picture.RGBAAt(c.Picture.Rect.Min.X+x, c.Picture.Rect.Min.Y+y)
			pixels = append(pixels, p.R, p.G, p.B)
		}
	}
	if len(pixels)%2 != 0 {
		pixels = append(pixels, 0)
	}
	sources := make([]dicomwrite.Item, len(c.Origin.Instances))
	for i, r := range c.Origin.Instances {
		sources[i] = reference(r)
	}
	attributes := append(c.common("OT", "sc", c.Title, captureSeries, c.Number),
		set(tag.ImageType, []string{"DERIVED", "SECONDARY"}),
		set(tag.ConversionType, []string{"WSD"}), // made at a workstation
		set(tag.DerivationDescription, text(c.Description, 1024)),
		set(tag.ImageComments, text(c.Description, 10240)),
		set(tag.SourceImageSequence, sources),
		set(tag.PatientOrientation, dicomwrite.Empty()), set(tag.Laterality, dicomwrite.Empty()),
		set(tag.BurnedInAnnotation, []string{"NO"}),
		set(tag.LossyImageCompression, []string{"00"}),
		set(tag.SamplesPerPixel, []int{3}), set(tag.PhotometricInterpretation, []string{"RGB"}), set(tag.PlanarConfiguration, []int{0}),
		set(tag.Rows, []int{size.Y}), set(tag.Columns, []int{size.X}),
		set(tag.BitsAllocated, []int{8}), set(tag.BitsStored, []int{8}), set(tag.HighBit, []int{7}), set(tag.PixelRepresentation, []int{0}),
		set(tag.PixelData, dicomwrite.Pixels{VR: "OB", Data: pixels}),
	)
	return dicomwrite.File(secondaryCapture, c.uid("sc", c.Description), implementation(), attributes)
}
