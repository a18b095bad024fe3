package cpu

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/goldens"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/ops"
)

// The forms in which a case of ops.json is built.
const (
	blockedForm   = "blocked"   // the input is a blocked map with a gradient, or row-major where it is no volume
	segmentedForm = "segmented" // as blocked, the channels in two groups that are padded by themselves
	plainForm     = "plain"     // the input is the network's row-major input and has no gradient
	patchesForm   = "patches"   // a convolution whose stride is its kernel, as linear layer on patches
	patchesInput  = "patches of the input"
)

// forms lists the forms of a case that a CPU device runs.
func forms(op goldens.Op) []string {
	x := op.Inputs["x"].Shape
	switch {
	case op.Op == "conv3d" && op.Attrs.Kernel == op.Attrs.Stride && x[1] == 1 && op.Attrs.Kernel != [3]int{1, 1, 1}:
		return []string{blockedForm, plainForm, patchesInput}
	case op.Op == "conv3d" && x[1] == 1:
		return []string{blockedForm, plainForm}
	case op.Op == "conv3d":
		return []string{blockedForm, segmentedForm, plainForm}
	case len(x) == 5:
		return []string{blockedForm, segmentedForm}
	case op.Op == "relu": // of a map of 16 channels, and of two groups of 5 and 11
		return []string{plainForm, blockedForm, segmentedForm}
	}
	return []string{plainForm}
}

// TestOps runs every case of ops.json as a graph, forward and backward, compiled as a network is. The
// reference device must agree to within the digits of the file, float32 devices to within 1e-5 of the rms of
// each tensor; results must not depend on the number of threads. optimizer_sgd has no counterpart, nor has a
// convolution's bias: networks take theirs from the batch norm, or from the linear layer on patches.
func TestOps(t *testing.T) {
	cases, err := goldens.LoadOps()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range cases {
		if op.Op == "optimizer_sgd" {
			continue
		}
		t.Run(op.Name(), func(t *testing.T) {
			all := forms(op)
			if slices.Contains(all, patchesInput) {
				all = append(all, patchesForm) // no network needs the gradient of patches: reference only
			}
			for _, form := range all {
				newJob(t, op, form).run(t, newReferenceProbe[float64]()).check(t, form+" on reference float64", 1e-11)
				newJob(t, op, form).run(t, newReferenceProbe[float32]()).check(t, form+" on reference float32", 1e-5)
			}
			for _, isa := range kernels.Supported() {
				one, three := newCPUProbe(t, isa, 1), newCPUProbe(t, isa, 3)
				for _, form := range forms(op) {
					j := newJob(t, op, form).run(t, one)
					j.check(t, fmt.Sprintf("%s on %s", form, one.Name()), 1e-5)
					k := newJob(t, op, form).run(t, three)
					for i, r := range j.results {
						if !slices.Equal(r.got, k.results[i].got) {
							t.Errorf("%s on %s: %s depends on the number of threads", form, one.Name(), r.name)
						}
					}
				}
			}
		})
	}
}

// result is a value that a run gave and what it should be.
type result struct {
	name      string
	got, want []float64
	// loosen multiplies the tolerance of float32 where the value is what remains of sums that cancel; 0: 1.
	loosen float64
}

// job is a case as a graph with the values of its leaves.
type job struct {
	op      goldens.Op
	form    string
	req     engine.Request
	x       *graph.Value // the operation's input, a volume where it takes one
	y       *graph.Value // its output
	params  map[string]*graph.Value
	state   map[string][]float32
	inputs  map[string][]float32
	times   float64 // the scale of a loss is 1 instead of one over this number of targets
	results []result
}

// newJob builds the graph of a case: the operation and its gradients for the case's upstream.
func newJob(t *testing.T, op goldens.Op, form string) *job {
	t.Helper()
	j := &job{op: op, form: form, params: map[string]*graph.Value{}, state: map[string][]float32{}, inputs: map[string][]float32{}, times: 1}
	var err error
	j.req.Graph, err = graph.Build(func(g *graph.Graph) error {
		if op.Op == "optimizer_adamw" {
			w := j.parameter(g, "w")
			j.y = g.Apply(dot{}, w, g.Leaf(graph.Input, "gradient", w.Type))
			j.req.Optimizer = adamW{ops.AdamW{Update: ops.Update{Decay: op.Attrs.WeightDecay, Rate: 1}, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}}
		} else {
			j.enter(g)
			if err := j.apply(g); err != nil {
				return err
			}
		}
		return j.differentiate(g, j.permute(op.Upstream()))
	})
	if err != nil {
		t.Fatalf("%s: %v", form, err)
	}
	return j
}

