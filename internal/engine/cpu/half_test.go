package cpu

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/ops"
)

// halfOperand is an input of an operation under test.
type halfOperand struct {
	shape    []int
	segments []int // of a map, nil for row-major values
	fp32     bool  // statistics, parameters and the network's input
	positive bool
	weight   func(d *Device) engine.Layout // of a convolution's weight
}

func (o halfOperand) layout(d *Device) engine.Layout {
	if o.weight != nil {
		return o.weight(d)
	}
	t := graph.Type{Shape: o.shape}
	if len(o.shape) == 5 {
		t.Class = graph.Volume
	}
	l := plain(t)
	if o.segments != nil {
		l = mapLayout(t, o.segments)
	}
	l.Half = !o.fp32
	return l
}

type halfCase struct {
	name   string
	op     graph.Op
	in     []halfOperand
	out    []graph.Type
	copies bool // there is no such kernel: float32 copies are made
}

// volume is a map in bfloat16.
func volume(segments []int, n, d, h, w int) halfOperand {
	return halfOperand{shape: []int{n, kernels.Channels(segments).Count(), d, h, w}, segments: segments}
}

func vector(shape ...int) halfOperand { return halfOperand{shape: shape, fp32: true, positive: true} }

func (o halfOperand) typ() graph.Type {
	if o.weight != nil {
		return graph.Type{Shape: o.shape}
	}
	return o.layout(nil).Type
}

