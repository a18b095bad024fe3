package kernels

import "unsafe"

// A 7³ convolution of stride 2 on one channel is a 4³ convolution of stride 1 on eight: voxel v of phase p, one bit
// for each axis, is voxel 2v+p of the input, and tap j of an axis in phase p is tap 2j+p-1 of the kernel (tap -1 is
// zero). F(3, 4)³, with six points as F(4, 3) has, does it with 64 products for each output in place of 343.

// stemPhases is the number of phases: the lanes of a vector.
const stemPhases = 8

// winoStem is the plan of such a convolution.
type winoStem struct {
	*winoPass
}

// stemFits says whether a convolution has this plan.
func stemFits(s ConvSpec) bool {
	return s.PlainIn && s.In.Count() == 1 && s.Kernel == [3]int{7, 7, 7} && s.Stride == [3]int{2, 2, 2} && s.Pad == [3]int{3, 3, 3}
}

func newWinoStem(s ConvSpec, isa ISA) *winoStem {
	w := &winograd{k: winoKernelsFor(isa, 3), m: 3, t: 6, inCh: 1, outCh: s.Out.Blocks()}
	var phases [3]int
	for a := range phases {
		phases[a] = ceilDiv(s.Size[a], 2)
	}
	p := w.pass(phases, s.OutSize(), [3]int{2, 2, 2}, 1, w.outCh)
	p.from = newWinoTiles(p.tiles, w.m, w.t, p.pad, phases, stemPhases*4)
	return &winoStem{p}
}

func (p *winoStem) phaseFloats() int { return volume3(p.in) * stemPhases }

// weightFloats is the size of the transformed weights of the forward pass: for each block of output channels and each
// element a row for each phase.
func (p *winoStem) weightFloats() int { return p.outBlocks * p.elements() * stemPhases * Block }

// stemTiles is how many tiles of the forward pass are taken together, a multiple of phaseRows: as many as leave their
// elements in a second-level cache of 512 KiB.
const stemTiles = 2 * phaseRows

// The floats from one element to the next of those tiles, and of a block of their output channels: odd numbers of cache
// lines, as winoStride has it.
const (
	stemStrideV = (stemTiles*stemPhases/Block | 1) * Block
	stemStrideM = (stemTiles | 1) * Block
)

// taskFloats is the memory of a task of the forward pass.
func (p *winoStem) taskFloats() int { return p.elements() * (stemStrideV + stemStrideM) }

func (p *winoStem) workspace(threads int) int {
	return p.weightFloats() + p.phaseFloats() + threads*p.taskFloats() + 3*Block
}

// strideU is that of the gradient by the transformed weights: for each panel a row for each phase.
func (p *winoStem) strideU() int { return winoStride(stemPhases * p.outBlocks * Block) }

// gradientBlock returns how many tiles the pass by the weights takes together.
func (p *winoStem) gradientBlock(all int) int {
	const most = 48
	return ceilDiv(all, ceilDiv(all, most))
}

func (p *winoStem) gradientWorkspace() int {
	t := p.gradientBlock(volume3(p.tiles))
	return p.phaseFloats() + p.elements()*(p.strideU()+winoStride(stemPhases*t)+winoStride(p.outBlocks*t*Block)) + 4*Block
}

// stemTap returns the tap of the kernel that is tap j (d, h, w) of a phase, or -1.
func stemTap(phase, j int) int {
	tap := 0
	for _, axis := range [3]int{4, 2, 1} {
		t := 2*(j/(axis*axis)%4) - 1
		if phase&axis != 0 {
			t++
		}
		if t < 0 {
			return -1
		}
		tap = tap*7 + t
	}
	return tap
}

// stemWeights writes the transformed weights of weights [panel][tap][width].
func (m *Machine) stemWeights(p *winoStem, u, weights []float32) {
	m.Run(p.outBlocks*2*stemPhases, func(_, i int) {
		phase, lane := i%stemPhases, i/stemPhases*8 // of the output channels
		panel, width := lane/panelWidth, widthOfPanel(lane/panelWidth, p.outBlocks)
		var taps [64]winoLane
		for j := range taps {
			if t := stemTap(phase, j); t >= 0 {
				taps[j] = winoLane(weights[panel*343*panelWidth+t*width+lane%panelWidth:])
			}
		}
		p.k.transform(winoWeight, &winoArgs{
			Src: unsafe.Pointer(&taps), SrcStep: 32,
			Dst:     unsafe.Pointer(&u[(lane/Block*p.elements()*stemPhases+phase)*Block+lane%Block]),
			DstStep: stemPhases * Block * 4, Count: 1,
		})
	})
}

// stemInput sorts the voxels of a sample by phase.
func (m *Machine) stemInput(p *winoStem, phases []float32, x Map, sample int) {
	from := x.Data[sample*x.Stride:]
	m.Run(p.in[0], func(_, d int) {
		to := phases[d*p.in[1]*p.in[2]*stemPhases:][:p.in[1]*p.in[2]*stemPhases]
		for pair := range stemPhases / 2 { // the phases of even and of odd w
			sd := 2*d + pair/2
			for h := range p.in[1] {
				row := to[h*p.in[2]*stemPhases:][:p.in[2]*stemPhases]
				var line []float32
				if sh := 2*h + pair%2; sd < x.D && sh < x.H {
					line = from[(sd*x.H+sh)*x.W:][:x.W]
				}
				stemPairs(row[2*pair:], line)
			}
		}
	})
}

