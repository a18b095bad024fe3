package jpegll

import (
	"bytes"
	"encoding/binary"
	"errors"
)

const fastBits = 12 // bits that the fast table looks at

// table decodes the differences of one Huffman table.
type table struct {
	// fast is indexed by the next fastBits bits. Where these hold a whole difference, code and further
	// bits, the entry is the difference (upper 16 bits) and the number of bits it takes (lower 8); else 0.
	fast [1 << fastBits]uint32
	// Canonical decoding (T.81, F.2.2.3): the codes of length n are first[n] .. first[n]+count[n]-1, their
	// values begin at values[start[n]].
	first, count, start [17]uint32
	values              []byte
}

// definition is a Huffman table as a stream defines it: counts[i] codes of length i+1, and their values.
type definition struct{ counts, values []byte }

// huffman reads the tables of a DHT segment.
func (d *decoder) huffman(s []byte) error {
	for len(s) > 0 {
		if len(s) < 17 {
			return errors.New("the Huffman table segment is cut")
		}
		class, slot, counts := s[0]>>4, s[0]&15, s[1:17]
		n := 0
		for _, c := range counts {
			n += int(c)
		}
		if class > 1 || slot > 3 || n > 256 || len(s) < 17+n {
			return errors.New("the Huffman table segment is malformed")
		}
		if class == 0 { // 1: for AC coefficients, no use here
			d.tables[slot] = definition{counts, s[17 : 17+n]}
		}
		s = s[17+n:]
	}
	return nil
}

func newTable(def definition) (*table, error) {
	t := &table{values: def.values}
	code, at := uint32(0), uint32(0)
	for n := 1; n <= 16; n++ {
		count := uint32(def.counts[n-1])
		code <<= 1
		if code+count > 1<<n {
			return nil, errors.New("the Huffman table has more codes than there can be")
		}
		t.first[n], t.count[n], t.start[n] = code, count, at
		code += count
		at += count
	}
	for n := 1; n <= fastBits; n++ {
		for i := range t.count[n] {
			size := int(t.values[t.start[n]+i])
			extra := size
			if size == 16 {
				extra = 0
			}
			if size > 16 || n+extra > fastBits {
				continue
			}
			free := fastBits - n - extra
			for bits := range uint32(1) << extra {
				e := uint32(difference(bits, size))<<16 | uint32(n+extra)
				begin := (t.first[n]+i)<<(fastBits-n) | bits<<free
				entries := t.fast[begin : begin+1<<free]
				for k := range entries {
					entries[k] = e
				}
			}
		}
	}
	return t, nil
}

// difference returns the difference of a size category from its further bits (T.81, F.2.2.1 and H.1.2.2).
func difference(bits uint32, size int) uint16 {
	switch {
	case size == 0:
		return 0
	case size == 16:
		return 1 << 15
	case bits < 1<<(size-1):
		bits -= 1<<size - 1
	}
	return uint16(bits)
}

// slow decodes the difference at the top of acc where the fast table cannot. It returns the bits taken, 0
// when no code fits.
func (t *table) slow(acc uint64) (uint16, uint) {
	for n := uint(1); n <= 16; n++ {
		code := uint32(acc >> (64 - n))
		if i := code - t.first[n]; code >= t.first[n] && i < t.count[n] {
			size := uint(t.values[t.start[n]+i])
			switch {
			case size > 16:
				return 0, 0
			case size == 0 || size == 16:
				return difference(0, int(size)), n
			}
			return difference(uint32(acc<<n>>(64-size)), int(size)), n + size
		}
	}
	return 0, 0
}

// padding is the number of zero bytes after the data of a reader: more than it looks ahead.
const padding = 16

// entropy appends the entropy-coded bytes up to the next marker to dst, without their stuffed zero bytes
// and followed by padding zeros.
func (d *decoder) entropy(dst []byte) []byte {
	if cap(dst) == 0 {
		dst = make([]byte, 0, len(d.src)+padding)
	}
	for {
		i := bytes.IndexByte(d.src, 0xFF)
		if i < 0 || i+1 == len(d.src) {
			dst = append(dst, d.src...)
			d.src = nil
			break
		}
		if d.src[i+1] != 0 {
			dst = append(dst, d.src[:i]...)
			d.src = d.src[i:]
			break
		}
		dst = append(dst, d.src[:i+1]...)
		d.src = d.src[i+2:]
	}
	return append(dst, make([]byte, padding)...)
}

// reader reads bits from data, which ends with padding zeros. The next n bits are at the top of acc; bits
// below those are either zero or the right ones too.
type reader struct {
	data []byte
	at   uint // byte after those in acc
	acc  uint64
	n    uint
}

// differences decodes len(out) differences.
func (r *reader) differences(t *table, out []uint16) error {
	data, at, acc, n := r.data, r.at, r.acc, r.n
	for i := range out {
		if n < 32 { // one difference takes 31 bits at most
			if at+8 > uint(len(data)) {
				return errEntropy
			}
			acc |= binary.BigEndian.Uint64(data[at:]) >> (n & 63)
			at += (63 - n) >> 3
			n |= 56
		}
		e := t.fast[acc>>(64-fastBits)]
		out[i] = uint16(e >> 16)
		used := uint(e & 63)
		if used == 0 {
			if out[i], used = t.slow(acc); used == 0 {
				return errData
			}
		}
		acc <<= used & 63
		n -= used
	}
	r.at, r.acc, r.n = at, acc, n
	if 8*at-n > 8*uint(len(data)-padding) {
		return errEntropy
	}
	return nil
}
