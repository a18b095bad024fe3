package kernels

import (
	"math/bits"
	"unsafe"
)

// gatherPlan describes a pass in which every output row (one voxel of a map) is a sum over taps of input rows
// times weight blocks: the forward pass, and the backward pass by the input with transposed weights.
type gatherPlan struct {
	kernel              [3]int
	taps                int
	inBlocks, outBlocks int
	inVoxels, outVoxels int
	out                 [3]int
	classes             []gatherClass // those that see at least one tap
	blank               bool          // some voxels see no tap: their rows are zero
	usedTaps            []int         // taps that some voxel sees
	classTaps           int           // the most taps that a class sees
	lists               []tapList     // of the used taps, where the gather goes tap by tap
	// sampleInner orders rows by voxel first and sample second: on small maps the rows of a tile then lie at
	// the same voxel, and taps that see only padding are skipped.
	sampleInner bool
	// offset[i][o*kernel[i]+t] is the part of the input offset that axis i gives for output index o and tap
	// t, in bytes, or outside. valid[i][o] has bit t set when tap t is inside.
	offset [3][]int
	valid  [3][]uint64
}

// gatherClass is a set of output voxels start + step*j, j < count, that see the same taps up to borders:
// all of them forward, one residue of the stride backward.
type gatherClass struct {
	start, step, count [3]int
}

// outside marks a tap that sees padding. Sums of three of it and an address stay negative.
const outside = -1 << 60

// smallMap is the number of voxels up to which a gather orders its rows by voxel.
const smallMap = 512

func newForwardGather(s ConvSpec) *gatherPlan {
	g := &gatherPlan{
		kernel:    s.Kernel,
		inBlocks:  s.In.Blocks(),
		outBlocks: s.Out.Blocks(),
		out:       s.OutSize(),
		inVoxels:  volume3(s.Size),
	}
	g.classes = []gatherClass{{step: [3]int{1, 1, 1}, count: g.out}}
	g.fill(s.Size, func(axis, o, t int) (int, bool) { return o*s.Stride[axis] - s.Pad[axis] + t, true })
	return g
}

func newBackwardGather(s ConvSpec) *gatherPlan {
	g := &gatherPlan{
		kernel:    s.Kernel,
		inBlocks:  s.Out.Blocks(),
		outBlocks: s.In.Blocks(),
		out:       s.Size,
		inVoxels:  volume3(s.OutSize()),
	}
	for i := range volume3(s.Stride) {
		start := [3]int{i / (s.Stride[1] * s.Stride[2]), i / s.Stride[2] % s.Stride[1], i % s.Stride[2]}
		var count [3]int
		for a := range count {
			count[a] = (s.Size[a] - start[a] + s.Stride[a] - 1) / s.Stride[a]
		}
		if min(count[0], count[1], count[2]) > 0 {
			g.classes = append(g.classes, gatherClass{start, s.Stride, count})
		}
	}
	g.fill(s.OutSize(), func(axis, o, t int) (int, bool) {
		p := o + s.Pad[axis] - t
		return p / s.Stride[axis], p%s.Stride[axis] == 0
	})
	return g
}

// fill sets the tables from at, which maps output index and tap of an axis to the input index.
func (g *gatherPlan) fill(in [3]int, at func(axis, o, t int) (int, bool)) {
	g.taps = volume3(g.kernel)
	g.outVoxels = volume3(g.out)
	g.sampleInner = g.outVoxels <= smallMap
	var pairs, inside [3]int
	scale := [3]int{in[1] * in[2] * Block * 4, in[2] * Block * 4, Block * 4}
	for i, k := range g.kernel {
		g.offset[i] = make([]int, g.out[i]*k)
		g.valid[i] = make([]uint64, g.out[i])
		for o := range g.out[i] {
			for t := range k {
				p, ok := at(i, o, t)
				if ok {
					pairs[i]++
				}
				if !ok || p < 0 || p >= in[i] {
					g.offset[i][o*k+t] = outside
					continue
				}
				inside[i]++
				g.offset[i][o*k+t] = p * scale[i]
				g.valid[i][o] |= 1 << t
			}
			if k > 64 { // too many taps for the mask: skip none
				g.valid[i][o] = ^uint64(0)
			}
		}
	}
	g.prune()
	g.listTaps(pairs, inside)
}