// stemPairs copies the floats of line, two by two, to the beginnings of the groups of floats of to, and zeros behind
// the end.
func stemPairs(to, line []float32) {
	for len(line) >= 2 {
		copy(to[:2], line)
		if line = line[2:]; len(to) < stemPhases {
			return
		}
		to = to[stemPhases:]
	}
	for i := 0; i < len(to); i += stemPhases {
		clear(to[i:][:2])
		if copy(to[i:][:2], line) > 0 {
			line = nil
		}
	}
}

// input transforms a tile of the phase map to elements at dst.
func (p *winoStem) input(phases []float32, at [3]int, dst *float32, stride int) {
	p.cubeToElements(winoInput, unsafe.Pointer(&phases[0]), p.from, at, dst, stride, 1)
}

func (m *Machine) stemForward(c *Conv, x Map, weights []float32, y Map, e *Epilogue, ws []float32) {
	u, ws := takeAligned(ws, c.stem.weightFloats())
	m.stemWeights(c.stem, u, weights)
	m.stemForwardPrepared(c, x, u, y, e, ws)
}

// stemForwardPrepared takes the transformed weights u. A task takes its tiles all the way, one block of output channels
// after the other, so that what lies between stays in its core's cache.
func (m *Machine) stemForwardPrepared(c *Conv, x Map, u []float32, y Map, e *Epilogue, ws []float32) {
	p := c.stem
	phases, ws := takeAligned(ws, p.phaseFloats())
	work, _ := takeAligned(ws, m.Threads()*p.taskFloats())
	all := volume3(p.tiles)
	for sample := range x.N {
		m.stemInput(p, phases, x, sample)
		m.Run(ceilDiv(all, stemTiles), func(worker, task int) {
			v := work[worker*p.taskFloats():][:p.taskFloats()]
			out := v[p.elements()*stemStrideV:]
			first := task * stemTiles
			for i := range stemTiles { // a short task repeats its last tile
				_, at := p.tileAt(min(first+i, all-1))
				p.input(phases, at, &v[i*stemPhases], stemStrideV)
			}
			for block := range p.outBlocks {
				c.kernels.phases(&phaseArgs{
					X: unsafe.Pointer(&v[0]), W: unsafe.Pointer(&u[block*p.elements()*stemPhases*Block]), Y: unsafe.Pointer(&out[0]),
					Elements: p.elements(), Rows: stemTiles, XStep: stemStrideV * 4, YStep: stemStrideM * 4,
				})
				for i := range min(stemTiles, all-first) {
					_, at := p.tileAt(first + i)
					p.fromElements(&out[i*Block], stemStrideM, y, sample, block, at, e)
				}
			}
		})
	}
}

func (m *Machine) stemBackwardWeights(c *Conv, x, dy Map, dw, ws []float32) {
	p := c.stem
	all := volume3(p.tiles)
	block := p.gradientBlock(all)
	strideU, strideV, strideM := p.strideU(), winoStride(stemPhases*block), winoStride(p.outBlocks*block*Block)
	phases, ws := takeAligned(ws, p.phaseFloats())
	du, ws := takeAligned(ws, p.elements()*strideU)
	v, ws := takeAligned(ws, p.elements()*strideV)
	dm, _ := takeAligned(ws, p.elements()*strideM)
	panels := ceilDiv(p.outBlocks, 2)
	for sample := range x.N {
		m.stemInput(p, phases, x, sample)
		for first := 0; first < all; first += block {
			n := min(block, all-first)
			m.runGrouped(n*(1+p.outBlocks), func(i int) {
				_, at := p.tileAt(first + i%n)
				if i < n {
					p.input(phases, at, &v[i*stemPhases], strideV)
					return
				}
				b := i/n - 1
				p.toElements(winoGradient, dy, sample, b, p.to, at, &dm[(b*block+i%n)*Block], strideM)
			})
			m.runGrouped(p.elements()*panels, func(i int) {
				e, panel := i/panels, i%panels
				width := widthOfPanel(panel, p.outBlocks)
				to := du[e*strideU+panel*stemPhases*panelWidth:][:stemPhases*width]
				if sample == 0 && first == 0 {
					clear(to)
				}
				a := outerArgs{
					DY: unsafe.Pointer(&dm[e*strideM+panel*2*block*Block]),
					N:  [3]int{n, 1, 1}, XStep: [3]int{stemPhases * 4}, DYStep: [3]int{Block * 4},
					DYBlock: block * Block * 4, DWStep: width * 4,
				}
				for row := 0; row < stemPhases; row += 4 {
					a.X, a.DW = unsafe.Pointer(&v[e*strideV+row]), unsafe.Pointer(&to[row*width])
					c.kernels.outer(&a, 4, width == panelWidth)
				}
			})
		}
	}
	m.stemWeightGradient(p, dw, du)
}

// stemWeightGradient writes dw [panel][tap][width] from the gradient of the transformed weights. Each tap lies in one
// phase only.
func (m *Machine) stemWeightGradient(p *winoStem, dw, du []float32) {
	m.Run(p.outBlocks*2*stemPhases, func(_, i int) {
		phase, lane := i%stemPhases, i/stemPhases*8
		panel, width := lane/panelWidth, widthOfPanel(lane/panelWidth, p.outBlocks)
		var taps [64]winoLane
		p.k.transform(winoWeightGradient, &winoArgs{
			Src: unsafe.Pointer(&du[panel*stemPhases*panelWidth+phase*width+lane%panelWidth]), SrcStep: p.strideU() * 4,
			Dst: unsafe.Pointer(&taps), DstStep: 32, Count: 1,
		})
		for j := range taps {
			if t := stemTap(phase, j); t >= 0 {
				copy(dw[panel*343*panelWidth+t*width+lane%panelWidth:][:8], taps[j][:])
			}
		}
	})
}
