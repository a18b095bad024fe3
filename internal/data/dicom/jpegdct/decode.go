// Package jpegdct decodes grey-level JPEG images of the processes based on the discrete cosine transform
// (ITU-T T.81): baseline, extended sequential and progressive, Huffman coded, 8 or 12 bits a sample, with
// any restart interval and with 8-bit or 16-bit quantisation tables. Colour, arithmetic coding, hierarchical
// and lossless images are refused.
//
// Damage is refused as well, where other decoders fill in: a wrong code, a missing restart marker, data that
// end before the last block or go on after it.
package jpegdct

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ctclass/ctclass/internal/data/dicom/jpegmark"
)

// Image is a decoded image of one component.
type Image struct {
	Width, Height int
	Bits          int      // precision that the stream declares, 8 or 12
	Pix           []uint16 // Height rows of Width samples
}

// zigzag gives the place, row by row, of the k-th coefficient of a block (T.81, figure A.6).
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// decoder holds the state of one image.
type decoder struct {
	src       jpegmark.Stream
	maxPixels int

	frame       bool // a frame header was read
	progressive bool
	baseline    bool
	component   byte // the one component's identifier
	table       int  // its quantisation table
	img         Image
	across      int // blocks in a row
	down        int // rows of blocks

	quant    [4][64]int32 // in the order of zigzag
	hasQuant [4]bool
	huffman  [2][4]*huffman // DC, AC
	restart  int            // blocks in a restart interval, 0: all

	bits   bitReader
	coeffs []int16 // progressive: 64 of each block, row by row within it
	// reached is the bit down to which each coefficient of a progressive image is known, in the order of
	// zigzag; -1: not at all.
	reached [64]int
	scanned bool
}

// Decode decodes a JPEG stream. An image of more than maxPixels pixels is refused before memory is taken
// for it; so is one that is larger than the stream could hold. Bytes after the image are ignored.
func Decode(src []byte, maxPixels int) (*Image, error) {
	stream, err := jpegmark.Open(src)
	if err != nil {
		return nil, err
	}
	d := &decoder{src: stream, maxPixels: maxPixels}
	for k := range d.reached {
		d.reached[k] = -1
	}
	for {
		m, err := d.src.Marker()
		if err != nil {
			if d.complete() {
				break // only the end marker is missing
			}
			return nil, err
		}
		if m == jpegmark.EOI {
			break
		}
		if m == jpegmark.TEM {
			continue
		}
		if jpegmark.IsRestart(m) || m == jpegmark.SOI {
			return nil, fmt.Errorf("misplaced JPEG marker %#x", m)
		}
		segment, err := d.src.Segment()
		if err != nil {
			return nil, err
		}
		if err := d.handle(m, segment); err != nil {
			return nil, err
		}
	}
	switch {
	case !d.frame:
		return nil, errors.New("the JPEG stream holds no image")
	case !d.scanned || d.progressive && d.reached[0] < 0:
		return nil, errors.New("the JPEG stream holds no image data")
	case d.progressive:
		d.reconstruct()
	}
	return &d.img, nil
}

// complete reports whether no further scan can add anything.
func (d *decoder) complete() bool {
	if !d.progressive {
		return d.scanned
	}
	for _, bit := range d.reached {
		if bit != 0 {
			return false
		}
	}
	return true
}

func (d *decoder) handle(m byte, segment []byte) error {
	switch m {
	case jpegmark.SOF0, jpegmark.SOF1, jpegmark.SOF2:
		return d.startFrame(m, segment)
	case jpegmark.DHT:
		return d.huffmanTables(segment)
	case jpegmark.DQT:
		return d.quantTables(segment)
	case jpegmark.DRI:
		if len(segment) != 2 {
			return errors.New("malformed JPEG restart interval")
		}
		d.restart = int(binary.BigEndian.Uint16(segment))
	case jpegmark.SOS:
		return d.scan(segment)
	case jpegmark.SOF3:
		return errors.New("a lossless JPEG image, none of the DCT processes")
	case jpegmark.DNL:
		return errors.New("JPEG images whose height follows their data are not supported")
	case jpegmark.DAC, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF:
		return errors.New("arithmetic coded JPEG images are not supported")
	case 0xC5, 0xC6, 0xC7, jpegmark.DHP, jpegmark.EXP:
		return errors.New("hierarchical JPEG images are not supported")
	case jpegmark.JPG:
		return errors.New("reserved JPEG process")
	}
	return nil // application data, comments
}

// startFrame reads a frame header (T.81, B.2.2).
func (d *decoder) startFrame(m byte, s []byte) error {
	if d.frame {
		return errors.New("a second frame header in one JPEG image")
	}
	if len(s) < 6 || len(s) != 6+3*int(s[5]) {
		return errors.New("malformed JPEG frame header")
	}
	if s[5] != 1 {
		return fmt.Errorf("%d components: a colour image, not CT", s[5])
	}
	d.baseline, d.progressive = m == jpegmark.SOF0, m == jpegmark.SOF2
	height, width := int(binary.BigEndian.Uint16(s[1:])), int(binary.BigEndian.Uint16(s[3:]))
	switch p := int(s[0]); {
	case p != 8 && (p != 12 || d.baseline):
		return fmt.Errorf("%d bits a sample in a DCT-based JPEG image", p)
	case width == 0 || height == 0:
		return fmt.Errorf("JPEG image size %d x %d is not usable", width, height)
	case width*height > d.maxPixels:
		return fmt.Errorf("JPEG image of %d x %d samples, at most %d are expected", width, height, d.maxPixels)
	case s[8] > 3:
		return fmt.Errorf("JPEG quantisation table %d", s[8])
	}
	d.component, d.table = s[6], int(s[8])
	d.img = Image{Width: width, Height: height, Bits: int(s[0])}
	d.across, d.down = (width+7)/8, (height+7)/8
	// Each block takes a bit at least.
	if blocks := d.across * d.down; blocks > 8*len(d.src) {
		return jpegmark.ErrCut
	}
	d.frame = true
	return nil
}

func (d *decoder) quantTables(s []byte) error {
	for len(s) > 0 {
		wide, id := s[0]>>4, s[0]&15
		size := 64 << min(wide, 1)
		if wide > 1 || id > 3 || len(s) < 1+size {
			return errors.New("malformed JPEG quantisation table")
		}
		for k := range 64 {
			q := int32(s[1+k])
			if wide == 1 {
				q = int32(binary.BigEndian.Uint16(s[1+2*k:]))
			}
			if q == 0 {
				return errors.New("a JPEG quantisation table holds zero")
			}
			d.quant[id][k] = q
		}
		d.hasQuant[id] = true
		s = s[1+size:]
	}
	return nil
}

func (d *decoder) huffmanTables(s []byte) error {
	for len(s) > 0 {
		if len(s) < 17 || s[0]>>4 > 1 || s[0]&15 > 3 {
			return errors.New("malformed JPEG Huffman table")
		}
		n := 0
		for _, count := range s[1:17] {
			n += int(count)
		}
		if n > 256 || len(s) < 17+n {
			return errors.New("malformed JPEG Huffman table")
		}
		h, err := newHuffman([16]byte(s[1:17]), s[17:17+n])
		if err != nil {
			return err
		}
		d.huffman[s[0]>>4][s[0]&15] = h
		s = s[17+n:]
	}
	return nil
}
