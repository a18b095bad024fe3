// Package jpegls decodes JPEG-LS: ITU-T T.87 (ISO/IEC 14495-1), lossless and near-lossless, which DICOM
// knows as transfer syntaxes 1.2.840.10008.1.2.4.80 and .81.
//
// Images of one component are read, with 2 to 16 bits, own or default coding parameters and restart
// intervals.
package jpegls

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
	Near          int      // largest error of a sample, 0: lossless
	Pix           []uint16 // Height rows of Width samples
}

// Pixels without detail take next to no bytes, so the bytes do not tell how large an image can be. Images
// up to freePixels are taken as declared, larger ones need a byte for each pixelsPerByte pixels.
const (
	freePixels    = 1 << 22
	pixelsPerByte = 64
)

var (
	errEntropy = errors.New("the JPEG-LS stream is cut within its pixels")
	errData    = errors.New("the JPEG-LS stream holds a code that cannot be")
)

// decoder holds what the marker segments declare.
type decoder struct {
	src           jpegmark.Stream
	width, height int
	bits          int
	preset        preset
	interval      int // rows between restart markers, 0: none
}

// preset holds coding parameters (T.87, C.2.4.1.1); 0 stands for the default.
type preset struct {
	maxValue, t1, t2, t3, reset int
}

// Decode decodes a JPEG-LS stream. An image of more than maxPixels pixels is refused before memory is taken
// for it; so is a large one that hardly has bytes. Bytes after the image are ignored.
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
			return nil, errors.New("the JPEG-LS stream holds no image")
		}
		segment, err := d.src.Segment()
		if err != nil {
			return nil, err
		}
		switch {
		case marker == jpegmark.SOF55:
			err = d.frame(segment, maxPixels)
		case marker == jpegmark.LSE:
			err = d.parameters(segment)
		case marker == jpegmark.DRI:
			err = d.restart(segment)
		case marker == jpegmark.SOS:
			return d.scan(segment)
		case jpegmark.IsFrame(marker):
			err = fmt.Errorf("the stream is JPEG of frame type SOF%d, not JPEG-LS", marker-0xC0)
		}
		if err != nil {
			return nil, err
		}
	}
}

// frame reads the frame header.
func (d *decoder) frame(s []byte, maxPixels int) error {
	if d.bits != 0 {
		return errors.New("the JPEG-LS stream holds two frames")
	}
	if len(s) < 6 || len(s) != 6+3*int(s[5]) {
		return errors.New("the JPEG-LS frame header has a wrong length")
	}
	bits := int(s[0])
	height, width := int(binary.BigEndian.Uint16(s[1:])), int(binary.BigEndian.Uint16(s[3:]))
	switch {
	case bits < 2 || bits > 16:
		return fmt.Errorf("JPEG-LS with %d bits does not exist (2 to 16)", bits)
	case s[5] != 1:
		return fmt.Errorf("JPEG-LS with %d components is not supported: a colour image", s[5])
	case height == 0 || width == 0:
		return errors.New("JPEG-LS that does not declare its size in the frame header is not supported")
	case width*height > maxPixels:
		return fmt.Errorf("the JPEG-LS image has %d x %d pixels, more than the expected %d", width, height, maxPixels)
	case width*height > max(freePixels, pixelsPerByte*len(d.src)):
		return fmt.Errorf("%d bytes cannot hold a JPEG-LS image of %d x %d pixels", len(d.src), width, height)
	}
	d.bits, d.width, d.height = bits, width, height
	return nil
}

// parameters reads an LSE segment.
func (d *decoder) parameters(s []byte) error {
	if len(s) == 0 {
		return errors.New("the JPEG-LS parameter segment is empty")
	}
	switch s[0] {
	case 1:
		if len(s) != 11 {
			return errors.New("the JPEG-LS parameter segment has a wrong length")
		}
		be := binary.BigEndian
		d.preset = preset{
			int(be.Uint16(s[1:])), int(be.Uint16(s[3:])), int(be.Uint16(s[5:])), int(be.Uint16(s[7:])), int(be.Uint16(s[9:])),
		}
	case 2, 3: // mapping tables, which matter only where a scan uses one
	default:
		return fmt.Errorf("JPEG-LS parameter segments of type %d are not supported", s[0])
	}
	return nil
}

// restart reads the restart interval, 2 to 4 bytes.
func (d *decoder) restart(s []byte) error {
	if len(s) < 2 || len(s) > 4 {
		return errors.New("the restart interval segment has a wrong length")
	}
	d.interval = 0
	for _, b := range s {
		d.interval = d.interval<<8 | int(b)
	}
	return nil
}

// scan reads the scan header and decodes the image.
func (d *decoder) scan(s []byte) (*Image, error) {
	if d.bits == 0 {
		return nil, errors.New("the JPEG-LS stream holds a scan before its frame header")
	}
	if len(s) != 6 || s[0] != 1 {
		return nil, errors.New("the JPEG-LS scan header is malformed")
	}
	if s[2] != 0 {
		return nil, errors.New("JPEG-LS with a mapping table is not supported: a palette image")
	}
	if s[5] != 0 {
		return nil, errors.New("JPEG-LS with a point transform is not supported")
	}
	near := int(s[3]) // with one component the interleave mode s[4] says nothing
	p, err := d.preset.complete(d.bits, near)
	if err != nil {
		return nil, err
	}
	m := &Image{Width: d.width, Height: d.height, Bits: d.bits, Near: near, Pix: make([]uint16, d.width*d.height)}
	rows := d.height
	if d.interval > 0 {
		rows = min(rows, d.interval)
	}
	c := newCoder(p, near, d.width)
	var clean []byte
	for y := 0; y < d.height; y += rows {
		if y > 0 {
			if err := d.src.Restart(y / rows); err != nil {
				return nil, err
			}
		}
		clean = d.entropy(clean[:0])
		if err := c.decode(clean, m.Pix[y*d.width:min(y+rows, d.height)*d.width]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// complete fills in the default parameters (T.87, C.2.4.1.1.1) and checks them.
func (p preset) complete(bits, near int) (preset, error) {
	if p.maxValue == 0 {
		p.maxValue = 1<<bits - 1
	}
	if p.maxValue >= 1<<bits {
		return p, fmt.Errorf("a largest value of %d does not fit %d bits", p.maxValue, bits)
	}
	if near > min(255, p.maxValue/2) {
		return p, fmt.Errorf("JPEG-LS cannot have an error bound of %d with values up to %d", near, p.maxValue)
	}
	var t [3]int
	if p.maxValue >= 128 {
		factor := (min(p.maxValue, 4095) + 128) / 256
		t = [3]int{factor + 2 + 3*near, factor*4 + 3 + 5*near, factor*17 + 4 + 7*near}
	} else {
		factor := 256 / (p.maxValue + 1)
		t = [3]int{max(2, 3/factor+3*near), max(3, 7/factor+5*near), max(4, 21/factor+7*near)}
	}
	low := near + 1
	for i, own := range []*int{&p.t1, &p.t2, &p.t3} {
		if *own == 0 {
			*own = t[i]
			if *own < low || *own > p.maxValue {
				*own = low
			}
		}
		if *own < low || *own > p.maxValue {
			return p, fmt.Errorf("JPEG-LS threshold %d is not between %d and %d", *own, low, p.maxValue)
		}
		low = *own
	}
	if p.reset == 0 {
		p.reset = 64
	}
	if p.reset < 3 || p.reset > max(255, p.maxValue) {
		return p, fmt.Errorf("JPEG-LS reset value %d is not between 3 and %d", p.reset, max(255, p.maxValue))
	}
	return p, nil
}