// halfCases are operations whose kernels take bfloat16 and compute what float32 kernels do on widened values.
func halfCases() []halfCase {
	one, three := [3]int{1, 1, 1}, [3]int{3, 3, 3}
	x, y := volume([]int{7, 20}, 2, 5, 6, 9), volume([]int{24}, 2, 5, 6, 9)
	big := volume([]int{18}, 2, 17, 19, 23) // several pieces
	c := vector(27)
	stats := vector(2, 27)
	weight := func(x halfOperand, stride, pad [3]int, shape ...int) halfOperand {
		return halfOperand{shape: shape, fp32: true, weight: func(d *Device) engine.Layout {
			return d.convWeight(x.layout(d), graph.Type{Shape: shape}, stride, pad)
		}}
	}
	w := weight(x, one, one, 24, 27, 3, 3, 3)
	stemIn := halfOperand{shape: []int{2, 1, 20, 22, 26}, fp32: true} // the direct algorithm forward
	stemOut := volume([]int{32}, 2, 10, 11, 13)
	tiledIn, tiledOut := halfOperand{shape: []int{2, 1, 18, 22, 26}, fp32: true}, volume([]int{32}, 2, 9, 11, 13)
	stemW := weight(stemIn, [3]int{2, 2, 2}, three, 32, 1, 7, 7, 7)
	pooled := volume([]int{7, 20}, 2, 3, 3, 5)
	tokens := halfOperand{shape: []int{2, 9, 41}}
	rows, width := vector(41), vector(2, 41)
	pool := ops.MaxPool3D{Kernel: three, Stride: [3]int{2, 2, 2}, Pad: one}
	norm := ops.NormPool{Eps: 1e-5, Kernel: three, Stride: [3]int{2, 2, 2}, Pad: one}
	conv := ops.Conv3D{Stride: one, Pad: one}
	stem := ops.Conv3D{Stride: [3]int{2, 2, 2}, Pad: three}
	folded := ops.ConvNorm{Stride: one, Pad: one, Eps: 1e-5, ReLU: true}
	stemPool := ops.ConvNormPool{ConvNorm: ops.ConvNorm{Stride: stem.Stride, Pad: stem.Pad, Eps: 1e-5, ReLU: true}, Pool: pool}
	added := folded
	added.Add = true
	c24, stats24, c32, stats32 := vector(24), vector(2, 24), vector(32), vector(2, 32)
	stemPooled := volume([]int{32}, 2, 5, 6, 7)
	of := func(o ...halfOperand) (t []graph.Type) {
		for _, v := range o {
			t = append(t, v.typ())
		}
		return t
	}
	return []halfCase{
		{name: "relu", op: ops.ReLU{}, in: []halfOperand{big}, out: of(big)},
		{name: "relu backward", op: ops.ReLUBackward{}, in: []halfOperand{x, x}, out: of(x)},
		{name: "add", op: ops.Add{}, in: []halfOperand{big, big}, out: of(big)},
		{name: "sum", op: graph.Sum{}, in: []halfOperand{x, x, x}, out: of(x)},
		{name: "dropout", op: ops.Dropout{P: 0.3, Key: "a"}, in: []halfOperand{big}, out: of(big)},
		{name: "drop path", op: ops.DropPath{P: 0.5, Key: "a"}, in: []halfOperand{x}, out: of(x)},
		{name: "concat", op: ops.Concat{}, in: []halfOperand{x, y}, out: of(volume([]int{7, 20, 24}, 2, 5, 6, 9))},
		{name: "slice", op: ops.ChannelSlice{From: 7, Count: 20}, in: []halfOperand{x}, out: of(volume([]int{20}, 2, 5, 6, 9))},
		{name: "stats", op: ops.BNStats{}, in: []halfOperand{big}, out: of(vector(2, 18))},
		{name: "norm", op: ops.BNNorm{Eps: 1e-5, ReLU: true}, in: []halfOperand{x, stats, c, c}, out: of(x)},
		{name: "norm add", op: ops.BNNorm{Eps: 1e-5, ReLU: true, Add: true}, in: []halfOperand{x, stats, c, c, x}, out: of(x)},
		{name: "norm reduce", op: ops.BNReduce{Eps: 1e-5}, in: []halfOperand{x, stats, x}, out: of(stats)},
		{name: "norm reduce masked", op: ops.BNReduce{Eps: 1e-5, Masked: true}, in: []halfOperand{x, stats, x, x}, out: of(stats)},
		{name: "norm backward", op: ops.BNBackward{Eps: 1e-5, Masked: true}, in: []halfOperand{x, stats, c, stats, x, x}, out: of(x)},
		{name: "frozen norm backward", op: ops.BNFrozenBackward{Eps: 1e-5}, in: []halfOperand{stats, c, x}, out: of(x)},
		{name: "norm pool", op: norm, in: []halfOperand{x, stats, c, c}, out: of(pooled)},
		{name: "norm pool reduce", op: ops.NormPoolReduce(norm), in: []halfOperand{x, stats, c, c, pooled}, out: of(stats)},
		{name: "norm pool backward", op: ops.NormPoolBackward(norm), in: []halfOperand{x, stats, c, c, pooled, stats}, out: of(x)},
		{name: "global pool", op: ops.GlobalAvgPool3D{}, in: []halfOperand{x}, out: of(vector(2, 27))},
		{name: "global pool backward", op: ops.GlobalAvgPool3DBackward{}, in: []halfOperand{vector(2, 18)}, out: of(big)},
		{name: "convolution", op: conv, in: []halfOperand{x, w}, out: of(y)},
		{name: "convolution by the input", op: ops.Conv3DBackwardData{Stride: one, Pad: one, XShape: x.shape}, in: []halfOperand{w, y}, out: of(x)},
		{name: "convolution by the weights", op: ops.Conv3DBackwardWeights{Stride: one, Pad: one, WShape: w.shape}, in: []halfOperand{x, y}, out: of(w)},
		{name: "convolution with norm", op: folded, in: []halfOperand{x, w, stats24, c24, c24}, out: of(y)},
		{name: "convolution with norm and sum", op: added, in: []halfOperand{x, w, stats24, c24, c24, y}, out: of(y)},
		{name: "stem", op: stem, in: []halfOperand{stemIn, stemW}, out: of(stemOut)},
		{name: "stem in tiles", op: stem, in: []halfOperand{tiledIn, weight(tiledIn, stem.Stride, three, 32, 1, 7, 7, 7)}, out: of(tiledOut)},
		{name: "stem by the weights", op: ops.Conv3DBackwardWeights{Stride: stem.Stride, Pad: stem.Pad, WShape: stemW.shape}, in: []halfOperand{stemIn, stemOut}, out: of(stemW)},
		{name: "stem with norm and pool", op: stemPool, in: []halfOperand{stemIn, stemW, stats32, c32, c32}, out: of(stemPooled)},
		{name: "stem in tiles with norm and pool", op: stemPool, in: []halfOperand{tiledIn, weight(tiledIn, stem.Stride, three, 32, 1, 7, 7, 7), stats32, c32, c32}, out: of(volume([]int{32}, 2, 5, 6, 7))},
		{name: "layer norm", op: ops.LayerNorm{Eps: 1e-5}, in: []halfOperand{tokens, rows, rows}, out: of(tokens)},
		{name: "layer norm backward", op: ops.LayerNormBackward{Eps: 1e-5}, in: []halfOperand{tokens, rows, tokens}, out: of(tokens, width)},
		{name: "layer norm reduce", op: ops.LayerNormReduce{Eps: 1e-5}, in: []halfOperand{tokens, tokens}, out: of(width)},
		{name: "gelu", op: ops.GELU{}, in: []halfOperand{tokens}, out: of(tokens)},
		{name: "gelu backward", op: ops.GELUBackward{}, in: []halfOperand{tokens, tokens}, out: of(tokens)},
		{name: "dropout of tokens", op: ops.Dropout{P: 0.3, Key: "b"}, in: []halfOperand{tokens}, out: of(tokens)},
		{name: "sum of tokens", op: graph.Sum{}, in: []halfOperand{tokens, tokens, tokens}, out: of(tokens)},
		{name: "column sum", op: ops.ColumnSum{}, in: []halfOperand{tokens}, out: of(rows)},
		{name: "max-pool", op: pool, in: []halfOperand{x}, out: of(pooled), copies: true},
	}
}

