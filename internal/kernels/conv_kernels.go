package kernels

import "unsafe"

//go:generate go -C gen run ./conv -pkg kernels -out ../conv_amd64.s -stubs ../conv_stubs_amd64.go

// maxTileRows is the largest number of rows that a micro-kernel computes at once.
const maxTileRows = 12

// convKernels are the micro-kernels of one instruction set: the methods gather, plain, outer and transpose.
// They agree on every layout, and each output element sees its multiply-adds in the same order whatever the
// tile it lies in. Methods with a switch rather than fields of function type let arguments stay on the stack.
type convKernels struct {
	isa        ISA
	tiles      []int // row counts that gather and plain accept, descending
	denseTiles []int // those of dense
	outerRows  int   // the largest number of rows that outer accepts; it accepts any smaller one
}

func convKernelsFor(isa ISA) *convKernels {
	switch isa {
	case AVX512:
		return &convKernels{isa, []int{12, 8, 4, 2, 1}, []int{12, 8, 4, 2, 1}, 8}
	case AVX2:
		return &convKernels{isa, []int{6, 4, 2, 1}, []int{6, 5, 4, 3, 2, 1}, 6}
	}
	return &convKernels{Generic, []int{4, 1}, []int{4, 1}, Block}
}

// tileFor returns the smallest accepted row count that holds n rows, or the largest one.
func (k *convKernels) tileFor(n int) int {
	t := k.tiles[0]
	for _, s := range k.tiles {
		if s >= n {
			t = s
		}
	}
	return t
}

// outerSplit returns the rows to take at a time to do n rows in few, equal calls.
func (k *convKernels) outerSplit(n int) int { return ceilDiv(n, ceilDiv(n, k.outerRows)) }

// gatherArgs are the arguments of the gather kernel. It computes for each row i
//
//	y[i][:] = (from[i][:] +) sum over b < InBlocks, taps t, c < 16 of x[b][tab[t][i]][c] * w[b][t][c][:] (+ bias[:])
//
// Offsets and steps are in bytes. A negative table entry stands for a row of zeros. Unless Next
// is 0, the kernel meanwhile asks for the rows of the tap to come, which behind the last one is an entry more, and for
// 256 bytes from Next on for each tap and block.
type gatherArgs struct {
	X        unsafe.Pointer
	Tab      unsafe.Pointer // [Taps]gatherTap
	W        unsafe.Pointer
	Y        unsafe.Pointer
	Taps     int
	InBlocks int
	XStep    int            // between input blocks
	WStep    int            // between input blocks
	YBlock   int            // between the two output blocks of a panel
	From     unsafe.Pointer // what is added, where y is in it; nil: nothing
	YOff     [maxTileRows]int
	Next     uintptr // no pointer: it may lie behind the weights
	Bias     unsafe.Pointer
}

// gatherTap is one tap of a tile: where each row finds its 16 input channels and where the tap's weights lie
// in a 32-wide and in a 16-wide panel. The spare words make the size a power of two.
type gatherTap struct {
	Row    [maxTileRows]int
	Wide   int
	Narrow int
	_      [2]int
}

// plainArgs are the arguments of the plain kernel. It computes for each row i
//
//	y[i][:] = sum over segments s, t < Len of x[XOff[i]+Tab[s]+t] * w[s*Len+t][:]
//
// with x advancing by floats; offsets are in bytes.
type plainArgs struct {
	X        unsafe.Pointer
	Tab      *int
	W        unsafe.Pointer
	Y        unsafe.Pointer
	Segments int
	Len      int
	YBlock   int
	XOff     [maxTileRows]int
	YOff     [maxTileRows]int
}

// outerArgs are the arguments of the outer kernel. It computes for i < r
//
//	dw[i][:] += sum over the positions of a three-fold loop of x[i] * dy[:]
//
// N, XStep and DYStep describe the loop, innermost first; steps are in bytes.
type outerArgs struct {
	X, DY, DW unsafe.Pointer
	N         [3]int
	XStep     [3]int
	DYStep    [3]int
	DYBlock   int // between the two output blocks of a panel
	DWStep    int // between rows of dw
}

type lanes8 [8]float32

