// Package jpegll decodes lossless JPEG with Huffman coding: ITU-T T.81, process 14 (frame type SOF3,
// annex H), which DICOM knows as transfer syntaxes 1.2.840.10008.1.2.4.57 and .70.
//
// Images of one component are read, with 2 to 16 bits, all predictors, point transform and restart
// intervals.
package jpegll

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ctclass/ctclass/internal/data/dicom/jpegmark"
)

// Image is a decoded image of one component.
type Image struct {
	Width, Height int
	Bits          int      // precision that the stream declares, 2 to 16
	Pix           []uint16 // Height rows of Width samples
}

var (
	errData    = errors.New("the JPEG stream holds a code that its Huffman table does not know")
	errEntropy = errors.New("the JPEG stream is cut within its pixels")
)

// decoder holds what the marker segments declare.
type decoder struct {
	src      jpegmark.Stream
	width    int
	height   int
	bits     int
	tables   [4]definition
	interval int // samples between restart markers, 0: none
}

// Decode decodes a JPEG stream. An image of more than maxPixels pixels is refused before memory is taken
// for it; so is one that is larger than the stream could hold. Bytes after the image are ignored.
func Decode(src []byte, maxPixels int) (*Image, error) {
	stream, err := jpegmark.Open(src)
	if err != nil {
		return nil, err
	}
	d := decoder{src: stream}
	for {
		marker, err := d.src.Marker()
		if err != nil {
			return nil, err
		}
		if marker == jpegmark.TEM || jpegmark.IsRestart(marker) {
			continue
		}
		if marker == jpegmark.EOI {
			return nil, errors.New("the JPEG stream holds no image")
		}
		segment, err := d.src.Segment()
		if err != nil {
			return nil, err
		}
		switch marker {
		case jpegmark.SOF3:
			err = d.frame(segment, maxPixels)
		case jpegmark.DHT:
			err = d.huffman(segment)
		case jpegmark.DRI:
			if len(segment) != 2 {
				return nil, errors.New("the restart interval segment has a wrong length")
			}
			d.interval = int(binary.BigEndian.Uint16(segment))
		case jpegmark.SOS:
			return d.scan(segment)
		case jpegmark.SOF55:
			err = errors.New("the stream is JPEG-LS, not lossless JPEG")
		default:
			if jpegmark.IsFrame(marker) {
				err = fmt.Errorf("the JPEG frame type SOF%d is not the lossless one with Huffman coding (SOF3)", marker-0xC0)
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// frame reads the frame header.
func (d *decoder) frame(s []byte, maxPixels int) error {
	if d.bits != 0 {
		return errors.New("the JPEG stream holds two frames")
	}
	if len(s) < 6 || len(s) != 6+3*int(s[5]) {
		return errors.New("the JPEG frame header has a wrong length")
	}
	bits := int(s[0])
	height, width := int(binary.BigEndian.Uint16(s[1:])), int(binary.BigEndian.Uint16(s[3:]))
	switch {
	case bits < 2 || bits > 16:
		return fmt.Errorf("lossless JPEG with %d bits does not exist (2 to 16)", bits)
	case s[5] != 1:
		return fmt.Errorf("lossless JPEG with %d components is not supported: a colour image", s[5])
	case height == 0:
		return errors.New("lossless JPEG that declares its height after the image (DNL) is not supported")
	case width == 0:
		return errors.New("the JPEG image has no width")
	case width*height > maxPixels:
		return fmt.Errorf("the JPEG image has %d x %d pixels, more than the expected %d", width, height, maxPixels)
	case width*height > 8*len(d.src): // the shortest code has one bit
		return fmt.Errorf("%d bytes cannot hold a JPEG image of %d x %d pixels", len(d.src), width, height)
	}
	d.bits, d.width, d.height = bits, width, height
	return nil
}

// scan reads the scan header and decodes the image.
func (d *decoder) scan(s []byte) (*Image, error) {
	if d.bits == 0 {
		return nil, errors.New("the JPEG stream holds a scan before its frame header")
	}
	if len(s) != 6 || s[0] != 1 {
		return nil, errors.New("the JPEG scan header is malformed")
	}
	slot, predictor, shift := s[2]>>4, int(s[3]), int(s[5]&15)
	switch {
	case slot > 3 || d.tables[slot].counts == nil:
		return nil, fmt.Errorf("the JPEG scan uses Huffman table %d, which the stream does not hold", slot)
	case predictor < 1 || predictor > 7:
		return nil, fmt.Errorf("lossless JPEG predictor %d does not exist (1 to 7)", predictor)
	case shift >= d.bits:
		return nil, fmt.Errorf("a point transform of %d does not fit %d bits", shift, d.bits)
	case d.interval%d.width != 0:
		return nil, fmt.Errorf("the restart interval of %d samples is not whole rows of %d", d.interval, d.width)
	}
	t, err := newTable(d.tables[slot])
	if err != nil {
		return nil, err
	}
	m := &Image{Width: d.width, Height: d.height, Bits: d.bits, Pix: make([]uint16, d.width*d.height)}
	rows := d.height
	if d.interval > 0 {
		rows = d.interval / d.width
	}
	var clean []byte
	for y := 0; y < d.height; y += rows {
		if y > 0 {
			if err := d.src.Restart(y / rows); err != nil {
				return nil, err
			}
		}
		clean = d.entropy(clean[:0])
		r := reader{data: clean}
		part := m.Pix[y*d.width : min(y+rows, d.height)*d.width]
		if err := decodeRows(&r, t, part, d.width, predictor, 1<<(d.bits-shift-1)); err != nil {
			return nil, err
		}
	}
	if shift > 0 {
		for i := range m.Pix {
			m.Pix[i] <<= shift
		}
	}
	return m, nil
}

// decodeRows decodes the rows of one restart interval. start predicts its first sample.
func decodeRows(r *reader, t *table, pix []uint16, width, predictor int, start uint16) error {
	var above []uint16
	for len(pix) > 0 {
		row := pix[:width]
		if err := r.differences(t, row); err != nil {
			return err
		}
		switch {
		case above == nil:
			row[0] += start
			predictLeft(row)
		default:
			row[0] += above[0]
			predict(row, above, predictor)
		}
		above, pix = row, pix[width:]
	}
	return nil
}
