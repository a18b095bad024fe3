// Package reference is a Device of plain Go loops on row-major tensors, in float32 or float64. It is the
// oracle of the tests: slow, simple and, in float64, exact enough for gradient checks of whole networks.
package reference

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels/ref"
	"github.com/ctclass/ctclass/internal/ops"
	"github.com/ctclass/ctclass/internal/rng"
)

// Device runs programs in the element type T.
type Device[T ref.Float] struct{}

// New returns a reference device.
func New[T ref.Float]() Device[T] { return Device[T]{} }

// Name returns "reference".
func (Device[T]) Name() string { return "reference" }

// ElementSize returns the size of T in bytes.
func (Device[T]) ElementSize() int {
	var t T
	return int(unsafe.Sizeof(t))
}

func plain(t graph.Type) engine.Layout { return engine.Layout{Type: t, Size: t.Elements()} }

// InputLayout is row-major, as every layout here.
func (Device[T]) InputLayout(t graph.Type) engine.Layout { return plain(t) }

// ParameterLayout is row-major.
func (Device[T]) ParameterLayout(_ graph.Op, _ int, _ []engine.Layout, t graph.Type) engine.Layout {
	return plain(t)
}

// OutputLayout is row-major.
func (Device[T]) OutputLayout(_ graph.Op, _ int, _ []engine.Layout, t graph.Type) engine.Layout {
	return plain(t)
}

// Parts shares no storage.
func (Device[T]) Parts(graph.Op, []engine.Layout, engine.Layout) []engine.View { return nil }

// Joins has all operations that the engine makes.
func (Device[T]) Joins(graph.Op) bool { return true }

// InPlace shares no storage.
func (Device[T]) InPlace(graph.Op, int) []int { return nil }

// Import converts float32 values to T.
func (Device[T]) Import(dst engine.Buf, _ engine.Layout, src []float32) {
	d := of[T](dst)
	for i, v := range src {
		d[i] = T(v)
	}
}

// Export converts values to float32.
func (Device[T]) Export(dst []float32, _ engine.Layout, src engine.Buf) {
	s := of[T](src)
	for i := range dst {
		dst[i] = float32(s[i])
	}
}

// Values views a buffer of this device.
func (Device[T]) Values(b engine.Buf) []T { return of[T](b) }

func of[T ref.Float](b engine.Buf) []T {
	if len(b) == 0 {
		return nil
	}
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), len(b)/int(unsafe.Sizeof(t)))
}

func shape(l engine.Layout) ref.Shape {
	s := l.Type.Shape
	return ref.Shape{N: s[0], C: s[1], D: s[2], H: s[3], W: s[4]}
}

// rowsOf returns the product of all axes but the last, and the last.
func rowsOf(l engine.Layout) (rows, cols int) {
	s := l.Type.Shape
	cols = s[len(s)-1]
	return l.Type.Elements() / cols, cols
}

// args are the typed arguments of one call.
type args[T ref.Float] struct {
	in, out [][]T
	info    *engine.RunInfo
}

// Kernel binds an operation to its reference loops.
func (Device[T]) Kernel(op graph.Op, in, out []engine.Layout) (engine.Kernel, error) {
	f := volumeKernel[T](op, in, out)
	if f == nil {
		f = denseKernel[T](op, in, out)
	}
	if f == nil {
		f = stateKernel[T](op, in)
	}
	if f == nil {
		return engine.Kernel{}, fmt.Errorf("the reference device has no kernel for %s", op.Kind())
	}
	return engine.Kernel{Run: func(c *engine.Call) {
		a := args[T]{info: c.Info}
		for i, b := range c.In {
			a.in = append(a.in, of[T](b)[:in[i].Type.Elements()])
		}
		for i, b := range c.Out {
			a.out = append(a.out, of[T](b)[:out[i].Type.Elements()])
		}
		f(a)
	}}, nil
}

