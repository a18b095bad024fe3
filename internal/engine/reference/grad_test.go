package reference

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/ops"
)

// exact is the float64 device that keeps the last value that was read, which would be rounded to float32.
type exact struct {
	Device[float64]
	last *[]float64
}

func (d exact) Export(dst []float32, l engine.Layout, src engine.Buf) {
	*d.last = slices.Clone(of[float64](src)[:len(dst)])
	d.Device.Export(dst, l, src)
}

// net is a random network under test. Leaves get multiples of 2^-10, so that a step of 2^-17 up or down is
// exact in float32, through which they are set.
type net struct {
	g      *graph.Graph
	r      *rand.Rand
	params []*graph.Value
	values map[string][]float32
	count  int
}

const step = 0x1p-17

func (n *net) size(lo, hi int) int { return lo + n.r.IntN(hi-lo+1) }

func (n *net) coin() bool { return n.r.IntN(2) == 0 }

func (n *net) leaf(role graph.Role, class graph.Class, centre, spread float64, shape ...int) *graph.Value {
	n.count++
	v := n.g.Leaf(role, fmt.Sprintf("leaf%d", n.count), graph.Type{Shape: shape, Class: class})
	values := make([]float32, v.Elements())
	for i := range values {
		values[i] = float32(math.Round((centre+spread*(2*n.r.Float64()-1))*1024) / 1024)
	}
	n.values[v.Name] = values
	if role == graph.Parameter {
		n.params = append(n.params, v)
	}
	return v
}

// param adds a parameter with values around centre.
func (n *net) param(centre, spread float64, shape ...int) *graph.Value {
	return n.leaf(graph.Parameter, graph.Dense, centre, spread, shape...)
}

// volume adds a volume that gradients are taken of.
func (n *net) volume(shape ...int) *graph.Value {
	return n.leaf(graph.Parameter, graph.Volume, 0, 1, shape...)
}

func (n *net) conv(x *graph.Value, out int) *graph.Value {
	var kernel, stride, pad [3]int
	fan := x.Dim(1)
	for i := range kernel {
		kernel[i] = n.size(1, 3)
		stride[i] = n.size(1, 2)
		pad[i] = n.size(0, kernel[i]-1)
		if kernel[i] > x.Dim(2+i) {
			pad[i] = kernel[i] - 1
		}
		fan *= kernel[i]
	}
	w := n.param(0, 1.5/math.Sqrt(float64(fan)), out, x.Dim(1), kernel[0], kernel[1], kernel[2])
	return n.g.Apply(ops.Conv3D{Stride: stride, Pad: pad}, x, w)
}

// norm normalises by the batch's statistics, or by given ones.
func (n *net) norm(x *graph.Value, frozen bool) *graph.Value {
	c := x.Dim(1)
	gamma, beta := n.param(1, 0.5, c), n.param(0, 0.5, c)
	if !frozen {
		return n.g.Apply(ops.BNNorm{Eps: 1e-2}, x, n.g.Apply(ops.BNStats{}, x), gamma, beta)
	}
	mean := n.leaf(graph.Buffer, graph.Dense, 0, 0.5, c)
	variance := n.leaf(graph.Buffer, graph.Dense, 1, 0.5, c)
	return n.g.Apply(ops.BNNorm{Eps: 1e-2, Frozen: true}, x, n.g.Apply(ops.Stack2{}, mean, variance), gamma, beta)
}

func (n *net) relu(x *graph.Value) *graph.Value { return n.g.Apply(ops.ReLU{}, x) }

func (n *net) linear(x *graph.Value, out int) *graph.Value {
	in := x.Dim(len(x.Shape) - 1)
	return n.g.Apply(ops.Linear{}, x, n.param(0, 1.5/math.Sqrt(float64(in)), out, in), n.param(0, 0.5, out))
}

func (n *net) layerNorm(x *graph.Value) *graph.Value {
	e := x.Dim(len(x.Shape) - 1)
	return n.g.Apply(ops.LayerNorm{Eps: 1e-2}, x, n.param(1, 0.5, e), n.param(0, 0.5, e))
}

func (n *net) dropout(x *graph.Value, p float64) *graph.Value {
	n.count++
	return n.g.Apply(ops.Dropout{P: p, Key: fmt.Sprintf("dropout%d", n.count)}, x)
}

