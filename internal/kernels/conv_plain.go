package kernels

import "unsafe"

// plainConv is the plan of a convolution whose input is row-major with few channels: the input is copied
// with its padding, samples in groups, and a tap row (kw neighbouring floats) takes the part that a block
// of 16 channels plays elsewhere.
type plainConv struct {
	padded   [3]int
	size     int   // floats of a padded sample
	segments []int // byte offset of each tap row (channel, kd, kh) in the padded sample
}

func newPlainConv(s ConvSpec) *plainConv {
	p := &plainConv{}
	out := s.OutSize()
	for i := range out {
		p.padded[i] = (out[i]-1)*s.Stride[i] + s.Kernel[i]
	}
	p.size = s.In.Count() * volume3(p.padded)
	for ch := range s.In.Count() {
		for d := range s.Kernel[0] {
			for h := range s.Kernel[1] {
				p.segments = append(p.segments, ((ch*p.padded[0]+d)*p.padded[1]+h)*p.padded[2]*4)
			}
		}
	}
	return p
}

// plainGroupFloats bounds the padded copies that are alive together, unless one sample is larger.
const plainGroupFloats = 1 << 20

func (p *plainConv) group(n int) int { return max(1, min(n, plainGroupFloats/p.size)) }

func (p *plainConv) workspace(n int) int { return p.group(n)*p.size + Block }

// pad copies samples [first, first+n) of x into dst with their padding.
func (m *Machine) pad(c *Conv, dst []float32, x Map, first, n int) {
	s, q := c.spec, c.plain.padded
	m.Run(n*c.inCh*q[0], func(_, i int) {
		to := dst[i*q[1]*q[2]:][:q[1]*q[2]]
		d := i%q[0] - s.Pad[0]
		ch, sample := i/q[0]%c.inCh, first+i/(q[0]*c.inCh)
		if d < 0 || d >= s.Size[0] {
			clear(to)
			return
		}
		from := x.Data[sample*x.Stride+(ch*s.Size[0]+d)*s.Size[1]*s.Size[2]:][:s.Size[1]*s.Size[2]]
		left := min(s.Pad[2], q[2])
		width := min(s.Size[2], q[2]-left)
		for h := range q[1] {
			row := to[h*q[2]:][:q[2]]
			src := h - s.Pad[1]
			if src < 0 || src >= s.Size[1] {
				clear(row)
				continue
			}
			clear(row[:left])
			copy(row[left:left+width], from[src*s.Size[2]:])
			clear(row[left+width:])
		}
	})
}

func (m *Machine) plainForward(c *Conv, x Map, w []float32, y Map, ws []float32) {
	p := c.plain
	padded := alignedSlice[float32](ws, p.group(x.N)*p.size)
	voxels := volume3(c.out)
	tile := c.kernels.tiles[0]
	for first := 0; first < x.N; first += p.group(x.N) {
		n := min(p.group(x.N), x.N-first)
		m.pad(c, padded, x, first, n)
		tiles := ceilDiv(n*voxels, tile)
		perTask := max(1, min(64, tiles/(6*m.Threads())))
		m.Run(ceilDiv(tiles, perTask), func(worker, i int) {
			for t := i * perTask; t < min((i+1)*perTask, tiles); t++ {
				plainTile(c, m.stage(worker), padded, first, t*tile, min(tile, n*voxels-t*tile), w, y)
			}
		})
	}
}