func volumeKernel[T ref.Float](op graph.Op, in, out []engine.Layout) func(args[T]) {
	switch op := op.(type) {
	case ops.Conv3D:
		x, w := shape(in[0]), window(in[1].Type.Shape, op.Stride, op.Pad)
		return func(a args[T]) { ref.Conv3D(a.out[0], a.in[0], a.in[1], x, out[0].Type.Shape[1], w) }
	case ops.ConvNorm:
		x, w := shape(in[0]), window(in[1].Type.Shape, op.Stride, op.Pad)
		y := shape(out[0])
		norm := bnNorm[T](ops.BNNorm{Eps: op.Eps, Add: op.Add, ReLU: op.ReLU}, y)
		return func(a args[T]) {
			ref.Conv3D(a.out[0], a.in[0], a.in[1], x, y.C, w)
			a.in = append([][]T{a.out[0]}, a.in[2:]...)
			norm(a)
		}
	case ops.ConvNormPool:
		between, err := op.ConvNorm.Infer([]graph.Type{in[0].Type, in[1].Type})
		if err != nil {
			return nil
		}
		y := engine.Layout{Type: between, Size: between.Elements()}
		conv := volumeKernel[T](op.ConvNorm, in, []engine.Layout{y})
		pool := volumeKernel[T](op.Pool, []engine.Layout{y}, out)
		return func(a args[T]) {
			pooled := a.out
			a.out = [][]T{make([]T, y.Size)}
			conv(a)
			pool(args[T]{in: a.out, out: pooled})
		}
	case ops.Conv3DBackwardData:
		x, w := shape(out[0]), window(in[0].Type.Shape, op.Stride, op.Pad)
		return func(a args[T]) {
			ref.Conv3DBackwardData(a.out[0], a.in[1], a.in[0], x, in[1].Type.Shape[1], w)
		}
	case ops.Conv3DBackwardWeights:
		x, w := shape(in[0]), window(op.WShape, op.Stride, op.Pad)
		return func(a args[T]) {
			ref.Conv3DBackwardWeights(a.out[0], a.in[1], a.in[0], x, in[1].Type.Shape[1], w)
		}
	case ops.BNStats:
		x := shape(in[0])
		return func(a args[T]) { ref.BNStats(a.out[0][:x.C], a.out[0][x.C:], a.in[0], x) }
	case ops.BNNorm:
		return bnNorm[T](op, shape(in[0]))
	case ops.BNReduce:
		x := shape(in[0])
		return func(a args[T]) {
			dy := masked(a, 2, 3, op.Masked)
			ref.BNReduce(a.out[0][:x.C], a.out[0][x.C:], a.in[0], a.in[1][:x.C], a.in[1][x.C:], dy, x, op.Eps)
		}
	case ops.BNBackward:
		x := shape(in[0])
		return func(a args[T]) {
			dy := masked(a, 4, 5, op.Masked)
			ref.BNBackward(a.out[0], a.in[0], a.in[1][:x.C], a.in[1][x.C:], a.in[2], dy, a.in[3][:x.C], a.in[3][x.C:], x, op.Eps)
		}
	case ops.BNFrozenBackward:
		x := shape(in[2])
		return func(a args[T]) {
			ref.BNBackwardFrozen(a.out[0], a.in[0][x.C:], a.in[1], masked(a, 2, 3, op.Masked), x, op.Eps)
		}
	case ops.NormPool:
		x, w := shape(in[0]), ref.Window{Kernel: op.Kernel, Stride: op.Stride, Pad: op.Pad}
		return func(a args[T]) { ref.MaxPool3D(a.out[0], rectified(a, x, op.Eps), x, w) }
	case ops.NormPoolReduce:
		x := shape(in[0])
		return func(a args[T]) {
			ref.BNReduce(a.out[0][:x.C], a.out[0][x.C:], a.in[0], a.in[1][:x.C], a.in[1][x.C:], unpooled(a, x, ops.NormPool(op)), x, op.Eps)
		}
	case ops.NormPoolBackward:
		x := shape(in[0])
		return func(a args[T]) {
			ref.BNBackward(a.out[0], a.in[0], a.in[1][:x.C], a.in[1][x.C:], a.in[2], unpooled(a, x, ops.NormPool(op)),
				a.in[5][:x.C], a.in[5][x.C:], x, op.Eps)
		}
	case ops.MaxPool3D:
		x, w := shape(in[0]), ref.Window(op)
		return func(a args[T]) { ref.MaxPool3D(a.out[0], a.in[0], x, w) }
	case ops.MaxPool3DBackward:
		x, w := shape(in[0]), ref.Window(op)
		return func(a args[T]) { ref.MaxPool3DBackward(a.out[0], a.in[0], a.in[1], x, w) }
	case ops.AvgPool3D:
		x, w := shape(in[0]), ref.Window{Kernel: op.Kernel, Stride: op.Stride}
		return func(a args[T]) { ref.AvgPool3D(a.out[0], a.in[0], x, w) }
	case ops.AvgPool3DBackward:
		x, w := shape(out[0]), ref.Window{Kernel: op.Kernel, Stride: op.Stride}
		return func(a args[T]) { ref.AvgPool3DBackward(a.out[0], a.in[0], x, w) }
	case ops.GlobalAvgPool3D:
		x := shape(in[0])
		return func(a args[T]) { ref.GlobalAvgPool(a.out[0], a.in[0], x) }
	case ops.GlobalAvgPool3DBackward:
		x := shape(out[0])
		return func(a args[T]) { ref.GlobalAvgPoolBackward(a.out[0], a.in[0], x) }
	case ops.Concat:
		x, y := shape(in[0]), shape(in[1])
		p, q := x.C*x.Spatial(), y.C*y.Spatial()
		return func(a args[T]) {
			for n := range x.N {
				copy(a.out[0][n*(p+q):], a.in[0][n*p:][:p])
				copy(a.out[0][n*(p+q)+p:], a.in[1][n*q:][:q])
			}
		}
	case ops.ChannelSlice:
		x, s := shape(in[0]), shape(in[0]).Spatial()
		return func(a args[T]) {
			for n := range x.N {
				copy(a.out[0][n*op.Count*s:][:op.Count*s], a.in[0][(n*x.C+op.From)*s:])
			}
		}
	case ops.Patches:
		x := shape(in[0])
		return func(a args[T]) { ref.Patches(a.out[0], a.in[0], x, op.Size) }
	case ops.PatchesBackward:
		x := shape(out[0])
		return func(a args[T]) { ref.PatchesBackward(a.out[0], a.in[0], x, op.Size) }
	}
	return nil
}

