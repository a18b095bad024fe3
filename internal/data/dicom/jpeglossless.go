package dicom

import (
	"encoding/binary"
	"fmt"

	"github.com/ctclass/ctclass/internal/data/dicom/jpegll"
	"github.com/ctclass/ctclass/internal/data/dicom/jpegls"
)

// decodeJPEGLossless decodes lossless JPEG.
func decodeJPEGLossless(stream []byte, h *Header) ([]byte, error) {
	img, err := jpegll.Decode(stream, h.Rows*h.Columns)
	if err != nil {
		return nil, err
	}
	return codedSamples(img.Pix, img.Width, img.Height, img.Bits, h)
}

// decodeJPEGLS decodes JPEG-LS, lossless or near-lossless.
func decodeJPEGLS(stream []byte, h *Header) ([]byte, error) {
	img, err := jpegls.Decode(stream, h.Rows*h.Columns)
	if err != nil {
		return nil, err
	}
	if img.Near > 0 && img.Bits > h.BitsStored {
		// The error may lead beyond the values of BitsStored bits. The nearest one can be taken where no
		// other bits were in use.
		highest := uint16(1)<<h.BitsStored - 1
		for i, v := range img.Pix {
			if h.Signed || int(v) > int(highest)+img.Near {
				return nil, fmt.Errorf("near-lossless samples of %d bits do not fit pixels of %d bits", img.Bits, h.BitsStored)
			}
			img.Pix[i] = min(v, highest)
		}
	}
	return codedSamples(img.Pix, img.Width, img.Height, img.Bits, h)
}

// codedSamples lays out the decoded samples of one frame in words of BitsAllocated bits. Samples of up to
// BitsStored bits are values, whose highest bit is the sign when pixels are signed, whatever BitsStored
// says; they go where HighBit wants them. Samples of more bits are whole words. None is negative.
func codedSamples[T uint16 | int32](pix []T, width, height, bits int, h *Header) ([]byte, error) {
	switch {
	case width != h.Columns || height != h.Rows:
		return nil, fmt.Errorf("an image of %d rows x %d columns, expected %d x %d", height, width, h.Rows, h.Columns)
	case bits > h.BitsAllocated:
		return nil, fmt.Errorf("samples of %d bits, expected at most %d", bits, h.BitsAllocated)
	}
	left, right := 0, 0
	if bits <= h.BitsStored {
		left = h.HighBit + 1 - h.BitsStored
		if h.Signed && bits < h.BitsStored {
			right = 32 - bits
		}
	}
	size := h.BitsAllocated / 8
	out := make([]byte, size*len(pix))
	if size == 2 && left == 0 && right == 0 {
		for i, v := range pix {
			binary.LittleEndian.PutUint16(out[2*i:], uint16(v))
		}
		return out, nil
	}
	for i, v := range pix {
		word := uint32(int32(uint32(v)<<right)>>right) << left
		switch size {
		case 1:
			out[i] = byte(word)
		case 2:
			binary.LittleEndian.PutUint16(out[2*i:], uint16(word))
		default:
			binary.LittleEndian.PutUint32(out[4*i:], word)
		}
	}
	return out, nil
}
