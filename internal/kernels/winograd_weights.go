package kernels

import "unsafe"

// The transformed weights U of a pass hold for each element what the packed weights hold for each tap: panels of
// 32 output channels, in them blocks of 16 input channels, in them a row for each input channel.

// winoForwardWeights writes the transformed weights of the forward pass.
func (m *Machine) winoForwardWeights(c *Conv, w *winograd, u, weights []float32) {
	panels := ceilDiv(c.outCh, 2)
	m.Run(panels*c.inCh, func(_, i int) {
		panel, block := i/c.inCh, i%c.inCh
		width := widthOfPanel(panel, c.outCh)
		from := panel*c.weightRows()*panelWidth + block*c.taps*Block*width
		to := panel*c.inCh*Block*panelWidth + block*Block*width
		w.transformTaps(&u[to], &weights[from], width, Block*width*4)
	})
}

// winoBackWeights writes those of the pass by the input, whose weights have input and output channels exchanged and
// go through the taps backwards. ws has room for winoTransposeFloats for each worker.
func (m *Machine) winoBackWeights(c *Conv, w *winograd, u, weights, ws []float32) {
	panels := ceilDiv(c.inCh, 2)
	taps := make([]int, c.taps)
	for t := range taps {
		taps[t] = t
	}
	m.Run(panels*c.outCh, func(worker, i int) {
		panel, block := i/c.outCh, i%c.outCh
		width := widthOfPanel(panel, c.inCh)
		part := ws[worker*winoTransposeFloats:][:winoTransposeFloats]
		c.transposeBlocks(part, weights, taps, panel, block, block+1)
		to := panel*c.outCh*Block*panelWidth + block*Block*width
		w.transformTaps(&u[to], &part[(c.taps-1)*Block*width], width, -Block*width*4)
	})
}

const winoTransposeFloats = 27 * Block * panelWidth

// transformTaps transforms a block of 16 rows of filters whose taps lie step bytes apart.
func (w *winograd) transformTaps(dst, src *float32, width, step int) {
	w.k.transform(winoWeight, &winoArgs{
		Src: unsafe.Pointer(src), Dst: unsafe.Pointer(dst),
		SrcStep: step, DstStep: w.weightStride() * 4, Count: Block * width / 8,
	})
}

// The gradient by the weights is that of the Winograd algorithm itself: dM = A·dy·Aᵀ, for each element
// dU = Vᵀ·dM over all tiles, dw = Gᵀ·dU·G.

// gradientBlock returns how many tiles are taken together: the more, the less often dU goes through memory.
func (w *winograd) gradientBlock(n int) int {
	all := n * volume3(w.forward.tiles)
	room := max(4<<20, 2*w.weightFloats()) / (w.elements() * (w.inCh + w.outCh) * Block)
	blocks := ceilDiv(all, max(48, room))
	return ceilDiv(all, blocks)
}

// gradientRows returns for how many input channels of a block dU is made at once where all tiles are taken together:
// what half a second-level cache of 512 KiB holds.
func (w *winograd) gradientRows() int {
	rows := Block
	for rows > 4 && w.gradientChunk(rows) > 64<<10 {
		rows /= 2
	}
	return rows
}

// gradientChunk is the floats of that part of dU, gradientStride those from one element to the next.
func (w *winograd) gradientChunk(rows int) int { return w.elements() * gradientStride(rows) }

func gradientStride(rows int) int { return winoStride(rows * panelWidth) }

func (w *winograd) weightsWorkspace(threads, n int) int {
	t := w.gradientBlock(n)
	du := w.weightFloats()
	if t == n*volume3(w.forward.tiles) {
		du = threads * w.gradientChunk(w.gradientRows())
	}
	return du + w.elements()*(winoStride(w.inCh*t*Block)+winoStride(w.outCh*t*Block)) + 3*Block
}

// gradientRun is one execution of the pass by the weights.
type gradientRun struct {
	*Conv
	*winograd
	v, dm            []float32 // elements of the input and of the gradient of the output
	strideV, strideM int
	block            int // tiles for which they have room
}

func (m *Machine) winoBackwardWeights(c *Conv, w *winograd, x, dy Map, dw, ws []float32) {
	all, block := x.N*volume3(w.forward.tiles), w.gradientBlock(x.N)
	r := &gradientRun{
		Conv: c, winograd: w, block: block,
		strideV: winoStride(w.inCh * block * Block), strideM: winoStride(w.outCh * block * Block),
	}
	r.v, ws = takeAligned(ws, w.elements()*r.strideV)
	r.dm, ws = takeAligned(ws, w.elements()*r.strideM)
	if block == all {
		m.gradientElements(r, x, dy, 0, all)
		m.gradientAtOnce(r, dw, ws)
		return
	}
	du, _ := takeAligned(ws, w.weightFloats())
	for first := 0; first < all; first += block {
		n := min(block, all-first)
		m.gradientElements(r, x, dy, first, n)
		m.gradientProducts(r, du, n, first == 0)
	}
	m.gradientTransform(r, dw, du)
}

