package kernels

import "unsafe"

// denseArgs are the arguments of the dense kernel. It computes for each row i
//
//	y[i][:] = sum over b < Blocks, c < 16 of x[b][i][c] * w[b][c][:]
//
// where rows of x and y, 16 channels each, follow each other in memory. Steps are in bytes. Meanwhile it asks for
// weights at Next as it takes those at W.
type denseArgs struct {
	X, W, Y unsafe.Pointer
	Blocks  int
	XStep   int     // between input blocks
	WStep   int     // between input blocks
	YBlock  int     // between the two output blocks of a panel
	Next    uintptr // no pointer: it may lie behind the weights
}

// denseRows computes n rows. The weights of the next panel follow those of this one; the first rows ask for them.
func (k *convKernels) denseRows(a *denseArgs, n int, wide bool) {
	a.Next = uintptr(a.W) + uintptr(a.Blocks*a.WStep)
	for n > 0 {
		rows := k.denseTile(n)
		k.dense(a, rows, wide)
		a.X, a.Y = unsafe.Add(a.X, rows*Block*4), unsafe.Add(a.Y, rows*Block*4)
		a.Next = uintptr(a.W)
		n -= rows
	}
}

// denseTile returns how many of n rows the kernel takes at once.
func (k *convKernels) denseTile(n int) int {
	for _, rows := range k.denseTiles {
		if rows <= n {
			return rows
		}
	}
	return 1
}

func denseGeneric(a *denseArgs, rows int, wide bool) {
	groups, rowBytes := laneGroups(wide)
	for i := range rows {
		for g := range groups {
			w, y := laneGroup(g, a.YBlock)
			var acc lanes8
			for b := range a.Blocks {
				madd8(&acc, unsafe.Add(a.X, b*a.XStep+i*Block*4), unsafe.Add(a.W, b*a.WStep+w), Block, rowBytes)
			}
			*(*lanes8)(unsafe.Add(a.Y, i*Block*4+y)) = acc
		}
	}
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
