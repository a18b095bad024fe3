package kernels

// poolWindow says how a row of output voxels meets its windows. Offsets are in floats. The assembly reads
// the fields by their place.
type poolWindow struct {
	n          int // output voxels
	step       int // from one output's window to the next one's
	kd, kh, kw int // window size, clipped to the map
	ds, hs     int // from one plane, one row to the next
	d0, d1     int // planes of the window that the gradient is written to
}

// poolRow cuts an output row of ow voxels into pieces with one clipped window each and calls
// f(first output, first input w, outputs, window width).
func poolRow(ow, w, kernel, stride, pad int, f func(o, w0, n, kw int)) {
	for o := 0; o < ow; {
		w0 := o*stride - pad
		n := 1
		if w0 >= 0 {
			n = min(ow-o, max(1, (w-kernel-w0)/stride+1))
		}
		lo, hi := max(w0, 0), min(w0+kernel, w)
		if n > 1 {
			hi = w0 + kernel
		}
		f(o, lo, n, hi-lo)
		o += n
	}
}

// poolSlab is the number of output planes in a task.
const poolSlab = 8

// MaxPool sets y to the maximum of x, which is float32, over windows; padding counts as -Inf. kernel, stride and pad are in
// D,H,W order, pad is at most half the kernel, and y has the output's size.
func (m *Machine) MaxPool(x, y Map, kernel, stride, pad [3]int) {
	m.maxPool(x, y, Window{kernel, stride, pad}, poolSlab, poolSpan{depth: x.D, end: y.D})
}

// Window is a pooling window in D,H,W order. Pad is at most half of Kernel.
type Window struct{ Kernel, Stride, Pad [3]int }

// along returns the planes of a map of the given depth that the window of output plane od meets.
func (w Window) along(od, depth int) (first, end int) {
	d := od*w.Stride[0] - w.Pad[0]
	return max(d, 0), min(d+w.Kernel[0], depth)
}

// poolSpan is what is pooled at a time: output planes [first, end), from the planes from base on of a map of some depth.
type poolSpan struct{ base, depth, first, end int }

// maxPool is MaxPool for part of the planes, some of them a task.
func (m *Machine) maxPool(x, y Map, w Window, planes int, span poolSpan) {
	slabs := ceilDiv(span.end-span.first, planes)
	m.Run(x.N*x.CB*slabs, func(worker, i int) {
		n, cb := i/slabs/x.CB, i/slabs%x.CB
		xs, ys := x.block(n, cb).F32, y.block(n, cb)
		from := span.first + i%slabs*planes
		for od := from; od < min(span.end, from+planes); od++ {
			d, end := w.along(od, span.depth)
			m.stage(worker).maxPlane(xs[(d-span.base)*x.H*x.W*Block:], ys, od*y.H*y.W*Block, x, y, w, end-d)
		}
	})
}

// maxPlane sets the plane of a block of y that begins at value at to the maximum over windows of depth planes of x.
func (s *stage) maxPlane(xs []float32, ys Vec, at int, x, y Map, w Window, depth int) {
	win := poolWindow{step: w.Stride[2] * Block, hs: x.W * Block, ds: x.H * x.W * Block, kd: depth}
	for oh := range y.H {
		h := max(oh*w.Stride[1]-w.Pad[1], 0)
		win.kh = min(oh*w.Stride[1]-w.Pad[1]+w.Kernel[1], x.H) - h
		in, out := h*x.W, at+oh*y.W*Block
		poolRow(y.W, x.W, w.Kernel[2], w.Stride[2], w.Pad[2], func(o, w0, n, kw int) {
			win.n, win.kw = n, kw
			from := out + o*Block
			s.k.maxRow(s.write(ys, from, from+n*Block), xs[(in+w0)*Block:], &win)
			s.done()
		})
	}
}

// MaxPoolBackward sets dx to the gradient of MaxPool: each dy goes to the first maximum of its window in
// d,h,w order, and windows that overlap add up. Each task owns a slab of input planes and visits every
// window that meets it, so the result does not depend on how the planes are dealt out.
func (m *Machine) MaxPoolBackward(x, dy, dx Map, kernel, stride, pad [3]int) {
	k := m.ewTable()
	slabs := 1
	if maps := x.N * x.CB; maps < 4*m.Threads() {
		slabs = max(1, min(4*m.Threads()/maps, x.D/(4*stride[0])))
	}
	m.Run(x.N*x.CB*slabs, func(_, i int) {
		n, cb := i/slabs/x.CB, i/slabs%x.CB
		xs, gs, os := x.block(n, cb).F32, dy.block(n, cb).F32, dx.block(n, cb).F32
		first, last := x.D*(i%slabs)/slabs, x.D*(i%slabs+1)/slabs
		plane := x.H * x.W * Block
		win := poolWindow{step: stride[2] * Block, hs: x.W * Block, ds: plane}
		zeroed := first
		for od := max(0, (first+pad[0]-kernel[0])/stride[0]); od < dy.D; od++ {
			d := max(od*stride[0]-pad[0], 0)
			end := min(od*stride[0]-pad[0]+kernel[0], x.D)
			if d >= last {
				break
			}
			if end <= first {
				continue
			}
			win.kd, win.d0, win.d1 = end-d, max(first-d, 0), min(end, last)-d
			// The planes that no earlier window met are zeroed row by row, to be in cache when they are used.
			fresh, rows := os[zeroed*plane:max(zeroed, min(end, last))*plane], 0
			zeroRows := func(to int) {
				for p := 0; p < len(fresh) && rows < to; p += plane {
					clear(fresh[p+rows*win.hs : p+to*win.hs])
				}
				rows = max(rows, to)
			}
			for oh := range dy.H {
				h := max(oh*stride[1]-pad[1], 0)
				win.kh = min(oh*stride[1]-pad[1]+kernel[1], x.H) - h
				zeroRows(h + win.kh)
				in, out := (d*x.H+h)*x.W, (od*dy.H+oh)*dy.W
				poolRow(dy.W, x.W, kernel[2], stride[2], pad[2], func(o, w0, n, kw int) {
					win.n, win.kw = n, kw
					at := (in + w0) * Block
					k.maxRowBack(os[at:], xs[at:], gs[(out+o)*Block:], &win)
				})
			}
			zeroRows(x.H)
			zeroed = max(zeroed, min(end, last))
		}
		clear(os[zeroed*plane : last*plane])
	})
}