// loss ends a network of logits (N, C).
func (n *net) loss(t *testing.T, logits *graph.Value) *graph.Value {
	rows, classes := logits.Dim(0), logits.Dim(1)
	task, c, highest := "multilabel", config.Loss{Name: "focal", Alpha: 1, Gamma: 2}, 1
	if classes > 1 && n.coin() {
		task, c, highest = "multiclass", config.Loss{Name: "cross_entropy", LabelSmoothing: 0.1}, classes-1
	}
	l, err := losses.New(c, task, classes)
	if err != nil {
		t.Fatal(err)
	}
	targets := n.leaf(graph.Input, graph.Dense, 0, 0, rows, l.Targets(classes))
	values := n.values[targets.Name]
	for i := range values[1:] { // the first is 0, of the others some are missing
		values[1+i] = float32(n.size(-1, highest))
	}
	scale := n.leaf(graph.Input, graph.Dense, 0.5, 0, 1)
	return n.g.Apply(ops.Loss{F: l}, logits, targets, scale)
}

// checkGradients builds networks with several seeds and compares every gradient with central differences.
func checkGradients(t *testing.T, build func(t *testing.T, n *net) *graph.Value) {
	checked, skipped := 0, 0
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := &net{r: rand.New(rand.NewPCG(seed, 1)), values: map[string][]float32{}}
			var req engine.Request
			g, err := graph.Build(func(g *graph.Graph) error {
				n.g = g
				loss := build(t, n)
				grads, err := g.Gradients(loss, n.params...)
				req = engine.Request{Graph: g, Outputs: []*graph.Value{loss}, Params: n.params, Gradients: grads}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			req.Graph = g
			c, s := n.check(t, req)
			checked, skipped = checked+c, skipped+s
		})
	}
	t.Logf("%d elements compared, %d skipped", checked, skipped)
	if checked < 500 || skipped*50 > checked {
		t.Errorf("%d elements were compared and %d skipped, want at least 500 and at most one in fifty", checked, skipped)
	}
}

