package kernels

import "unsafe"

// blockedBackwardWeights computes the weight gradient of a convolution with blocked input. A task owns the
// taps and input blocks it computes and goes through all samples in order, so nothing is reduced across
// tasks.
func (m *Machine) blockedBackwardWeights(c *Conv, x, dy Map, dw []float32) {
	panels := ceilDiv(c.outCh, 2)
	// Cut taps only when there are too few blocks to keep the threads busy, and take several blocks
	// together, which shares dy in cache, when there are few taps.
	target := 4 * m.Threads()
	tapGroup := c.taps
	if n := panels * c.inCh; n < target {
		tapGroup = max(1, ceilDiv(c.taps*n, target))
	}
	tapTasks := ceilDiv(c.taps, tapGroup)
	blocks := max(1, min(16/tapGroup, panels*c.inCh*tapTasks/target))
	blockTasks := ceilDiv(c.inCh, blocks)
	m.Run(panels*blockTasks*tapTasks, func(_, i int) {
		t := i % tapTasks * tapGroup
		b := i / tapTasks % blockTasks * blocks
		o := outerTask{
			Conv: c, x: x, dy: dy, dw: dw,
			panel: i / (tapTasks * blockTasks),
			tap:   t, endTap: min(t+tapGroup, c.taps),
			block: b, endBlock: min(b+blocks, c.inCh),
		}
		o.run()
	})
}

type outerTask struct {
	*Conv
	x, dy           Map
	dw              []float32
	panel           int
	tap, endTap     int
	block, endBlock int
}

// narrowMap is the output width up to which the innermost loop goes over samples instead of voxels.
const narrowMap = 4

func (o *outerTask) run() {
	for b := o.block; b < o.endBlock; b++ {
		clear(o.dw[o.row(b, o.tap):o.row(b, o.endTap)])
	}
	box := newBoxes(o.out)
	group := 1
	if o.out[2] <= narrowMap {
		group = 64
	}
	for n := 0; n < o.x.N; n += group {
		for i := range box.count() {
			lo, size := box.at(i)
			for b := o.block; b < o.endBlock; b++ {
				for t := o.tap; t < o.endTap; t++ {
					o.add(n, min(group, o.x.N-n), lo, size, b, t)
				}
			}
		}
	}
}

// row returns where the gradients of an input block and tap begin.
func (o *outerTask) row(b, t int) int {
	width := widthOfPanel(o.panel, o.outCh)
	return o.panel*o.weightRows()*panelWidth + (b*o.taps+t)*Block*width
}

// add adds a box of output voxels of samples [n, n+samples) to the gradient of one block and tap.
func (o *outerTask) add(n, samples int, lo, size [3]int, b, t int) {
	s := &o.spec
	tap := [3]int{t / (s.Kernel[1] * s.Kernel[2]), t / s.Kernel[2] % s.Kernel[1], t % s.Kernel[2]}
	var in [3]int // first input voxel
	for a := range lo {
		// Outputs [first, end) of the axis see the input through this tap.
		shift := s.Pad[a] - tap[a]
		first := max(lo[a], ceilDiv(max(shift, 0), s.Stride[a]))
		end := min(lo[a]+size[a], floorDiv(s.Size[a]-1+shift, s.Stride[a])+1)
		if end <= first {
			return
		}
		lo[a], size[a] = first, end-first
		in[a] = first*s.Stride[a] - shift
	}
	width := widthOfPanel(o.panel, o.outCh)
	voxels := volume3(o.out)
	xv := ((b*s.Size[0]+in[0])*s.Size[1]+in[1])*s.Size[2] + in[2]
	yv := o.panel*2*voxels + (lo[0]*o.out[1]+lo[1])*o.out[2] + lo[2]
	a := outerArgs{
		X:       unsafe.Pointer(&o.x.Data[n*o.x.Stride+xv*Block]),
		DY:      unsafe.Pointer(&o.dy.Data[n*o.dy.Stride+yv*Block]),
		DW:      unsafe.Pointer(&o.dw[o.row(b, t)]),
		N:       [3]int{size[2], size[1], size[0]},
		XStep:   [3]int{s.Stride[2], s.Stride[1] * s.Size[2], s.Stride[0] * s.Size[1] * s.Size[2]},
		DYStep:  [3]int{1, o.out[2], o.out[1] * o.out[2]},
		DYBlock: voxels * Block * 4,
		DWStep:  width * 4,
	}
	for i := range 3 {
		a.XStep[i] *= Block * 4
		a.DYStep[i] *= Block * 4
	}
	if o.out[2] > narrowMap {
		o.accumulateRows(a, Block, width)
		return
	}
	// Samples innermost; the outermost axis of voxels is left to this loop.
	xStep, dyStep, depth := a.XStep[2], a.DYStep[2], a.N[2]
	a.N = [3]int{samples, a.N[0], a.N[1]}
	a.XStep = [3]int{o.x.Stride * 4, a.XStep[0], a.XStep[1]}
	a.DYStep = [3]int{o.dy.Stride * 4, a.DYStep[0], a.DYStep[1]}
	for d := range depth {
		part := a
		part.X, part.DY = unsafe.Add(a.X, d*xStep), unsafe.Add(a.DY, d*dyStep)
		o.accumulateRows(part, Block, width)
	}
}

// accumulateRows adds the loop of a for rows channels of an input block.
func (c *Conv) accumulateRows(a outerArgs, rows, width int) {
	x, dw := a.X, a.DW
	r := c.kernels.outerSplit(rows)
	for i := 0; i < rows; i += r {
		a.X, a.DW = unsafe.Add(x, i*4), unsafe.Add(dw, i*a.DWStep)
		c.kernels.outer(&a, min(r, rows-i), width == panelWidth)
	}
}

func floorDiv(a, b int) int {
	if a < 0 {
		return -((-a + b - 1) / b)
	}
	return a / b
}
