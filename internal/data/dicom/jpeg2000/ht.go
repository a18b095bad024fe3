package jpeg2000

import (
	"errors"
	"math/bits"
)

// vlcEntry is what a codeword says of a quad (2 x 2 coefficients, numbered down the columns): from the top
// 4 bits each of the exponent-bound pattern's known bits, their values and the significances, a bit "the
// exponent bound is coded" and 3 bits for the length of the codeword.
type vlcEntry uint16

func (e vlcEntry) length() uint       { return uint(e & 7) }
func (e vlcEntry) offset() uint       { return uint(e >> 3 & 1) }
func (e vlcEntry) significant() uint  { return uint(e >> 4 & 15) }
func (e vlcEntry) boundValues() uint  { return uint(e >> 8 & 15) }
func (e vlcEntry) boundPattern() uint { return uint(e >> 12) }

// vlcTables gives the entry for a context and the next seven bits.
var vlcTables = func() (t [2][8 << 7]vlcEntry) {
	for k, codewords := range vlcCodewords {
		for _, w := range codewords {
			e := vlcEntry(w)
			for i := w >> 16 & 127; i < 128; i += 1 << e.length() {
				t[k][w>>23<<7|i] = e
			}
		}
	}
	return t
}()

var errHT = errors.New("an HT code-block is damaged")

// htState is what the HT decoder keeps from one row of quads to the next, and its buffers.
type htState struct {
	entries   []vlcEntry // of the current row, with two more behind
	bounds    []uint8    // u of the current row
	above     []uint8    // significances of the row above, with one quad before and two behind
	bottom    []uint32   // magnitudes in the row of coefficients above; one before, three behind
	thisAbove []uint8    // the next above
	thisRow   []uint32   // the next bottom
}

// htPasses decodes the passes of an HT code-block (T.814, clause 7) into d.values.
func (d *blockDecoder) htPasses(t *tile, tc *tileComponent, b *band, cb *codeBlock, stripes int) error {
	cleanup, next := d.gather(t, cb.first, 1)
	plane := b.planes - int(cb.zeroPlanes) - 1
	if b.planes > maxPlanes {
		return errors.New("HT code-blocks of more than 30 bit-planes are not supported")
	}
	if plane < 0 || cb.passes > 1 && plane < 1 || cb.passes > 3 {
		return errors.New("a code-block has more passes than bit-planes")
	}
	if err := d.htCleanup(cleanup, uint(plane)); err != nil {
		return err
	}
	if cb.passes == 1 {
		return nil
	}
	refinement, _ := d.gather(t, next, 2)
	d.flags = resized(d.flags, (stripes+2)*(d.w+2))
	clear(d.flags)
	d.causal = tc.params.style&styleCausal != 0
	for stripe := range stripes {
		for x := range d.w {
			i := (stripe+1)*(d.w+2) + x + 1
			for k := range 4 {
				if d.values[(stripe*d.w+x)*4+k] != 0 {
					d.flags[i] = d.setSignificant(i, d.flags[i], uint(3*k), 0)
				}
			}
		}
	}
	d.htSignificance(refinement, uint(plane-1), stripes)
	if cb.passes == 3 {
		d.htRefinement(refinement, uint(plane-1), stripes)
	}
	return nil
}

// htCleanup decodes the HT cleanup pass whose last bit-plane is `plane`.
func (d *blockDecoder) htCleanup(data []byte, plane uint) error {
	if len(data) < 2 {
		return errHT
	}
	// The last 12 bits tell where the part begins that holds MEL (forwards) and VLC (backwards) bits.
	suffix := int(data[len(data)-1])<<4 | int(data[len(data)-2]&15)
	if suffix < 2 || suffix > len(data) || suffix > 4079 {
		return errHT
	}
	start := len(data) - suffix
	mel := melDecoder{data: data[start : len(data)-1]}
	vlc := newVLC(data[start : len(data)-1])
	magnitudes := forwardBits{data: data[:start], fill: 0xFF}
	quads := (d.w + 1) / 2
	s := &d.ht
	s.entries, s.bounds = resized(s.entries, quads+2), resized(s.bounds, quads+2)
	s.above, s.thisAbove = resized(s.above, quads+4), resized(s.thisAbove, quads+4)
	s.bottom, s.thisRow = resized(s.bottom, 2*quads+4), resized(s.thisRow, 2*quads+4)
	clear(s.above)
	clear(s.thisAbove)
	clear(s.bottom)
	clear(s.thisRow)
	for y := 0; y < d.h; y += 2 {
		if y == 0 {
			d.firstQuads(&mel, &vlc, quads)
		} else {
			d.otherQuads(&mel, &vlc, quads)
		}
		if err := d.quadMagnitudes(&magnitudes, y, quads, plane); err != nil {
			return err
		}
		s.above, s.thisAbove = s.thisAbove, s.above
		s.bottom, s.thisRow = s.thisRow, s.bottom
	}
	return nil
}

// quad decodes the codeword of a quad in a context. In context 0 a MEL event says whether there is one.
func quad(mel *melDecoder, vlc *vlcReader, table *[8 << 7]vlcEntry, context uint) vlcEntry {
	if context == 0 && !mel.event() {
		return 0
	}
	e := table[context<<7&1023|uint(vlc.buffer)&127]
	vlc.skip(e.length())
	return e
}

