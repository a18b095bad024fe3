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
func (c *Conv) PackWeights(dst, src []float32) {
	clear(dst)
	c.eachWeight(func(packed, logical int) { dst[packed] = src[logical] })
}

// UnpackWeights is the inverse of PackWeights.
func (c *Conv) UnpackWeights(dst, src []float32) {
	c.eachWeight(func(packed, logical int) { dst[logical] = src[packed] })
}

func (c *Conv) eachWeight(f func(packed, logical int)) {
	in, out := c.spec.In.Physical(), c.spec.Out.Physical()
	rows := c.weightRows()
	logical := 0
	for _, k := range out {
		base := k / panelWidth * rows * panelWidth
		width := widthOfPanel(k/panelWidth, c.outCh)
		for i, ch := range in {
			row, step := i*c.taps, 1
			if c.plain == nil {
				row, step = ch/Block*c.taps*Block+ch%Block, Block
			}
			for t := range c.taps {
				f(base+(row+t*step)*width+k%panelWidth, logical)
				logical++
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
	inPanels, outPanels := ceilDiv(c.inCh, 2), ceilDiv(c.outCh, 2)
	const group = 4 // panels that a task takes
	m.Run(inPanels*ceilDiv(outPanels, group), func(_, i int) {
		first := i / inPanels * group
		for p := first; p < min(first+group, outPanels); p++ {
			c.transposePanel(dst, src, i%inPanels, p)
		}
	})
}

// transposePanel transposes the weights between two panels' worth of channels.
func (c *Conv) transposePanel(dst, src []float32, inPanel, outPanel int) {
	dw, sw := widthOfPanel(inPanel, c.inCh), widthOfPanel(outPanel, c.outCh)
	d := inPanel * c.outCh * c.taps * Block * panelWidth
	s := outPanel * c.inCh * c.taps * Block * panelWidth
	for _, t := range c.back.usedTaps {
		for cb := range dw / Block {
			for kb := range sw / Block {
				to := d + ((2*outPanel+kb)*c.taps+t)*Block*dw + cb*Block
				from := s + ((2*inPanel+cb)*c.taps+t)*Block*sw + kb*Block
				c.kernels.transpose(&dst[to], &src[from], dw, sw)
			}
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
