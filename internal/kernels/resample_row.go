package kernels

import "slices"

// Row says how a row of values is made of another: value o is the weighted sum of the source's values
// index[begin[o]:begin[o+1]], in this order. Several goroutines may use it at once.
type Row struct {
	length int // of the source
	count  int
	index  []int
	weight []float32
	plain  bool // every value is one of the source's, with weight 1
	parts  []rowPart
}

// rowPart is values from..to-1 of a row, each with taps taps, of which the first is number first of the row's. Where
// window is not 0 the part is whole groups of 8 values. Tap k of a group then takes its 8 values from the window
// values of the source from base[k] on, at lane[8k:8k+8], with the weights at the same place.
type rowPart struct {
	from, to    int
	taps, first int
	window      int
	base, lane  []int32
	weight      []float32
}

// NewRow returns the table of a row made of length values. Every value has at least one tap.
func NewRow(length int, begin, index []int, weight []float32) *Row {
	r := &Row{length: length, count: len(begin) - 1, index: index, weight: weight}
	r.plain = len(index) == r.count && !slices.ContainsFunc(weight, func(w float32) bool { return w != 1 })
	taps := func(o int) int { return begin[o+1] - begin[o] }
	for o := 0; o < r.count; {
		p := rowPart{from: o, taps: taps(o), first: begin[o]}
		for o < r.count && taps(o) == p.taps {
			o++
		}
		p.to = o
		whole := p
		whole.to -= (p.to - p.from) % 8
		if whole.to > whole.from && whole.group(r) {
			r.parts = append(r.parts, whole)
			p.from, p.first = whole.to, begin[whole.to]
		}
		if p.to > p.from {
			r.parts = append(r.parts, p)
		}
	}
	return r
}

// group fills the table for groups of 8 values and reports whether some window is wide enough for all of them.
func (p *rowPart) group(r *Row) bool {
	at := func(o, k int) (index int, weight float32) {
		i := p.first + (o-p.from)*p.taps + k
		return r.index[i], r.weight[i]
	}
	for _, window := range []int{16, 32} {
		if window > r.length {
			return false
		}
		p.base, p.lane, p.weight = nil, nil, nil
		fits := true
		for o := p.from; o < p.to; o += 8 {
			for k := range p.taps {
				base := r.length - window
				for i := range 8 {
					index, _ := at(o+i, k)
					base = min(base, index)
				}
				p.base = append(p.base, int32(base))
				for i := range 8 {
					index, weight := at(o+i, k)
					fits = fits && index-base < window
					p.lane, p.weight = append(p.lane, int32(index-base)), append(p.weight, weight)
				}
			}
		}
		if fits {
			p.window = window
			return true
		}
	}
	return false
}

// Count returns the number of values that the row has.
func (r *Row) Count() int { return r.count }

// Row sets dst to the row made of src. Each product and sum is rounded to float32, in the order of the taps.
func (r *Resampler) Row(dst, src []float32, row *Row) {
	dst, src = dst[:row.count], src[:row.length]
	if row.plain {
		for o, i := range row.index[:len(dst)] {
			dst[o] = src[i]
		}
		return
	}
	for i := range row.parts {
		p := &row.parts[i]
		switch {
		case p.window == 16 && r.table.row16 != nil:
			r.table.row16(dst[p.from:p.to], src, p.taps, p.base, p.lane, p.weight)
		case p.window == 32 && r.table.row32 != nil:
			r.table.row32(dst[p.from:p.to], src, p.taps, p.base, p.lane, p.weight)
		default:
			rowSums(dst[p.from:p.to], src, p.taps, row.index[p.first:], row.weight[p.first:])
		}
	}
}

// rowSums sets each value to the sum of taps values of src.
func rowSums(dst, src []float32, taps int, index []int, w []float32) {
	switch taps {
	case 2:
		for o := 0; o < len(dst) && len(index) >= 2 && len(w) >= 2; o++ {
			dst[o] = float32(w[0]*src[index[0]]) + float32(w[1]*src[index[1]])
			index, w = index[2:], w[2:]
		}
	default:
		for o := range dst {
			sum := float32(w[0] * src[index[0]])
			for k := 1; k < taps; k++ {
				sum += float32(w[k] * src[index[k]])
			}
			dst[o] = sum
			index, w = index[taps:], w[taps:]
		}
	}
}