// differentiate asks for j.y and, with the gradient of j.y given, for those of all parameters.
func (j *job) differentiate(g *graph.Graph, upstream []float32) (err error) {
	loss := j.y
	if len(j.y.Shape) > 0 {
		dense := j.y
		if j.y.Class == graph.Volume {
			dense = g.Apply(leave{j.y.Shape}, j.y)
		}
		loss = g.Apply(dot{}, dense, g.Leaf(graph.Input, "upstream", dense.Type))
		j.inputs["upstream"] = upstream
	}
	j.req.Outputs, j.req.Params, j.req.Updates = []*graph.Value{j.y}, g.Leaves(graph.Parameter), g.Updates
	j.req.Gradients, err = g.Gradients(loss, j.req.Params...)
	return err
}

// enter makes the leaves of the case, and j.x of the form that is asked for.
func (j *job) enter(g *graph.Graph) {
	for _, name := range []string{"w", "b", "gamma", "beta", "qkv"} {
		if j.op.Op == "conv3d" && name == "b" && !j.patches() {
			continue
		}
		j.parameter(g, name)
	}
	in, ok := j.op.Inputs["x"]
	if !ok {
		return
	}
	if len(in.Shape) == 5 && (j.form == plainForm || j.form == patchesInput) {
		j.x = g.Leaf(graph.Input, "x", graph.Type{Shape: in.Shape, Class: graph.Volume})
		j.inputs["x"] = in.Values()
		return
	}
	j.x = j.parameter(g, "x")
	if j.form == plainForm {
		return
	}
	shape := in.Shape
	if j.op.Op == "relu" {
		shape = []int{2, 16, 1, 2, 1}
	}
	e := enter{shape: shape}
	if c := shape[1]; j.form == segmentedForm {
		e.segments = []int{(c + 2) / 3, c - (c+2)/3}
	}
	j.x = g.Apply(e, j.x)
}

// parameter adds an input of the case as a row-major parameter; nil where the case has none of this name.
func (j *job) parameter(g *graph.Graph, name string) *graph.Value {
	in, ok := j.op.Inputs[name]
	if !ok {
		return nil
	}
	j.params[name] = g.Leaf(graph.Parameter, name, graph.Type{Shape: in.Shape})
	j.state[name] = in.Values()
	return j.params[name]
}

func (j *job) buffer(g *graph.Graph, name string, values []float32) *graph.Value {
	j.state[name] = values
	return g.Leaf(graph.Buffer, name, graph.Type{Shape: []int{len(values)}})
}

func (j *job) patches() bool { return j.form == patchesForm || j.form == patchesInput }