// gradientElements transforms the input and the gradient of the output for n tiles.
func (m *Machine) gradientElements(r *gradientRun, x, dy Map, first, n int) {
	w, p := r.winograd, r.winograd.forward
	m.runGrouped(n*(w.inCh+w.outCh), func(i int) {
		sample, at := p.tileAt(first + i%n)
		b := i / n
		if b < w.inCh {
			p.toElements(winoInput, x, sample, b, p.from, at, &r.v[(b*r.block+i%n)*Block], r.strideV)
			return
		}
		b -= w.inCh
		p.toElements(winoGradient, dy, sample, b, p.to, at, &r.dm[(b*r.block+i%n)*Block], r.strideM)
	})
}

// add adds to the rows of dU at to, those of an element, a panel and an input block from row on, the sum over n tiles.
func (r *gradientRun) add(to []float32, e, panel, b, row, rows, n int) {
	width := widthOfPanel(panel, r.winograd.outCh)
	r.accumulateRows(outerArgs{
		X:  unsafe.Pointer(&r.v[e*r.strideV+b*r.block*Block+row]),
		DY: unsafe.Pointer(&r.dm[e*r.strideM+panel*2*r.block*Block]),
		DW: unsafe.Pointer(&to[0]),
		N:  [3]int{n, 1, 1}, XStep: [3]int{Block * 4}, DYStep: [3]int{Block * 4},
		DYBlock: r.block * Block * 4, DWStep: width * 4,
	}, rows, width)
}

// gradientProducts adds the products of n tiles to dU.
func (m *Machine) gradientProducts(r *gradientRun, du []float32, n int, first bool) {
	w := r.winograd
	panels := ceilDiv(w.outCh, 2)
	m.runGrouped(w.elements()*panels, func(i int) {
		e, panel := i/panels, i%panels
		width := widthOfPanel(panel, w.outCh)
		to := du[e*w.weightStride()+panel*w.inCh*Block*panelWidth:][:w.inCh*Block*width]
		if first {
			clear(to)
		}
		for b := range w.inCh {
			r.add(to[b*Block*width:], e, panel, b, 0, Block, n)
		}
	})
}

// gradientTransform writes dw from dU.
func (m *Machine) gradientTransform(r *gradientRun, dw, du []float32) {
	w := r.winograd
	m.Run(ceilDiv(w.outCh, 2)*w.inCh, func(_, i int) {
		panel, b := i/w.inCh, i%w.inCh
		width := widthOfPanel(panel, w.outCh)
		r.gradient(dw, &du[panel*w.inCh*Block*panelWidth+b*Block*width], w.weightStride(), panel, b, 0, Block)
	})
}

// gradientAtOnce computes dw of all tiles, a part of dU after the other: it never leaves the core's cache.
func (m *Machine) gradientAtOnce(r *gradientRun, dw, ws []float32) {
	w, rows := r.winograd, r.gradientRows()
	parts, stride := Block/rows, gradientStride(rows)
	chunks, _ := takeAligned(ws, m.Threads()*w.gradientChunk(rows))
	m.Run(ceilDiv(w.outCh, 2)*w.inCh*parts, func(worker, i int) {
		panel, b, row := i/parts/w.inCh, i/parts%w.inCh, i%parts*rows
		du := chunks[worker*w.gradientChunk(rows):][:w.gradientChunk(rows)]
		clear(du)
		for e := range w.elements() {
			r.add(du[e*stride:], e, panel, b, row, rows, r.block)
		}
		r.gradient(dw, &du[0], stride, panel, b, row, rows)
	})
}

// gradient writes rows of dw, those of a panel and an input block from row on, from those of dU.
func (r *gradientRun) gradient(dw []float32, du *float32, stride, panel, b, row, rows int) {
	width := widthOfPanel(panel, r.winograd.outCh)
	r.k.transform(winoWeightGradient, &winoArgs{
		Src:     unsafe.Pointer(du),
		Dst:     unsafe.Pointer(&dw[panel*r.weightRows()*panelWidth+(b*r.taps*Block+row)*width]),
		SrcStep: stride * 4, DstStep: Block * width * 4, Count: rows * width / 8,
	})
}
