package kernels

import "unsafe"

// A Winograd convolution F(m, 3)³ cuts the output into tiles of m³ voxels. In place of a product for each tap it
// has one for each of the (m+2)³ elements of the transformed tile: V = BᵀxB, M = V·U over the input channels with
// U the transformed weights, y = AᵀMA. For F(4, 3) that is an eighth of the multiplications of the direct
// algorithm. Tiles of all samples are taken in blocks; the phases of a block share V and M between the workers,
// and every result is a sum in an order that depends on neither. Where the weights are few, each worker takes blocks of
// its own instead (apart).

// winograd is the plan of the three passes of a 3³ convolution of stride 1.
type winograd struct {
	k             *winoKernels
	m, t          int // edge of an output tile and of an input tile
	inCh, outCh   int // blocks of 16 channels
	forward, back *winoPass
}

// winoPass is a pass whose output is tiled.
type winoPass struct {
	*winograd
	in, out             [3]int
	tiles               [3]int
	pad                 [3]int
	inBlocks, outBlocks int
	from, to            *winoTiles // of the input and of the output
}

// winogradFits says whether a convolution has Winograd passes.
func winogradFits(s ConvSpec) bool {
	return !s.PlainIn && s.Kernel == [3]int{3, 3, 3} && s.Stride == [3]int{1, 1, 1} &&
		max(s.Pad[0], s.Pad[1], s.Pad[2]) <= 2
}

func newWinograd(s ConvSpec, isa ISA, m int) *winograd {
	w := &winograd{k: winoKernelsFor(isa, m), m: m, t: m + 2, inCh: s.In.Blocks(), outCh: s.Out.Blocks()}
	w.forward = w.pass(s.Size, s.OutSize(), s.Pad, w.inCh, w.outCh)
	w.back = w.pass(s.OutSize(), s.Size, [3]int{2 - s.Pad[0], 2 - s.Pad[1], 2 - s.Pad[2]}, w.outCh, w.inCh)
	return w
}

func (w *winograd) pass(in, out, pad [3]int, inBlocks, outBlocks int) *winoPass {
	p := &winoPass{winograd: w, in: in, out: out, pad: pad, inBlocks: inBlocks, outBlocks: outBlocks}
	for a := range p.tiles {
		p.tiles[a] = ceilDiv(out[a], w.m)
	}
	p.from = newWinoTiles(p.tiles, w.m, w.t, pad, in, Block*4)
	p.to = newWinoTiles(p.tiles, w.m, w.m, [3]int{}, out, Block*4)
	return p
}

// winoTiles say where the cubes of a map lie, the map's ends taken into account.
type winoTiles struct {
	edge    int
	rows    [2][]int      // byte offsets by tile and row along D and H; the sum of one outside and any other is negative
	columns []winoColumns // by tile along W
}

// newWinoTiles returns those of cubes of the given edge, m apart, that begin pad before the map. A voxel takes the given
// bytes.
func newWinoTiles(tiles [3]int, m, edge int, pad, size [3]int, voxel int) *winoTiles {
	t := &winoTiles{edge: edge, columns: winoColumnsOf(tiles[2], m, edge, pad[2], size[2], voxel)}
	for a, step := range [2]int{size[1] * size[2] * voxel, size[2] * voxel} {
		for i := range tiles[a] * edge {
			row := i/edge*m + i%edge - pad[a]
			if row < 0 || row >= size[a] {
				t.rows[a] = append(t.rows[a], outside)
			} else {
				t.rows[a] = append(t.rows[a], row*step)
			}
		}
	}
	return t
}

// of returns the offsets of the planes and rows of a tile's cube.
func (t *winoTiles) of(at [3]int) (planes, rows *int) {
	return &t.rows[0][at[0]*t.edge], &t.rows[1][at[1]*t.edge]
}

// winoColumnsOf returns the columns of n tiles along an axis, m apart and of the given edge.
func winoColumnsOf(n, m, edge, pad, width, voxel int) []winoColumns {
	all := make([]winoColumns, n)
	for i := range all {
		for j := range edge {
			w := i*m - pad + j
			all[i].offset[j] = min(max(w, 0), width-1) * voxel
			if w >= 0 && w < width {
				all[i].mask[j] = [8]uint32{^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0)}
			}
		}
	}
	return all
}

// elements is the number of products of a tile for each pair of channels.
func (w *winograd) elements() int { return w.t * w.t * w.t }

// winoStride returns the floats from one element to the next of an array of n floats for each: an odd number of
// cache lines, so that the elements of a tile do not meet in one cache set.
func winoStride(n int) int { return (n/Block | 1) * Block }

