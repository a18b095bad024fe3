package cpu

import (
	"slices"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/ops"
)

// denseKernel binds what works on row-major tensors of any meaning.
func (d *Device) denseKernel(op graph.Op, in, out []engine.Layout) (run, int) {
	m := d.m
	switch op := op.(type) {
	case graph.Sum:
		return func(a *args) {
			srcs := slices.Clone(a.in)
			if last := len(srcs) - 1; srcs[last].Same(a.out[0]) { // two terms: the sum is the same either way
				srcs[0], srcs[last] = srcs[last], srcs[0]
			}
			m.SumFlat(a.out[0], srcs...)
		}, 0
	case ops.ReLU:
		return func(a *args) { m.ReLUFlat(a.in[0], a.out[0]) }, 0
	case ops.ReLUBackward:
		return func(a *args) { m.ReLUBackwardFlat(a.in[0], a.in[1], a.out[0]) }, 0
	case ops.Add:
		return func(a *args) { m.SumFlat(a.out[0], a.in[0], a.in[1]) }, 0
	case ops.Scale:
		return func(a *args) { m.Scale(a.in[0], float32(op.By), a.out[0]) }, 0
	case ops.Dropout:
		rows := in[0].Type.Shape[0]
		cols := in[0].Type.Elements() / rows
		return func(a *args) {
			m.Dropout(a.in[0], a.out[0], rows, cols, float32(op.P), dropoutKeys(op, a.info, rows))
		}, 0
	case ops.DropPath:
		rows := in[0].Type.Shape[0]
		cols := in[0].Type.Elements() / rows
		return func(a *args) {
			dropPath(m, engine.PathFactors(op, a.info, rows), a.in[0], cols, a.out[0], cols, cols)
		}, 0
	case ops.Part:
		return func(a *args) {
			if n := out[0].Size; &a.out[0].F32[0] != &a.in[0].F32[op.Offset] {
				copy(a.out[0].F32[:n], a.in[0].F32[op.Offset:])
			}
		}, 0
	case ops.Stack2:
		return func(a *args) { copy(a.out[0].F32[copy(a.out[0].F32, a.in[0].F32):], a.in[1].F32) }, 0
	case ops.Loss:
		n := in[0].Type.Shape[0]
		return func(a *args) {
			a.out[0].F32[0] = float32(engine.LossValue(op.F, widen(a.in[0].F32), widen(a.in[1].F32), n) * float64(a.in[2].F32[0]))
		}, 0
	case ops.LossBackward:
		n := in[0].Type.Shape[0]
		return func(a *args) {
			g := make([]float64, len(a.in[0].F32))
			engine.LossGradient(op.F, widen(a.in[0].F32), widen(a.in[1].F32), g, n)
			scale := float64(a.in[2].F32[0]) * float64(a.in[3].F32[0])
			for i, v := range g {
				a.out[0].F32[i] = float32(v * scale)
			}
		}, 0
	}
	return d.linearKernel(op, in)
}

func widen(x []float32) []float64 {
	w := make([]float64, len(x))
	for i, v := range x {
		w[i] = float64(v)
	}
	return w
}

// linearSizes returns the rows of a linear layer, its inputs and its outputs.
func linearSizes(op graph.Op, in []engine.Layout) (rows, i, o int) {
	a, b := in[0].Type, in[1].Type
	if _, ok := op.(ops.PatchEmbed); ok {
		i := b.Elements() / b.Shape[0]
		return a.Elements() / i, i, b.Shape[0]
	}
	last := a.Shape[len(a.Shape)-1]
	rows = a.Elements() / last
	switch op.(type) {
	case ops.Linear: // x, w
		return rows, last, b.Shape[0]
	case ops.LinearBackwardData: // dy, w
		return rows, b.Elements() / last, last
	}
	return rows, b.Elements() / rows, last // dy, x
}

