package jpegdct

import (
	"encoding/binary"
	"errors"

	"github.com/ctclass/ctclass/internal/data/dicom/jpegmark"
)

// lookBits is the length of the codes that one look into a table decodes.
const lookBits = 9

// huffman is a table of codes.
type huffman struct {
	look   [1 << lookBits]uint16 // length<<8 | value by the next bits; 0: a longer code, or none
	values []byte
	// For codes of l bits, the next 16 bits are below limit[l], and first[l] is the index in values of the
	// code zero of that length.
	limit [17]uint32
	first [17]int32
}

var errHuffman = errors.New("the JPEG stream is damaged: no such Huffman code")

// newHuffman makes the table of a list of code counts by length and the values in order of their codes
// (T.81, annex C).
func newHuffman(counts [16]byte, values []byte) (*huffman, error) {
	h := &huffman{values: append([]byte(nil), values...)}
	code, k := uint32(0), int32(0)
	for l := 1; l <= 16; l++ {
		h.first[l] = k - int32(code)
		for range counts[l-1] {
			if l <= lookBits {
				from := code << (lookBits - l)
				for i := range uint32(1) << (lookBits - l) {
					if from+i < uint32(len(h.look)) {
						h.look[from+i] = uint16(l)<<8 | uint16(values[k])
					}
				}
			}
			code++
			k++
		}
		if code > 1<<l {
			return nil, errors.New("malformed JPEG Huffman table: too many codes")
		}
		h.limit[l] = code << (16 - l)
		code <<= 1
	}
	return h, nil
}

// bitReader reads entropy-coded data, undoing the stuffing of 0xFF bytes. It ends at a marker or with the
// data; zeros follow then, and ran says when they have been used.
type bitReader struct {
	src   []byte
	pos   int
	acc   uint64 // the next bits, from the highest down
	n     int    // how many of them there are
	pad   int    // how many of them are zeros after the end
	ended bool
}

func (r *bitReader) start(src []byte) { *r = bitReader{src: src} }

// fill makes 32 bits available at least.
func (r *bitReader) fill() {
	if r.n >= 32 {
		return
	}
	if r.pos+8 <= len(r.src) {
		x := binary.BigEndian.Uint64(r.src[r.pos:])
		if inv := ^x; (inv-0x0101010101010101)&^inv&0x8080808080808080 == 0 { // no byte of x is 0xFF
			// The part of a byte that does not count yet is put there again, the same, by the next fill.
			r.acc |= x >> r.n
			k := (64 - r.n) >> 3
			r.pos += k
			r.n += 8 * k
			return
		}
	}
	for r.n <= 56 {
		if r.ended || r.pos >= len(r.src) {
			r.end()
			return
		}
		b := r.src[r.pos]
		if b == 0xFF {
			if r.pos+1 >= len(r.src) || r.src[r.pos+1] != 0 {
				r.end()
				return
			}
			r.pos++
		}
		r.pos++
		r.acc |= uint64(b) << (56 - r.n)
		r.n += 8
	}
}

func (r *bitReader) end() {
	r.ended = true
	r.pad += 64 - r.n
	r.n = 64
}

// ran reports whether bits after the end were used.
func (r *bitReader) ran() bool { return r.n < r.pad }

// finish checks that the data are used up but for the bits that fill the last byte.
func (r *bitReader) finish() error {
	r.fill()
	if r.ran() {
		return jpegmark.ErrCut
	}
	if r.n-r.pad >= 8 {
		return errors.New("the JPEG stream is damaged: data are left over after the last block")
	}
	return nil
}

// code decodes the next code of h, with 16 bits available. It returns -1 when there is none.
func (r *bitReader) code(h *huffman) int {
	if e := h.look[r.acc>>(64-lookBits)]; e != 0 {
		l := int(e >> 8)
		r.acc <<= l
		r.n -= l
		return int(e & 0xFF)
	}
	next := uint32(r.acc >> 48)
	for l := lookBits + 1; l <= 16; l++ {
		if next < h.limit[l] {
			r.acc <<= l
			r.n -= l
			return int(h.values[h.first[l]+int32(next>>(16-l))])
		}
	}
	return -1
}

// take returns the next s bits, 0 to 16 of those available.
func (r *bitReader) take(s int) int {
	v := int(r.acc >> 1 >> (63 - s))
	r.acc <<= s
	r.n -= s
	return v
}

// signed returns the next s bits as T.81, F.2.2.1 codes a number of magnitude s.
func (r *bitReader) signed(s int) int {
	v := r.take(s)
	if v < 1<<s>>1 {
		v -= 1<<s - 1
	}
	return v
}
