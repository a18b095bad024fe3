package jpeg2000

// melDecoder decodes the MEL bitstream: run lengths of events (T.814, 7.3.3).
type melDecoder struct {
	data  []byte // unread
	last  byte
	left  uint // unread bits of last
	state int
	zeros int  // events before the next codeword is needed
	one   bool // and an event that happened after them
}

// melExponents are the logarithms of the run lengths for each state.
var melExponents = [13]int{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5}

// event reports whether the next event happened.
func (m *melDecoder) event() bool {
	if m.zeros == 0 && !m.one {
		e := melExponents[m.state]
		if m.bit() != 0 {
			m.zeros = 1 << e
			m.state = min(m.state+1, 12)
		} else {
			for range e {
				m.zeros = m.zeros<<1 | int(m.bit())
			}
			m.one = true
			m.state = max(m.state-1, 0)
		}
	}
	if m.zeros > 0 {
		m.zeros--
		return false
	}
	m.one = false
	return true
}

// bit returns the next bit; after a byte FF the highest bit is stuffed, behind the end there are ones.
func (m *melDecoder) bit() byte {
	if m.left == 0 {
		m.left = 8
		if m.last == 0xFF {
			m.left = 7
		}
		m.last = 0xFF
		if n := len(m.data); n > 0 {
			m.last = m.data[0]
			if n == 1 {
				m.last |= 15 // these bits belong to the length
			}
			m.data = m.data[1:]
		}
	}
	m.left--
	return m.last >> m.left & 1
}

// vlcReader reads a bitstream backwards: bits from the lowest of the last byte on. A byte before one above 8F
// has its highest bit stuffed if the others are ones. Behind the end there are zeros.
type vlcReader struct {
	data   []byte // unread
	buffer uint64
	n      uint // bits in buffer
	large  bool // the byte read last is above 8F
}

// newVLC starts at the upper half of the last byte of data: the lower is part of the length.
func newVLC(data []byte) vlcReader {
	last := data[len(data)-1]
	r := vlcReader{data: data[:len(data)-1], buffer: uint64(last >> 4), n: 4, large: last|15 > 0x8F}
	if last>>4&7 == 7 {
		r.buffer, r.n = 7, 3
	}
	return r
}

// refill makes sure that there are at least 48 bits: enough for a pair of quads.
func (r *vlcReader) refill() {
	for r.n < 48 {
		var b byte
		if k := len(r.data); k > 0 {
			b, r.data = r.data[k-1], r.data[:k-1]
		}
		n := uint(8)
		if r.large && b&0x7F == 0x7F {
			b, n = 0x7F, 7
		}
		r.large = b > 0x8F
		r.buffer |= uint64(b) << r.n
		r.n += n
	}
}

func (r *vlcReader) skip(n uint) {
	r.buffer >>= n & 63
	r.n -= n
}

// take returns the next n bits.
func (r *vlcReader) take(n uint) uint {
	v := uint(r.buffer) & (1<<n - 1)
	r.skip(n)
	return v
}

// prefix reads the prefix of a bound (T.814, table 3): it is 1, 2, 3 or 5.
func (r *vlcReader) prefix() uint {
	switch {
	case r.buffer&1 != 0:
		r.skip(1)
		return 1
	case r.buffer&2 != 0:
		r.skip(2)
		return 2
	case r.buffer&4 != 0:
		r.skip(3)
		return 3
	}
	r.skip(3)
	return 5
}

// suffix reads what follows after a prefix.
func (r *vlcReader) suffix(prefix uint) uint {
	switch prefix {
	case 3:
		return r.take(1)
	case 5:
		return r.take(5)
	}
	return 0
}

// extension reads what follows after a suffix, and returns its part of the bound.
func (r *vlcReader) extension(suffix uint) uint {
	if suffix < 28 {
		return 0
	}
	return 4 * r.take(4)
}

// bounds reads the bounds u of a pair of quads (T.814, 7.3.6). An offset of zero means that the bound is
// not coded but 0.
func (r *vlcReader) bounds(offset0, offset1 uint) (u0, u1 uint) {
	if offset0 != 0 {
		u0 = r.prefix()
	}
	if offset1 != 0 {
		u1 = r.prefix()
	}
	return r.complete(u0, u1)
}

// firstBounds is bounds in the first row of quads, where larger ones are to be expected.
func (r *vlcReader) firstBounds(mel *melDecoder, offset0, offset1 uint) (u0, u1 uint) {
	if offset0&offset1 == 0 {
		return r.bounds(offset0, offset1)
	}
	if mel.event() {
		u0, u1 = r.bounds(1, 1)
		return u0 + 2, u1 + 2
	}
	if u0 = r.prefix(); u0 > 2 {
		u1 = 1 + r.take(1)
		s := r.suffix(u0)
		return u0 + s + r.extension(s), u1
	}
	return r.complete(u0, r.prefix())
}

// complete adds suffixes and extensions to two prefixes.
func (r *vlcReader) complete(u0, u1 uint) (uint, uint) {
	s0 := r.suffix(u0)
	s1 := r.suffix(u1)
	u0 += s0 + r.extension(s0)
	u1 += s1 + r.extension(s1)
	return u0, u1
}

// forwardBits reads a bitstream forwards: bits from the lowest on. After a byte FF the highest bit is
// stuffed. Behind the end come bytes of `fill`.
type forwardBits struct {
	data   []byte // unread
	buffer uint64
	n      uint // bits in buffer
	full   bool // the byte read last is FF
	fill   byte
}

// refill makes sure that there are at least 32 bits.
func (r *forwardBits) refill() {
	for r.n < 32 {
		b := r.fill
		if len(r.data) > 0 {
			b, r.data = r.data[0], r.data[1:]
		}
		n := uint(8)
		if r.full {
			b, n = b&0x7F, 7
		}
		r.full = b == 0xFF
		r.buffer |= uint64(b) << r.n
		r.n += n
	}
}

func (r *forwardBits) bit() uint32 {
	if r.n == 0 {
		r.refill()
	}
	v := uint32(r.buffer) & 1
	r.buffer >>= 1
	r.n--
	return v
}