// AvgPool sets y to the mean of x over windows that lie wholly inside it. kernel and stride are in D,H,W
// order and y has the output's size.
func (m *Machine) AvgPool(x, y Map, kernel, stride [3]int) {
	k := m.ewTable()
	scale := 1 / float32(kernel[0]*kernel[1]*kernel[2])
	slabs := (y.D + poolSlab - 1) / poolSlab
	m.Run(x.N*x.CB*slabs, func(_, i int) {
		n, cb := i/slabs/x.CB, i/slabs%x.CB
		xs, ys := x.block(n, cb).F32, y.block(n, cb).F32
		win := poolWindow{
			n: y.W, step: stride[2] * Block, kd: kernel[0], kh: kernel[1], kw: kernel[2],
			hs: x.W * Block, ds: x.H * x.W * Block,
		}
		for od := i % slabs * poolSlab; od < min(y.D, (i%slabs+1)*poolSlab); od++ {
			for oh := range y.H {
				in := (od*stride[0]*x.H + oh*stride[1]) * x.W
				k.avgRow(ys[(od*y.H+oh)*y.W*Block:], xs[in*Block:], &win, scale)
			}
		}
	})
}

// AvgPoolBackward sets dx to the gradient of AvgPool.
func (m *Machine) AvgPoolBackward(dy, dx Map, kernel, stride [3]int) {
	k := m.ewTable()
	scale := 1 / float32(kernel[0]*kernel[1]*kernel[2])
	m.Run(dx.N*dx.CB*dx.D, func(_, i int) {
		n, cb, d := i/dx.D/dx.CB, i/dx.D%dx.CB, i%dx.D
		gs, os := dy.block(n, cb).F32, dx.block(n, cb).F32
		d0, d1 := poolCover(d, dy.D, kernel[0], stride[0])
		for h := range dx.H {
			row := os[(d*dx.H+h)*dx.W*Block:][:dx.W*Block]
			clear(row)
			h0, h1 := poolCover(h, dy.H, kernel[1], stride[1])
			for od := d0; od < d1; od++ {
				for oh := h0; oh < h1; oh++ {
					g := gs[(od*dy.H+oh)*dy.W*Block:][:dy.W*Block]
					for w := range kernel[2] {
						k.spread(row[w*Block:], g, stride[2]*Block, scale)
					}
				}
			}
		}
	})
}

// poolCover returns the range of outputs whose windows (without padding) cover input i.
func poolCover(i, outputs, kernel, stride int) (lo, hi int) {
	return max(0, (i-kernel+stride)/stride), min(outputs, i/stride+1)
}

// GlobalAvgPool sets out [N][ch.Count()] to the mean over the voxels of each logical channel.
func (m *Machine) GlobalAvgPool(x Map, ch Channels, out []float32) {
	k := m.ewTable()
	voxels := x.D * x.H * x.W
	count := ch.Count()
	logical := ewLogical(ch, x.CB)
	m.Run(x.N*x.CB, func(worker, i int) {
		n, cb := i/x.CB, i%x.CB
		s, xs := m.stage(worker), x.block(n, cb)
		var part [16]float32
		var sum [16]float64
		for lo := 0; lo < xs.Len(); lo += ewChunk * Block {
			k.sum(s.read(xs, lo, min(xs.Len(), lo+ewChunk*Block)), &part)
			s.done()
			for l, v := range part {
				sum[l] += float64(v)
			}
		}
		for l, v := range sum {
			if c := logical[cb*Block+l]; c >= 0 {
				out[n*count+c] = float32(v / float64(voxels))
			}
		}
	})
}

// GlobalAvgPoolBackward sets dx to the gradient of GlobalAvgPool; dy is [N][ch.Count()].
func (m *Machine) GlobalAvgPoolBackward(dy []float32, ch Channels, dx Map) {
	inv := 1 / float32(dx.D*dx.H*dx.W)
	count := ch.Count()
	logical := ewLogical(ch, dx.CB)
	m.ewBlockPieces(dx, func(s *stage, n, cb, lo, hi int) {
		os := s.write(dx.block(n, cb), lo, hi)
		for l := range Block {
			os[l] = 0
			if c := logical[cb*Block+l]; c >= 0 {
				os[l] = dy[n*count+c] * inv
			}
		}
		for filled := Block; filled < len(os); filled *= 2 {
			copy(os[filled:], os[:filled])
		}
	})
}
