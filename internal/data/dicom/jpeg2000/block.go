package jpeg2000

import (
	"errors"
	"math/bits"
)

// maxPlanes is the number of bit-planes a code-block may hold: with the half bit of reconstruction and a
// sign they fill 32 bits.
const maxPlanes = 30

// State of a stripe column, that is four coefficients below each other. Bits 0 to 17 say which of the 3 x 6
// coefficients around and in it are significant, row by row; then for each of its rows r a sign, a bit
// "refined before" and a bit "visited in this bit-plane". All of them step by three bits from row to row, so
// that after a shift by 3r row r lies where the constants below have row 0. Signs exist also for the rows
// above and below.
const (
	flagSelf    = 1 << 4
	flagAround  = 0x1EF // the eight neighbours
	flagCross   = 0xAA  // the four at its sides
	flagSign    = 1 << 23
	flagRefined = 1 << 24
	flagVisited = 1 << 25

	rows       = 0o1111 // bit 0 of each row
	allVisited = flagVisited * rows
)

// significantAt moves the significance of the four coefficients to bit 0 of each row.
const significantAt = 4

// blockDecoder decodes code-blocks (T.800, annex D) and reuses its buffers.
type blockDecoder struct {
	mq      mqDecoder
	raw     rawReader
	w, h    int
	causal  bool
	flags   []uint64 // one for each stripe column, with a border: [(h+3)/4 + 2][w + 2]
	values  []uint32 // [(h+3)/4][w][4]: magnitude with a bit below the units, and sign on top
	zero    *[512]uint8
	segment []byte // a codeword segment that lies in several packets
	ht      htState
}

// decode decodes one code-block and writes its dequantized coefficients to dst.
func (d *blockDecoder) decode(t *tile, tc *tileComponent, b *band, cb *codeBlock, dst *plane, stride int) error {
	if cb.passes == 0 {
		return nil
	}
	d.w, d.h = int(cb.w), int(cb.h)
	stripes := (d.h + 3) / 4
	d.values = resized(d.values, stripes*4*d.w)
	clear(d.values)
	decode := d.passes
	if b.style&styleHT != 0 {
		decode = d.htPasses
	}
	if err := decode(t, tc, b, cb, stripes); err != nil {
		return err
	}
	if tc.params.roiShift > 0 {
		d.unshift(uint(tc.params.roiShift))
	}
	if dst.reversible {
		for y := range d.h {
			at := (int(cb.y0)+y)*stride + int(cb.x0)
			out := dst.ints[at : at+d.w]
			v := d.values[y>>2*4*d.w+y&3:]
			for x := range out {
				u := v[4*x]
				sign := int32(u) >> 31
				out[x] = (int32(u&(1<<31-1)>>1) ^ sign) - sign
			}
		}
		return nil
	}
	for y := range d.h {
		at := (int(cb.y0)+y)*stride + int(cb.x0)
		out := dst.floats[at : at+d.w]
		v := d.values[y>>2*4*d.w+y&3:]
		for x := range out {
			u := v[4*x]
			f := float32(int32(u&(1<<31-1))) * b.scale
			if u>>31 != 0 {
				f = -f
			}
			out[x] = f
		}
	}
	return nil
}

// unshift scales the coefficients of the region of interest down again (T.800, annex H).
func (d *blockDecoder) unshift(shift uint) {
	for i, u := range d.values {
		if m := u & (1<<31 - 1); m>>1>>shift != 0 {
			d.values[i] = u&(1<<31) | m>>shift
		}
	}
}

// passes decodes the coding passes of a code-block into d.values.
func (d *blockDecoder) passes(t *tile, tc *tileComponent, b *band, cb *codeBlock, stripes int) error {
	style := tc.params.style
	planes := b.planes - int(cb.zeroPlanes)
	if int(cb.passes) > 3*planes-2 {
		return errors.New("a code-block has more passes than bit-planes")
	}
	d.flags = resized(d.flags, (stripes+2)*(d.w+2))
	clear(d.flags)
	d.causal = style&styleCausal != 0
	d.zero = &zeroContexts[b.orientation]
	d.mq.resetContexts()
	next := cb.first
	left := 0 // passes until the segment ends
	raw := false
	plane, kind := uint(planes-1), 2 // 0 significance, 1 refinement, 2 cleanup
	for pass := range int(cb.passes) {
		if left == 0 {
			left = segmentPasses(style, pass)
			var data []byte
			data, next = d.gather(t, next, left)
			if raw = style&styleBypass != 0 && pass >= 10 && kind != 2; raw {
				d.raw = rawReader{data: data}
			} else {
				d.mq.start(data)
			}
		}
		left--
		switch {
		case kind == 0 && raw:
			d.rawSignificance(plane)
		case kind == 0:
			d.significance(plane)
		case kind == 1 && raw:
			d.rawRefinement(plane)
		case kind == 1:
			d.refinement(plane)
		default:
			d.cleanup(plane)
			// Of the last pass, encoders may have cut the symbol itself off.
			if style&styleSegments != 0 && d.symbol() != 0b1010 && pass+1 < int(cb.passes) {
				return errors.New("a code-block is damaged: its segmentation symbol is wrong")
			}
		}
		if style&styleReset != 0 {
			d.mq.resetContexts()
		}
		if kind++; kind == 3 {
			kind = 0
			plane--
		}
	}
	return nil
}