// TestHalfKernels checks that kernels which take bfloat16 give the bits of the float32 kernels on widened values, rounded,
// for any number of threads. The products of linear layers and attention have tests of their own.
func TestHalfKernels(t *testing.T) {
	for _, c := range halfCases() {
		t.Run(c.name, func(t *testing.T) {
			for _, isa := range kernels.Supported() {
				for _, threads := range []int{1, 3} {
					d := On(&kernels.Machine{Pool: kernels.NewPool(threads), ISA: isa}, Options{Half: true, Tuning: kernels.Tuning{
						"18x22x26 in plain 1 out 32 kernel 7x7x7 stride 2x2x2 pad 3x3x3": {kernels.Winograd4, kernels.Direct, kernels.Winograd4},
					}})
					testHalfKernel(t, d, c)
					d.Close()
				}
			}
		})
	}
}

func testHalfKernel(t *testing.T, d *Device, c halfCase) {
	t.Helper()
	var in, out []engine.Layout
	for _, o := range c.in {
		in = append(in, o.layout(d))
	}
	for i, typ := range c.out {
		out = append(out, d.OutputLayout(c.op, i, in, typ))
	}
	if !anyHalf(in, out) {
		t.Fatal("nothing is bfloat16")
	}
	if native := d.takesHalf(c.op, in, out); native == c.copies {
		t.Fatalf("%s: takes bfloat16 itself: %v", d.Name(), native)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var operands []kernels.Vec
	for i, o := range c.in {
		v := make([]float32, in[i].Type.Elements())
		for j := range v {
			v[j] = r.Float32()*2 - 1
			if o.positive {
				v[j] = v[j]*v[j] + 0.1
			}
		}
		b := halfBuffer(in[i])
		d.Import(b, in[i], v)
		operands = append(operands, vec(in[i], b))
	}
	run := func(f run, work int) (results []engine.Buf) {
		a := &args{
			in: operands, work: make([]float32, work), kept: make([]float32, d.keptOf(c.op, in, out)),
			info: &engine.RunInfo{SampleIDs: []uint64{3, 4}},
		}
		for _, l := range out {
			results = append(results, halfBuffer(l))
			a.out = append(a.out, vec(l, results[len(results)-1]))
		}
		f(a)
		return results
	}
	native, want := run(d.bind(c.op, in, out)), run(d.widened(c.op, in, out))
	for i := range want {
		if !slices.Equal(native[i], want[i]) {
			t.Errorf("%s on %d threads: output %d differs from that of float32 kernels", d.Name(), d.Threads(), i)
		}
	}
}

func halfBuffer(l engine.Layout) engine.Buf {
	if l.Half {
		return make(engine.Buf, 2*l.Size+64)[:2*l.Size]
	}
	return make(engine.Buf, 4*l.Size+64)[:4*l.Size]
}
