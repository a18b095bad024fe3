package ref

import (
	"math"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/goldens"
)

// TestOps runs every case of ops.json but the losses, which are no kernels, in both types.
func TestOps(t *testing.T) {
	ops, err := goldens.LoadOps()
	if err != nil {
		t.Fatal(err)
	}
	if len(ops) != 38 {
		t.Errorf("ops.json has %d cases, want 38", len(ops))
	}
	for _, op := range ops {
		switch op.Op {
		case "focal_loss", "bce_with_logits", "cross_entropy":
			continue
		}
		t.Run(op.Name()+"/float64", func(t *testing.T) { testOp[float64](t, op, 1e-12) })
		t.Run(op.Name()+"/float32", func(t *testing.T) { testOp[float32](t, op, 1e-5) })
	}
}

// testOp compares output, gradients and updated statistics with the stored ones, element by element, to
// within tolerance times the rms of the stored tensor. The file keeps 12 significant digits, so half a unit
// of an element's 12th digit is allowed on top.
func testOp[T Float](t *testing.T, op goldens.Op, tolerance float64) {
	got := runOp[T](t, op)
	if op.GradientStreams != nil {
		for step, want := range op.WeightsAfter {
			compare(t, "weights", got.weights[step], want, tolerance)
		}
		return
	}
	compare(t, "output", got.y, op.Output.Values, tolerance)
	if len(got.grads) != len(op.Grads) {
		t.Errorf("got %d gradients, want %d", len(got.grads), len(op.Grads))
	}
	for name, want := range op.Grads {
		tol := tolerance
		if op.Op == "batch_norm_train" && tolerance > 1e-6 {
			tol *= 10 // float32: the gradient is what remains of sums that cancel
		}
		compare(t, "gradient of "+name, got.grads[name], want, tol)
	}
	for name, want := range op.After {
		compare(t, name, got.after[name], want, tolerance)
	}
}

func compare[T Float](t *testing.T, what string, got []T, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d elements, want %d", what, len(got), len(want))
		return
	}
	var squares float64
	for _, v := range want {
		squares += v * v
	}
	rms := math.Sqrt(squares / float64(len(want)))
	for i, v := range want {
		digit := 0.0
		if v != 0 {
			digit = 0.5 * math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-11)
		}
		if d := math.Abs(float64(got[i]) - v); !(d <= tolerance*rms+1.001*digit) {
			t.Errorf("%s: element %d is %.15g, want %.15g (off by %.3g of the rms)", what, i, got[i], v, d/rms)
			return
		}
	}
}

// result is what a kernel made of a case.
type result[T Float] struct {
	y            []T
	grads, after map[string][]T
	weights      [][]T
}

