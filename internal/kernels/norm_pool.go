package kernels

// NormPool is a batch norm, a ReLU and a max-pool in one: what lies between is computed a few planes at a
// time, forward and backward, and never stored. Scale and Shift have one value for each physical channel, as
// in BNNorm; the triples are in D, H, W order.
type NormPool struct {
	Scale, Shift        []float32
	Kernel, Stride, Pad [3]int
}

// NormPoolWorkspace returns the floats of workspace that the three passes need for maps of h×w voxels a plane.
func (m *Machine) NormPoolWorkspace(kernel [3]int, h, w int) int {
	return m.Threads() * 2 * kernel[0] * h * w * Block
}

// NormPoolForward sets y to the max-pool of max(0, x*scale+shift).
func (m *Machine) NormPoolForward(p *NormPool, x, y Map, ws []float32) {
	k := m.ewTable()
	slabs := (y.D + poolSlab - 1) / poolSlab
	plane := x.H * x.W * Block
	m.Run(x.N*x.CB*slabs, func(worker, i int) {
		n, cb := i/slabs/x.CB, i/slabs%x.CB
		b := p.buffers(ws, m.stage(worker), worker, x, n, cb)
		ys := y.block(n, cb)
		win := poolWindow{step: p.Stride[2] * Block, hs: x.W * Block, ds: plane}
		for od := i % slabs * poolSlab; od < min(y.D, (i%slabs+1)*poolSlab); od++ {
			d, end := p.window(od, x.D)
			b.load(k, p, d, end)
			win.kd = end - d
			p.rows(x, y, func(in, out, n, kh, kw int) {
				win.n, win.kh, win.kw = n, kh, kw
				out += od * y.H * y.W * Block
				k.maxRow(b.stage.write(ys, out, out+n*Block), b.y[in:], &win)
				b.stage.done()
			})
		}
	})
}

// normPoolSlab is the number of planes of x in a task of NormPoolReduce.
const normPoolSlab = 16

// NormPoolReduce computes what BNReduce does, from dy, the gradient of the pooled map. Each plane of x is a
// chunk of its own, so the result does not depend on how planes are dealt out.
func (m *Machine) NormPoolReduce(p *NormPool, x, dy Map, ch Channels, mean, invstd, dbeta, dgamma, ws []float32) {
	k := m.ewTable()
	centre := make([]float32, x.CB*Block)
	physical := ch.Physical()
	for c, phys := range physical {
		centre[phys] = mean[c]
	}
	parts := make([][32]float64, x.N*x.CB*x.D)
	slabs := (x.D + normPoolSlab - 1) / normPoolSlab
	m.Run(x.N*x.CB*slabs, func(worker, i int) {
		n, cb := i/slabs/x.CB, i/slabs%x.CB
		first := i % slabs * normPoolSlab
		xs, c := x.block(n, cb), centre[cb*Block:][:Block]
		plane := x.H * x.W * Block
		b := p.buffers(ws, m.stage(worker), worker, x, n, cb)
		b.backward(k, p, x, dy, dy.block(n, cb), first, min(x.D, first+normPoolSlab), func(d int, y, g []float32) {
			var out [32]float32
			part := &parts[(n*x.CB+cb)*x.D+d]
			for lo := 0; lo < plane; lo += ewChunk * Block {
				end := min(plane, lo+ewChunk*Block)
				k.reduceMask(b.stage.read(xs, d*plane+lo, d*plane+end), g[lo:end], y[lo:end], c, &out)
				b.stage.done()
				for l, v := range out {
					part[l] += float64(v)
				}
			}
		})
	})
	for c, phys := range physical {
		cb, l := phys/Block, phys%Block
		var sum, product float64
		for n := range x.N {
			for _, part := range parts[(n*x.CB+cb)*x.D:][:x.D] {
				sum += part[l]
				product += part[16+l]
			}
		}
		dbeta[c] = float32(sum)
		dgamma[c] = float32(product * float64(invstd[c]))
	}
}

// NormPoolBackward sets dx to the gradient of x, from dy, the gradient of the pooled map; scale to dmean are as
// in BNBackward. dx may share memory with x, all of it: then a block of 16 channels of a sample is one task.
func (m *Machine) NormPoolBackward(p *NormPool, x, dy Map, scale, kx, mean, dmean []float32, dx Map, ws []float32) {
	k := m.ewTable()
	f := k.bnBack[bnMasked|bnFull]
	slabs := 1
	if !x.Vec().Same(dx.Vec()) {
		slabs = (x.D + normPoolSlab - 1) / normPoolSlab
	}
	m.Run(x.N*x.CB*slabs, func(worker, i int) {
		n, cb := i/slabs/x.CB, i/slabs%x.CB
		xs, os := x.block(n, cb), dx.block(n, cb)
		a, b, c, e := scale[cb*Block:][:Block], kx[cb*Block:][:Block], mean[cb*Block:][:Block], dmean[cb*Block:][:Block]
		plane := x.H * x.W * Block
		buf := p.buffers(ws, m.stage(worker), worker, x, n, cb)
		buf.backward(k, p, x, dy, dy.block(n, cb), x.D*(i%slabs)/slabs, x.D*(i%slabs+1)/slabs, func(d int, y, g []float32) {
			m.ewPieces(worker, x, d*plane, (d+1)*plane, func(s *stage, lo, hi int) {
				at := lo - d*plane
				f(s.write(os, lo, hi), g[at:][:hi-lo], y[at:][:hi-lo], s.read(xs, lo, hi), a, b, c, e, false)
			})
		})
	})
}