func window(w []int, stride, pad [3]int) ref.Window {
	return ref.Window{Kernel: [3]int(w[2:]), Stride: stride, Pad: pad}
}

// rectified is what a NormPool pools: max(0, BN(x)) of its arguments (x, stats, γ, β, …).
func rectified[T ref.Float](a args[T], x ref.Shape, eps float64) []T {
	y := make([]T, len(a.in[0]))
	ref.BNNorm(y, a.in[0], a.in[1][:x.C], a.in[1][x.C:], a.in[2], a.in[3], x, eps)
	ref.ReLU(y, y)
	return y
}

// unpooled is the gradient that reaches the batch norm of a NormPool, from that of the pooled map, input 4.
func unpooled[T ref.Float](a args[T], x ref.Shape, op ops.NormPool) []T {
	y := rectified(a, x, op.Eps)
	g := make([]T, len(y))
	ref.MaxPool3DBackward(g, y, a.in[4], x, ref.Window{Kernel: op.Kernel, Stride: op.Stride, Pad: op.Pad})
	for i, v := range y {
		if !(v > 0) {
			g[i] = 0
		}
	}
	return g
}

func bnNorm[T ref.Float](op ops.BNNorm, x ref.Shape) func(args[T]) {
	return func(a args[T]) {
		y := a.out[0]
		ref.BNNorm(y, a.in[0], a.in[1][:x.C], a.in[1][x.C:], a.in[2], a.in[3], x, op.Eps)
		if op.Add {
			ref.Add(y, y, a.in[4])
		}
		if op.ReLU {
			ref.ReLU(y, y)
		}
	}
}

