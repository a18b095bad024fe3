package jpegls

import (
	"encoding/binary"
	mathbits "math/bits"
)

// context holds the statistics of one context (T.87, A.2), and what follows from them for its next sample.
type context struct {
	a    uint32 // sum of errors' magnitudes
	n, b int32  // number of samples, bias
	c    int32  // prediction correction
	k    uint8  // Golomb parameter
	flip int8   // -1 where the error mapping is the inverted one, else 0
}

// runContext holds the statistics of the samples that end a run.
type runContext struct {
	a           uint32
	n, negative int32 // numbers of samples and of negative errors
}

// Differences of two samples lie in -65535 .. 65535.
const (
	zeroDifference = 1 << 16
	differences    = 1 << 17
)

// coder decodes restart intervals of a scan.
type coder struct {
	maxValue, near, step, span, reset int32 // span is RANGE times the quantisation step
	unary, wide                       uint  // most zeros of a code, bits of the value after them
	limit                             uint  // LIMIT of T.87
	largest                           uint32
	width                             int

	r         reader
	run       uint // RUNindex
	above     []int32
	row       []int32
	regular   [512]context // 365 are used; of a power of two, no index has to be checked
	ends      [2]runContext
	quantised [differences]int8 // the region -4 .. 4 of a difference, at zeroDifference plus it
}

func newCoder(p preset, near, width int) *coder {
	step := 2*near + 1
	values := (p.maxValue+2*near)/step + 1
	bits := max(2, mathbits.Len(uint(p.maxValue)))
	c := &coder{
		maxValue: int32(p.maxValue), near: int32(near), step: int32(step), span: int32(values * step),
		reset: int32(p.reset), wide: uint(mathbits.Len(uint(values - 1))), limit: uint(2 * (bits + max(8, bits))),
		largest: uint32(values), width: width, above: make([]int32, width+2), row: make([]int32, width+2),
	}
	c.unary = c.limit - c.wide - 1
	low := 0
	for region, end := range []int{near + 1, p.t1, p.t2, p.t3, p.maxValue + 1} {
		for d := low; d < end; d++ {
			c.quantised[zeroDifference+d] = int8(region)
			c.quantised[zeroDifference-d] = int8(-region)
		}
		low = end
	}
	return c
}

// decode decodes the rows of one restart interval.
func (c *coder) decode(data []byte, pix []uint16) error {
	c.r = reader{data: data}
	c.run = 0
	values := c.span / c.step
	first := uint32(max(2, (values+32)/64))
	initial := context{a: first, n: 1, k: golombParameter(first, 1)}
	for i := range c.regular {
		c.regular[i] = initial
	}
	c.ends = [2]runContext{{a: first, n: 1}, {a: first, n: 1}}
	clear(c.above)
	clear(c.row)
	for len(pix) > 0 {
		c.above[c.width+1] = c.above[c.width]
		c.row[0] = c.above[1]
		if err := c.decodeRow(c.above, c.row); err != nil {
			return err
		}
		if c.r.overrun() {
			return errEntropy
		}
		for i, v := range c.row[1 : c.width+1] {
			pix[i] = uint16(v)
		}
		c.above, c.row = c.row, c.above
		pix = pix[c.width:]
	}
	return nil
}

// golombParameter returns the smallest k with n << k >= a.
func golombParameter(a, n uint32) uint8 {
	k := max(mathbits.Len32(a)-mathbits.Len32(n), 0)
	if n<<(k&31) < a {
		k++
	}
	return uint8(k)
}

