package kernels

import "math"

// ReLU sets y = max(x, 0). y may be x.
func (m *Machine) ReLU(x, y Map) {
	k := m.ewTable()
	stream := ewStreams(y, x)
	m.ewMaps(x, func(s *stage, n, lo, hi int) {
		k.relu(s.write(y.sample(n), lo, hi), s.read(x.sample(n), lo, hi), stream)
	})
}

// ReLUBackward sets dx = dy where the ReLU's output y is positive and 0 elsewhere. dx may be dy.
func (m *Machine) ReLUBackward(y, dy, dx Map) {
	k := m.ewTable()
	m.ewMaps(y, func(s *stage, n, lo, hi int) {
		k.reluBack(s.write(dx.sample(n), lo, hi), s.read(dy.sample(n), lo, hi), s.read(y.sample(n), lo, hi))
	})
}

// Add sets y = a + b, clamped at zero when relu is set. y may be a or b.
func (m *Machine) Add(a, b, y Map, relu bool) {
	k := m.ewTable()
	floor := floorOf(relu)
	stream := ewStreams(y, a, b)
	m.ewMaps(y, func(s *stage, n, lo, hi int) {
		k.add(s.write(y.sample(n), lo, hi), s.read(a.sample(n), lo, hi), s.read(b.sample(n), lo, hi), floor, stream)
	})
}

// sumChunk is the length of the pieces that sumSpan works on: small enough for the partial sums to stay in L1.
const sumChunk = 2048

// Sum sets y to the sum of one or more maps, added in order. y may be the first of them.
func (m *Machine) Sum(y Map, srcs ...Map) {
	k := m.ewTable()
	stream := ewStreams(y, srcs...)
	m.ewMaps(y, func(s *stage, n, lo, hi int) {
		from := make([][]float32, len(srcs))
		for i, x := range srcs {
			from[i] = s.read(x.sample(n), lo, hi)
		}
		sumSpan(k.add, s.write(y.sample(n), lo, hi), from, stream)
	})
}

// SumFlat sets dst to the sum of one or more vectors of its length, added in order. dst may be the first.
func (m *Machine) SumFlat(dst Vec, srcs ...Vec) {
	k := m.ewTable()
	m.ewVec(dst, func(s *stage, lo, hi int, tail bool) {
		add := k.add
		if tail {
			add = ewAdd
		}
		from := make([][]float32, len(srcs))
		for i, x := range srcs {
			from[i] = s.read(x, lo, hi)
		}
		sumSpan(add, s.write(dst, lo, hi), from, false)
	})
}

// sumSpan adds up srcs into dst, in pieces whose partial sums stay in cache.
func sumSpan(add func(y, a, b []float32, floor float32, stream bool), dst []float32, srcs [][]float32, stream bool) {
	if len(srcs) == 1 {
		copy(dst, srcs[0])
		return
	}
	floor := floorOf(false)
	last := len(srcs) - 1
	var partial []float32
	if last > 1 {
		partial = make([]float32, sumChunk)
	}
	for lo := 0; lo < len(dst); lo += sumChunk {
		end := min(len(dst), lo+sumChunk)
		sum := srcs[0][lo:end]
		for _, s := range srcs[1:last] {
			add(partial[:end-lo], sum, s[lo:end], floor, false)
			sum = partial[:end-lo]
		}
		add(dst[lo:end], sum, srcs[last][lo:end], floor, stream)
	}
}

// Scale sets y = a*x. y may be x.
func (m *Machine) Scale(x Vec, a float32, y Vec) {
	k := m.ewTable()
	m.ewVec(y, func(s *stage, lo, hi int, tail bool) {
		scale := k.scale
		if tail {
			scale = ewScale
		}
		scale(s.write(y, lo, hi), s.read(x, lo, hi), a)
	})
}

// Axpy sets y += a*x.
func (m *Machine) Axpy(a float32, x, y []float32) {
	k := m.ewTable()
	m.ewFlat(len(y), func(lo, hi int, tail bool) {
		if tail {
			ewAxpy(y[lo:hi], x[lo:hi], a)
			return
		}
		k.axpy(y[lo:hi], x[lo:hi], a)
	})
}

// ReLUFlat sets y = max(x, 0). y may be x.
func (m *Machine) ReLUFlat(x, y Vec) {
	k := m.ewTable()
	m.ewVec(y, func(s *stage, lo, hi int, tail bool) {
		relu := k.relu
		if tail {
			relu = ewReLU
		}
		relu(s.write(y, lo, hi), s.read(x, lo, hi), false)
	})
}

// ReLUBackwardFlat sets dx = dy where y is positive and 0 elsewhere. dx may be dy.
func (m *Machine) ReLUBackwardFlat(y, dy, dx Vec) {
	k := m.ewTable()
	m.ewVec(dx, func(s *stage, lo, hi int, tail bool) {
		back := k.reluBack
		if tail {
			back = ewReLUBack
		}
		back(s.write(dx, lo, hi), s.read(dy, lo, hi), s.read(y, lo, hi))
	})
}