// prune drops the classes that see no tap and finds the taps that are used.
func (g *gatherPlan) prune() {
	var used [3]uint64
	classes := g.classes
	g.classes = nil
	for _, c := range classes {
		sees, taps := true, 1
		for i := range used {
			var mask uint64
			for j := range c.count[i] {
				mask |= g.valid[i][c.start[i]+j*c.step[i]]
			}
			used[i] |= mask
			sees = sees && mask != 0
			taps *= min(bits.OnesCount64(mask), g.kernel[i])
		}
		g.classTaps = max(g.classTaps, taps)
		if sees {
			g.classes = append(g.classes, c)
		} else {
			g.blank = true
		}
	}
	for t := range g.taps {
		if hasBit(used[0], t/(g.kernel[1]*g.kernel[2])) && hasBit(used[1], t/g.kernel[2]%g.kernel[1]) && hasBit(used[2], t%g.kernel[2]) {
			g.usedTaps = append(g.usedTaps, t)
		}
	}
}

const gatherTapFloats = int(unsafe.Sizeof(gatherTap{})) / 4

func (g *gatherPlan) workspace(threads int) int { return threads*(g.taps+1)*gatherTapFloats + Block }

// gatherRun is one execution of a gather.
type gatherRun struct {
	*gatherPlan
	k    *convKernels
	x, y Map
	w    []float32
	// When transpose is set, w holds its weights as packed and each task transposes what it needs into its
	// worker's part of chunks.
	transpose *Conv
	chunks    []float32

	tab          []gatherTap // taps per worker, and one more
	panels       int         // weight panels, and how many of them a task takes together
	groupPanels  int
	chunk        int // input blocks whose weights are used together
	classTiles   []int
	tilesPerTask int
}

// panelBytes is how much of the weights a task goes through before it repeats for its next tile: they
// should stay in the second-level cache.
const panelBytes = 192 << 10

// wholeBytes is the size of a panel's weights up to which they are not cut.
const wholeBytes = 256 << 10

// chunkBlocks returns how many input blocks' weights of a panel are used together.
func (g *gatherPlan) chunkBlocks() int {
	block := max(1, g.classTaps) * Block * panelWidth * 4
	if g.inBlocks*block <= wholeBytes {
		return g.inBlocks
	}
	n := max(1, panelBytes/block)
	return ceilDiv(g.inBlocks, ceilDiv(g.inBlocks, n)) // equal chunks
}

func (g *gatherPlan) chunkFloats() int {
	if g.lists != nil {
		return g.tapChunk() * Block * panelWidth
	}
	return g.chunkBlocks() * g.taps * Block * panelWidth
}

func (m *Machine) runGather(r *gatherRun, ws []float32) {
	r.tab = alignedSlice[gatherTap](ws, m.Threads()*(r.taps+1))
	if r.lists != nil {
		m.runTaps(r)
		return
	}
	r.panels = ceilDiv(r.outBlocks, 2)
	r.chunk = r.chunkBlocks()
	r.groupPanels = max(1, min(r.panels, wholeBytes/4/r.chunkFloats()))
	if r.blank {
		m.clearMap(r.y)
	}
	tiles := 0
	for _, c := range r.classes {
		r.classTiles = append(r.classTiles, r.tilesOf(c))
		tiles += r.classTiles[len(r.classTiles)-1]
	}
	if r.transpose != nil || tiles*ceilDiv(r.panels, r.groupPanels) < 2*m.Threads() {
		r.groupPanels = 1
	}
	groups := ceilDiv(r.panels, r.groupPanels)
	r.tilesPerTask = max(1, min(64, tiles*groups/(6*m.Threads())))
	if r.transpose != nil {
		r.tilesPerTask = max(r.tilesPerTask, min(tiles, 8)) // what a chunk is transposed for
	}
	perGroup := ceilDiv(tiles, r.tilesPerTask)
	m.Run(groups*perGroup, func(worker, i int) {
		first := i % perGroup * r.tilesPerTask
		r.task(worker, i/perGroup*r.groupPanels, first, min(first+r.tilesPerTask, tiles))
	})
}

