package onnx

import (
	"math"
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// fold finds the batch norms that a convolution directly precedes and nothing else reads: their scale and
// shift become the convolution's.
func (e *exporter) fold(values []*graph.Value) {
	for _, v := range values {
		for _, in := range v.In {
			e.users[in]++
		}
	}
	for _, v := range values {
		if _, ok := v.Op.(ops.BNNorm); !ok {
			continue
		}
		if _, ok := v.In[0].Op.(ops.Conv3D); ok && e.users[v.In[0]] == 1 {
			e.folded[v.In[0]] = v
		}
	}
}

// add translates one value.
func (e *exporter) add(v *graph.Value) error {
	in := func(i int) string { return e.names[v.In[i]] }
	name := v.Name + "/" + v.Op.Kind()
	out := ""
	switch op := v.Op.(type) {
	case ops.Conv3D:
		out = e.conv(v, op)
	case ops.BNNorm:
		if e.folded[v.In[0]] == v {
			out = in(0)
		} else {
			out = e.batchNorm(v, op)
		}
	case ops.Stack2, ops.Patches: // part of what reads them
		return nil
	case ops.ReLU:
		out = e.emit(name, "Relu", []string{in(0)})
	case ops.Add:
		out = e.emit(name, "Add", []string{in(0), in(1)})
	case ops.Concat:
		out = e.emit(name, "Concat", []string{in(0), in(1)}, attribute{"axis", 1})
	case ops.MaxPool3D:
		out = e.emit(name, "MaxPool", []string{in(0)}, attribute{"kernel_shape", op.Kernel[:]},
			attribute{"pads", bothEnds(op.Pad)}, attribute{"strides", op.Stride[:]})
	case ops.AvgPool3D:
		out = e.emit(name, "AveragePool", []string{in(0)}, attribute{"kernel_shape", op.Kernel[:]}, attribute{"strides", op.Stride[:]})
	case ops.GlobalAvgPool3D:
		out = e.emit(name, "Flatten", []string{e.emit(name+"/mean", "GlobalAveragePool", []string{in(0)})}, attribute{"axis", 1})
	case ops.Linear:
		out = e.linear(v)
	case ops.EmbedTokens:
		out = e.embed(v)
	case ops.LayerNorm:
		out = e.emit(name, "LayerNormalization", []string{in(0), e.leaf(v.In[1]), e.leaf(v.In[2])},
			attribute{"axis", -1}, attribute{"epsilon", op.Eps})
	case ops.GELU:
		out = e.gelu(name, in(0))
	case ops.Attention:
		out = e.attention(v, op)
	case ops.FirstToken:
		out = e.emit(name, "Gather", []string{in(0), e.numbers(name+"/index", nil, 0)}, attribute{"axis", 1})
	default:
		return errUnknown
	}
	e.names[v] = out
	return nil
}

// bothEnds lists the padding at the beginning of every axis and then at its end.
func bothEnds(pad [3]int) []int { return append(slices.Clone(pad[:]), pad[:]...) }

// conv is a convolution, with the batch norm behind it if that is folded. The products are in float64, each
// rounded by itself, so that a file's bytes do not depend on the machine.
func (e *exporter) conv(v *graph.Value, op ops.Conv3D) string {
	w := v.In[1]
	attrs := []attribute{
		{"kernel_shape", w.Shape[2:]}, {"pads", bothEnds(op.Pad)}, {"strides", op.Stride[:]},
	}
	norm := e.folded[v]
	if norm == nil {
		return e.emit(v.Name, "Conv", []string{e.names[v.In[0]], e.leaf(w)}, attrs...)
	}
	scale, shift := e.scaleShift(norm)
	from := e.parameter(w)
	per := len(from) / w.Dim(0)
	weight := make([]float32, len(from))
	for i, x := range from {
		weight[i] = float32(float64(x) * scale[i/per])
	}
	bias := make([]float32, len(shift))
	for i, b := range shift {
		bias[i] = float32(b)
	}
	in := []string{e.names[v.In[0]], e.constant(w.Name, w.Shape, weight), e.constant(norm.Name+".bias", []int{len(bias)}, bias)}
	return e.emit(v.Name, "Conv", in, attrs...)
}

// scaleShift returns what a batch norm with fixed statistics multiplies by and adds.
func (e *exporter) scaleShift(norm *graph.Value) (scale, shift []float64) {
	mean, variance := e.statistics(norm)
	gamma, beta := e.parameter(norm.In[2]), e.parameter(norm.In[3])
	for c := range gamma {
		s := float64(gamma[c]) / math.Sqrt(float64(variance[c])+norm.Op.(ops.BNNorm).Eps)
		scale = append(scale, s)
		product := float64(mean[c]) * s
		shift = append(shift, float64(beta[c])-float64(product))
	}
	return scale, shift
}

// statistics returns the running mean and variance that a batch norm normalises with.
func (e *exporter) statistics(norm *graph.Value) (mean, variance []float32) {
	stack := norm.In[1]
	return e.parameter(stack.In[0]), e.parameter(stack.In[1])
}

func (e *exporter) batchNorm(v *graph.Value, op ops.BNNorm) string {
	mean, variance := e.statistics(v)
	in := []string{
		e.names[v.In[0]], e.leaf(v.In[2]), e.leaf(v.In[3]),
		e.exact(v.Name+".running_mean", mean), e.exact(v.Name+".running_var", variance),
	}
	return e.emit(v.Name, "BatchNormalization", in, attribute{"epsilon", op.Eps})
}

// linear is a Gemm for vectors (N, I), a product and a sum for tokens (N, T, I), and for patches a convolution
// that steps from patch to patch.
func (e *exporter) linear(v *graph.Value) string {
	x, w, b := v.In[0], v.In[1], v.In[2]
	if p, ok := x.Op.(ops.Patches); ok {
		y := e.emit(v.Name, "Conv", []string{e.names[x.In[0]], e.leaf(w), e.leaf(b)},
			attribute{"kernel_shape", p.Size[:]}, attribute{"strides", p.Size[:]}) // (N, E, d, h, w)
		y = e.emit(v.Name+"/flat", "Reshape", []string{y, e.numbers(v.Name+"/flat/shape", []int{3}, 0, int64(w.Dim(0)), -1)})
		return e.emit(v.Name+"/tokens", "Transpose", []string{y}, attribute{"perm", []int{0, 2, 1}}) // (N, T, E)
	}
	if len(x.Shape) == 2 {
		return e.emit(v.Name, "Gemm", []string{e.names[x], e.leaf(w), e.leaf(b)}, attribute{"transB", 1})
	}
	rows, cols := w.Dim(0), w.Elements()/w.Dim(0)
	from := e.parameter(w)
	turned := make([]float32, len(from))
	for r := range rows {
		for c := range cols {
			turned[c*rows+r] = from[r*cols+c]
		}
	}
	y := e.emit(v.Name+"/product", "MatMul", []string{e.names[x], e.constant(w.Name, []int{cols, rows}, turned)})
	return e.emit(v.Name, "Add", []string{y, e.leaf(b)})
}

// embed prepends the class token and adds the positions, for any batch.
func (e *exporter) embed(v *graph.Value) string {
	cls, pos := e.parameter(v.In[1]), e.parameter(v.In[2])
	x := e.names[v.In[0]]
	// A zero token goes before the others; its position is the class token plus its own position.
	padded := e.emit("cls_token/place", "Pad", []string{x, e.numbers("cls_token/pads", []int{6}, 0, 1, 0, 0, 0, 0)})
	sum := slices.Clone(pos)
	for i, c := range cls {
		sum[i] += c
	}
	return e.emit("pos_embed/add", "Add", []string{padded, e.constant("pos_embed", v.In[2].Shape, sum)})
}

// gelu is x·½·(1 + erf(x/√2)).
func (e *exporter) gelu(name, x string) string {
	half, one := e.constant(name+"/half", nil, []float32{0.5}), e.constant(name+"/one", nil, []float32{1})
	root := e.constant(name+"/root", nil, []float32{math.Sqrt2})
	y := e.emit(name+"/scaled", "Div", []string{x, root})
	y = e.emit(name+"/erf", "Erf", []string{y})
	y = e.emit(name+"/sum", "Add", []string{y, one})
	y = e.emit(name+"/product", "Mul", []string{x, y})
	return e.emit(name, "Mul", []string{y, half})
}

// attention is softmax(q·kᵀ/√d)·v for each head; q is scaled first, which keeps the products small.
func (e *exporter) attention(v *graph.Value, op ops.Attention) string {
	name := v.Name + "/attention"
	width := v.Dim(2)
	each := width / op.Heads
	parts := make([]string, 3)
	for i := range parts {
		parts[i] = e.unique(name + "/" + []string{"q", "k", "v"}[i])
	}
	third := int64(width)
	split := e.numbers(name+"/split", []int{3}, third, third, third)
	e.nodes = append(e.nodes, node{
		op: "Split", name: e.unique(name + "/parts"), in: []string{e.names[v.In[0]], split}, out: slices.Clone(parts), attrs: []attribute{{"axis", -1}},
	})
	heads := e.numbers(name+"/heads", []int{4}, 0, 0, int64(op.Heads), int64(each))
	for i, perm := range [][]int{{0, 2, 1, 3}, {0, 2, 3, 1}, {0, 2, 1, 3}} {
		y := e.emit(parts[i]+"/heads", "Reshape", []string{parts[i], heads})
		parts[i] = e.emit(parts[i]+"/turned", "Transpose", []string{y}, attribute{"perm", perm}) // q, v (N, H, T, d), k (N, H, d, T)
	}
	scale := e.constant(name+"/scale", nil, []float32{float32(1 / math.Sqrt(float64(each)))})
	q := e.emit(name+"/scaled", "Mul", []string{parts[0], scale})
	y := e.emit(name+"/scores", "MatMul", []string{q, parts[1]})
	y = e.emit(name+"/softmax", "Softmax", []string{y}, attribute{"axis", -1})
	y = e.emit(name+"/mixed", "MatMul", []string{y, parts[2]})
	y = e.emit(name+"/turned", "Transpose", []string{y}, attribute{"perm", []int{0, 2, 1, 3}})
	return e.emit(name, "Reshape", []string{y, e.numbers(name+"/shape", []int{3}, 0, 0, int64(width))})
}
