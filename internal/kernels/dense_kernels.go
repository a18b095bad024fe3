package kernels

import "unsafe"

// denseArgs are the arguments of the dense kernel. It computes for each row i
//
//	y[i][:] = sum over b < Blocks, c < 16 of x[b][i][c] * w[b][c][:]
//
// where rows of x and y, 16 channels each, follow each other in memory. Steps are in bytes. Meanwhile it asks for
// 256 bytes from Next on for each block.
type denseArgs struct {
	X, W, Y unsafe.Pointer
	Blocks  int
	XStep   int     // between input blocks
	WStep   int     // between input blocks
	YBlock  int     // between the two output blocks of a panel
	Next    uintptr // no pointer: it may lie behind the weights
}

// denseRows computes n rows. The weights of the next panel follow those of this one.
func (k *convKernels) denseRows(a *denseArgs, n int, wide bool) {
	x, y := a.X, a.Y
	panel := a.Blocks * a.WStep
	for i := 0; i < n; i += k.tiles[0] {
		a.X, a.Y = unsafe.Add(x, i*Block*4), unsafe.Add(y, i*Block*4)
		a.Next = uintptr(a.W) + uintptr(panel+min(i/k.tiles[0]*a.nextBytes(wide), panel-1))
		k.dense(a, min(k.tiles[0], n-i), wide)
	}
}

// nextBytes is what dense asks for from Next on.
func (a *denseArgs) nextBytes(wide bool) int {
	if wide {
		return a.Blocks * 512
	}
	return a.Blocks * 256
}

// denseGather computes the rows with the gather kernel.
func (k *convKernels) denseGather(a *denseArgs, rows int, wide bool) {
	var tab [2]gatherTap
	g := gatherArgs{
		X: a.X, Tab: unsafe.Pointer(&tab), W: a.W, Y: a.Y, Taps: 1,
		InBlocks: a.Blocks, XStep: a.XStep, WStep: a.WStep, YBlock: a.YBlock, Next: a.Next,
	}
	tile := k.tileFor(rows)
	for i := range tile {
		tab[0].Row[i] = min(i, rows-1) * Block * 4
		tab[1].Row[i] = tab[0].Row[i] + a.XStep
		g.YOff[i] = tab[0].Row[i]
	}
	k.gather(&g, tile, wide)
}

// phaseArgs are the arguments of the phases kernel. It computes for each of Elements elements and each row i < Rows
//
//	y[i][:] = sum over c < 8 of x[i][c] * w[c][:]
//
// where rows of x, of 8 floats, and rows of y and w, of 16, follow each other in memory, and w those of the element
// before. Rows is a multiple of phaseRows; steps from element to element are in bytes.
type phaseArgs struct {
	X, W, Y        unsafe.Pointer
	Elements, Rows int
	XStep, YStep   int
}

// phaseRows is the number of rows that the phases kernel computes at once.
const phaseRows = 6

func phasesGeneric(a *phaseArgs) {
	for e := range a.Elements {
		x, y, w := unsafe.Add(a.X, e*a.XStep), unsafe.Add(a.Y, e*a.YStep), unsafe.Add(a.W, e*8*Block*4)
		for i := range a.Rows {
			for g := range 2 {
				var acc lanes8
				madd8(&acc, unsafe.Add(x, i*32), unsafe.Add(w, g*32), 8, Block*4)
				*(*lanes8)(unsafe.Add(y, i*Block*4+g*32)) = acc
			}
		}
	}
}
