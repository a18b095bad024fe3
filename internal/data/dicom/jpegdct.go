package dicom

import (
	"fmt"

	"github.com/ctclass/ctclass/internal/data/dicom/jpegdct"
)

// decodeJPEGDCT decodes the lossy JPEG processes.
func decodeJPEGDCT(stream []byte, h *Header) ([]byte, error) {
	img, err := jpegdct.Decode(stream, h.Rows*h.Columns)
	if err != nil {
		return nil, err
	}
	if img.Bits > h.BitsStored {
		// Samples have 8 or 12 bits, whatever BitsStored is, and the loss may lead a little beyond its values:
		// the nearest one is taken.
		highest := uint16(1)<<h.BitsStored - 1
		for i, v := range img.Pix {
			if h.Signed || v > highest+highest/4 {
				return nil, fmt.Errorf("samples of %d bits do not fit pixels of %d bits", img.Bits, h.BitsStored)
			}
			img.Pix[i] = min(v, highest)
		}
	}
	return codedSamples(img.Pix, img.Width, img.Height, min(img.Bits, h.BitsStored), h)
}