// SumSquares returns the sum of the squares of x; the order of summation is fixed.
func (m *Machine) SumSquares(x []float32) float64 {
	k := m.ewTable()
	parts := make([]float64, len(x)/(ewSpan*Block)+2)
	m.ewFlat(len(x), func(lo, hi int, tail bool) {
		if tail {
			for _, v := range x[lo:hi] {
				parts[len(parts)-1] += float64(v) * float64(v)
			}
			return
		}
		p := &parts[lo/(ewSpan*Block)]
		var out [16]float32
		for ; lo < hi; lo += ewChunk * Block {
			k.sumSq(x[lo:min(hi, lo+ewChunk*Block)], &out)
			for _, v := range out {
				*p += float64(v)
			}
		}
	})
	var s float64
	for _, p := range parts {
		s += p
	}
	return s
}

// ColumnSum sets out[c] to the sum over the rows of x [rows][cols] (the gradient of a bias); the order of
// summation is fixed.
func (m *Machine) ColumnSum(x Vec, rows, cols int, out []float32) {
	const strip = 1024 // columns in a task
	k := m.ewTable()
	floor := floorOf(false)
	chunk := max(64, (rows+31)/32)
	chunks := (rows + chunk - 1) / chunk
	strips := (cols + strip - 1) / strip
	parts := make([]float64, chunks*cols)
	m.Run(chunks*strips, func(worker, i int) {
		s := m.stage(worker)
		var acc [strip]float32
		r0, c0 := i/strips*chunk, i%strips*strip
		r1, w := min(rows, r0+chunk), min(strip, cols-c0)
		whole := w / Block * Block
		p := parts[i/strips*cols+c0:][:w]
		for r0 < r1 {
			clear(acc[:w])
			for end := min(r1, r0+64); r0 < end; r0++ {
				row := s.read(x, r0*cols+c0, r0*cols+c0+w)
				k.add(acc[:whole], acc[:whole], row[:whole], floor, false)
				ewAdd(acc[whole:w], acc[whole:w], row[whole:], floor, false)
				s.done()
			}
			for c, v := range acc[:w] {
				p[c] += float64(v)
			}
		}
	})
	for c := range out[:cols] {
		var s float64
		for i := range chunks {
			s += parts[i*cols+c]
		}
		out[c] = float32(s)
	}
}

// splitmix64 is the mixing function of Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators" (2014).
func splitmix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// dropped returns whether element i of the stream key is dropped, limit being p*2^53.
func dropped(key uint64, i int, limit uint64) bool {
	return splitmix64(key+uint64(i+1)*0x9e3779b97f4a7c15)>>11 < limit
}

// dropoutConstants returns the threshold for dropped and the scale of what is kept.
func dropoutConstants(p float32) (limit uint64, scale float32) {
	limit = uint64(math.Ceil(float64(p) * (1 << 53)))
	if p < 1 {
		scale = float32(1 / (1 - float64(p)))
	}
	return limit, scale
}

// Dropout sets y to x [rows][cols] with each element zeroed with probability p and the others divided by
// 1-p. Whether element j of row i is dropped depends on keys[i] and j alone, so the same call on the
// gradient applies the same mask. y may be x.
func (m *Machine) Dropout(x, y Vec, rows, cols int, p float32, keys []uint64) {
	limit, scale := dropoutConstants(p)
	spans := (cols + ewSpan - 1) / ewSpan
	m.Run(rows*spans, func(worker, i int) {
		s := m.stage(worker)
		r, first := i/spans, i%spans*ewSpan
		end := min(cols, first+ewSpan)
		xs, ys := s.read(x, r*cols+first, r*cols+end), s.write(y, r*cols+first, r*cols+end)
		for j := range ys {
			if dropped(keys[r], first+j, limit) {
				ys[j] = 0
			} else {
				ys[j] = xs[j] * scale
			}
		}
		s.done()
	})
}

// DropoutMap is Dropout on a map with one key a sample; the element index is that of the logical
// (c, d, h, w) array, so the mask is the one that Dropout draws for the plain array. y may be x.
func (m *Machine) DropoutMap(x Map, ch Channels, y Map, p float32, keys []uint64) {
	limit, scale := dropoutConstants(p)
	voxels := x.D * x.H * x.W
	logical := ewLogical(ch, x.CB)
	m.ewBlockPieces(x, func(s *stage, n, cb, lo, hi int) {
		xs, ys := s.read(x.block(n, cb), lo, hi), s.write(y.block(n, cb), lo, hi)
		for j := range ys {
			i := lo + j
			c := logical[cb*Block+i%Block]
			if c < 0 || dropped(keys[n], c*voxels+i/Block, limit) {
				ys[j] = 0
			} else {
				ys[j] = xs[j] * scale
			}
		}
	})
}

// ewLogical returns for each physical channel of cb blocks its logical channel, or -1.
func ewLogical(ch Channels, cb int) []int {
	idx := make([]int, cb*Block)
	for i := range idx {
		idx[i] = -1
	}
	for c, phys := range ch.Physical() {
		idx[phys] = c
	}
	return idx
}
