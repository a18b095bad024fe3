package jpegll

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// encoder writes lossless JPEG as plainly as annex H of T.81 tells it, for round trips.
type encoder struct {
	width, height, bits int
	predictor, shift    int
	restart             int // rows between restart markers, 0: none
	longCodes           bool
	out                 []byte
	acc                 uint64
	n                   int
}

// counts returns the number of codes of each length, 17 in all.
func (e *encoder) counts() []byte {
	counts := make([]byte, 16)
	if e.longCodes { // one code each of lengths 1 to 15, two of 16
		for i := range counts {
			counts[i] = 1
		}
		counts[15] = 2
	} else { // 15 codes of length 4 would leave no room for 17: one of length 2, 9 of 4, 7 of 6
		counts[1], counts[3], counts[5] = 1, 9, 7
	}
	return counts
}

// code returns the code of a size category; the categories get codes in their order.
func (e *encoder) code(size int) (code, length int) {
	at := 0
	for n, c := range e.counts() {
		code <<= 1
		if size < at+int(c) {
			return code + size - at, n + 1
		}
		code += int(c)
		at += int(c)
	}
	panic("no code")
}

func (e *encoder) put(v, n int) {
	e.acc = e.acc<<n | uint64(v)&(1<<n-1)
	for e.n += n; e.n >= 8; {
		e.n -= 8
		b := byte(e.acc >> e.n)
		if e.out = append(e.out, b); b == 0xFF {
			e.out = append(e.out, 0)
		}
	}
}

func (e *encoder) flush() {
	if e.n > 0 {
		e.put(1<<(8-e.n)-1, 8-e.n)
	}
}

func (e *encoder) segment(marker byte, data ...byte) {
	e.out = append(e.out, 0xFF, marker)
	e.out = binary.BigEndian.AppendUint16(e.out, uint16(len(data)+2))
	e.out = append(e.out, data...)
}

// encode returns the stream of an image; its samples lose the bits below shift.
func (e *encoder) encode(pix []uint16) []byte {
	e.out = []byte{0xFF, 0xD8}
	e.segment(0xFE, []byte("comment")...)
	e.segment(0xC3, byte(e.bits), byte(e.height>>8), byte(e.height), byte(e.width>>8), byte(e.width), 1, 1, 0x11, 0)
	table := append([]byte{0x02}, e.counts()...)
	for size := range 17 {
		table = append(table, byte(size))
	}
	e.segment(0xC4, table...)
	if e.restart > 0 {
		e.segment(0xDD, byte(e.restart*e.width>>8), byte(e.restart*e.width))
	}
	e.segment(0xDA, 1, 1, 0x20, byte(e.predictor), 0, byte(e.shift))
	at := func(y, x int) int { return int(pix[y*e.width+x]) >> e.shift }
	first := 0 // row at which the interval began
	for y := range e.height {
		if e.restart > 0 && y > 0 && y%e.restart == 0 {
			e.flush()
			e.out = append(e.out, 0xFF, 0xD0+byte(y/e.restart-1)%8)
			first = y
		}
		for x := range e.width {
			var p int
			switch {
			case x == 0 && y == first:
				p = 1 << (e.bits - e.shift - 1)
			case y == first:
				p = at(y, x-1)
			case x == 0:
				p = at(y-1, x)
			default:
				a, b, c := at(y, x-1), at(y-1, x), at(y-1, x-1)
				p = [8]int{0, a, b, c, a + b - c, a + (b-c)>>1, b + (a-c)>>1, (a + b) >> 1}[e.predictor]
			}
			diff := int(int16(at(y, x) - p))
			if diff == -1<<15 {
				e.put(e.code(16))
				continue
			}
			size := bits.Len(uint(max(diff, -diff)))
			e.put(e.code(size))
			if diff < 0 {
				diff--
			}
			e.put(diff, size)
		}
	}
	e.flush()
	return append(e.out, 0xFF, 0xD9)
}

// noise makes an image: smooth, with noise, some edges and a flat part.
func noise(rng *rand.Rand, width, height, bits int) []uint16 {
	pix := make([]uint16, width*height)
	v, top := rng.IntN(1<<bits), 1<<bits-1
	for i := range pix {
		switch k := rng.IntN(100); {
		case k == 0:
			v = rng.IntN(1 << bits)
		case k == 1:
			v = top * rng.IntN(2)
		case i/width%3 != 0:
			v += rng.IntN(7) - 3
		}
		v = min(max(v, 0), top)
		pix[i] = uint16(v)
	}
	return pix
}
