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

// The pass by the weights cuts the tiles of a sample into chunks, each with a sum of its own, so that workers share
// nothing: gradientChunks of them, whatever the number of threads, for it decides the order of the sums. A worker takes
// gradientTiles tiles together.
const (
	gradientChunks = 16
	gradientTiles  = 12
)

// The floats from one element to the next of those tiles, as stemStrideV has them.
const gradientStrideV = (gradientTiles*stemPhases/Block | 1) * Block

// strideM is that of the gradient of the output.
func (p *winoStem) strideM() int { return winoStride(p.outBlocks * gradientTiles * Block) }

// strideU is that of the gradient by the transformed weights: for each panel a row for each phase.
func (p *winoStem) strideU() int { return winoStride(stemPhases * p.outBlocks * Block) }

// chunks returns the number of chunks and of the tiles of each.
func (p *winoStem) chunks() (n, tiles int) {
	all := volume3(p.tiles)
	tiles = ceilDiv(ceilDiv(all, gradientChunks), gradientTiles) * gradientTiles
	return ceilDiv(all, tiles), tiles
}

func (p *winoStem) gradientWorkspace(threads int) int {
	n, _ := p.chunks()
	return p.phaseFloats() + p.elements()*(n*p.strideU()+threads*(gradientStrideV+p.strideM())) + 4*Block
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

// stemRun is one execution of the forward pass.
type stemRun struct {
	*winoStem
	kernels  *convKernels
	u        []float32 // transformed weights
	phases   []float32 // the sample's voxels by phase
	work     []float32 // of the tasks, by worker
	sample   int       // of y
	y        Map
	to       *winoTiles // where tiles lie in y
	epilogue *Epilogue
}

// newStemRun cuts what a run needs from ws. Without transformed weights it makes them.
func (m *Machine) newStemRun(c *Conv, weights, u []float32, e *Epilogue, ws []float32) (r *stemRun, rest []float32) {
	r = &stemRun{winoStem: c.stem, kernels: c.kernels, u: u, epilogue: e}
	if u == nil {
		r.u, ws = takeAligned(ws, r.weightFloats())
		m.stemWeights(c.stem, r.u, weights)
	}
	r.phases, ws = takeAligned(ws, r.phaseFloats())
	r.work, ws = takeAligned(ws, m.Threads()*r.taskFloats())
	return r, ws
}

// stemForward takes the transformed weights u where there are any.
func (m *Machine) stemForward(c *Conv, x Map, weights, u []float32, y Map, e *Epilogue, ws []float32) {
	r, _ := m.newStemRun(c, weights, u, e, ws)
	r.y, r.to = y, c.stem.to
	all := volume3(r.winoStem.tiles)
	for r.sample = range x.N {
		m.stemInput(c.stem, r.phases, x, r.sample)
		m.Run(ceilDiv(all, stemTiles), func(worker, task int) { r.task(worker, task*stemTiles, all) })
	}
}

// task takes stemTiles tiles, those below end, all the way, one block of output channels after the other, so that what
// lies between stays in the core's cache.
func (r *stemRun) task(worker, first, end int) {
	v := r.work[worker*r.taskFloats():][:r.taskFloats()]
	out := v[r.elements()*stemStrideV:]
	n := min(stemTiles, end-first)
	rows := ceilDiv(n, phaseRows) * phaseRows
	for i := range rows { // a short task repeats its last tile
		_, at := r.tileAt(min(first+i, end-1))
		r.input(r.phases, at, &v[i*stemPhases], stemStrideV)
	}
	for block := range r.outBlocks {
		r.kernels.phases(&phaseArgs{
			X: unsafe.Pointer(&v[0]), W: unsafe.Pointer(&r.u[block*r.elements()*stemPhases*Block]), Y: unsafe.Pointer(&out[0]),
			Elements: r.elements(), Rows: rows, XStep: stemStrideV * 4, YStep: stemStrideM * 4,
		})
		for i := range n {
			_, at := r.tileAt(first + i)
			r.fromElements(&out[i*Block], stemStrideM, r.y, r.to, r.sample, block, at, r.epilogue)
		}
	}
}

func (m *Machine) stemBackwardWeights(c *Conv, x, dy Map, dw, ws []float32) {
	p := c.stem
	chunks, tiles := p.chunks()
	r := stemGradient{winoStem: p, kernels: c.kernels, dy: dy, strideM: p.strideM(), strideU: p.strideU()}
	perChunk, perV, perM := p.elements()*r.strideU, p.elements()*gradientStrideV, p.elements()*r.strideM
	r.phases, ws = takeAligned(ws, p.phaseFloats())
	du, ws := takeAligned(ws, chunks*perChunk)
	v, ws := takeAligned(ws, m.Threads()*perV)
	dm, _ := takeAligned(ws, m.Threads()*perM)
	for r.sample = range x.N {
		m.stemInput(p, r.phases, x, r.sample)
		m.Run(chunks, func(worker, i int) {
			sum := du[i*perChunk:][:perChunk]
			if r.sample == 0 {
				clear(sum)
			}
			end := min((i+1)*tiles, volume3(p.tiles))
			for first := i * tiles; first < end; first += gradientTiles {
				r.add(sum, v[worker*perV:][:perV], dm[worker*perM:][:perM], first, min(gradientTiles, end-first))
			}
		})
	}
	k := m.ewTable()
	m.Run(p.elements(), func(_, e int) { // the chunks in order
		to := du[e*r.strideU:][:r.strideU]
		for i := 1; i < chunks; i++ {
			k.axpy(to, du[i*perChunk+e*r.strideU:][:r.strideU], 1)
		}
	})
	m.stemWeightGradient(p, dw, du)
}

// stemGradient is one execution of the pass by the weights.
type stemGradient struct {
	*winoStem
	kernels          *convKernels
	phases           []float32 // the sample's voxels by phase
	dy               Map
	sample           int // of dy
	strideM, strideU int
}

// add adds to du the products of n tiles, whose elements go through v and dm.
func (r *stemGradient) add(du, v, dm []float32, first, n int) {
	for i := range n {
		_, at := r.tileAt(first + i)
		r.input(r.phases, at, &v[i*stemPhases], gradientStrideV)
		for b := range r.outBlocks {
			r.toElements(winoGradient, r.dy, r.sample, b, r.to, at, &dm[(b*gradientTiles+i)*Block], r.strideM)
		}
	}
	for e := range r.elements() {
		for panel := range ceilDiv(r.outBlocks, 2) {
			width := widthOfPanel(panel, r.outBlocks)
			to := du[e*r.strideU+panel*stemPhases*panelWidth:]
			a := outerArgs{
				DY: unsafe.Pointer(&dm[e*r.strideM+panel*2*gradientTiles*Block]),
				N:  [3]int{n, 1, 1}, XStep: [3]int{stemPhases * 4}, DYStep: [3]int{Block * 4},
				DYBlock: gradientTiles * Block * 4, DWStep: width * 4,
			}
			for row := 0; row < stemPhases; row += 4 {
				a.X, a.DW = unsafe.Pointer(&v[e*gradientStrideV+row]), unsafe.Pointer(&to[row*width])
				r.kernels.outer(&a, 4, width == panelWidth)
			}
		}
	}
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
