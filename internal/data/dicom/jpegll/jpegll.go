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
)

// Image is a decoded image of one component.
type Image struct {
	Width, Height int
	Bits          int      // precision that the stream declares, 2 to 16
	Pix           []uint16 // Height rows of Width samples
}

// Marker codes (T.81, table B.1), the second byte of a marker.
const (
	markerSOF3  = 0xC3
	markerDHT   = 0xC4
	markerRST0  = 0xD0
	markerRST7  = 0xD7
	markerSOI   = 0xD8
	markerEOI   = 0xD9
	markerSOS   = 0xDA
	markerDRI   = 0xDD
	markerTEM   = 0x01
	markerSOF55 = 0xF7 // JPEG-LS
)

var (
	errCut     = errors.New("the JPEG stream is cut")
	errData    = errors.New("the JPEG stream holds a code that its Huffman table does not know")
	errEntropy = errors.New("the JPEG stream is cut within its pixels")
)

// decoder holds what the marker segments declare.
type decoder struct {
	src      []byte // what is left of the stream
	width    int
	height   int
	bits     int
	tables   [4]definition
	interval int // samples between restart markers, 0: none
}

// Decode decodes a JPEG stream. An image of more than maxPixels pixels is refused before memory is taken
// for it; so is one that is larger than the stream could hold. Bytes after the image are ignored.
func Decode(src []byte, maxPixels int) (*Image, error) {
	if len(src) < 2 || src[0] != 0xFF || src[1] != markerSOI {
		return nil, errors.New("the data do not begin with a JPEG marker")
	}
	d := decoder{src: src[2:]}
	for {
		marker, err := d.marker()
		if err != nil {
			return nil, err
		}
		if marker == markerTEM || marker >= markerRST0 && marker <= markerRST7 {
			continue
		}
		if marker == markerEOI {
			return nil, errors.New("the JPEG stream holds no image")
		}
		segment, err := d.segment()
		if err != nil {
			return nil, err
		}
		switch marker {
		case markerSOF3:
			err = d.frame(segment, maxPixels)
		case markerDHT:
			err = d.huffman(segment)
		case markerDRI:
			if len(segment) != 2 {
				return nil, errors.New("the restart interval segment has a wrong length")
			}
			d.interval = int(binary.BigEndian.Uint16(segment))
		case markerSOS:
			return d.scan(segment)
		case markerSOF55:
			err = errors.New("the stream is JPEG-LS, not lossless JPEG")
		default:
			if isFrame(marker) {
				err = fmt.Errorf("the JPEG frame type SOF%d is not the lossless one with Huffman coding (SOF3)", marker-0xC0)
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// isFrame reports whether a marker begins a frame of another process or announces hierarchical ones.
func isFrame(marker byte) bool {
	return marker >= 0xC0 && marker <= 0xCF && marker != markerDHT && marker != 0xC8 && marker != 0xCC || marker == 0xDE
}

// marker reads the next marker, with the fill bytes before it.
func (d *decoder) marker() (byte, error) {
	for i := 0; i+1 < len(d.src); i++ {
		if d.src[i] != 0xFF {
			return 0, fmt.Errorf("the JPEG stream holds byte %#02x where a marker must be", d.src[i])
		}
		if m := d.src[i+1]; m != 0xFF {
			d.src = d.src[i+2:]
			return m, nil
		}
	}
	return 0, errCut
}

// segment reads the parameters that follow a marker.
func (d *decoder) segment() ([]byte, error) {
	if len(d.src) < 2 {
		return nil, errCut
	}
	n := int(binary.BigEndian.Uint16(d.src))
	if n < 2 || n > len(d.src) {
		return nil, errCut
	}
	s := d.src[2:n]
	d.src = d.src[n:]
	return s, nil
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
			marker, err := d.marker()
			if err != nil {
				return nil, err
			}
			if want := markerRST0 + byte(y/rows-1)%8; marker != want {
				return nil, fmt.Errorf("the JPEG stream holds marker %#02x instead of restart marker %#02x", marker, want)
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
