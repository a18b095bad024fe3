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

func (w *winograd) weightsWorkspace(n int) int {
	t := w.gradientBlock(n)
	return w.weightFloats() + w.elements()*(winoStride(w.inCh*t*Block)+winoStride(w.outCh*t*Block)) + 3*Block
}

func (m *Machine) winoBackwardWeights(c *Conv, w *winograd, x, dy Map, dw, ws []float32) {
	p := w.forward
	all, block := x.N*volume3(p.tiles), w.gradientBlock(x.N)
	strideV, strideM, strideU := winoStride(w.inCh*block*Block), winoStride(w.outCh*block*Block), w.weightStride()
	du, ws := takeAligned(ws, w.weightFloats())
	v, ws := takeAligned(ws, w.elements()*strideV)
	dm, _ := takeAligned(ws, w.elements()*strideM)
	panels := ceilDiv(w.outCh, 2)
	for first := 0; first < all; first += block {
		n := min(block, all-first)
		m.runGrouped(n*(w.inCh+w.outCh), func(i int) {
			sample, at := p.tileAt(first + i%n)
			b := i / n
			if b < w.inCh {
				p.toElements(winoInput, x, sample, b, p.from, at, &v[(b*block+i%n)*Block], strideV)
				return
			}
			b -= w.inCh
			p.toElements(winoGradient, dy, sample, b, p.to, at, &dm[(b*block+i%n)*Block], strideM)
		})
		m.runGrouped(w.elements()*panels, func(i int) {
			e, panel := i/panels, i%panels
			width := widthOfPanel(panel, w.outCh)
			a := outerArgs{
				N: [3]int{n, 1, 1}, XStep: [3]int{Block * 4}, DYStep: [3]int{Block * 4},
				DYBlock: block * Block * 4, DWStep: width * 4,
			}
			to := du[e*strideU+panel*w.inCh*Block*panelWidth:][:w.inCh*Block*width]
			if first == 0 {
				clear(to)
			}
			a.DY = unsafe.Pointer(&dm[e*strideM+panel*2*block*Block])
			for b := range w.inCh {
				a.X, a.DW = unsafe.Pointer(&v[e*strideV+b*block*Block]), unsafe.Pointer(&to[b*Block*width])
				c.accumulateRows(a, width)
			}
		})
	}
	m.Run(panels*c.inCh, func(_, i int) {
		panel, b := i/c.inCh, i%c.inCh
		width := widthOfPanel(panel, c.outCh)
		w.k.transform(winoWeightGradient, &winoArgs{
			Src:     unsafe.Pointer(&du[panel*c.inCh*Block*panelWidth+b*Block*width]),
			Dst:     unsafe.Pointer(&dw[panel*c.weightRows()*panelWidth+b*c.taps*Block*width]),
			SrcStep: strideU * 4, DstStep: Block * width * 4, Count: Block * width / 8,
		})
	})
}
