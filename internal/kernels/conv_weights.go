package kernels

import "unsafe"

// The packed weights are panels of 32 output channels (the last one 16 wide when the number of blocks is
// odd). A panel holds one row of its width per (input block, tap, input channel of the block), or per
// (input channel, tap) for a plain input.

// panelWidth is the number of output channels of a full panel.
const panelWidth = 2 * Block

func (c *Conv) weightRows() int {
	if c.plain != nil {
		return c.inCh * c.taps
	}
	return c.inCh * c.taps * Block
}

// WeightLen returns the number of floats of the packed weights.
func (c *Conv) WeightLen() int { return c.weightRows() * c.outCh * Block }

// PackWeights writes the packed weights dst of src[Cout][Cin][kd][kh][kw]. Entries of dst that stand for
// no logical channel become zero.
func (m *Machine) PackWeights(c *Conv, dst, src []float32) {
	m.Run(ceilDiv(c.outCh, 2), func(_, panel int) {
		at := panel * c.weightRows() * panelWidth
		clear(dst[at:][:c.weightRows()*widthOfPanel(panel, c.outCh)])
		c.eachRun(panel, func(packed, step, logical int) {
			for t, x := range src[logical:][:c.taps] {
				dst[packed+t*step] = x
			}
		})
	})
}

// UnpackWeights is the inverse of PackWeights.
func (m *Machine) UnpackWeights(c *Conv, dst, src []float32) {
	m.Run(ceilDiv(c.outCh, 2), func(_, panel int) {
		c.eachRun(panel, func(packed, step, logical int) {
			run := dst[logical:][:c.taps]
			for t := range run {
				run[t] = src[packed+t*step]
			}
		})
	})
}

// eachRun calls f for each output and input channel of a panel: its taps lie at packed, packed+step, … of the packed
// weights, and side by side from logical on. A block of input channels of the panel is done before the next, so that
// it stays in the cache.
func (c *Conv) eachRun(panel int, f func(packed, step, logical int)) {
	in, out := c.spec.In.Physical(), c.spec.Out.Physical()
	base, width := panel*c.weightRows()*panelWidth, widthOfPanel(panel, c.outCh)
	for first := 0; first < len(in); first += Block {
		for o, k := range out {
			if k/panelWidth != panel {
				continue
			}
			for i := first; i < min(first+Block, len(in)); i++ {
				row, step := i*c.taps, 1
				if c.plain == nil {
					row, step = in[i]/Block*c.taps*Block+in[i]%Block, Block
				}
				f(base+row*width+k%panelWidth, step*width, (o*len(in)+i)*c.taps)
			}
		}
	}
}

// widthOfPanel returns the width of a panel when there are blocks blocks in all.
func widthOfPanel(panel, blocks int) int { return min(panelWidth, blocks*Block-panel*panelWidth) }

// transposeWeights exchanges the input and output channels of blocked packed weights: the result has panels
// of input channels with one row per (output block, tap, output channel of the block). It leaves out the taps
// that the backward pass does not use.
func (m *Machine) transposeWeights(c *Conv, dst, src []float32) {
	const group = 8 // output blocks that a task takes
	panels := ceilDiv(c.inCh, 2)
	m.Run(panels*ceilDiv(c.outCh, group), func(_, i int) {
		panel, first := i%panels, i/panels*group
		at := panel*c.outCh*c.taps*Block*panelWidth + first*c.taps*Block*widthOfPanel(panel, c.inCh)
		c.transposeBlocks(dst[at:], src, c.back.usedTaps, panel, first, min(first+group, c.outCh))
	})
}

// transposeBlocks writes to dst the given taps of the part of a panel of input channels that belongs to the
// output blocks [first, end).
func (c *Conv) transposeBlocks(dst, src []float32, taps []int, panel, first, end int) {
	row := Block * widthOfPanel(panel, c.inCh)
	for _, t := range taps {
		c.transposeTap(dst[t*row:], c.taps*row, src, t, panel, first, end)
	}
}

// transposeTap is transposeBlocks for one tap, whose blocks lie step floats apart.
func (c *Conv) transposeTap(dst []float32, step int, src []float32, tap, panel, first, end int) {
	width := widthOfPanel(panel, c.inCh)
	for kb := first; kb < end; kb++ {
		from := widthOfPanel(kb/2, c.outCh)
		base := kb/2*c.inCh*c.taps*Block*panelWidth + kb%2*Block
		for cb := range width / Block {
			at := base + ((2*panel+cb)*c.taps+tap)*Block*from
			c.kernels.transpose(&dst[(kb-first)*step+cb*Block], &src[at], width, from)
		}
	}
}

// transposeGeneric writes the 16x16 block at src, rows ss floats apart, transposed to dst, rows ds apart.
func transposeGeneric(dst, src *float32, ds, ss int) {
	d := unsafe.Slice(dst, 15*ds+Block)
	s := unsafe.Slice(src, 15*ss+Block)
	for i := range Block {
		for j := range Block {
			d[j*ds+i] = s[i*ss+j]
		}
	}
}
