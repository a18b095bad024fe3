package jpegls

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// encoder writes JPEG-LS as plainly as annex A of T.87 tells it, variable for variable, for round trips.
type encoder struct {
	width, height, bits int
	near                int
	preset              preset // as written to an LSE segment; all 0: none
	restart             int    // rows between restart markers, 0: none
	restartBytes        int    // bytes of the interval in its segment, 2 to 4

	out  []byte
	acc  int
	n    int
	last byte

	MAXVAL, RANGE, qbpp, LIMIT, T1, T2, T3, RESET int
	A, B, C, N                                    [367]int
	Nn                                            [2]int
	RUNindex                                      int
}

var runJ = [32]int{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func (e *encoder) bit(b int) {
	e.acc, e.n = e.acc<<1|b, e.n+1
	full := 8
	if e.last == 0xFF {
		full = 7
	}
	if e.n == full {
		e.last = byte(e.acc)
		e.out = append(e.out, e.last)
		e.acc, e.n = 0, 0
	}
}

func (e *encoder) put(v, n int) {
	for n--; n >= 0; n-- {
		e.bit(v >> n & 1)
	}
}

func (e *encoder) flush() {
	for e.n > 0 || e.last == 0xFF {
		e.bit(0)
	}
	e.last = 0
}

func (e *encoder) golomb(v, k, limit int) {
	if q := v >> k; q < limit-e.qbpp-1 {
		e.put(0, q)
		e.bit(1)
		e.put(v, k)
		return
	}
	e.put(0, limit-e.qbpp-1)
	e.bit(1)
	e.put(v-1, e.qbpp)
}

func (e *encoder) segment(marker byte, data ...byte) {
	e.out = append(e.out, 0xFF, marker)
	e.out = binary.BigEndian.AppendUint16(e.out, uint16(len(data)+2))
	e.out = append(e.out, data...)
}

func ceilLog2(n int) int {
	b := 0
	for 1<<b < n {
		b++
	}
	return b
}

func (e *encoder) defaults() {
	clamp := func(i, j int) int {
		if i > e.MAXVAL || i < j {
			return j
		}
		return i
	}
	e.MAXVAL, e.RESET = 1<<e.bits-1, 64
	if e.preset.maxValue > 0 {
		e.MAXVAL = e.preset.maxValue
	}
	if e.MAXVAL >= 128 {
		FACTOR := (min(e.MAXVAL, 4095) + 128) / 256
		e.T1 = clamp(FACTOR*(3-2)+2+3*e.near, e.near+1)
		e.T2 = clamp(FACTOR*(7-3)+3+5*e.near, e.T1)
		e.T3 = clamp(FACTOR*(21-4)+4+7*e.near, e.T2)
	} else {
		FACTOR := 256 / (e.MAXVAL + 1)
		e.T1 = clamp(max(2, 3/FACTOR+3*e.near), e.near+1)
		e.T2 = clamp(max(3, 7/FACTOR+5*e.near), e.T1)
		e.T3 = clamp(max(4, 21/FACTOR+7*e.near), e.T2)
	}
	for _, own := range []struct {
		to   *int
		from int
	}{{&e.T1, e.preset.t1}, {&e.T2, e.preset.t2}, {&e.T3, e.preset.t3}, {&e.RESET, e.preset.reset}} {
		if own.from > 0 {
			*own.to = own.from
		}
	}
	e.RANGE = (e.MAXVAL+2*e.near)/(2*e.near+1) + 1
	e.qbpp = ceilLog2(e.RANGE)
	bpp := max(2, ceilLog2(e.MAXVAL+1))
	e.LIMIT = 2 * (bpp + max(8, bpp))
}

func (e *encoder) reset() {
	for q := range e.A {
		e.A[q], e.B[q], e.C[q], e.N[q] = max(2, (e.RANGE+32)/64), 0, 0, 1
	}
	e.Nn = [2]int{}
	e.RUNindex = 0
}

// encode returns the stream of an image and the image as it must be decoded.
func (e *encoder) encode(pix []uint16) ([]byte, []uint16) {
	e.out = []byte{0xFF, 0xD8}
	e.segment(0xFE, []byte("comment")...)
	e.segment(0xF7, byte(e.bits), byte(e.height>>8), byte(e.height), byte(e.width>>8), byte(e.width), 1, 1, 0x11, 0)
	if p := e.preset; p != (preset{}) {
		s := []byte{1}
		for _, v := range []int{p.maxValue, p.t1, p.t2, p.t3, p.reset} {
			s = binary.BigEndian.AppendUint16(s, uint16(v))
		}
		e.segment(0xF8, s...)
	}
	if e.restart > 0 {
		s := binary.BigEndian.AppendUint32(nil, uint32(e.restart))
		e.segment(0xDD, s[4-e.restartBytes:]...)
	}
	e.segment(0xDA, 1, 1, 0, byte(e.near), 0, 0)
	e.defaults()
	rebuilt := make([]uint16, len(pix))
	var first int // row at which the interval began
	at := func(y, x int) int {
		switch {
		case y < first:
			return 0
		case x < 0: // the sample above the row's first, or for the row above that one's
			if y-1 < first {
				return 0
			}
			return int(rebuilt[(y-1)*e.width])
		}
		return int(rebuilt[y*e.width+min(x, e.width-1)])
	}
	for y := range e.height {
		if e.restart > 0 && y%e.restart == 0 && y > 0 {
			e.flush()
			e.out = append(e.out, 0xFF, 0xD0+byte(y/e.restart-1)%8)
			first = y
		}
		if y == first {
			e.reset()
		}
		for x := 0; x < e.width; {
			Ra, Rb, Rc, Rd := at(y, x-1), at(y-1, x), at(y-1, x-1), at(y-1, x+1)
			Q := e.region(Rd-Rb)*81 + e.region(Rb-Rc)*9 + e.region(Rc-Ra)
			if Q != 0 {
				rebuilt[y*e.width+x] = uint16(e.regular(int(pix[y*e.width+x]), Ra, Rb, Rc, Q))
				x++
				continue
			}
			count := 0
			for x < e.width && near(int(pix[y*e.width+x]), Ra, e.near) {
				rebuilt[y*e.width+x] = uint16(Ra)
				count++
				x++
			}
			for count >= 1<<runJ[e.RUNindex] {
				e.bit(1)
				count -= 1 << runJ[e.RUNindex]
				e.RUNindex = min(e.RUNindex+1, 31)
			}
			if x == e.width {
				if count > 0 {
					e.bit(1)
				}
				break
			}
			e.bit(0)
			e.put(count, runJ[e.RUNindex])
			rebuilt[y*e.width+x] = uint16(e.runEnd(int(pix[y*e.width+x]), Ra, at(y-1, x)))
			x++
		}
	}
	e.flush()
	return append(e.out, 0xFF, 0xD9), rebuilt
}

func near(a, b, bound int) bool { return a-b <= bound && b-a <= bound }

func (e *encoder) region(D int) int {
	if D < 0 {
		return -e.region(-D)
	}
	for i, end := range []int{e.near + 1, e.T1, e.T2, e.T3} {
		if D < end {
			return i
		}
	}
	return 4
}

// quantise returns the error to code and the value that the decoder makes of it.
func (e *encoder) quantise(Ix, Px, SIGN int) (Errval, Rx int) {
	Errval = SIGN * (Ix - Px)
	step := 2*e.near + 1
	if Errval > 0 {
		Errval = (Errval + e.near) / step
	} else {
		Errval = -((e.near - Errval) / step)
	}
	Rx = min(max(Px+SIGN*Errval*step, 0), e.MAXVAL)
	if Errval < 0 {
		Errval += e.RANGE
	}
	if Errval >= (e.RANGE+1)/2 {
		Errval -= e.RANGE
	}
	return Errval, Rx
}

func (e *encoder) regular(Ix, Ra, Rb, Rc, Q int) int {
	SIGN := 1
	if Q < 0 {
		SIGN, Q = -1, -Q
	}
	Px := Ra + Rb - Rc
	if Rc >= max(Ra, Rb) {
		Px = min(Ra, Rb)
	} else if Rc <= min(Ra, Rb) {
		Px = max(Ra, Rb)
	}
	Px = min(max(Px+SIGN*e.C[Q], 0), e.MAXVAL)
	Errval, Rx := e.quantise(Ix, Px, SIGN)
	k := 0
	for e.N[Q]<<k < e.A[Q] {
		k++
	}
	var M int
	switch inverted := e.near == 0 && k == 0 && 2*e.B[Q] <= -e.N[Q]; {
	case inverted && Errval >= 0:
		M = 2*Errval + 1
	case inverted:
		M = -2 * (Errval + 1)
	case Errval >= 0:
		M = 2 * Errval
	default:
		M = -2*Errval - 1
	}
	e.golomb(M, k, e.LIMIT)
	e.B[Q] += Errval * (2*e.near + 1)
	e.A[Q] += max(Errval, -Errval)
	if e.N[Q] == e.RESET {
		e.A[Q] >>= 1
		if e.B[Q] >= 0 {
			e.B[Q] >>= 1
		} else {
			e.B[Q] = -((1 - e.B[Q]) >> 1)
		}
		e.N[Q] >>= 1
	}
	e.N[Q]++
	if e.B[Q] <= -e.N[Q] {
		e.B[Q] += e.N[Q]
		if e.C[Q] > -128 {
			e.C[Q]--
		}
		if e.B[Q] <= -e.N[Q] {
			e.B[Q] = -e.N[Q] + 1
		}
	} else if e.B[Q] > 0 {
		e.B[Q] -= e.N[Q]
		if e.C[Q] < 127 {
			e.C[Q]++
		}
		if e.B[Q] > 0 {
			e.B[Q] = 0
		}
	}
	return Rx
}

func (e *encoder) runEnd(Ix, Ra, Rb int) int {
	RItype, Px, SIGN := 0, Rb, 1
	if near(Ra, Rb, e.near) {
		RItype, Px = 1, Ra
	} else if Ra > Rb {
		SIGN = -1
	}
	Errval, Rx := e.quantise(Ix, Px, SIGN)
	Q := 365 + RItype
	TEMP := e.A[Q]
	if RItype == 1 {
		TEMP += e.N[Q] >> 1
	}
	k := 0
	for e.N[Q]<<k < TEMP {
		k++
	}
	mapped := 0
	switch {
	case k == 0 && Errval > 0 && 2*e.Nn[RItype] < e.N[Q],
		Errval < 0 && 2*e.Nn[RItype] >= e.N[Q],
		Errval < 0 && k != 0:
		mapped = 1
	}
	EM := 2*max(Errval, -Errval) - RItype - mapped
	e.golomb(EM, k, e.LIMIT-runJ[e.RUNindex]-1)
	if Errval < 0 {
		e.Nn[RItype]++
	}
	e.A[Q] += (EM + 1 - RItype) >> 1
	if e.N[Q] == e.RESET {
		e.A[Q], e.N[Q], e.Nn[RItype] = e.A[Q]>>1, e.N[Q]>>1, e.Nn[RItype]>>1
	}
	e.N[Q]++
	if e.RUNindex > 0 {
		e.RUNindex--
	}
	return Rx
}

// noise makes an image of values up to top: smooth, with noise, some edges and flat parts.
func noise(rng *rand.Rand, width, height, top int) []uint16 {
	pix := make([]uint16, width*height)
	v := rng.IntN(top + 1)
	spread := 1 + rng.IntN(1+bits.Len(uint(top)))
	for i := range pix {
		switch k := rng.IntN(100); {
		case k == 0:
			v = rng.IntN(top + 1)
		case k == 1:
			v = top * rng.IntN(2)
		case i/width%4 > 1:
			v += rng.IntN(2*spread+1) - spread
		}
		v = min(max(v, 0), top)
		pix[i] = uint16(v)
	}
	return pix
}