// linearProduct is the product of a linear layer: (rows, I)·(O, I)ᵀ.
func linearProduct(op graph.Op, in []engine.Layout) kernels.GEMM {
	rows, i, o := linearSizes(op, in)
	g := kernels.GEMM{TransB: true, Packed: i*o <= mostKept, M: rows, N: o, K: i, LDA: i, LDB: i, LDC: o}
	if op, ok := op.(ops.PatchEmbed); ok {
		g.Lines = patchLines(op, in[0].Type.Shape)
	}
	return g
}

// patchLines says where the patches of volumes of shape (N, C, D, H, W) lie: rows in the order of ops.Patches, of lines of
// 16 voxels.
func patchLines(op ops.PatchEmbed, shape []int) *kernels.Lines {
	n, c, d, h, w := shape[0], shape[1], shape[2], shape[3], shape[4]
	pd, ph, pw := op.Size[0], op.Size[1], op.Size[2]
	at := func(ch, z, y, x int) int { return ((ch*d+z)*h+y)*w + x }
	l := &kernels.Lines{}
	for i := range n {
		for z := 0; z < d; z += pd {
			for y := 0; y < h; y += ph {
				for x := 0; x < w; x += pw {
					l.Row = append(l.Row, at(i*c, z, y, x))
				}
			}
		}
	}
	for ch := range c {
		for z := range pd {
			for y := range ph {
				for x := 0; x < pw; x += kernels.Block {
					l.Line = append(l.Line, at(ch, z, y, x))
				}
			}
		}
	}
	return l
}

// mostKept is how many weights a linear layer has at most that keeps them as its product reads them. It is as much again:
// networks with larger layers, of which most of the memory is weights, do without.
const mostKept = 2 << 20

// linearKept returns the elements that a linear layer keeps: its weights as its product reads them.
func (d *Device) linearKept(op graph.Op, in []engine.Layout) int {
	g := linearProduct(op, in)
	switch {
	case in[0].Half && d.takesHalf(op, in, nil):
		return kernels.PairedLen(g.K, g.N)
	case g.Packed:
		return g.PackedLen()
	}
	return 0
}

// linearKernel binds linear layers to matrix products.
func (d *Device) linearKernel(op graph.Op, in []engine.Layout) (run, int) {
	m := d.m
	product := func(g kernels.GEMM) (run, int) { // of the inputs
		return func(a *args) {
			g := g
			g.A, g.B, g.C = a.in[0].F32, a.in[1].F32, a.out[0].F32
			m.GEMM(g, a.work)
		}, m.GEMMWorkspace(g)
	}
	switch op.(type) {
	case ops.Linear, ops.PatchEmbed:
		g := linearProduct(op, in)
		layer, _ := op.(ops.Linear)
		return func(a *args) {
			g := g
			g.A, g.B, g.Bias, g.C = a.in[0].F32, a.in[1].F32, a.in[2].F32, a.out[0].F32
			if layer.Add {
				g.From = a.in[3].F32
			}
			if g.Packed {
				if !a.fresh {
					m.PackB(g, a.kept)
				}
				g.B = a.kept
			}
			m.GEMM(g, a.work)
		}, m.GEMMWorkspace(g)
	case ops.LinearBackwardData: // (rows, O)·(O, I)
		rows, i, o := linearSizes(op, in)
		return product(kernels.GEMM{M: rows, N: i, K: o, LDA: o, LDB: i, LDC: i})
	case ops.LinearBackwardWeights: // (rows, O)ᵀ·(rows, I)
		rows, i, o := linearSizes(op, in)
		return product(kernels.GEMM{TransA: true, M: o, N: i, K: rows, LDA: o, LDB: i, LDC: i})
	case ops.ColumnSum:
		o := in[0].Type.Shape[len(in[0].Type.Shape)-1]
		rows := in[0].Type.Elements() / o
		return func(a *args) { m.ColumnSum(a.in[0], rows, o, a.out[0].F32) }, 0
	case ops.SumSamples:
		n := in[0].Type.Shape[0]
		cols := in[0].Type.Elements() / n
		return func(a *args) { m.ColumnSum(a.in[0], n, cols, a.out[0].F32) }, 0
	}
	return nil, 0
}