// gather returns the data of the codeword segment that begins with chunk `next` and holds at most `passes`
// passes, and the chunk after it.
func (d *blockDecoder) gather(t *tile, next int32, passes int) ([]byte, int32) {
	var data []byte
	for n := 0; next >= 0 && passes > 0; n++ {
		c := &t.chunks[next]
		part := t.body[c.offset : c.offset+c.length]
		switch n {
		case 0:
			data = part
		case 1:
			d.segment = append(append(d.segment[:0], data...), part...)
		default:
			d.segment = append(d.segment, part...)
		}
		if n > 0 {
			data = d.segment
		}
		passes -= int(c.passes)
		next = c.next
	}
	return data, next
}

// symbol reads a segmentation symbol (T.800, D.5).
func (d *blockDecoder) symbol() (v uint8) {
	m := &d.mq
	for range 4 {
		c := &m.contexts[ctxUniform]
		bit := c.bit
		if m.d -= int64(c.p); m.d < 0 {
			bit, m.d = m.slow(c, m.d)
		}
		v = v<<1 | bit
	}
	return v
}

// validRows has bit 0 of each row of a stripe set that lies inside the code-block.
func (d *blockDecoder) validRows(stripe int) uint64 {
	return rows & (1<<(3*min(d.h-4*stripe, 4)) - 1)
}

// nearSignificant says for each row of a stripe column, in bit 0, whether there is any significant
// coefficient in the 3 x 3 around (and in) it.
func nearSignificant(f uint64) uint64 {
	f |= f>>1 | f>>2
	return f | f>>3 | f>>6
}

// setSignificant makes the coefficient of the stripe column at index i and row shift s (three times the row)
// significant. The column's own word, whose new value is returned, is f; the caller stores it.
func (d *blockDecoder) setSignificant(i int, f uint64, s uint, sign uint64) uint64 {
	fl := d.flags
	stride := d.w + 2
	fl[i-1] |= 1 << (5 + s)
	fl[i+1] |= 1 << (3 + s)
	if s == 0 && !d.causal {
		n := fl[i-stride-1 : i-stride+2 : i-stride+2]
		n[0] |= 1 << 17
		n[1] |= 1<<16 | sign<<35
		n[2] |= 1 << 15
	}
	if s == 9 {
		n := fl[i+stride-1 : i+stride+2 : i+stride+2]
		n[0] |= 1 << 2
		n[1] |= 1<<1 | sign<<20
		n[2] |= 1 << 0
	}
	return f | flagSelf<<s | sign*flagSign<<s
}

// signIndex is the index into signContexts for row 0 of the column f with neighbours left and right.
func signIndex(left, f, right uint64) uint64 {
	return f&flagCross | f>>20&0x41 | left>>21&4 | right>>19&16
}

// significance is the significance propagation pass of a bit-plane (T.800, D.3.1).
func (d *blockDecoder) significance(plane uint) {
	m := &d.mq
	md := m.d
	w, zero := d.w, d.zero
	value := uint32(3) << plane
	for stripe := 0; 4*stripe < d.h; stripe++ {
		valid := d.validRows(stripe)
		fl := d.flags[(stripe+1)*(w+2):][:w+2]
		values := d.values[stripe*4*w:][:4*w]
		base := (stripe + 1) * (w + 2)
		for x := 1; x < len(fl)-1; x++ {
			f := fl[x]
			if f&(1<<18-1) == 0 {
				continue
			}
			todo := nearSignificant(f) &^ (f >> significantAt) & valid
			if todo == 0 {
				continue
			}
			column := (*[4]uint32)(values[4*x-4:])
			for todo != 0 {
				s := uint(bits.TrailingZeros64(todo)) & 15
				todo &= todo - 1
				c := &m.contexts[zero[f>>s&511]&31]
				bit := c.bit
				if md -= int64(c.p); md < 0 {
					bit, md = m.slow(c, md)
				}
				if bit != 0 {
					sc := signContexts[signIndex(fl[x-1]>>s, f>>s, fl[x+1]>>s)&255]
					c := &m.contexts[sc&31]
					bit = c.bit
					if md -= int64(c.p); md < 0 {
						bit, md = m.slow(c, md)
					}
					sign := uint64(bit ^ sc>>7)
					column[s/3&3] = value | uint32(sign)<<31
					f = d.setSignificant(base+x, f, s, sign)
					// Now the row below has a significant neighbour.
					todo |= 8 << s &^ (f >> significantAt) & valid
				}
				f |= flagVisited << s
			}
			fl[x] = f
		}
	}
	m.d = md
}