func runOp[T Float](t *testing.T, op goldens.Op) result[T] {
	in := func(name string) []T { return convert[T](op.Inputs[name].Values()) }
	shape := func(name string) []int { return op.Inputs[name].Shape }
	grad := map[string][]T{}
	for name := range op.Grads {
		grad[name] = make([]T, len(in(name)))
	}
	a := op.Attrs
	win := Window{Kernel: a.Kernel, Stride: a.Stride, Pad: a.Pad}
	y := make([]T, len(op.Output.Values))
	dy := convert[T](op.Upstream())
	r := result[T]{y: y, grads: grad}

	switch op.Op {
	case "conv3d":
		s, outC := shape5(shape("x")), shape("w")[0]
		if got := win.Out(s, outC); got != shape5(op.Output.Shape) {
			t.Fatalf("output shape is %v, want %v", got, op.Output.Shape)
		}
		x, w := in("x"), in("w")
		Conv3D(y, x, w, s, outC, win)
		Conv3DBackwardData(grad["x"], dy, w, s, outC, win)
		Conv3DBackwardWeights(grad["w"], dy, x, s, outC, win)
		if b := in("b"); len(op.Inputs["b"].Shape) > 0 {
			ChannelBias(y, b, win.Out(s, outC))
			ChannelBiasBackward(grad["b"], dy, win.Out(s, outC))
		}
	case "batch_norm_train":
		s, x := shape5(shape("x")), in("x")
		mean, variance := make([]T, s.C), make([]T, s.C)
		runningMean, runningVar := make([]T, s.C), slices.Repeat([]T{1}, s.C)
		BNStats(mean, variance, x, s)
		BNNorm(y, x, mean, variance, in("gamma"), in("beta"), s, a.Eps)
		BNReduce(grad["beta"], grad["gamma"], x, mean, variance, dy, s, a.Eps)
		BNBackward(grad["x"], x, mean, variance, in("gamma"), dy, grad["beta"], grad["gamma"], s, a.Eps)
		BNRunning(runningMean, runningVar, mean, variance, s.N*s.Spatial(), a.Momentum)
		r.after = map[string][]T{"running_mean": runningMean, "running_var": runningVar}
	case "batch_norm_eval":
		s, x := shape5(shape("x")), in("x")
		BNNorm(y, x, in("mean"), in("var"), in("gamma"), in("beta"), s, a.Eps)
		BNReduce(grad["beta"], grad["gamma"], x, in("mean"), in("var"), dy, s, a.Eps)
		BNBackwardFrozen(grad["x"], in("var"), in("gamma"), dy, s, a.Eps)
	case "max_pool3d":
		MaxPool3D(y, in("x"), shape5(shape("x")), win)
		MaxPool3DBackward(grad["x"], in("x"), dy, shape5(shape("x")), win)
	case "avg_pool3d":
		AvgPool3D(y, in("x"), shape5(shape("x")), win)
		AvgPool3DBackward(grad["x"], dy, shape5(shape("x")), win)
	case "global_avg_pool":
		GlobalAvgPool(y, in("x"), shape5(shape("x")))
		GlobalAvgPoolBackward(grad["x"], dy, shape5(shape("x")))
	case "linear":
		m, i, o := shape("x")[0], shape("x")[1], shape("w")[0]
		Linear(y, in("x"), in("w"), in("b"), m, i, o)
		LinearBackwardData(grad["x"], dy, in("w"), m, i, o)
		LinearBackwardWeights(grad["w"], dy, in("x"), m, i, o)
		LinearBackwardBias(grad["b"], dy, m, o)
	case "layer_norm":
		rows, e := shape("x")[0]*shape("x")[1], shape("x")[2]
		LayerNorm(y, in("x"), in("gamma"), in("beta"), rows, e, a.Eps)
		LayerNormBackward(grad["x"], grad["gamma"], grad["beta"], in("x"), in("gamma"), dy, rows, e, a.Eps)
	case "gelu":
		GELU(y, in("x"))
		GELUBackward(grad["x"], in("x"), dy)
	case "relu":
		ReLU(y, in("x"))
		ReLUBackward(grad["x"], y, dy)
	case "attention":
		q := shape("qkv")
		s := AttentionShape{N: q[0], T: q[1], Heads: a.Heads, HeadDim: q[2] / 3 / a.Heads}
		lse := make([]T, s.N*s.Heads*s.T)
		Attention(y, lse, in("qkv"), s)
		AttentionBackward(grad["qkv"], in("qkv"), y, lse, dy, s)
	case "optimizer_adamw", "optimizer_sgd":
		w := in("w")
		m, v := make([]T, len(w)), make([]T, len(w))
		for step, stream := range op.GradientStreams {
			g := convert[T](goldens.Input(stream, len(w)))
			if op.Op == "optimizer_adamw" {
				AdamWStep(w, m, v, g, step+1, AdamW{LR: a.LR, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: a.WeightDecay})
			} else {
				SGDStep(w, m, g, SGD{LR: a.LR, Momentum: a.Momentum, WeightDecay: a.WeightDecay, Nesterov: a.Nesterov})
			}
			r.weights = append(r.weights, slices.Clone(w))
		}
	default:
		t.Fatalf("no kernel for %s", op.Op)
	}
	return r
}

func shape5(s []int) Shape { return Shape{s[0], s[1], s[2], s[3], s[4]} }

func convert[T Float](x []float32) []T {
	y := make([]T, len(x))
	for i, v := range x {
		y[i] = T(v)
	}
	return y
}