// masked returns the gradient in[dy], zero where in[y] is not positive if the ReLU was fused.
func masked[T ref.Float](a args[T], dy, y int, on bool) []T {
	if !on {
		return a.in[dy]
	}
	d := make([]T, len(a.in[dy]))
	ref.ReLUBackward(d, a.in[y], a.in[dy])
	return d
}

func denseKernel[T ref.Float](op graph.Op, in, out []engine.Layout) func(args[T]) {
	switch op := op.(type) {
	case graph.Sum:
		return func(a args[T]) {
			copy(a.out[0], a.in[0])
			for _, t := range a.in[1:] {
				ref.Add(a.out[0], a.out[0], t)
			}
		}
	case ops.ReLU:
		return func(a args[T]) { ref.ReLU(a.out[0], a.in[0]) }
	case ops.ReLUBackward:
		return func(a args[T]) { ref.ReLUBackward(a.out[0], a.in[0], a.in[1]) }
	case ops.Add:
		return func(a args[T]) { ref.Add(a.out[0], a.in[0], a.in[1]) }
	case ops.Scale:
		return func(a args[T]) {
			for i, v := range a.in[0] {
				a.out[0][i] = T(op.By) * v
			}
		}
	case ops.GELU:
		return func(a args[T]) { ref.GELU(a.out[0], a.in[0]) }
	case ops.GELUBackward:
		return func(a args[T]) { ref.GELUBackward(a.out[0], a.in[0], a.in[1]) }
	case ops.Dropout:
		return func(a args[T]) { dropout(op, a, in[0].Type.Shape[0]) }
	case ops.DropPath:
		samples := in[0].Type.Shape[0]
		return func(a args[T]) {
			per := len(a.in[0]) / samples
			for n, f := range engine.PathFactors(op, a.info, samples) {
				for i, v := range a.in[0][n*per:][:per] {
					if f == 0 {
						v = 0
					}
					a.out[0][n*per+i] = T(f) * v
				}
			}
		}
	case ops.Linear:
		o := in[1].Type.Shape[0]
		i := in[1].Type.Elements() / o
		return func(a args[T]) {
			ref.Linear(a.out[0], a.in[0], a.in[1], a.in[2], in[0].Type.Elements()/i, i, o)
			if op.Add {
				ref.Add(a.out[0], a.out[0], a.in[3])
			}
		}
	case ops.PatchEmbed:
		o := in[1].Type.Shape[0]
		i := in[1].Type.Elements() / o
		return func(a args[T]) {
			patches := make([]T, len(a.in[0]))
			ref.Patches(patches, a.in[0], shape(in[0]), op.Size)
			ref.Linear(a.out[0], patches, a.in[1], a.in[2], len(patches)/i, i, o)
		}
	case ops.LinearBackwardData:
		rows, o := rowsOf(in[0])
		return func(a args[T]) {
			ref.LinearBackwardData(a.out[0], a.in[0], a.in[1], rows, in[1].Type.Elements()/o, o)
		}
	case ops.LinearBackwardWeights:
		rows, o := rowsOf(in[0])
		return func(a args[T]) {
			ref.LinearBackwardWeights(a.out[0], a.in[0], a.in[1], rows, in[1].Type.Elements()/rows, o)
		}
	case ops.ColumnSum:
		rows, o := rowsOf(in[0])
		return func(a args[T]) { ref.LinearBackwardBias(a.out[0], a.in[0], rows, o) }
	case ops.LayerNorm:
		rows, e := rowsOf(in[0])
		return func(a args[T]) { ref.LayerNorm(a.out[0], a.in[0], a.in[1], a.in[2], rows, e, op.Eps) }
	case ops.LayerNormBackward:
		rows, e := rowsOf(in[0])
		return func(a args[T]) {
			red := make([]T, 2*e)
			if len(a.out) == 2 {
				red = a.out[1]
			}
			ref.LayerNormBackward(a.out[0], red[e:], red[:e], a.in[0], a.in[1], a.in[2], rows, e, op.Eps)
		}
	case ops.LayerNormReduce:
		rows, e := rowsOf(in[0])
		return func(a args[T]) {
			ones, dx := make([]T, e), make([]T, len(a.in[0]))
			for i := range ones {
				ones[i] = 1
			}
			ref.LayerNormBackward(dx, a.out[0][e:], a.out[0][:e], a.in[0], ones, a.in[1], rows, e, op.Eps)
		}
	case ops.Part:
		return func(a args[T]) { copy(a.out[0], a.in[0][op.Offset:]) }
	case ops.Stack2:
		return func(a args[T]) { copy(a.out[0][copy(a.out[0], a.in[0]):], a.in[1]) }
	case ops.EmbedTokens:
		s := in[0].Type.Shape
		return func(a args[T]) {
			embedTokens(a, s[0], s[1], s[2])
		}
	case ops.EmbedTokensBackward:
		s := out[0].Type.Shape
		return func(a args[T]) {
			for n := range s[0] {
				copy(a.out[0][n*s[1]*s[2]:][:s[1]*s[2]], a.in[0][(n*(s[1]+1)+1)*s[2]:])
			}
		}
	case ops.SumSamples:
		n := in[0].Type.Shape[0]
		return func(a args[T]) { ref.LinearBackwardBias(a.out[0], a.in[0], n, len(a.out[0])) }
	case ops.FirstToken:
		s := in[0].Type.Shape
		return func(a args[T]) {
			for n := range s[0] {
				copy(a.out[0][n*s[2]:][:s[2]], a.in[0][n*s[1]*s[2]:])
			}
		}
	case ops.FirstTokenBackward:
		s := op.XShape
		return func(a args[T]) {
			clear(a.out[0])
			for n := range s[0] {
				copy(a.out[0][n*s[1]*s[2]:], a.in[0][n*s[2]:][:s[2]])
			}
		}
	}
	return lossKernel[T](op, in, out)
}