// refinement is the magnitude refinement pass of a bit-plane (T.800, D.3.3).
func (d *blockDecoder) refinement(plane uint) {
	m := &d.mq
	md := m.d
	w := d.w
	half := uint32(1) << plane
	for stripe := 0; 4*stripe < d.h; stripe++ {
		fl := d.flags[(stripe+1)*(w+2):][:w+2]
		values := d.values[stripe*4*w:][:4*w]
		for x := 1; x < len(fl)-1; x++ {
			f := fl[x]
			todo := f >> significantAt &^ (f / flagVisited) & rows
			if todo == 0 {
				continue
			}
			column := (*[4]uint32)(values[4*x-4:])
			fl[x] = f | todo*flagRefined
			for todo != 0 {
				s := uint(bits.TrailingZeros64(todo)) & 15
				todo &= todo - 1
				n := ctxRefine
				if g := f >> s; g&flagRefined != 0 {
					n = ctxRefine + 2
				} else if g&flagAround != 0 {
					n = ctxRefine + 1
				}
				c := &m.contexts[n]
				bit := c.bit
				if md -= int64(c.p); md < 0 {
					bit, md = m.slow(c, md)
				}
				// The bit below stood for an unknown half: now it is known.
				column[s/3&3] += half * (2*uint32(bit) - 1)
			}
		}
	}
	m.d = md
}

// cleanup is the cleanup pass of a bit-plane (T.800, D.3.4). It ends the bit-plane: no coefficient is
// marked as visited after it.
func (d *blockDecoder) cleanup(plane uint) {
	m := &d.mq
	md := m.d
	w, zero := d.w, d.zero
	value := uint32(3) << plane
	for stripe := 0; 4*stripe < d.h; stripe++ {
		valid := d.validRows(stripe)
		fl := d.flags[(stripe+1)*(w+2):][:w+2]
		values := d.values[stripe*4*w:][:4*w]
		base := (stripe + 1) * (w + 2)
		for x := 1; x < len(fl)-1; x++ {
			f := fl[x]
			todo := ^(f >> significantAt) &^ (f / flagVisited) & valid
			known := false // the first of todo is known to be significant
			if f == 0 && valid == rows {
				c := &m.contexts[ctxRun]
				bit := c.bit
				if md -= int64(c.p); md < 0 {
					bit, md = m.slow(c, md)
				}
				if bit == 0 {
					continue
				}
				c = &m.contexts[ctxUniform]
				hi := c.bit
				if md -= int64(c.p); md < 0 {
					hi, md = m.slow(c, md)
				}
				lo := c.bit
				if md -= int64(c.p); md < 0 {
					lo, md = m.slow(c, md)
				}
				todo = rows &^ (1<<(3*(2*hi+lo)) - 1)
				known = true
			}
			if todo == 0 {
				fl[x] = f &^ allVisited
				continue
			}
			column := (*[4]uint32)(values[4*x-4:])
			for todo != 0 {
				s := uint(bits.TrailingZeros64(todo)) & 15
				todo &= todo - 1
				if !known {
					c := &m.contexts[zero[f>>s&511]&31]
					bit := c.bit
					if md -= int64(c.p); md < 0 {
						bit, md = m.slow(c, md)
					}
					if bit == 0 {
						continue
					}
				}
				known = false
				sc := signContexts[signIndex(fl[x-1]>>s, f>>s, fl[x+1]>>s)&255]
				c := &m.contexts[sc&31]
				bit := c.bit
				if md -= int64(c.p); md < 0 {
					bit, md = m.slow(c, md)
				}
				sign := uint64(bit ^ sc>>7)
				column[s/3&3] = value | uint32(sign)<<31
				f = d.setSignificant(base+x, f, s, sign)
			}
			fl[x] = f &^ allVisited
		}
	}
	m.d = md
}
