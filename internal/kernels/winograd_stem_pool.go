package kernels

// A stem with a max-pool behind it never stores its output. A task computes a strip, some rows of tiles along H of one row
// along D, in a memory of its own that stays in the core's cache, and pools it within its planes. Windows that two strips
// share along H have their second part in a place apart (edges), which joins the first; then the planes are pooled
// along D as soon as windows are full.

// stemStripFloats is about what a strip takes of a second-level cache.
const stemStripFloats = 112 << 10

// stemPooling is how a stem is cut into strips.
type stemPooling struct {
	*winoStem
	pool   Window
	y      Map // what a sample is pooled to
	rows   int // of tiles along D that are taken together
	group  int // rows of tiles along H of a strip
	strips int // along H
	shared int // windows along H that two strips share, at most
}

func (p *winoStem) pooling(threads int, pool Window, y Map) *stemPooling {
	row := 3 * p.m * p.outBlocks * p.out[2] * Block // of a strip, one row of tiles
	s := &stemPooling{winoStem: p, pool: pool, y: y, shared: ceilDiv(pool.Kernel[1]-1, pool.Stride[1])}
	s.group = min(p.tiles[1], max(stemStripFloats/row, ceilDiv(pool.Kernel[1], p.m), 1))
	s.strips = ceilDiv(p.tiles[1], s.group)
	s.rows = min(p.tiles[0], ceilDiv(8*threads, s.strips)) // enough for the threads to end at about one time
	return s
}

// strip is the form of a strip.
func (s *stemPooling) strip() Map {
	x := Map{N: 1, CB: s.outBlocks, D: s.m, H: s.group * s.m, W: s.out[2]}
	x.Stride = x.CB * x.D * x.H * x.W * Block
	return x
}

// planes is the form of planes that are pooled within themselves: those at hand and, before them, those kept for the
// windows to come, fewer than a window has.
func (s *stemPooling) planes() Map {
	x := s.y
	x.N, x.D, x.Half = 1, s.pool.Kernel[0]-1+s.rows*s.winoStem.m, nil
	x.Stride = x.CB * x.D * x.H * x.W * Block
	return x
}

// edgeFloats is the size of the edges: for each plane at hand, block of channels and strip the rows it shares with the
// strip before.
func (s *stemPooling) edgeFloats() int {
	return s.rows * s.winoStem.m * s.outBlocks * s.strips * s.shared * s.y.W * Block
}

// workspace is what stemPool needs.
func (s *stemPooling) workspace(threads int) int {
	return s.winoStem.workspace(threads) + threads*(s.strip().Stride+Block) + s.planes().Stride + s.edgeFloats() + Block
}

// stemPoolRun is one execution.
type stemPoolRun struct {
	*stemPooling
	own    []stemRun // by worker; y is its strip
	planes Map       // the edges follow
	held   int       // planes before those at hand
}

// stemPool is stemForward with a max-pool behind it.
func (m *Machine) stemPool(c *Conv, x Map, weights, u []float32, e *Epilogue, pool Window, y Map, ws []float32) {
	r, ws := m.newStemRun(c, weights, u, e, ws)
	s := stemPoolRun{stemPooling: c.stem.pooling(m.Threads(), pool, y), own: make([]stemRun, m.Threads())}
	s.planes = s.stemPooling.planes()
	s.planes.Data, ws = takeAligned(ws, s.planes.Stride+s.edgeFloats())
	r.y, r.to = s.strip(), s.places()
	for i := range s.own {
		s.own[i] = *r
		s.own[i].y.Data, ws = takeAligned(ws, r.y.Stride)
	}
	k, depth := m.ewTable(), s.out[0]
	along := Window{[3]int{pool.Kernel[0], 1, 1}, [3]int{pool.Stride[0], 1, 1}, [3]int{pool.Pad[0]}}
	for sample := range x.N {
		m.stemInput(c.stem, r.phases, x, sample)
		one := y
		v := y.Part(sample*y.Stride, y.CB*y.D*y.H*y.W*Block)
		one.N, one.Data, one.Half = 1, v.F32, v.Half
		s.held = 0
		span := poolSpan{depth: depth}
		for row := 0; row < s.tiles[0]; row += s.rows {
			m.Run(min(s.rows, s.tiles[0]-row)*s.strips, func(worker, i int) {
				s.compute(k, worker, row, i/s.strips, i%s.strips)
			})
			first := row * s.winoStem.m
			n := min(s.rows*s.winoStem.m, depth-first)
			m.joinEdges(&s, n)
			span.base = first - s.held
			for span.end = span.first; span.end < y.D; span.end++ {
				if _, end := along.along(span.end, depth); end > first+n {
					break
				}
			}
			m.maxPool(s.planes, one, along, 1, span)
			span.first = span.end
			next, _ := along.along(span.first, depth)
			s.held = max(0, first+n-next)
			m.movePlanes(s.planes, first+n-s.held-span.base, s.held)
		}
	}
}

