package kernels

import "unsafe"

// The products of a linear layer whose activations are bfloat16, in pairs. Weights are rounded to bfloat16 on their way
// into panels, sums are float32. The inner dimension is never cut, so that a row of a result does not depend on the
// number of rows; that of the weight gradient, the rows themselves, is cut to blocks of pairDepth.

const (
	// pairTile is the number of rows that a task takes: a multiple of 12.
	pairTile = 96
	// pairDepth is the number of rows of activations that a weight gradient sums up at a time.
	pairDepth = 4096
)

// PairsFit reports whether the products of a linear layer have sizes that the pairs kernels take.
func PairsFit(in, out int) bool { return in%panelWidth == 0 && out%panelWidth == 0 }

// pairProducts describes C [m][n] = A·B in pairs.
type pairProducts struct {
	args  pairArgs // A, C and Bias of the first row and column; the pairs of a panel of B
	aTile int      // bytes from the first of pairTile rows of A to the next
	b     []float32
	m, n  int
}

// multiply computes all tiles.
func (m *Machine) multiply(p *pairProducts) {
	k := convKernelsFor(m.ISA)
	tiles, panels := ceilDiv(p.m, pairTile), p.n/panelWidth
	groups := min(panels, ceilDiv(16*m.Threads(), tiles))
	size := 4
	if p.args.Mode == pairHalf {
		size = 2
	}
	m.Run(tiles*groups, func(_, i int) {
		tile, group := i/groups, i%groups
		for panel := panels * group / groups; panel < panels*(group+1)/groups; panel++ {
			a := p.args
			a.A = unsafe.Add(a.A, tile*p.aTile)
			a.B = unsafe.Pointer(&p.b[panel*a.Pairs*panelWidth])
			a.C = unsafe.Add(a.C, tile*pairTile*a.CRow+panel*panelWidth*size)
			if a.Bias != nil {
				a.Bias = unsafe.Add(a.Bias, panel*panelWidth*4)
			}
			k.pairProduct(a, min(pairTile, p.m-tile*pairTile))
		}
	})
}

// PairedLen returns the floats of what PairLinear makes of the weights of a linear layer.
func PairedLen(in, out int) int { return in * out / 2 }

// PairLinearWorkspace returns the floats of workspace that PairLinear needs.
func (m *Machine) PairLinearWorkspace(in int) int { return m.Threads()*Block*in/2 + Block }

// PairLinear makes of the weights w [out][in] of a linear layer the panels that LinearHalf takes.
func (m *Machine) PairLinear(w []float32, in, out int, paired, ws []float32) {
	k, t := convKernelsFor(m.ISA), m.ewTable()
	scratch, _ := takeAligned(ws, m.Threads()*Block*in/2)
	m.Run(out/panelWidth, func(worker, panel int) {
		rounded := unsafe.Slice((*uint16)(unsafe.Pointer(&scratch[worker*Block*in/2])), Block*in)
		k.packColumns(t, paired[panel*in/2*panelWidth:], Floats(w), panel*panelWidth*in, in, in, rounded)
	})
}

// LinearHalf sets y [rows][out] to x [rows][in] times the transpose of the paired weights [out][in] plus bias. x and y are
// bfloat16.
func (m *Machine) LinearHalf(x Vec, rows, in int, paired []float32, out int, bias []float32, y Vec) {
	m.multiply(&pairProducts{
		args: pairArgs{
			A: unsafe.Pointer(&x.Half[0]), C: unsafe.Pointer(&y.Half[0]), Bias: unsafe.Pointer(&bias[0]),
			Pairs: in / 2, ARow: 2 * in, ACol: 4, CRow: 2 * out, Mode: pairHalf,
		},
		aTile: pairTile * 2 * in, b: paired, m: rows, n: out,
	})
}

// LinearBackwardDataHalfWorkspace returns the floats of workspace that LinearBackwardDataHalf needs.
func (m *Machine) LinearBackwardDataHalfWorkspace(in, out int) int { return in*out/2 + Block }

// LinearBackwardDataHalf sets dx [rows][in] to dy [rows][out] times w [out][in]. dy and dx are bfloat16.
func (m *Machine) LinearBackwardDataHalf(dy Vec, rows, out int, w []float32, in int, dx Vec, ws []float32) {
	k := convKernelsFor(m.ISA)
	b, _ := takeAligned(ws, in*out/2)
	m.Run(in/panelWidth, func(_, panel int) {
		k.packRows(b[panel*out/2*panelWidth:], panelWidth, Floats(w), panel*panelWidth, out, in)
	})
	m.multiply(&pairProducts{
		args: pairArgs{
			A: unsafe.Pointer(&dy.Half[0]), C: unsafe.Pointer(&dx.Half[0]),
			Pairs: out / 2, ARow: 2 * out, ACol: 4, CRow: 2 * in, Mode: pairHalf,
		},
		aTile: pairTile * 2 * out, b: b, m: rows, n: in,
	})
}

// LinearBackwardWeightsHalfWorkspace returns the floats of workspace that LinearBackwardWeightsHalf needs.
func (m *Machine) LinearBackwardWeightsHalfWorkspace(rows, in, out int) int {
	return ceilDiv(min(rows, pairDepth), 2)*(in+ceilDiv(out, pairTile)*pairTile) + 2*Block
}

// LinearBackwardWeightsHalf sets dw [out][in] to the transpose of dy [rows][out] times x [rows][in]. dy and x are
// bfloat16.
func (m *Machine) LinearBackwardWeightsHalf(dy, x Vec, rows, out, in int, dw, ws []float32) {
	k := convKernelsFor(m.ISA)
	most, tiles, panels := ceilDiv(min(rows, pairDepth), 2), ceilDiv(out, pairTile), in/panelWidth
	a, ws := takeAligned(ws, most*tiles*pairTile)
	b, _ := takeAligned(ws, most*in)
	for first := 0; first < rows; first += pairDepth {
		n := min(pairDepth, rows-first)
		pairs := ceilDiv(n, 2)
		m.Run(out/panelWidth+panels, func(_, i int) {
			if i < panels {
				k.packRows(b[i*pairs*panelWidth:], panelWidth, x, first*in+i*panelWidth, n, in)
				return
			}
			column := (i - panels) * panelWidth
			to := a[column/pairTile*pairs*pairTile+column%pairTile:]
			k.packRows(to, pairTile, dy, first*out+column, n, out)
		})
		mode := pairStore
		if first > 0 {
			mode = pairAdd
		}
		m.multiply(&pairProducts{
			args: pairArgs{
				A: unsafe.Pointer(&a[0]), C: unsafe.Pointer(&dw[0]),
				Pairs: pairs, ARow: 4, ACol: 4 * pairTile, CRow: 4 * in, Mode: mode,
			},
			aTile: 4 * pairs * pairTile, b: b, m: out, n: in,
		})
	}
}