// plainTile computes n output voxels from row on, counted through the samples that padded holds.
func plainTile(c *Conv, s *stage, padded []float32, sample, row, n int, w []float32, y Map) {
	p, spec := c.plain, c.spec
	voxels := volume3(c.out)
	rows := c.kernels.tileFor(n)
	a := plainArgs{
		X:        unsafe.Pointer(&padded[0]),
		Tab:      &p.segments[0],
		Segments: len(p.segments),
		Len:      spec.Kernel[2],
		YBlock:   voxels * Block * 4,
	}
	i, v := row/voxels, row%voxels
	ow := v % c.out[2]
	oh := v / c.out[2] % c.out[1]
	od := v / (c.out[2] * c.out[1])
	for r := range rows {
		if r >= n { // repeat the last row
			a.XOff[r], a.YOff[r] = a.XOff[n-1], a.YOff[n-1]
			continue
		}
		a.XOff[r] = (i*p.size + (od*spec.Stride[0]*p.padded[1]+oh*spec.Stride[1])*p.padded[2] + ow*spec.Stride[2]) * 4
		a.YOff[r] = ((sample+i)*y.Stride + v*Block) * 4
		v++
		if ow++; ow == c.out[2] {
			ow = 0
			if oh++; oh == c.out[1] {
				oh = 0
				if od++; od == c.out[0] {
					od, v = 0, 0
					i++
				}
			}
		}
	}
	for panel := range ceilDiv(c.outCh, 2) {
		a.W = unsafe.Pointer(&w[panel*c.weightRows()*panelWidth])
		width := widthOfPanel(panel, c.outCh)
		if y.Half != nil {
			plainHalf(c, s, a, rows, n, y.Half[panel*2*voxels*Block:], width)
			continue
		}
		a.Y = unsafe.Pointer(&y.Data[panel*2*voxels*Block])
		c.kernels.plain(&a, rows, width == panelWidth)
	}
}

// plainHalf computes a tile of a panel of width channels that is bfloat16, n rows of it.
func plainHalf(c *Conv, s *stage, a plainArgs, rows, n int, y []uint16, width int) {
	to, yBlock := a.YOff, a.YBlock/4
	sums := s.buffer(rows * width)
	a.Y, a.YBlock = unsafe.Pointer(&sums[0]), rows*Block*4
	for r := range rows {
		a.YOff[r] = r * Block * 4
	}
	c.kernels.plain(&a, rows, width == panelWidth)
	for r := range n {
		for b := range width / Block {
			s.k.narrow(y[b*yBlock+to[r]/4:][:Block], sums[(b*rows+r)*Block:])
		}
	}
	s.done()
}

// plainBackwardData is plain Go on every instruction set: training never needs it.
func (m *Machine) plainBackwardData(c *Conv, w []float32, dy, dx Map) {
	s := c.spec
	m.Run(dx.N*c.inCh*s.Size[0], func(_, i int) {
		d, ch, n := i%s.Size[0], i/s.Size[0]%c.inCh, i/(s.Size[0]*c.inCh)
		plane := dx.Data[n*dx.Stride+(ch*s.Size[0]+d)*s.Size[1]*s.Size[2]:][:s.Size[1]*s.Size[2]]
		for v := range plane {
			plane[v] = c.plainGradient(w, dy, n, ch, [3]int{d, v / s.Size[2], v % s.Size[2]})
		}
	})
}

// plainGradient returns the gradient by one input element.
func (c *Conv) plainGradient(w []float32, dy Map, n, ch int, at [3]int) float32 {
	s := c.spec
	sum := float32(0)
	for t := range c.taps {
		tap := [3]int{t / (s.Kernel[1] * s.Kernel[2]), t / s.Kernel[2] % s.Kernel[1], t % s.Kernel[2]}
		var o [3]int
		inside := true
		for a := range o {
			p := at[a] + s.Pad[a] - tap[a]
			o[a] = p / s.Stride[a]
			inside = inside && p >= 0 && p%s.Stride[a] == 0 && o[a] < c.out[a]
		}
		if !inside {
			continue
		}
		voxel := (o[0]*c.out[1]+o[1])*c.out[2] + o[2]
		for kb := range c.outCh {
			width := widthOfPanel(kb/2, c.outCh)
			ww := w[kb/2*c.weightRows()*panelWidth+(ch*c.taps+t)*width+kb%2*Block:][:Block]
			g := dy.Data[n*dy.Stride+(kb*volume3(c.out)+voxel)*Block:][:Block]
			for l, v := range ww {
				sum += v * g[l]
			}
		}
	}
	return sum
}