// firstQuads decodes significances and bounds of the first row of quads.
func (d *blockDecoder) firstQuads(mel *melDecoder, vlc *vlcReader, quads int) {
	s := &d.ht
	context := uint(0)
	for q := 0; q < quads; q += 2 {
		vlc.refill()
		var pair [2]vlcEntry
		for k := range pair[:min(2, quads-q)] {
			pair[k] = quad(mel, vlc, &vlcTables[0], context)
			r := pair[k].significant()
			context = r&1 | r>>1
			s.thisAbove[q+k+1] = uint8(r)
		}
		s.entries[q], s.entries[q+1] = pair[0], pair[1]
		first, second := vlc.firstBounds(mel, pair[0].offset(), pair[1].offset())
		s.bounds[q], s.bounds[q+1] = uint8(first), uint8(second)
	}
}

// otherQuads decodes significances and bounds of any other row of quads.
func (d *blockDecoder) otherQuads(mel *melDecoder, vlc *vlcReader, quads int) {
	s := &d.ht
	left := uint(0)
	for q := 0; q < quads; q += 2 {
		vlc.refill()
		var pair [2]vlcEntry
		for k := range pair[:min(2, quads-q)] {
			// Bits 1 and 3 are the lower row of a quad, 2 and 3 its right column.
			nw, n, ne := uint(s.above[q+k]), uint(s.above[q+k+1]), uint(s.above[q+k+2])
			context := nw>>3 | n>>1&1 | (left>>2|left>>3)&1<<1 | (n>>3|ne>>1&1)<<2
			pair[k] = quad(mel, vlc, &vlcTables[1], context)
			left = pair[k].significant()
			s.thisAbove[q+k+1] = uint8(left)
		}
		s.entries[q], s.entries[q+1] = pair[0], pair[1]
		first, second := vlc.bounds(pair[0].offset(), pair[1].offset())
		s.bounds[q], s.bounds[q+1] = uint8(first), uint8(second)
	}
}

// quadMagnitudes decodes magnitudes and signs of the quads of rows y and y+1.
func (d *blockDecoder) quadMagnitudes(r *forwardBits, y, quads int, plane uint) error {
	s := &d.ht
	bottom, thisRow := s.bottom, s.thisRow
	values := d.values[(y>>2)*4*d.w:]
	row := y & 3
	for q := range quads {
		e := s.entries[q]
		significant := e.significant()
		if significant == 0 {
			thisRow[2*q+1], thisRow[2*q+2] = 0, 0
			continue
		}
		bound := uint(s.bounds[q])
		if y == 0 || significant&(significant-1) == 0 {
			bound++
		} else {
			// The largest exponent above, less one.
			m := bottom[2*q] | bottom[2*q+1] | bottom[2*q+2] | bottom[2*q+3]
			bound += uint(bits.Len32(m|2) - 1)
		}
		if bound+plane > maxPlanes {
			return errHT
		}
		pattern, known := e.boundPattern(), e.boundValues()
		var lower [2]uint32
		for k := range uint(4) {
			if significant>>k&1 == 0 {
				continue
			}
			n := bound - pattern>>k&1
			if r.n < 32 {
				r.refill()
			}
			v := uint32(r.buffer) & (1<<n - 1)
			sign := uint32(r.buffer) << 31
			if n == 0 {
				sign = 0
			}
			r.buffer >>= n
			r.n -= n
			// The first bit is the sign; in its place comes the half of what is not known.
			v = v | uint32(known>>k&1)<<n | 1
			column := 2*q + int(k>>1)
			if column < d.w {
				values[4*column+row+int(k&1)] = (v+2)<<plane | sign
			}
			if k&1 != 0 {
				lower[k>>1] = v
			}
		}
		thisRow[2*q+1], thisRow[2*q+2] = lower[0], lower[1]
	}
	return nil
}

// htSignificance is the HT significance propagation pass: groups of four columns, in each first the
// significances, then the signs. Newly significant coefficients are marked as visited.
func (d *blockDecoder) htSignificance(data []byte, plane uint, stripes int) {
	r := forwardBits{data: data}
	for stripe := range stripes {
		valid := d.validRows(stripe)
		base := (stripe+1)*(d.w+2) + 1
		for first := 0; first < d.w; first += 4 {
			end := min(first+4, d.w)
			for x := first; x < end; x++ {
				f := d.flags[base+x]
				todo := nearSignificant(f) &^ (f >> significantAt) & valid
				for todo != 0 {
					s := uint(bits.TrailingZeros64(todo))
					todo &= todo - 1
					if r.bit() != 0 {
						f = d.setSignificant(base+x, f, s, 0) | flagVisited<<s
						todo |= 8 << s &^ (f >> significantAt) & valid
					}
				}
				d.flags[base+x] = f
			}
			for x := first; x < end; x++ {
				for fresh := d.flags[base+x] / flagVisited & rows; fresh != 0; fresh &= fresh - 1 {
					k := bits.TrailingZeros64(fresh) / 3
					d.values[(stripe*d.w+x)*4+k] = 3<<plane | r.bit()<<31
				}
			}
		}
	}
}

// htRefinement is the HT magnitude refinement pass, of what was significant after the cleanup pass.
func (d *blockDecoder) htRefinement(data []byte, plane uint, stripes int) {
	r := vlcReader{data: data, large: true}
	for stripe := range stripes {
		for x := range d.w {
			f := d.flags[(stripe+1)*(d.w+2)+x+1]
			for todo := f >> significantAt &^ (f / flagVisited) & rows; todo != 0; todo &= todo - 1 {
				k := bits.TrailingZeros64(todo) / 3
				r.refill()
				bit := uint32(r.buffer) & 1
				r.skip(1)
				d.values[(stripe*d.w+x)*4+k] += 1 << plane * (2*bit - 1)
			}
		}
	}
}