// decodeRow decodes one row. Both rows have a sample before and one after those of the image.
func (c *coder) decodeRow(above, row []int32) error {
	above = above[:len(row)]
	quantised, regular := &c.quantised, &c.regular
	maxValue, near, step, reset := c.maxValue, c.near, c.step, c.reset
	unary, largest := c.unary, c.largest
	data, at, acc, n := c.r.data, c.r.at, c.r.acc, c.r.n

	left, corner, top := row[0], above[0], above[1]
	q2 := int32(quantised[(top-corner+zeroDifference)&(differences-1)])
	for i := 1; i < len(row)-1; {
		right := above[i+1]
		q1 := int32(quantised[(right-top+zeroDifference)&(differences-1)])
		q3 := int32(quantised[(corner-left+zeroDifference)&(differences-1)])
		q := (q1*9+q2)*9 + q3
		if q == 0 {
			c.r = reader{data, at, acc, n}
			next, err := c.decodeRun(above, row, i)
			if err != nil {
				return err
			}
			at, acc, n = c.r.at, c.r.acc, c.r.n
			if i = next; i >= len(row)-1 {
				break
			}
			left, corner, top = row[i-1], above[i-1], above[i]
			q2 = int32(quantised[(top-corner+zeroDifference)&(differences-1)])
			continue
		}
		q2 = q1
		sign := q >> 31
		ctx := &regular[((q^sign)-sign)&511]

		// The median edge detector, corrected by the context's bias.
		x := min(max(left+top-corner, min(left, top)), max(left, top))
		x = min(max(x+(ctx.c^sign)-sign, 0), maxValue)

		if n < 32 {
			if at+8 > uint(len(data)) {
				return errEntropy
			}
			acc |= binary.BigEndian.Uint64(data[at:]) >> (n & 63)
			at += (63 - n) >> 3
			n |= 56
		}
		k := uint(ctx.k)
		var code uint32
		zeros := uint(mathbits.LeadingZeros64(acc))
		if used := zeros + 1 + k; used <= n && zeros < unary {
			acc <<= (zeros + 1) & 63
			code = uint32(zeros)<<(k&31) | uint32(acc>>1>>((63-k)&63))
			acc <<= k & 63
			n -= used
		} else {
			c.r = reader{data, at, acc, n}
			var err error
			if code, err = c.r.golomb(k, unary, c.wide); err != nil {
				return err
			}
			at, acc, n = c.r.at, c.r.acc, c.r.n
		}
		if code > largest {
			return errData
		}
		e := int32(code>>1) ^ -int32(code&1) ^ int32(ctx.flip)
		scaled := e
		if step != 1 {
			scaled *= step
		}
		if x += (scaled ^ sign) - sign; uint32(x) > uint32(maxValue) {
			x = c.wrap(x)
		}
		row[i] = x
		left, corner, top = x, top, right
		i++

		// Count the error in and bring the bias back to about zero (A.6). What is rarely the same twice is
		// done without branches: low is -1 for a bias of -samples or less, high for one above 0, else 0.
		a, b, samples := ctx.a+uint32((e^e>>31)-e>>31), ctx.b+scaled, ctx.n
		if samples == reset {
			a, b, samples = a>>1, b>>1, samples>>1
		}
		samples++
		low, high := (b+samples-1)>>31, -b>>31
		b = min(max(b+samples&low-samples&high, 1-samples), 0)
		ctx.a, ctx.b, ctx.n = a, b, samples
		ctx.c = min(max(ctx.c+low-high, -128), 127)
		// The smallest k with samples << k >= a is seldom another than before. It is 16 at most, as errors
		// are no larger than half the number of values.
		k = uint(ctx.k)
		for uint32(samples)<<(k&31) < a {
			k++
		}
		for k > 0 && uint32(samples)<<((k-1)&31) >= a {
			k--
		}
		ctx.k, ctx.flip = uint8(k), 0
		if k == 0 && near == 0 && 2*b <= -samples {
			ctx.flip = -1
		}
	}
	c.r = reader{data, at, acc, n}
	return nil
}

// wrap takes a sample back that the modulo arithmetic of the errors led out of range (T.87, A.4.5).
func (c *coder) wrap(x int32) int32 {
	if x < -c.near {
		x += c.span
	} else if x > c.maxValue+c.near {
		x -= c.span
	}
	return min(max(x, 0), c.maxValue)
}

// runOrder returns J of T.87, A.2.1: runs are counted in units of 1 << runOrder(RUNindex) samples.
func runOrder(index uint) uint {
	const orders = "\x00\x00\x00\x00\x01\x01\x01\x01\x02\x02\x02\x02\x03\x03\x03\x03\x04\x04\x05\x05\x06\x06\x07\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
	return uint(orders[index&31])
}

// decodeRun decodes a run of equal samples from index i on, and the sample that ends it unless the row does
// (T.87, A.7). It returns the index after them.
func (c *coder) decodeRun(above, row []int32, i int) (int, error) {
	left, end := row[i-1], len(row)-1
	for {
		if !c.r.fill() {
			return 0, errEntropy
		}
		order := runOrder(c.run)
		if c.r.take(1) == 0 {
			length := int(c.r.take(order))
			if length >= end-i {
				return 0, errData
			}
			for range length {
				row[i] = left
				i++
			}
			break
		}
		length := min(1<<order, end-i)
		for range length {
			row[i] = left
			i++
		}
		if length == 1<<order && c.run < 31 {
			c.run++
		}
		if i == end {
			return i, nil
		}
	}
	top := above[i]
	kind, x, sign := 0, top, int32(1)
	if d := left - top; d >= -c.near && d <= c.near {
		kind, x = 1, left
	} else if d > 0 {
		sign = -1
	}
	ctx := &c.ends[kind]
	a := ctx.a
	if kind == 1 {
		a += uint32(ctx.n >> 1)
	}
	k := golombParameter(a, uint32(ctx.n))
	code, err := c.r.golomb(uint(k), c.limit-runOrder(c.run)-1-c.wide-1, c.wide)
	if err != nil {
		return 0, err
	}
	if code > c.largest {
		return 0, errData
	}
	// Undo the mapping of A.7.2.2: of two errors of one magnitude the more probable has the even code.
	even := int32(code) + int32(kind)
	e := (even + 1) >> 1
	if (k != 0 || 2*ctx.negative >= ctx.n) == (even&1 == 1) {
		e = -e
	}
	if e < 0 {
		ctx.negative++
	}
	ctx.a += (code + 1 - uint32(kind)) >> 1
	if ctx.n == c.reset {
		ctx.a, ctx.n, ctx.negative = ctx.a>>1, ctx.n>>1, ctx.negative>>1
	}
	ctx.n++
	if c.run > 0 {
		c.run--
	}
	row[i] = c.wrap(x + sign*e*c.step)
	return i + 1, nil
}