// apply adds the operation.
func (j *job) apply(g *graph.Graph) error {
	a, p := j.op.Attrs, j.params
	switch j.op.Op {
	case "conv3d":
		if j.patches() {
			j.y = g.Apply(ops.Linear{}, g.Apply(ops.Patches{Size: a.Kernel}, j.x), p["w"], p["b"])
			return nil
		}
		j.y = g.Apply(ops.Conv3D{Stride: a.Stride, Pad: a.Pad}, j.x, p["w"])
	case "batch_norm_train":
		c := j.x.Dim(1)
		stats := g.Apply(ops.BNStats{}, j.x)
		j.y = g.Apply(ops.BNNorm{Eps: a.Eps}, j.x, stats, p["gamma"], p["beta"])
		mean := j.buffer(g, "running_mean", make([]float32, c))
		variance := j.buffer(g, "running_var", slices.Repeat([]float32{1}, c))
		n := j.x.Elements() / c
		g.SetUpdate(mean, g.Apply(ops.BNRunning{Momentum: a.Momentum, Count: n}, mean, stats))
		g.SetUpdate(variance, g.Apply(ops.BNRunning{Momentum: a.Momentum, Count: n, Variance: true}, variance, stats))
	case "batch_norm_eval":
		stats := g.Apply(ops.Stack2{}, j.buffer(g, "mean", j.op.Inputs["mean"].Values()), j.buffer(g, "var", j.op.Inputs["var"].Values()))
		j.y = g.Apply(ops.BNNorm{Eps: a.Eps, Frozen: true}, j.x, stats, p["gamma"], p["beta"])
	case "max_pool3d":
		j.y = g.Apply(ops.MaxPool3D{Kernel: a.Kernel, Stride: a.Stride, Pad: a.Pad}, j.x)
	case "avg_pool3d":
		j.y = g.Apply(ops.AvgPool3D{Kernel: a.Kernel, Stride: a.Stride}, j.x)
	case "global_avg_pool":
		j.y = g.Apply(ops.GlobalAvgPool3D{}, j.x)
	case "linear":
		j.y = g.Apply(ops.Linear{}, j.x, p["w"], p["b"])
	case "layer_norm":
		j.y = g.Apply(ops.LayerNorm{Eps: a.Eps}, j.x, p["gamma"], p["beta"])
	case "gelu":
		j.y = g.Apply(ops.GELU{}, j.x)
	case "relu":
		j.y = g.Apply(ops.ReLU{}, j.x)
	case "attention":
		j.y = g.Apply(ops.Attention{Heads: a.Heads}, p["qkv"])
	case "focal_loss", "bce_with_logits", "cross_entropy":
		return j.applyLoss(g)
	default:
		return fmt.Errorf("there is no operation for %s", j.op.Op)
	}
	return nil
}

// applyLoss adds a loss. Its scale is 1, which is exact in float32; j.times makes up for it.
func (j *job) applyLoss(g *graph.Graph) error {
	a := j.op.Attrs
	task, c := "multilabel", config.Loss{Alpha: a.Alpha, Gamma: a.Gamma}
	targets := goldens.Targets(goldens.OpTargetStream, j.x.Elements())
	switch j.op.Op {
	case "focal_loss":
		c.Name = "focal"
	case "bce_with_logits":
		c = config.Loss{Name: "bce", PosWeight: config.PosWeight{Values: a.PosWeight}}
	case "cross_entropy":
		task, c = "multiclass", config.Loss{Name: "cross_entropy", ClassWeight: a.ClassWeight, LabelSmoothing: a.LabelSmoothing}
		targets = nil
		for _, class := range a.Targets.Classes {
			targets = append(targets, float32(class))
		}
	}
	n, classes := j.x.Dim(0), j.x.Dim(1)
	loss, err := losses.New(c, task, classes)
	if err != nil {
		return err
	}
	j.times = loss.Count(targets)
	j.inputs["targets"], j.inputs["scale"] = targets, []float32{1}
	j.y = g.Apply(ops.Loss{F: loss}, j.x,
		g.Leaf(graph.Input, "targets", graph.Type{Shape: []int{n, loss.Targets(classes)}}),
		g.Leaf(graph.Input, "scale", graph.Type{Shape: []int{1}}))
	return nil
}

// permute takes values of the golden's output (N, K, voxels) to the order of patches (N, voxels, K).
func (j *job) permute(values []float32) []float32 {
	if !j.patches() {
		return values
	}
	s := j.op.Output.Shape
	n, k, v := s[0], s[1], s[2]*s[3]*s[4]
	out := make([]float32, len(values))
	for i := range n {
		for c := range k {
			for p := range v {
				out[(i*v+p)*k+c] = values[(i*k+c)*v+p]
			}
		}
	}
	return out
}

// adamW makes the optimiser's operation the same for every parameter.
type adamW struct{ op ops.AdamW }

func (o adamW) Op(string, []int, bool) graph.Op { return o.op }
func (o adamW) States() []string                { return []string{"m", "v"} }
func (o adamW) ClipNorm() float64               { return 0 }