func lossKernel[T ref.Float](op graph.Op, in, out []engine.Layout) func(args[T]) {
	switch op := op.(type) {
	case ops.Attention:
		s := attentionShape(in[0].Type.Shape, op.Heads)
		return func(a args[T]) {
			lse := make([]T, s.N*s.Heads*s.T)
			if len(a.out) == 2 {
				lse = a.out[1]
			}
			ref.Attention(a.out[0], lse, a.in[0], s)
		}
	case ops.AttentionBackward:
		s := attentionShape(in[0].Type.Shape, op.Heads)
		return func(a args[T]) { ref.AttentionBackward(a.out[0], a.in[0], a.in[1], a.in[2], a.in[3], s) }
	case ops.Loss:
		n := in[0].Type.Shape[0]
		return func(a args[T]) {
			a.out[0][0] = T(engine.LossValue(op.F, widen(a.in[0]), widen(a.in[1]), n) * float64(a.in[2][0]))
		}
	case ops.LossBackward:
		n := in[0].Type.Shape[0]
		return func(a args[T]) {
			g := make([]float64, len(a.in[0]))
			engine.LossGradient(op.F, widen(a.in[0]), widen(a.in[1]), g, n)
			for i, v := range g {
				a.out[0][i] = T(v * float64(a.in[2][0]) * float64(a.in[3][0]))
			}
		}
	}
	return nil
}

func widen[T ref.Float](x []T) []float64 {
	w := make([]float64, len(x))
	for i, v := range x {
		w[i] = float64(v)
	}
	return w
}

func attentionShape(qkv []int, heads int) ref.AttentionShape {
	return ref.AttentionShape{N: qkv[0], T: qkv[1], Heads: heads, HeadDim: qkv[2] / 3 / heads}
}