// clearMap zeroes a map.
func (m *Machine) clearMap(y Map) {
	block := y.D * y.H * y.W * Block
	m.Run(y.N*y.CB, func(_, i int) { clear(y.Data[i/y.CB*y.Stride+i%y.CB*block:][:block]) })
}

// runRows returns how many runs of rows a class has and the rows of each. Tiles do not cross runs.
func (r *gatherRun) runRows(c gatherClass) (runs, rows int) {
	voxels := volume3(c.count)
	if r.sampleInner && r.x.N >= 8 {
		return voxels, r.x.N
	}
	return 1, voxels * r.x.N
}

func (r *gatherRun) tilesOf(c gatherClass) int {
	runs, rows := r.runRows(c)
	return runs * ceilDiv(rows, r.k.tiles[0])
}

// task computes tiles [first, end) for one group of panels.
func (r *gatherRun) task(worker, panel, first, end int) {
	endPanel := min(panel+r.groupPanels, r.panels)
	for b := 0; b < r.inBlocks; b += r.chunk {
		blocks := min(r.chunk, r.inBlocks-b)
		if r.transpose != nil {
			r.transpose.transposeBlocks(r.workerChunk(worker), r.w, r.usedTaps, panel, b, b+blocks)
		}
		base, next := 0, 0
		for ci, c := range r.classes {
			for t := max(first, base); t < min(end, base+r.classTiles[ci]); t++ {
				r.tile(worker, c, t-base, panel, endPanel, b, blocks, &next)
			}
			base += r.classTiles[ci]
		}
	}
}

func (r *gatherRun) workerChunk(worker int) []float32 {
	return r.chunks[worker*r.chunkFloats():][:r.chunkFloats()]
}

// tile adds input blocks [b, b+blocks) to one tile of a class, for panels [panel, endPanel). The weights that follow those
// are asked for meanwhile, by all tiles of a task together: next counts the bytes.
func (r *gatherRun) tile(worker int, c gatherClass, tile, panel, endPanel, b, blocks int, next *int) {
	_, runRows := r.runRows(c)
	perRun := ceilDiv(runRows, r.k.tiles[0])
	i := tile % perRun * r.k.tiles[0]
	n := min(r.k.tiles[0], runRows-i)
	rows := r.k.tileFor(n)

	var a gatherArgs
	tab := r.tab[worker*(r.taps+1):][:r.taps+1]
	a.Taps = r.table(tab, &a.YOff, c, tile/perRun*runRows+i, n, rows)
	if a.Taps == 0 {
		if b == 0 {
			r.zero(a.YOff[:n], panel, endPanel)
		}
		return
	}
	a.Tab = unsafe.Pointer(&tab[0])
	a.X = unsafe.Pointer(&r.x.Data[b*r.inVoxels*Block])
	a.InBlocks = blocks
	a.XStep = r.inVoxels * Block * 4
	a.YBlock = r.outVoxels * Block * 4
	for p := panel; p < endPanel; p++ {
		width := widthOfPanel(p, r.outBlocks)
		a.WStep = r.taps * Block * width * 4
		if r.transpose != nil {
			a.W = unsafe.Pointer(&r.workerChunk(worker)[0])
		} else {
			a.W = unsafe.Pointer(&r.w[p*r.inBlocks*r.taps*Block*panelWidth+b*a.WStep/4])
		}
		a.Y = unsafe.Pointer(&r.y.Data[p*2*r.outVoxels*Block])
		if b > 0 {
			a.From = a.Y
		}
		a.Next = uintptr(a.W)
		if r.transpose == nil && r.groupPanels == 1 {
			chunk := blocks * a.WStep
			a.Next += uintptr(chunk + min(*next, chunk-1))
			*next += a.nextBytes() * width / Block
		}
		r.k.gather(&a, rows, width == panelWidth)
	}
}