// madd8 adds to acc the sum of the products of n floats at x with n rows of 8 weights, rows ws bytes apart.
func madd8(acc *lanes8, x, w unsafe.Pointer, n, ws int) {
	var a0, a1, a2, a3, a4, a5, a6, a7 float32
	for i := range n {
		v := *(*float32)(unsafe.Add(x, i*4))
		r := (*lanes8)(unsafe.Add(w, i*ws))
		a0 += v * r[0]
		a1 += v * r[1]
		a2 += v * r[2]
		a3 += v * r[3]
		a4 += v * r[4]
		a5 += v * r[5]
		a6 += v * r[6]
		a7 += v * r[7]
	}
	acc[0] += a0
	acc[1] += a1
	acc[2] += a2
	acc[3] += a3
	acc[4] += a4
	acc[5] += a5
	acc[6] += a6
	acc[7] += a7
}

// laneGroup returns where group g of 8 lanes lies in a weight row and in an output row.
func laneGroup(g, yBlock int) (w, y int) { return g * 32, g/2*yBlock + g%2*32 }

func laneGroups(wide bool) (groups, rowBytes int) {
	if wide {
		return 4, 4 * panelWidth
	}
	return 2, 4 * Block
}

func gatherGeneric(a *gatherArgs, rows int, wide bool) {
	groups, rowBytes := laneGroups(wide)
	tab := unsafe.Slice((*gatherTap)(a.Tab), a.Taps)
	for i := range rows {
		var acc [4]lanes8
		for b := range a.InBlocks {
			for t := range tab {
				if tab[t].Row[i] < 0 {
					continue
				}
				x := unsafe.Add(a.X, b*a.XStep+tab[t].Row[i])
				w := unsafe.Add(a.W, b*a.WStep+tab[t].Narrow)
				if wide {
					w = unsafe.Add(a.W, b*a.WStep+tab[t].Wide)
				}
				for g := range groups {
					madd8(&acc[g], x, unsafe.Add(w, g*32), Block, rowBytes)
				}
			}
		}
		// A short tile repeats its last row: with From every repetition must read the old value once.
		if a.From != nil && i > 0 && a.YOff[i] == a.YOff[i-1] {
			continue
		}
		for g := range groups {
			_, o := laneGroup(g, a.YBlock)
			y := (*lanes8)(unsafe.Add(a.Y, a.YOff[i]+o))
			if a.From != nil {
				from := (*lanes8)(unsafe.Add(a.From, a.YOff[i]+o))
				for l, v := range from {
					acc[g][l] = v + acc[g][l]
				}
			}
			for l := range y {
				y[l] = acc[g][l]
				if a.Bias != nil {
					y[l] += (*lanes8)(unsafe.Add(a.Bias, g*32))[l]
				}
			}
		}
	}
}

func plainGeneric(a *plainArgs, rows int, wide bool) {
	groups, rowBytes := laneGroups(wide)
	tab := unsafe.Slice(a.Tab, a.Segments)
	for i := range rows {
		var acc [4]lanes8
		for s, off := range tab {
			for g := range groups {
				w, _ := laneGroup(g, 0)
				madd8(&acc[g], unsafe.Add(a.X, a.XOff[i]+off), unsafe.Add(a.W, s*a.Len*rowBytes+w), a.Len, rowBytes)
			}
		}
		for g := range groups {
			_, o := laneGroup(g, a.YBlock)
			*(*lanes8)(unsafe.Add(a.Y, a.YOff[i]+o)) = acc[g]
		}
	}
}

func outerGeneric(a *outerArgs, r int, wide bool) {
	groups, _ := laneGroups(wide)
	for i := range r {
		for g := range groups {
			w, o := laneGroup(g, a.DYBlock)
			var acc lanes8
			for n2 := range a.N[2] {
				for n1 := range a.N[1] {
					x := unsafe.Add(a.X, n2*a.XStep[2]+n1*a.XStep[1]+i*4)
					dy := unsafe.Add(a.DY, n2*a.DYStep[2]+n1*a.DYStep[1]+o)
					for n0 := range a.N[0] {
						madd8(&acc, unsafe.Add(x, n0*a.XStep[0]), unsafe.Add(dy, n0*a.DYStep[0]), 1, 0)
					}
				}
			}
			dw := (*lanes8)(unsafe.Add(a.DW, i*a.DWStep+w))
			for l := range dw {
				dw[l] += acc[l]
			}
		}
	}
}