// run compiles the graph for the device, runs it and keeps the results.
func (j *job) run(t *testing.T, dev probed) *job {
	t.Helper()
	prog, err := engine.Compile(dev, j.req)
	if err != nil {
		t.Fatalf("%s on %s: %v", j.form, dev.Name(), err)
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
	for name, v := range j.state {
		if err := state.Set(name, v); err != nil {
			t.Fatal(err)
		}
	}
	set := func(name string, values []float32) {
		if err := exec.SetInput(prog, name, values); err != nil {
			t.Fatal(err)
		}
	}
	if j.op.GradientStreams != nil {
		for step, stream := range j.op.GradientStreams {
			set("gradient", goldens.Input(stream, len(j.state["w"])))
			exec.Run(prog, &engine.RunInfo{LR: j.op.Attrs.LR, Step: step + 1})
			state.Get("w")
			j.add(fmt.Sprintf("the weights after step %d", step+1), dev.exact(), j.op.WeightsAfter[step])
		}
		return j
	}
	for name, v := range j.inputs {
		set(name, v)
	}
	exec.Run(prog, &engine.RunInfo{Seed: 3, Epoch: 1, SampleIDs: []uint64{8, 5}})
	exec.Output(prog, 0)
	j.add("the output", j.output(dev.exact()), j.op.Output.Values)
	for i, p := range j.req.Params {
		exec.Output(prog, 1+i)
		j.add("the gradient of "+p.Name, dev.exact(), j.op.Grads[p.Name])
		if j.op.Op == "batch_norm_train" {
			r := &j.results[len(j.results)-1]
			r.loosen = 10
			// Two values a channel: the gradient is a thousandth of the terms that cancel in it, and the plain Go
			// loops round each of them, where the others fuse multiplication and addition.
			if strings.HasSuffix(dev.Name(), "generic") && j.x.Elements() == 2*j.x.Dim(1) {
				r.loosen = 15
			}
		}
	}
	for name, want := range j.op.After {
		state.Get(name)
		j.add(name, dev.exact(), want)
	}
	slices.SortFunc(j.results, func(a, b result) int { return slices.Compare([]byte(a.name), []byte(b.name)) })
	return j
}

// output brings the output into the golden's form: its order of elements, and with its bias.
func (j *job) output(got []float64) []float64 {
	if j.patches() {
		s := j.op.Output.Shape
		k, v := s[1], s[2]*s[3]*s[4]
		out := make([]float64, len(got))
		for i := range out {
			out[i] = got[(i/(k*v)*v+i%v)*k+i/v%k]
		}
		return out
	}
	if in, ok := j.op.Inputs["b"]; ok && j.op.Op == "conv3d" {
		b, voxels := in.Values(), j.y.Elements()/j.y.Dim(0)/j.y.Dim(1)
		for i := range got {
			got[i] += float64(b[i/voxels%len(b)])
		}
	}
	return got
}

func (j *job) add(name string, got, want []float64) {
	w := slices.Clone(want)
	for i := range w {
		w[i] *= j.times
	}
	j.results = append(j.results, result{name: name, got: got, want: w})
}

// check compares every element, to within the tolerance of the tensor's rms and the digits of the file.
func (j *job) check(t *testing.T, where string, tolerance float64) {
	t.Helper()
	if len(j.results) == 0 {
		t.Fatalf("%s: nothing was computed", where)
	}
	for _, r := range j.results {
		tol := tolerance
		if r.loosen > 0 && tol > 1e-6 {
			tol *= r.loosen
		}
		if len(r.got) != len(r.want) || len(r.want) == 0 {
			t.Errorf("%s: %s has %d elements, want %d", where, r.name, len(r.got), len(r.want))
			continue
		}
		var squares float64
		for _, v := range r.want {
			squares += v * v
		}
		rms := math.Sqrt(squares / float64(len(r.want)))
		for i, v := range r.want {
			// The file keeps 12 digits: an error of at most 5e-12 of the element.
			if d := math.Abs(r.got[i] - v); !(d <= tol*rms+5e-12*math.Abs(v)) {
				t.Errorf("%s: element %d of %s is %.9g, want %.9g (off by %.2g of the rms)", where, i, r.name, r.got[i], v, d/rms)
				break
			}
		}
	}
}