// window returns the planes of the input that output plane od sees.
func (p *NormPool) window(od, depth int) (d, end int) {
	d = od*p.Stride[0] - p.Pad[0]
	return max(d, 0), min(d+p.Kernel[0], depth)
}

// rows calls f for each piece of an output plane whose windows are alike, with the offset of its first window
// in a plane of x and of its first output in a plane of y.
func (p *NormPool) rows(x, y Map, f func(in, out, n, kh, kw int)) {
	for oh := range y.H {
		h := max(oh*p.Stride[1]-p.Pad[1], 0)
		kh := min(oh*p.Stride[1]-p.Pad[1]+p.Kernel[1], x.H) - h
		poolRow(y.W, x.W, p.Kernel[2], p.Stride[2], p.Pad[2], func(o, w0, n, kw int) {
			f((h*x.W+w0)*Block, (oh*y.W+o)*Block, n, kh, kw)
		})
	}
}

// planes are the normalised planes of a block of channels that one window sees, and their gradients.
type planes struct {
	stage    *stage
	x        Vec
	y, g     []float32
	a, b     []float32 // scale and shift
	size     int       // floats of a plane
	from, to int       // the planes in y and g
}

func (p *NormPool) buffers(ws []float32, s *stage, worker int, x Map, n, cb int) *planes {
	size := x.H * x.W * Block
	all := p.Kernel[0] * size
	ws = ws[worker*2*all:]
	return &planes{
		stage: s, x: x.block(n, cb), y: ws[:all], g: ws[all:][:all], size: size,
		a: p.Scale[cb*Block:][:Block], b: p.Shift[cb*Block:][:Block],
	}
}

// load makes y hold the planes d to end, end not before the one it held; the gradients of new ones are zero.
func (b *planes) load(k *ewTable, p *NormPool, d, end int) {
	if kept := b.to - d; kept > 0 {
		copy(b.y, b.y[(d-b.from)*b.size:][:kept*b.size])
		copy(b.g, b.g[(d-b.from)*b.size:][:kept*b.size])
	} else {
		b.to = d
	}
	b.from = d
	for ; b.to < end; b.to++ {
		at := (b.to - d) * b.size
		for lo := 0; lo < b.size; lo += stagePiece {
			hi := min(b.size, lo+stagePiece)
			k.norm(b.y[at+lo:at+hi], b.stage.read(b.x, b.to*b.size+lo, b.to*b.size+hi), b.a, b.b, 0, false)
			b.stage.done()
		}
		clear(b.g[at:][:b.size])
	}
}

// backward calls emit for the planes first to last of x in order, with the plane after the ReLU and its
// gradient. Each dy goes to the first maximum of its window, as in MaxPoolBackward. Planes of x before the one
// that is emitted may be written over, as long as all of them are emitted by one call.
func (b *planes) backward(k *ewTable, p *NormPool, x, dy Map, gs Vec, first, last int, emit func(d int, y, g []float32)) {
	next := first
	flush := func(to int) {
		for ; next < min(to, last); next++ {
			at := (next - b.from) * b.size
			if next < b.from || next >= b.to { // no window sees it, and what is in the buffers was emitted
				at = 0
				clear(b.g[:b.size])
			}
			emit(next, b.y[at:][:b.size], b.g[at:][:b.size])
		}
	}
	win := poolWindow{step: p.Stride[2] * Block, hs: x.W * Block, ds: b.size}
	for od := max(0, (first+p.Pad[0]-p.Kernel[0])/p.Stride[0]); od < dy.D; od++ {
		d, end := p.window(od, x.D)
		if d >= last {
			break
		}
		if end <= first {
			continue
		}
		flush(d)
		b.load(k, p, d, end)
		win.kd, win.d0, win.d1 = end-d, max(first-d, 0), min(end, last)-d
		p.rows(x, dy, func(in, out, n, kh, kw int) {
			win.n, win.kh, win.kw = n, kh, kw
			out += od * dy.H * dy.W * Block
			k.maxRowBack(b.g[in:], b.y[in:], b.stage.read(gs, out, out+n*Block), &win)
			b.stage.done()
		})
	}
	flush(last)
}