// plainBackwardWeights sums over the samples in order; a task owns the tap rows it computes.
func (m *Machine) plainBackwardWeights(c *Conv, x, dy Map, dw, ws []float32) {
	p := c.plain
	padded := alignedSlice[float32](ws, p.group(x.N)*p.size)
	clear(dw)
	panels := ceilDiv(c.outCh, 2)
	perTask := max(1, len(p.segments)*panels/(4*m.Threads()))
	perTask = min(perTask, c.spec.Kernel[1])
	tasks := ceilDiv(len(p.segments), perTask)
	for first := 0; first < x.N; first += p.group(x.N) {
		n := min(p.group(x.N), x.N-first)
		m.pad(c, padded, x, first, n)
		m.Run(panels*tasks, func(_, i int) {
			seg := i % tasks * perTask
			c.plainOuter(padded, first, n, dy, dw, i/tasks, seg, min(seg+perTask, len(p.segments)))
		})
	}
}

// plainOuter adds n samples to the weight gradients of tap rows [seg, end) of one panel.
func (c *Conv) plainOuter(padded []float32, first, n int, dy Map, dw []float32, panel, seg, end int) {
	p, s := c.plain, c.spec
	width := widthOfPanel(panel, c.outCh)
	voxels := volume3(c.out)
	a := outerArgs{
		XStep:   [3]int{s.Stride[2] * 4, s.Stride[1] * p.padded[2] * 4, s.Stride[0] * p.padded[1] * p.padded[2] * 4},
		DYStep:  [3]int{Block * 4, c.out[2] * Block * 4, c.out[1] * c.out[2] * Block * 4},
		DYBlock: voxels * Block * 4,
		DWStep:  width * 4,
	}
	rows := c.kernels.outerSplit(s.Kernel[2])
	box := newBoxes(c.out)
	for i := range n {
		for b := range box.count() {
			lo, size := box.at(b)
			a.N = [3]int{size[2], size[1], size[0]}
			a.DY = unsafe.Pointer(&dy.Data[(first+i)*dy.Stride+(panel*2*voxels+(lo[0]*c.out[1]+lo[1])*c.out[2]+lo[2])*Block])
			xo := i*p.size + (lo[0]*s.Stride[0]*p.padded[1]+lo[1]*s.Stride[1])*p.padded[2] + lo[2]*s.Stride[2]
			for sg := seg; sg < end; sg++ {
				for t := 0; t < s.Kernel[2]; t += rows {
					r := min(rows, s.Kernel[2]-t)
					a.X = unsafe.Pointer(&padded[xo+p.segments[sg]/4+t])
					a.DW = unsafe.Pointer(&dw[panel*c.weightRows()*panelWidth+(sg*s.Kernel[2]+t)*width])
					c.kernels.outer(&a, r, width == panelWidth)
				}
			}
		}
	}
}

// boxes cuts a map into boxes of about boxVoxels voxels: what a weight gradient takes in before it goes on
// to the next tap, so that the box stays in cache; each box is summed on its own first, which keeps
// rounding errors small.
type boxes struct {
	dims, size, n [3]int
}

const boxVoxels = 384

func newBoxes(dims [3]int) boxes {
	b := boxes{dims: dims, size: [3]int{1, 1, min(dims[2], boxVoxels)}}
	b.size[1] = max(1, min(dims[1], boxVoxels/b.size[2]))
	b.size[0] = max(1, min(dims[0], boxVoxels/(b.size[2]*b.size[1])))
	for i := range dims {
		b.n[i] = ceilDiv(dims[i], b.size[i])
		b.size[i] = ceilDiv(dims[i], b.n[i])
		b.n[i] = ceilDiv(dims[i], b.size[i])
	}
	return b
}

func (b boxes) count() int { return volume3(b.n) }

// at returns the first voxel and the size of box i.
func (b boxes) at(i int) (lo, size [3]int) {
	idx := [3]int{i / (b.n[1] * b.n[2]), i / b.n[2] % b.n[1], i % b.n[2]}
	for a := range lo {
		lo[a] = idx[a] * b.size[a]
		size[a] = min(b.size[a], b.dims[a]-lo[a])
	}
	return lo, size
}
