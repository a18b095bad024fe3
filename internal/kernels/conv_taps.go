package kernels

import (
	"sort"
	"unsafe"
)

// On small maps many taps see padding. There a gather goes through the taps one by one, and takes for each only the rows
// that see it: on 4³ voxels 58 of 100 of the products, on 2³ 30. Each tap adds a sum over many channels to the output.

const (
	tapVoxels   = 512 // the largest map that is done so
	tapChannels = 128 // the least number of input channels
	tapBlocks   = 32  // input blocks whose sum is added at a time
	tapTaskRows = 192 // rows that a task takes at most
)

// tapList holds the output voxels of a sample that see a tap, in order.
type tapList struct {
	tap  int
	rows []tapRow
}

// tapRow says where an output voxel lies and what it sees: bytes from the beginning of a channel block of a sample.
type tapRow struct{ in, out int }

// listTaps fills the lists of a small map where padding has a tenth or more of the products; pairs and inside count the
// pairs of an output and a tap along each axis, and those inside the map.
func (g *gatherPlan) listTaps(pairs, inside [3]int) {
	if g.outVoxels > tapVoxels || g.inBlocks*Block < tapChannels || 10*volume3(inside) > 9*volume3(pairs) {
		return
	}
	for _, t := range g.usedTaps {
		l := tapList{tap: t}
		tap := [3]int{t / (g.kernel[1] * g.kernel[2]), t / g.kernel[2] % g.kernel[1], t % g.kernel[2]}
		for v := range g.outVoxels {
			in := 0
			for axis, o := range [3]int{v / (g.out[1] * g.out[2]), v / g.out[2] % g.out[1], v % g.out[2]} {
				in += g.offset[axis][o*g.kernel[axis]+tap[axis]]
			}
			if in >= 0 {
				l.rows = append(l.rows, tapRow{in, v * Block * 4})
			}
		}
		g.lists = append(g.lists, l)
	}
}

// tapChunk is how many input blocks are summed up at a time.
func (g *gatherPlan) tapChunk() int { return min(tapBlocks, g.inBlocks) }

// runTaps computes the output tap by tap.
func (m *Machine) runTaps(r *gatherRun) {
	panels, all := ceilDiv(r.outBlocks, 2), r.x.N*r.outVoxels
	groups := max(ceilDiv(all, tapTaskRows), min(ceilDiv(all, 2*maxTileRows), ceilDiv(3*m.Threads(), panels)))
	per := ceilDiv(ceilDiv(all, groups), maxTileRows) * maxTileRows
	groups = ceilDiv(all, per)
	m.Run(panels*groups, func(worker, i int) {
		first := i % groups * per
		r.tapTask(worker, i/groups, first, min(first+per, all))
	})
}

// tapTask computes rows [first, end), counted through all samples, of a panel.
func (r *gatherRun) tapTask(worker, panel, first, end int) {
	for row := first; row < end; row++ {
		at := row/r.outVoxels*r.y.Stride + row%r.outVoxels*Block
		for k := 2 * panel; k < min(2*panel+2, r.outBlocks); k++ {
			clear(r.y.Data[at+k*r.outVoxels*Block:][:Block])
		}
	}
	width := widthOfPanel(panel, r.outBlocks)
	t := tapTile{k: r.k, wide: width == panelWidth, tab: &r.tab[worker*(r.taps+1)]}
	t.args = gatherArgs{
		Tab: unsafe.Pointer(t.tab), Taps: 1, Y: unsafe.Pointer(&r.y.Data[2*panel*r.outVoxels*Block]),
		XStep: r.inVoxels * Block * 4, WStep: r.taps * Block * width * 4, YBlock: r.outVoxels * Block * 4,
	}
	t.args.From = t.args.Y
	*t.tab = gatherTap{}
	chunk := r.tapChunk()
	for b := 0; b < r.inBlocks; b += chunk {
		t.args.InBlocks = min(chunk, r.inBlocks-b)
		t.args.X = unsafe.Pointer(&r.x.Data[b*r.inVoxels*Block])
		for _, l := range r.lists {
			if r.transpose != nil {
				to := r.workerChunk(worker)
				r.transpose.transposeTap(to, Block*width, r.w, l.tap, panel, b, b+t.args.InBlocks)
				t.args.W, t.args.WStep = unsafe.Pointer(&to[0]), Block*width*4
			} else {
				at := panel*r.inBlocks*r.taps*Block*panelWidth + (b*r.taps+l.tap)*Block*width
				t.args.W = unsafe.Pointer(&r.w[at])
			}
			for s := first / r.outVoxels; s*r.outVoxels < end; s++ {
				t.add(l.between(first-s*r.outVoxels, end-s*r.outVoxels), s*r.x.Stride*4, s*r.y.Stride*4)
			}
			t.flush()
		}
	}
}

// between returns the rows of output voxels [first, end).
func (l *tapList) between(first, end int) []tapRow {
	at := func(voxel int) int {
		return sort.Search(len(l.rows), func(i int) bool { return l.rows[i].out >= voxel*Block*4 })
	}
	return l.rows[at(first):at(end)]
}

// tapTile collects rows for the gather kernel.
type tapTile struct {
	k    *convKernels
	args gatherArgs
	tab  *gatherTap
	wide bool
	n    int
}

// add takes rows of a sample, whose maps begin at x and y.
func (t *tapTile) add(rows []tapRow, x, y int) {
	for _, row := range rows {
		t.tab.Row[t.n], t.args.YOff[t.n] = x+row.in, y+row.out
		if t.n++; t.n == t.k.tiles[0] {
			t.flush()
		}
	}
}

// flush computes the rows that are there.
func (t *tapTile) flush() {
	if t.n == 0 {
		return
	}
	rows := t.k.tileFor(t.n)
	for i := t.n; i < rows; i++ { // repeats the last one
		t.tab.Row[i], t.args.YOff[i] = t.tab.Row[t.n-1], t.args.YOff[t.n-1]
	}
	t.k.gather(&t.args, rows, t.wide)
	t.n = 0
}