// nextBytes is what a kernel asks for from Next on.
func (a *gatherArgs) nextBytes() int { return a.Taps * a.InBlocks * 256 }

func (r *gatherRun) zero(yOff []int, panel, endPanel int) {
	for k := 2 * panel; k < min(2*endPanel, r.outBlocks); k++ {
		for _, o := range yOff {
			clear(r.y.Data[k*r.outVoxels*Block+o/4:][:Block])
		}
	}
}

// table fills tab and yOff for the n rows of a class from row first on and returns the number of taps that
// any of them sees. Rows [n, rows) repeat the last one.
func (r *gatherRun) table(tab []gatherTap, yOff *[maxTileRows]int, c gatherClass, first, n, rows int) int {
	voxels := volume3(c.count)
	var at [maxTileRows][3]int // output voxel
	var sample [maxTileRows]int
	var valid [3]uint64
	var s, v int
	if r.sampleInner {
		v, s = first/r.x.N, first%r.x.N
	} else {
		s, v = first/voxels, first%voxels
	}
	w := v % c.count[2]
	h := v / c.count[2] % c.count[1]
	d := v / (c.count[2] * c.count[1])
	for i := range n {
		p := [3]int{c.start[0] + c.step[0]*d, c.start[1] + c.step[1]*h, c.start[2] + c.step[2]*w}
		at[i], sample[i] = p, s
		for a := range valid {
			valid[a] |= r.valid[a][p[a]]
		}
		yOff[i] = (s*r.y.Stride + ((p[0]*r.out[1]+p[1])*r.out[2]+p[2])*Block) * 4
		if r.sampleInner {
			if s++; s < r.x.N {
				continue
			}
			s = 0
		}
		if w++; w == c.count[2] {
			w = 0
			if h++; h == c.count[1] {
				h = 0
				if d++; d == c.count[0] {
					d = 0
					s++ // sample outer: the next sample; otherwise this was the last row
				}
			}
		}
	}
	for i := n; i < rows; i++ {
		at[i], sample[i], yOff[i] = at[n-1], sample[n-1], yOff[n-1]
	}

	taps := 0
	kd, kh, kw := r.kernel[0], r.kernel[1], r.kernel[2]
	var plane, line [maxTileRows]int // sums of the offsets of the outer axes
	for td := range kd {
		if !hasBit(valid[0], td) {
			continue
		}
		for i := range rows {
			plane[i] = sample[i]*r.x.Stride*4 + r.offset[0][at[i][0]*kd+td]
		}
		for th := range kh {
			if !hasBit(valid[1], th) {
				continue
			}
			for i := range rows {
				line[i] = plane[i] + r.offset[1][at[i][1]*kh+th]
			}
			for tw := range kw {
				if !hasBit(valid[2], tw) {
					continue
				}
				e := &tab[taps]
				for i := range rows {
					e.Row[i] = line[i] + r.offset[2][at[i][2]*kw+tw]
				}
				t := (td*kh+th)*kw + tw
				e.Wide = t * Block * panelWidth * 4
				e.Narrow = t * Block * Block * 4
				taps++
			}
		}
	}
	next := &tab[taps] // what the next input block begins with
	*next = tab[0]
	for i := range next.Row {
		if next.Row[i] >= 0 {
			next.Row[i] += r.inVoxels * Block * 4
		}
	}
	return taps
}

func hasBit(mask uint64, i int) bool { return bits.RotateLeft64(mask, -i)&1 != 0 }

// alignedSlice returns the first n values of a type without pointers that fit into ws at a cache line.
func alignedSlice[T any](ws []float32, n int) []T {
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(ws)))%64) / 4
	var v T
	ws = ws[skip:][:n*int(unsafe.Sizeof(v))/4]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(ws))), n)
}