// check compares up to 20 elements of each gradient. An element is skipped where the slopes to both sides
// differ by more than curvature explains: a kink of ReLU or max-pooling lies between.
func (n *net) check(t *testing.T, req engine.Request) (checked, skipped int) {
	dev := exact{New[float64](), new([]float64)}
	prog, err := engine.Compile(dev, req)
	if err != nil {
		t.Fatal(err)
	}
	state, err := engine.NewState(dev, prog)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := engine.NewExec(state, prog)
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Close()
	for name, v := range n.values {
		switch {
		case state.Has(name):
			err = state.Set(name, v)
		case prog.Inputs[name] != nil:
			err = exec.SetInput(prog, name, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	output := func(i int) []float64 {
		exec.Output(prog, i)
		return *dev.last
	}
	info := &engine.RunInfo{Seed: 7, Epoch: 3, SampleIDs: []uint64{11, 5, 8}}
	run := func() float64 {
		exec.Run(prog, info)
		return output(0)[0]
	}
	here := run()
	grads := make([][]float64, len(n.params))
	for i := range grads {
		grads[i] = output(1 + i)
	}
	for i, p := range n.params {
		values := n.values[p.Name]
		var squares float64
		for _, v := range grads[i] {
			squares += v * v
		}
		rms := math.Sqrt(squares / float64(len(values)))
		for e := n.r.IntN(1 + len(values)/20); e < len(values); e += 1 + len(values)/20 {
			kept := values[e]
			at := func(v float32) float64 {
				values[e] = v
				if err := state.Set(p.Name, values); err != nil {
					t.Fatal(err)
				}
				return run()
			}
			up, down := at(kept+step), at(kept-step)
			at(kept)
			right, left := (up-here)/step, (here-down)/step
			if math.Abs(right-left) > 1e-3*(rms+math.Abs(right)) {
				skipped++
				continue
			}
			checked++
			if d, got := (up-down)/(2*step), grads[i][e]; !(math.Abs(d-got) <= 1e-7*(0.1+rms)) {
				t.Fatalf("gradient %d of %s %v is %.10g, the central difference %.10g", e, p.Name, p.Shape, got, d)
			}
		}
	}
	return checked, skipped
}

// TestResidualGradients: convolutions, batch norms (their own statistics and given ones), a residual sum,
// pools and a linear layer.
func TestResidualGradients(t *testing.T) {
	checkGradients(t, func(t *testing.T, n *net) *graph.Value {
		g := n.g
		x := n.volume(n.size(2, 3), n.size(1, 3), n.size(4, 6), n.size(4, 6), n.size(4, 7))
		c := n.size(1, 4)
		y := n.relu(n.norm(n.conv(x, c), n.coin()))
		s := y.Shape
		w := n.param(0, 0.5, c, c, 3, 3, 3)
		z := n.norm(g.Apply(ops.Conv3D{Stride: [3]int{1, 1, 1}, Pad: [3]int{1, 1, 1}}, y, w), n.coin())
		if n.coin() { // fused with the norm
			y = n.relu(g.Apply(ops.Add{}, z, y))
		} else {
			y = g.Apply(ops.Add{}, n.relu(z), g.Apply(ops.Scale{By: -0.75}, y))
		}
		var kernel, stride, pad [3]int
		for i := range kernel {
			kernel[i] = min(n.size(1, 3), s[2+i])
			stride[i], pad[i] = n.size(1, 2), n.size(0, kernel[i]/2)
		}
		if n.coin() {
			y = g.Apply(ops.MaxPool3D{Kernel: kernel, Stride: stride, Pad: pad}, y)
		} else {
			y = g.Apply(ops.AvgPool3D{Kernel: kernel, Stride: stride}, y)
		}
		return n.loss(t, n.linear(g.Apply(ops.GlobalAvgPool3D{}, y), n.size(1, 4)))
	})
}

// TestDenseGradients: each layer sees the concatenation of all before it, pre-activated.
func TestDenseGradients(t *testing.T) {
	checkGradients(t, func(t *testing.T, n *net) *graph.Value {
		g := n.g
		frozen := n.coin()
		x := n.volume(2, n.size(1, 5), n.size(3, 4), n.size(3, 4), n.size(3, 5))
		for range n.size(2, 3) {
			w := n.param(0, 0.5, n.size(1, 3), x.Dim(1), 3, 3, 3)
			y := g.Apply(ops.Conv3D{Stride: [3]int{1, 1, 1}, Pad: [3]int{1, 1, 1}}, n.relu(n.norm(x, frozen)), w)
			x = g.Apply(ops.Concat{}, x, n.dropout(y, 0.3))
		}
		x = n.relu(n.norm(x, frozen))
		return n.loss(t, n.linear(g.Apply(ops.GlobalAvgPool3D{}, x), n.size(1, 4)))
	})
}

// TestTransformerGradients: patches, class token and positions, attention and a perceptron with GELU, both
// residual, and the class token's logits.
func TestTransformerGradients(t *testing.T) {
	checkGradients(t, func(t *testing.T, n *net) *graph.Value {
		g := n.g
		patch := [3]int{n.size(1, 2), n.size(1, 3), n.size(1, 2)}
		x := n.volume(n.size(1, 3), n.size(1, 2), patch[0]*n.size(1, 2), patch[1]*2, patch[2]*n.size(1, 2))
		heads := n.size(1, 3)
		e := heads * n.size(2, 4)
		y := n.linear(g.Apply(ops.Patches{Size: patch}, x), e)
		y = g.Apply(ops.EmbedTokens{}, y, n.param(0, 0.5, 1, 1, e), n.param(0, 0.5, 1, y.Dim(1)+1, e))
		y = n.dropout(y, 0.2)
		attended := g.Apply(ops.Attention{Heads: heads}, n.linear(n.layerNorm(y), 3*e))
		y = g.Apply(ops.Add{}, y, n.dropout(n.linear(attended, e), 0.1))
		hidden := g.Apply(ops.GELU{}, n.linear(n.layerNorm(y), 2*e))
		y = g.Apply(ops.Add{}, y, n.linear(hidden, e))
		return n.loss(t, n.linear(g.Apply(ops.FirstToken{}, n.layerNorm(y)), n.size(1, 4)))
	})
}
