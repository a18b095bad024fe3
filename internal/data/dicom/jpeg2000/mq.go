package jpeg2000

import "math/bits"

// mqState is a state of the MQ coder's probability estimation (T.800, table C.2).
type mqState struct {
	qe         uint16
	mps, lps   uint8 // next state
	switchesTo bool  // the more probable symbol changes after an LPS
}

var mqStates = [47]mqState{
	{0x5601, 1, 1, true},
	{0x3401, 2, 6, false},
	{0x1801, 3, 9, false},
	{0x0AC1, 4, 12, false},
	{0x0521, 5, 29, false},
	{0x0221, 38, 33, false},
	{0x5601, 7, 6, true},
	{0x5401, 8, 14, false},
	{0x4801, 9, 14, false},
	{0x3801, 10, 14, false},
	{0x3001, 11, 17, false},
	{0x2401, 12, 18, false},
	{0x1C01, 13, 20, false},
	{0x1601, 29, 21, false},
	{0x5601, 15, 14, true},
	{0x5401, 16, 14, false},
	{0x5101, 17, 15, false},
	{0x4801, 18, 16, false},
	{0x3801, 19, 17, false},
	{0x3401, 20, 18, false},
	{0x3001, 21, 19, false},
	{0x2801, 22, 19, false},
	{0x2401, 23, 20, false},
	{0x2201, 24, 21, false},
	{0x1C01, 25, 22, false},
	{0x1801, 26, 23, false},
	{0x1601, 27, 24, false},
	{0x1401, 28, 25, false},
	{0x1201, 29, 26, false},
	{0x1101, 30, 27, false},
	{0x0AC1, 31, 28, false},
	{0x09C1, 32, 29, false},
	{0x08A1, 33, 30, false},
	{0x0521, 34, 31, false},
	{0x0441, 35, 32, false},
	{0x02A1, 36, 33, false},
	{0x0221, 37, 34, false},
	{0x0141, 38, 35, false},
	{0x0111, 39, 36, false},
	{0x0085, 40, 37, false},
	{0x0049, 41, 38, false},
	{0x0025, 42, 39, false},
	{0x0015, 43, 40, false},
	{0x0009, 44, 41, false},
	{0x0005, 45, 42, false},
	{0x0001, 45, 43, false},
	{0x5601, 46, 46, false},
}

// mqContexts holds each state twice, for a more probable symbol of 0 and of 1, as contexts use it. It is
// longer than that for the sake of a cheaper index.
var mqContexts = func() (t [128]mqContext) {
	for i, s := range mqStates {
		for mps := range 2 {
			lps := mps
			if s.switchesTo {
				lps = 1 - mps
			}
			t[2*i+mps] = mqContext{
				p: uint32(s.qe) << 16, bit: uint8(mps),
				next: [2]uint8{2*s.mps + uint8(mps), 2*s.lps + uint8(lps)},
			}
		}
	}
	return t
}()

// mqContext is the adaptive state of one context.
type mqContext struct {
	p    uint32   // the LPS's probability Qe, scaled to the registers
	bit  uint8    // the more probable symbol
	next [2]uint8 // states after an MPS and an LPS, as indices of mqContexts
}

// Contexts of the coefficient bit model: 0 to 8 are those of zero coding.
const (
	ctxSign    = 9
	ctxRefine  = 14
	ctxRun     = 17
	ctxUniform = 18
)

// mqDecoder is the MQ arithmetic decoder (T.800, annex C). Registers A and C are held less the amount d
// that both can shrink by before anything but a more probable symbol can happen (Taubman and Marcellin,
// JPEG2000, 2002, section 17.1.1): the usual decision is then one subtraction and one comparison, done by
// the caller:
//
//	c := &m.contexts[n]; bit := c.bit; if d -= int64(c.p); d < 0 { bit, d = m.slow(c, d) }
type mqDecoder struct {
	a, c     int64
	d        int64
	data     []byte // not yet read
	last     byte   // the byte before
	count    uint   // shifts until the next byte is needed
	contexts [32]mqContext
}

// resetContexts puts all contexts to their initial states (T.800, table D.7).
func (m *mqDecoder) resetContexts() {
	for i := range m.contexts {
		m.contexts[i] = mqContexts[0]
	}
	m.contexts[0] = mqContexts[2*4]
	m.contexts[ctxRun] = mqContexts[2*3]
	m.contexts[ctxUniform] = mqContexts[2*46]
}

// start begins a codeword segment.
func (m *mqDecoder) start(data []byte) {
	m.last = 0xFF
	if len(data) > 0 {
		m.last, data = data[0], data[1:]
	}
	m.data = data
	m.c = int64(m.last) << 16
	m.readByte()
	m.c <<= 7
	m.count -= 7
	m.a = 0x8000 << 16
	m.d = 0
}

// readByte adds the next byte to C. Behind the segment's end there are ones.
func (m *mqDecoder) readByte() {
	next := byte(0xFF)
	if len(m.data) > 0 {
		next = m.data[0]
	}
	if m.last == 0xFF {
		if next > 0x8F {
			m.c += 0xFF00
			m.count = 8
			return
		}
		m.c += int64(next) << 9
		m.count = 7
	} else {
		m.c += int64(next) << 8
		m.count = 8
	}
	m.last = next
	if len(m.data) > 0 {
		m.data = m.data[1:]
	}
}

// slow decides a symbol that is not, or not without renormalization, the more probable one. d is already
// less the context's p.
func (m *mqDecoder) slow(ctx *mqContext, d int64) (bit uint8, _ int64) {
	a, c := m.a+d, m.c+d
	p := int64(ctx.p)
	// Masks instead of branches, which could not be predicted: c is negative in the lower interval, and the
	// symbols' intervals are exchanged where the upper one has become the smaller.
	lower, exchanged := c>>63, (a-p)>>63
	c += p & lower
	a ^= (a ^ p) & lower
	lps := uint8(lower^exchanged) & 1
	bit = ctx.bit ^ lps
	*ctx = mqContexts[ctx.next[lps]&127]
	for a < 1<<31 {
		if m.count == 0 {
			m.c = c
			m.readByte()
			c = m.c
		}
		n := min(uint(bits.LeadingZeros32(uint32(a))), m.count)
		a <<= n & 31
		c <<= n & 31
		m.count -= n
	}
	d = min(a-1<<31, c)
	m.a, m.c = a-d, c-d
	return bit, d
}
