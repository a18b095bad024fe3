package kernels

import "math"

// floorOf returns the lower bound that a kernel clamps its result to.
func floorOf(relu bool) float32 {
	if relu {
		return 0
	}
	return float32(math.Inf(-1))
}

// BNStats computes for each logical channel of x the mean and the biased variance over samples and voxels.
// mean and variance have length ch.Count(). Each chunk of 256 voxels is centred on its own mean and the
// chunks are combined in float64 (Chan, Golub and LeVeque, 1983), so a large mean costs no digits.
func (m *Machine) BNStats(x Map, ch Channels, mean, variance []float32) {
	k := m.ewTable()
	spans := ewSpans(x)
	type part struct{ mean, m2 [16]float64 }
	parts := make([]part, x.N*x.CB*spans)
	m.ewBlocks(x, func(s *stage, task, n, cb, lo, hi int) {
		var out [48]float32
		p := &parts[task]
		count := 0.0
		data := x.block(n, cb)
		for ; lo < hi; lo += ewChunk * Block {
			end := min(hi, lo+ewChunk*Block)
			k.stats(s.read(data, lo, end), &out)
			s.done()
			nb := float64(end-lo) / Block
			total := count + nb
			for l := range 16 {
				d := float64(out[16+l])
				off := d / nb
				delta := float64(out[l]) + off - p.mean[l]
				p.m2[l] += float64(out[32+l]) - d*off + delta*delta*(count*nb/total)
				p.mean[l] += delta * (nb / total)
			}
			count = total
		}
	})
	voxels := x.D * x.H * x.W
	total := float64(x.N * voxels)
	for c, phys := range ch.Physical() {
		cb, l := phys/Block, phys%Block
		var sum, m2 float64
		for n := range x.N {
			for s := range spans {
				count := float64(min(ewSpan, voxels-s*ewSpan))
				sum += count * parts[(n*x.CB+cb)*spans+s].mean[l]
			}
		}
		mu := sum / total
		for n := range x.N {
			for s := range spans {
				count := float64(min(ewSpan, voxels-s*ewSpan))
				p := &parts[(n*x.CB+cb)*spans+s]
				m2 += p.m2[l] + count*(p.mean[l]-mu)*(p.mean[l]-mu)
			}
		}
		mean[c] = float32(mu)
		variance[c] = float32(max(0, m2/total))
	}
}

// BNNorm sets y = x*scale + shift, plus add when it is given, and clamps at zero when relu is set. scale and
// shift have one value for each physical channel, zero for lanes without a logical one. y may share memory
// with x or with add.
func (m *Machine) BNNorm(x Map, scale, shift []float32, add *Map, relu bool, y Map) {
	k := m.ewTable()
	floor := floorOf(relu)
	stream := ewStreams(y, x)
	if add != nil {
		stream = ewStreams(y, x, *add)
	}
	m.ewBlockPieces(x, func(s *stage, n, cb, lo, hi int) {
		xs, ys := s.read(x.block(n, cb), lo, hi), s.write(y.block(n, cb), lo, hi)
		a, b := scale[cb*Block:][:Block], shift[cb*Block:][:Block]
		if add != nil {
			k.normAdd(ys, xs, s.read(add.block(n, cb), lo, hi), a, b, floor, stream)
		} else {
			k.norm(ys, xs, a, b, floor, stream)
		}
	})
}

// BNReduce computes for each logical channel dbeta, the sum of dy, and dgamma, the sum of
// dy*(x-mean)*invstd, over samples and voxels. With a mask (the output of the ReLU that followed) only the
// elements where it is positive count. mean, invstd, dbeta and dgamma have length ch.Count().
func (m *Machine) BNReduce(x, dy Map, mask *Map, ch Channels, mean, invstd, dbeta, dgamma []float32) {
	k := m.ewTable()
	spans := ewSpans(x)
	centre := make([]float32, x.CB*Block)
	physical := ch.Physical()
	for c, phys := range physical {
		centre[phys] = mean[c]
	}
	parts := make([][32]float64, x.N*x.CB*spans)
	m.ewBlocks(x, func(s *stage, task, n, cb, lo, hi int) {
		var out [32]float32
		p := &parts[task]
		c := centre[cb*Block:][:Block]
		for ; lo < hi; lo += ewChunk * Block {
			end := min(hi, lo+ewChunk*Block)
			xs, gs := s.read(x.block(n, cb), lo, end), s.read(dy.block(n, cb), lo, end)
			if mask != nil {
				k.reduceMask(xs, gs, s.read(mask.block(n, cb), lo, end), c, &out)
			} else {
				k.reduce(xs, gs, c, &out)
			}
			s.done()
			for l, v := range out {
				p[l] += float64(v)
			}
		}
	})
	for c, phys := range physical {
		cb, l := phys/Block, phys%Block
		var b, g float64
		for n := range x.N {
			for s := range spans {
				p := &parts[(n*x.CB+cb)*spans+s]
				b += p[l]
				g += p[16+l]
			}
		}
		dbeta[c] = float32(b)
		dgamma[c] = float32(g * float64(invstd[c]))
	}
}

// BNBackward sets dx = scale*(dy'-dmean) + kx*(x-mean), or adds it when accumulate is set; dy' is dy, or with
// a mask dy where the mask is positive and 0 elsewhere. scale, kx, mean and dmean have one value for each
// physical channel. The differences are taken first: what is left of a gradient after two large terms cancel
// keeps its digits. In frozen mode kx, mean and dmean are nil, dx = scale*dy' and x is not read. dx may share
// memory with dy or x.
func (m *Machine) BNBackward(x, dy Map, mask *Map, scale, kx, mean, dmean []float32, dx Map, accumulate bool) {
	variant := 0
	if mask != nil {
		variant |= bnMasked
	}
	if kx != nil {
		variant |= bnFull
	}
	if accumulate {
		variant |= bnAccumulate
	}
	f := m.ewTable().bnBack[variant]
	stream := !accumulate && ewStreams(dx, dy)
	m.ewBlockPieces(dx, func(s *stage, n, cb, lo, hi int) {
		var ms, xs, b, c, e []float32
		if mask != nil {
			ms = s.read(mask.block(n, cb), lo, hi)
		}
		if kx != nil {
			xs = s.read(x.block(n, cb), lo, hi)
			b, c, e = kx[cb*Block:][:Block], mean[cb*Block:][:Block], dmean[cb*Block:][:Block]
		}
		f(s.write(dx.block(n, cb), lo, hi), s.read(dy.block(n, cb), lo, hi), ms, xs, scale[cb*Block:][:Block], b, c, e, stream)
	})
}
