package dicom

import (
	"encoding/binary"
	"fmt"

	"github.com/ctclass/ctclass/internal/data/dicom/jpegdct"
)

// decodeJPEGDCT decodes the lossy JPEG processes. The loss may lead beyond the values of BitsStored bits,
// which are then the nearest ones.
func decodeJPEGDCT(stream []byte, h *Header) ([]byte, error) {
	img, err := jpegdct.Decode(stream, h.Rows*h.Columns)
	switch {
	case err != nil:
		return nil, err
	case img.Width != h.Columns || img.Height != h.Rows:
		return nil, fmt.Errorf("an image of %d x %d pixels, expected %d x %d", img.Height, img.Width, h.Rows, h.Columns)
	case img.Bits > h.BitsAllocated:
		return nil, fmt.Errorf("samples of %d bits, expected at most %d", img.Bits, h.BitsAllocated)
	case h.Signed && img.Bits != h.BitsStored:
		return nil, fmt.Errorf("samples of %d bits for signed pixels of %d bits", img.Bits, h.BitsStored)
	}
	if h.BitsStored < img.Bits {
		highest := uint16(1)<<h.BitsStored - 1
		for i, v := range img.Pix {
			img.Pix[i] = min(v, highest)
		}
	}
	shift := h.HighBit + 1 - h.BitsStored
	width := h.BitsAllocated / 8
	out := make([]byte, width*len(img.Pix))
	for i, v := range img.Pix {
		switch width {
		case 1:
			out[i] = byte(v << shift)
		case 2:
			binary.LittleEndian.PutUint16(out[2*i:], v<<shift)
		default:
			binary.LittleEndian.PutUint32(out[4*i:], uint32(v)<<shift)
		}
	}
	return out, nil
}
