package jpegls

import (
	"bytes"
	"encoding/binary"
	mathbits "math/bits"
)

// padding is the number of zero bytes after the data of a reader: more than it looks ahead.
const padding = 16

// entropy appends the entropy-coded bits up to the next marker to dst, without the zero bit that is stuffed
// in after each byte 0xFF, and followed by padding zeros.
func (d *decoder) entropy(dst []byte) []byte {
	if cap(dst) == 0 {
		dst = make([]byte, 0, len(d.src)+padding+8)
	}
	src := d.src
	var acc uint64 // its lowest n bits, fewer than 8, are still to be written
	n := 0
	for {
		i := bytes.IndexByte(src, 0xFF)
		run := src
		if i >= 0 {
			run = src[:i+1]
		}
		if i < 0 || i+1 == len(src) || src[i+1] >= 0x80 { // the end, or a marker
			if i >= 0 && i+1 < len(src) {
				run = src[:i]
			}
			dst, acc, n = appendBits(dst, run, acc, n)
			src = src[len(run):]
			break
		}
		dst, acc, n = appendBits(dst, run, acc, n)
		acc, n = acc<<7|uint64(src[i+1]), n+7
		if n >= 8 {
			n -= 8
			dst = append(dst, byte(acc>>n))
		}
		src = src[i+2:]
	}
	d.src = src
	if n > 0 {
		dst = append(dst, byte(acc<<(8-n)))
	}
	return append(dst, make([]byte, padding)...)
}

// appendBits appends the n < 8 low bits of acc and the bytes of src, and returns the bits that are left.
func appendBits(dst, src []byte, acc uint64, n int) ([]byte, uint64, int) {
	for ; len(src) >= 4; src = src[4:] {
		acc = acc<<32 | uint64(binary.BigEndian.Uint32(src))
		dst = binary.BigEndian.AppendUint32(dst, uint32(acc>>n))
	}
	for _, b := range src {
		acc = acc<<8 | uint64(b)
		dst = append(dst, byte(acc>>n))
	}
	return dst, acc, n
}

// reader reads bits from data, which ends with padding zeros. The next n bits are at the top of acc; bits
// below those are either zero or the right ones too.
type reader struct {
	data []byte
	at   uint // byte after those in acc
	acc  uint64
	n    uint
}

// fill makes acc hold at least 56 bits. It reports false at the end of the data.
func (r *reader) fill() bool {
	if r.at+8 > uint(len(r.data)) {
		return r.n >= 56
	}
	r.acc |= binary.BigEndian.Uint64(r.data[r.at:]) >> (r.n & 63)
	r.at += (63 - r.n) >> 3
	r.n |= 56
	return true
}

// take returns the next n <= 32 bits, which acc must hold.
func (r *reader) take(n uint) uint32 {
	v := uint32(r.acc >> 1 >> (63 - n&63))
	r.acc <<= n & 63
	r.n -= n
	return v
}

// overrun reports whether bits beyond the end of the data were read.
func (r *reader) overrun() bool { return 8*r.at-r.n > 8*uint(len(r.data)-padding) }

// golomb decodes a value in the limited-length Golomb code of parameter k (T.87, A.5.3): more than
// unary zeros cannot be, as many are followed by the value itself, less one, in wide bits.
func (r *reader) golomb(k, unary, wide uint) (uint32, error) {
	zeros := uint(0)
	for {
		if !r.fill() {
			return 0, errEntropy
		}
		more := min(uint(mathbits.LeadingZeros64(r.acc)), 32)
		zeros += more
		r.take(more)
		if zeros > unary {
			return 0, errData
		}
		if more < 32 {
			break
		}
	}
	r.take(1)
	if !r.fill() {
		return 0, errEntropy
	}
	if zeros == unary {
		return r.take(wide) + 1, nil
	}
	return uint32(zeros)<<k | r.take(k), nil
}