// weightStride is that of the transformed weights.
func (w *winograd) weightStride() int { return winoStride(w.inCh * w.outCh * Block * Block) }

func (w *winograd) weightFloats() int { return w.elements() * w.weightStride() }

// blockTiles returns how many tiles of all make a block: enough for the transformed weights to be worth their
// way through memory, few enough for V and M to stay in the last cache.
func (w *winograd) blockTiles(all int) int {
	perTile := w.elements() * (w.inCh + w.outCh) * Block
	room := max(1<<20, w.weightFloats()) / perTile
	blocks := ceilDiv(all, max(24, room))
	return ceilDiv(ceilDiv(all, blocks), 6) * 6
}

func (p *winoPass) blockFor(n int) int { return p.blockTiles(n * volume3(p.tiles)) }

// apartTiles is how many tiles a worker takes where each takes its own all the way: what lies between stays in its
// second-level cache. A multiple of the rows of every micro-kernel.
const apartTiles = 12

// apart says whether the workers take tiles of their own rather than share the phases of a block. They do where all of
// them find the transformed weights in the last cache and there are tiles enough. It does not affect results.
func (p *winoPass) apart(threads, n int) bool {
	return threads > 1 && p.weightFloats() <= 1<<20 && ceilDiv(n*volume3(p.tiles), apartTiles) >= 2*threads
}

// blockFloats is what V and M of t tiles take.
func (p *winoPass) blockFloats(t int) int {
	return p.elements()*(winoStride(p.inBlocks*t*Block)+winoStride(p.outBlocks*t*Block)) + 2*Block
}

// workspace is what the pass takes beside the transformed weights.
func (p *winoPass) workspace(threads, n int) int {
	if p.apart(threads, n) {
		return threads*p.blockFloats(apartTiles) + Block
	}
	return p.blockFloats(p.blockFor(n)) + Block
}

// Epilogue is what happens to the output of a convolution before it is written: y·Scale + Shift, plus Add where that
// is given, clamped at zero with ReLU.
type Epilogue struct {
	Scale, Shift []float32 // one value per physical channel
	Add          *Map
	ReLU         bool
}

// winoRun is one execution of a pass.
type winoRun struct {
	*winoPass
	kernels  *convKernels
	x, y     Map
	u        []float32 // transformed weights
	v, m     []float32
	block    int // tiles for which v and m have room
	strideU  int
	strideV  int
	strideM  int
	epilogue *Epilogue
}

// runWinograd computes y from x with the transformed weights u.
func (m *Machine) runWinograd(p *winoPass, x, y Map, u []float32, e *Epilogue, ws []float32) {
	all := x.N * volume3(p.tiles)
	r := winoRun{winoPass: p, kernels: convKernelsFor(p.k.isa), x: x, y: y, u: u, epilogue: e, strideU: p.weightStride()}
	if !p.apart(m.Threads(), x.N) {
		r.setBlock(p.blockFor(x.N), ws)
		for first := 0; first < all; first += r.block {
			r.take(first, min(r.block, all-first), m.runGrouped)
		}
		return
	}
	own := make([]winoRun, m.Threads())
	for i := range own {
		own[i] = r
		own[i].setBlock(apartTiles, ws[i*p.blockFloats(apartTiles):])
	}
	m.Run(ceilDiv(all, apartTiles), func(worker, i int) {
		first := i * apartTiles
		own[worker].take(first, min(apartTiles, all-first), inTurn)
	})
}

// setBlock gives the run room for blocks of t tiles.
func (r *winoRun) setBlock(t int, ws []float32) {
	r.block, r.strideV, r.strideM = t, winoStride(r.inBlocks*t*Block), winoStride(r.outBlocks*t*Block)
	r.v, ws = takeAligned(ws, r.elements()*r.strideV)
	r.m, _ = takeAligned(ws, r.elements()*r.strideM)
}

// take computes n tiles from the first on; each phase calls its parts by each.
func (r *winoRun) take(first, n int, each func(n int, f func(i int))) {
	each(n*r.inBlocks, func(i int) { r.input(first, i%n, i/n) })
	each(r.elements()*ceilDiv(r.outBlocks, 2), func(i int) { r.product(i, n) })
	each(n*r.outBlocks, func(i int) { r.output(first, i%n, i/n) })
}

// inTurn calls f for every i in [0, n).
func inTurn(n int, f func(i int)) {
	for i := range n {
		f(i)
	}
}

// takeAligned cuts n floats that start at a cache line from ws.
func takeAligned(ws []float32, n int) (part, rest []float32) {
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(ws)))%64) / 4
	return ws[skip:][:n], ws[skip+n:]
}