// places says where tiles lie in a strip.
func (s *stemPooling) places() *winoTiles {
	x, m := s.strip(), s.winoStem.m
	t := newWinoTiles(s.tiles, m, m, [3]int{}, s.out, Block*4)
	for i, o := range t.rows[0] {
		if o >= 0 {
			t.rows[0][i] = i % m * x.H * x.W * Block * 4
		}
	}
	for i, o := range t.rows[1] {
		if o >= 0 {
			t.rows[1][i] = i % (s.group * m) * x.W * Block * 4
		}
	}
	return t
}

// compute takes a strip of row of tiles row+d, and pools it.
func (s *stemPoolRun) compute(k *ewTable, worker, row, d, strip int) {
	r, line := &s.own[worker], s.tiles[2]
	at := (row + d) * s.tiles[1] * line
	end := at + min((strip+1)*s.group, s.tiles[1])*line
	for first := at + strip*s.group*line; first < end; first += stemTiles {
		r.task(worker, first, end)
	}
	x := r.y
	for plane := range min(s.winoStem.m, s.out[0]-(row+d)*s.winoStem.m) {
		for cb := range x.CB {
			s.poolPlane(k, x, d*s.winoStem.m+plane, plane, cb, strip)
		}
	}
}

// rowsOf returns the rows of the output of a strip, and its windows along H.
func (s *stemPooling) rowsOf(strip int) (first, end, window, endWindow int) {
	w := Window{Kernel: [3]int{s.pool.Kernel[1]}, Stride: [3]int{s.pool.Stride[1]}, Pad: [3]int{s.pool.Pad[1]}}
	first, end = strip*s.group*s.winoStem.m, min((strip+1)*s.group*s.winoStem.m, s.out[1])
	for window < s.y.H {
		if _, e := w.along(window, s.out[1]); e > first {
			break
		}
		window++
	}
	for endWindow = window; endWindow < s.y.H; endWindow++ {
		if f, _ := w.along(endWindow, s.out[1]); f >= end {
			break
		}
	}
	return first, end, window, endWindow
}

// edge returns where in the edges a row is that a strip shares with the one before, counted from the windows' first.
func (s *stemPoolRun) edge(plane, cb, strip, row int) int {
	return s.planes.Stride + ((((plane*s.outBlocks+cb)*s.strips)+strip)*s.shared+row)*s.planes.W*Block
}

// poolPlane pools a plane of a strip to plane number to of those at hand.
func (s *stemPoolRun) poolPlane(k *ewTable, x Map, to, plane, cb, strip int) {
	first, end, window, endWindow := s.rowsOf(strip)
	xs := x.block(0, cb).F32[plane*x.H*x.W*Block:]
	win := poolWindow{step: s.pool.Stride[2] * Block, hs: x.W * Block, kd: 1}
	for oh := window; oh < endWindow; oh++ {
		h := oh*s.pool.Stride[1] - s.pool.Pad[1]
		at := s.planeRow(to, cb, oh)
		if h < first && first > 0 { // the strip before has its first rows
			at = s.edge(to, cb, strip, oh-window)
		}
		from := max(h, first)
		win.kh = min(h+s.pool.Kernel[1], end) - from
		in := (from - first) * x.W
		poolRow(s.planes.W, x.W, s.pool.Kernel[2], s.pool.Stride[2], s.pool.Pad[2], func(o, w0, n, kw int) {
			win.n, win.kw = n, kw
			k.maxRow(s.planes.Data[at+o*Block:][:n*Block], xs[(in+w0)*Block:], &win)
		})
	}
}

// planeRow returns where a row of a plane at hand is.
func (s *stemPoolRun) planeRow(plane, cb, row int) int {
	return ((cb*s.planes.D+s.held+plane)*s.planes.H + row) * s.planes.W * Block
}

// joinEdges takes the second parts of windows that strips share to the first ones, for n planes at hand.
func (m *Machine) joinEdges(s *stemPoolRun, n int) {
	k := m.ewTable()
	m.Run(n*s.outBlocks, func(_, i int) {
		plane, cb := i/s.outBlocks, i%s.outBlocks
		win := poolWindow{n: s.planes.W, step: Block, kd: 2, kh: 1, kw: 1}
		for strip := 1; strip < s.strips; strip++ {
			first, _, window, endWindow := s.rowsOf(strip)
			for oh := window; oh < endWindow && oh*s.pool.Stride[1]-s.pool.Pad[1] < first; oh++ {
				at := s.planeRow(plane, cb, oh)
				win.ds = s.edge(plane, cb, strip, oh-window) - at
				k.maxRow(s.planes.Data[at:][:s.planes.W*Block], s.planes.Data[at:], &win)
			}
		}
	})
}

// movePlanes copies n planes of each block of a map, from the given one on, to its beginning.
func (m *Machine) movePlanes(x Map, from, n int) {
	plane := x.H * x.W * Block
	m.Run(x.CB, func(_, cb int) {
		block := x.block(0, cb).F32
		copy(block, block[from*plane:(from+n)*plane])
	})
}
