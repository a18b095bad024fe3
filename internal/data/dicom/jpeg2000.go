package dicom

import (
	"fmt"

	"github.com/ctclass/ctclass/internal/data/dicom/jpeg2000"
)

// decodeJPEG2000 decodes JPEG 2000 and HTJ2K. Whether pixels are signed is for PixelRepresentation to say:
// where the codestream contradicts it, its samples are taken for the words they are.
func decodeJPEG2000(stream []byte, h *Header) ([]byte, error) {
	// Empty blocks take next to nothing, but a large image of nothing else is not backed by data.
	if n := int64(h.Rows) * int64(h.Columns); n > 4<<20 && n > 512*int64(len(stream)) {
		return nil, fmt.Errorf("%d bytes cannot hold %d pixels", len(stream), n)
	}
	img, err := jpeg2000.Decode(stream, h.Rows*h.Columns)
	if err != nil {
		return nil, err
	}
	if len(img.Components) != 1 {
		return nil, fmt.Errorf("%d components, expected 1", len(img.Components))
	}
	c := &img.Components[0]
	if c.Bits > h.BitsStored && (h.TransferSyntax == syntaxJ2K || h.TransferSyntax == syntaxHTJ2K) {
		// The loss may lead beyond the values of BitsStored bits, which are then the nearest ones. Samples
		// far beyond are no such values.
		low, high := int32(0), int32(int64(1)<<h.BitsStored-1)
		if h.Signed {
			low, high = -high/2-1, high/2
		}
		margin := (high - low) / 16
		for i, v := range c.Samples {
			if v < low-margin || v > high+margin {
				return nil, fmt.Errorf("lossy samples of %d bits do not fit pixels of %d bits", c.Bits, h.BitsStored)
			}
			c.Samples[i] = min(max(v, low), high)
		}
	}
	for i := range c.Samples {
		c.Samples[i] &= 1<<c.Bits - 1
	}
	return codedSamples(c.Samples, img.Width, img.Height, c.Bits, h)
}