// runGrouped calls f for every i in [0, n), several at a time where there are many.
func (m *Machine) runGrouped(n int, f func(i int)) {
	group := max(1, n/(16*m.Threads()))
	m.Run(ceilDiv(n, group), func(_, g int) {
		for i := g * group; i < min(n, (g+1)*group); i++ {
			f(i)
		}
	})
}

// tileAt returns sample and index of a tile, counted through all samples.
func (p *winoPass) tileAt(tile int) (sample int, at [3]int) {
	at[2] = tile % p.tiles[2]
	tile /= p.tiles[2]
	at[1] = tile % p.tiles[1]
	tile /= p.tiles[1]
	at[0] = tile % p.tiles[0]
	return tile / p.tiles[0], at
}

// mapVoxel returns where a voxel of a block of channels of a sample lies.
func mapVoxel(x Map, sample, block, voxel int) unsafe.Pointer {
	at := sample*x.Stride + (block*x.D*x.H*x.W+voxel)*Block
	if x.Half != nil {
		return unsafe.Pointer(&x.Half[at])
	}
	return unsafe.Pointer(&x.Data[at])
}

// toElements transforms one block of channels of a cube of a map to elements at dst.
func (w *winograd) toElements(kind winoKind, x Map, sample, block int, tiles *winoTiles, at [3]int, dst *float32, stride int) {
	if x.Half != nil {
		kind += winoHalf
	}
	w.cubeToElements(kind, mapVoxel(x, sample, block, 0), tiles, at, dst, stride, Block/8)
}

// cubeToElements is toElements for count vectors of 8 channels.
func (w *winograd) cubeToElements(kind winoKind, src unsafe.Pointer, tiles *winoTiles, at [3]int, dst *float32, stride, count int) {
	planes, rows := tiles.of(at)
	cols := &tiles.columns[at[2]]
	w.k.transform(kind, &winoArgs{
		Src: src, Dst: unsafe.Pointer(dst), DstStep: stride * 4,
		Planes: planes, Rows: rows, Cols: &cols.offset, Mask: &cols.mask, Count: count,
	})
}

// input transforms one block of channels of tile first+i.
func (r *winoRun) input(first, i, block int) {
	sample, at := r.tileAt(first + i)
	r.toElements(winoInput, r.x, sample, block, r.from, at, &r.v[(block*r.block+i)*Block], r.strideV)
}

// product multiplies the first n tiles with the weights, for an element and a panel of output channels.
func (r *winoRun) product(i, n int) {
	panels := ceilDiv(r.outBlocks, 2)
	e, panel := i/panels, i%panels
	width := widthOfPanel(panel, r.outBlocks)
	a := denseArgs{
		X:      unsafe.Pointer(&r.v[e*r.strideV]),
		W:      unsafe.Pointer(&r.u[e*r.strideU+panel*r.inBlocks*Block*panelWidth]),
		Y:      unsafe.Pointer(&r.m[e*r.strideM+panel*2*r.block*Block]),
		Blocks: r.inBlocks,
		XStep:  r.block * Block * 4,
		WStep:  Block * width * 4,
		YBlock: r.block * Block * 4,
	}
	r.kernels.denseRows(&a, n, width == panelWidth)
}

// output writes one block of channels of tile first+i.
func (r *winoRun) output(first, i, block int) {
	sample, at := r.tileAt(first + i)
	r.fromElements(&r.m[(block*r.block+i)*Block], r.strideM, r.y, r.to, sample, block, at, r.epilogue)
}

// fromElements transforms the elements at src of one block of channels of a tile to the output, where tiles lie as given.
func (p *winoPass) fromElements(src *float32, stride int, y Map, tiles *winoTiles, sample, block int, at [3]int, e *Epilogue) {
	planes, rows := tiles.of(at)
	left := at[2] * p.m
	a := winoArgs{
		Src: unsafe.Pointer(src), Dst: mapVoxel(y, sample, block, left),
		SrcStep: stride * 4, Planes: planes, Rows: rows, Width: min(p.m, p.out[2]-left), Count: Block / 8,
	}
	kind := winoOutput
	if e != nil {
		floor := floorOf(e.ReLU)
		a.Scale, a.Shift, a.Floor = unsafe.Pointer(&e.Scale[block*Block]), unsafe.Pointer(&e.Shift[block*Block]), unsafe.Pointer(&floor)
		kind = winoOutputNorm
		if e.Add != nil {
			kind = winoOutputNormAdd
			a.Add = mapVoxel(*e.Add, sample, block, left)
		}
	}
	if y.Half != nil {
		kind += winoHalf
	}
	p.k.transform(kind, &a)
}