// stateKernel binds what changes state.
func (d *Device) stateKernel(op graph.Op, in, _ []engine.Layout) (run, int) {
	m := d.m
	switch op := op.(type) {
	case ops.BNRunning:
		c := in[0].Type.Elements()
		unbias := 1.0
		row := 0
		if op.Variance {
			unbias, row = float64(op.Count)/float64(op.Count-1), c
		}
		return func(a *args) {
			for i := range c {
				batch := float64(a.in[1].F32[row+i]) * unbias
				if batch-batch != 0 { // it would stay for ever
					continue
				}
				a.out[0].F32[i] = float32((1-op.Momentum)*float64(a.in[0].F32[i]) + op.Momentum*batch)
			}
		}, 0
	case ops.Accumulate:
		return func(a *args) {
			if a.info.First {
				copy(a.out[0].F32, a.in[1].F32)
				return
			}
			m.Axpy(1, a.in[1].F32, a.out[0].F32)
		}, 0
	case ops.ClipFactor:
		return func(a *args) {
			var sum float64
			for _, g := range a.in {
				sum += m.SumSquares(g.F32)
			}
			a.out[0].F32[0] = float32(engine.ClipFactor(op, sum))
		}, 0
	case ops.AdamW:
		return d.update(op.Update, 2, func(w, g []float32, states [][]float32, info *engine.RunInfo) bool {
			return m.AdamW(w, g, states[0], states[1], info.LR*op.Rate, op.Beta1, op.Beta2, op.Eps, op.Decay, info.Step)
		}), 0
	case ops.SGD:
		return d.update(op.Update, 1, func(w, g []float32, states [][]float32, info *engine.RunInfo) bool {
			return m.SGDNesterov(w, g, states[0], info.LR*op.Rate, op.Momentum, op.Decay)
		}), 0
	case ops.Lion:
		return d.update(op.Update, 1, func(w, g []float32, states [][]float32, info *engine.RunInfo) bool {
			return m.Lion(w, g, states[0], info.LR*op.Rate, op.Beta1, op.Beta2, op.Decay)
		}), 0
	}
	return nil, 0
}

// update is what the optimisers have in common around their step on w with gradient g, which reports whether g
// was finite.
func (d *Device) update(op ops.Update, states int, step func(w, g []float32, states [][]float32, info *engine.RunInfo) bool) run {
	return func(a *args) {
		g := a.in[len(a.out)].F32
		if op.Clipped {
			factor := a.in[len(a.out)+1].F32[0]
			if factor != factor {
				a.info.NotApplied = true
				return
			}
			if factor != 1 { // nothing reads the gradient after its update
				d.m.Scale(kernels.Floats(g), factor, kernels.Floats(g))
			}
		}
		moments := make([][]float32, states)
		for i := range moments {
			moments[i] = a.out[1+i].F32
		}
		if !step(a.out[0].F32, g, moments, a.info) {
			a.info.NotApplied = true
		}
		if op.Average > 0 {
			d.m.MovingAverage(a.out[1+states].F32, a.out[0].F32, op.AverageDecay(a.info.Step))
		}
	}
}

// dropPath scales the n values of each sample by its factor, from x to y with their strides from sample to sample.
func dropPath(m *kernels.Machine, factors []float64, x kernels.Vec, xStride int, y kernels.Vec, yStride, n int) {
	for i, f := range factors {
		from, to := x.Slice(i*xStride, i*xStride+n), y.Slice(i*yStride, i*yStride+n)
		if f == 0 {
			to.Clear()
		} else {
			m.Scale(from, float32(f), to)
		}
	}
}