func embedTokens[T ref.Float](a args[T], n, t, e int) {
	x, cls, pos, y := a.in[0], a.in[1], a.in[2], a.out[0]
	for s := range n {
		row := y[s*(t+1)*e:][:(t+1)*e]
		copy(row, cls[:e])
		copy(row[e:], x[s*t*e:][:t*e])
		ref.Add(row, row, pos)
	}
}

func dropout[T ref.Float](op ops.Dropout, a args[T], samples int) {
	limit := uint64(math.Ceil(op.P * (1 << 53)))
	per := len(a.in[0]) / samples
	for n := range samples {
		key := engine.DropoutKey(op, a.info, n)
		for i := range per {
			v := a.in[0][n*per+i] * T(1/(1-op.P))
			if rng.At(key, uint64(i))>>11 < limit {
				v = 0
			}
			a.out[0][n*per+i] = v
		}
	}
}

func stateKernel[T ref.Float](op graph.Op, in []engine.Layout) func(args[T]) {
	switch op := op.(type) {
	case ops.BNRunning:
		c := in[0].Type.Elements()
		return func(a args[T]) {
			mean, variance := make([]T, c), make([]T, c)
			old := slices.Clone(a.out[0])
			defer keepFinite(a.out[0], old)
			if op.Variance {
				ref.BNRunning(mean, a.out[0], a.in[1][:c], a.in[1][c:], op.Count, op.Momentum)
			} else {
				ref.BNRunning(a.out[0], variance, a.in[1][:c], a.in[1][c:], op.Count, op.Momentum)
			}
		}
	case ops.Accumulate:
		return func(a args[T]) {
			if a.info.First {
				copy(a.out[0], a.in[1])
				return
			}
			ref.Add(a.out[0], a.out[0], a.in[1])
		}
	case ops.ClipFactor:
		return func(a args[T]) {
			var sum float64
			for _, g := range a.in {
				for _, v := range g {
					sum += float64(v) * float64(v)
				}
			}
			a.out[0][0] = T(engine.ClipFactor(op, sum))
		}
	case ops.AdamW:
		return update(op.Update, 2, func(w, g []T, states [][]T, info *engine.RunInfo) {
			ref.AdamWStep(w, states[0], states[1], g, info.Step,
				ref.AdamW{LR: info.LR * op.Rate, Beta1: op.Beta1, Beta2: op.Beta2, Eps: op.Eps, WeightDecay: op.Decay})
		})
	case ops.SGD:
		return update(op.Update, 1, func(w, g []T, states [][]T, info *engine.RunInfo) {
			ref.SGDStep(w, states[0], g, ref.SGD{LR: info.LR * op.Rate, Momentum: op.Momentum, WeightDecay: op.Decay, Nesterov: true})
		})
	case ops.Lion:
		return update(op.Update, 1, func(w, g []T, states [][]T, info *engine.RunInfo) {
			ref.LionStep(w, states[0], g, ref.Lion{LR: info.LR * op.Rate, Beta1: op.Beta1, Beta2: op.Beta2, WeightDecay: op.Decay})
		})
	}
	return nil
}

// keepFinite takes back what a batch that is not finite would leave in running statistics for ever.
func keepFinite[T ref.Float](now, old []T) {
	for i, v := range now {
		if v-v != 0 {
			now[i] = old[i]
		}
	}
}

// update is what the optimisers have in common around their step on w with gradient g.
func update[T ref.Float](op ops.Update, states int, step func(w, g []T, states [][]T, info *engine.RunInfo)) func(args[T]) {
	return func(a args[T]) {
		g := a.in[len(a.out)]
		if op.Clipped {
			factor := a.in[len(a.out)+1][0]
			if factor != factor {
				a.info.NotApplied = true
				return
			}
			for i := range g {
				g[i] *= factor
			}
		}
		for _, v := range g {
			if v-v != 0 {
				a.info.NotApplied = true
				return
			}
		}
		step(a.out[0], g, a.out[1:1+states], a.info)
		if op.Average > 0 {
			ref.Average(a.out[1+states], a.out[0], op.AverageDecay(a.info.Step))
		}
	}
}
