package jpeg2000

import "math/bits"

// rawReader reads the bits of a raw segment: after a byte FF follows a stuffed zero bit.
type rawReader struct {
	data []byte
	last byte
	left uint
}

// bit returns the next bit; behind the end there are ones.
func (r *rawReader) bit() uint32 {
	if r.left == 0 {
		r.left = 8
		if r.last == 0xFF {
			r.left = 7
		}
		r.last = 0xFF
		if len(r.data) > 0 {
			r.last, r.data = r.data[0], r.data[1:]
		}
	}
	r.left--
	return uint32(r.last>>r.left) & 1
}

// rawSignificance is significance with raw bits.
func (d *blockDecoder) rawSignificance(plane uint) {
	w := d.w
	for stripe := 0; 4*stripe < d.h; stripe++ {
		valid := d.validRows(stripe)
		base := (stripe + 1) * (w + 2)
		for x := range w {
			i := base + x + 1
			f := d.flags[i]
			todo := nearSignificant(f) &^ (f >> significantAt) & valid
			for todo != 0 {
				s := uint(bits.TrailingZeros64(todo))
				todo &= todo - 1
				if d.raw.bit() != 0 {
					sign := uint64(d.raw.bit())
					d.values[(stripe*w+x)*4+int(s/3)] = 3<<plane | uint32(sign)<<31
					f = d.setSignificant(i, f, s, sign)
					todo |= 8 << s &^ (f >> significantAt) & valid
				}
				f |= flagVisited << s
			}
			d.flags[i] = f
		}
	}
}

// rawRefinement is refinement with raw bits.
func (d *blockDecoder) rawRefinement(plane uint) {
	w := d.w
	for stripe := 0; 4*stripe < d.h; stripe++ {
		base := (stripe + 1) * (w + 2)
		for x := range w {
			f := d.flags[base+x+1]
			todo := f >> significantAt &^ (f / flagVisited) & rows
			d.flags[base+x+1] = f | todo*flagRefined
			for ; todo != 0; todo &= todo - 1 {
				s := bits.TrailingZeros64(todo)
				d.values[(stripe*w+x)*4+s/3] += 1 << plane * (2*d.raw.bit() - 1)
			}
		}
	}
}
