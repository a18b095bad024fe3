package engine_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/engine/reference"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/nn"
	"github.com/ctclass/ctclass/internal/ops"
	"github.com/ctclass/ctclass/internal/rng"
)

// adam is an optimiser of the tests.
type adam struct{ clip float64 }

func (adam) Op(_ string, _ []int, clipped bool) graph.Op {
	return ops.AdamW{Update: ops.Update{Decay: 0.01, Rate: 1, Clipped: clipped}, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
}
func (adam) States() []string    { return []string{"m", "v"} }
func (a adam) ClipNorm() float64 { return a.clip }

// task is a network in training: what engine.Compile compiles, and its first values.
type task struct {
	engine.Request
	params []nn.Param
	x      graph.Type
}

// newTask builds training of the network that build adds. With optimizer nil the gradients are outputs.
func newTask(x graph.Type, optimizer engine.Optimizer, build func(b *nn.Builder, x *graph.Value) *graph.Value) (*task, error) {
	k := &task{Request: engine.Request{Optimizer: optimizer}, x: x}
	loss, err := losses.New(config.Loss{Name: "bce"}, "multilabel", 2)
	if err != nil {
		return nil, err
	}
	k.Graph, err = graph.Build(func(g *graph.Graph) error {
		b := nn.New(g, true)
		logits := build(b, g.Leaf(graph.Input, "x", x))
		l := g.Apply(ops.Loss{F: loss}, logits, g.Leaf(graph.Input, "targets", logits.Type), g.Leaf(graph.Input, "scale", graph.Type{Shape: []int{1}}))
		k.Outputs, k.Params, k.Updates, k.params = []*graph.Value{logits, l}, b.Trainable(), g.Updates, b.Params
		k.Gradients, err = g.Gradients(l, k.Params...)
		return err
	})
	return k, err
}

// run makes one pass and returns outputs and state by name.
func (k *task) run(dev engine.Device, prog *engine.Program) (map[string][]float32, error) {
	state, err := engine.NewState(dev, prog)
	if err != nil {
		return nil, err
	}
	exec, err := engine.NewExec(state, prog)
	if err != nil {
		return nil, err
	}
	defer exec.Close()
	for _, p := range k.params {
		if err := state.Set(p.Value.Name, nn.Initialize(p, 1, nil)); err != nil {
			return nil, err
		}
	}
	s := rng.New(5)
	x := make([]float32, k.x.Elements())
	for i := range x {
		x[i] = float32(s.Normal())
	}
	targets := make([]float32, prog.Inputs["targets"].Type.Elements())
	for i := range targets {
		targets[i] = float32(i % 2)
	}
	for name, v := range map[string][]float32{"x": x, "targets": targets, "scale": {1 / float32(len(targets))}} {
		if err := exec.SetInput(prog, name, v); err != nil {
			return nil, err
		}
	}
	exec.Run(prog, &engine.RunInfo{Seed: 2, SampleIDs: []uint64{7, 8, 9}, LR: 0.1, Step: 1})
	out := map[string][]float32{}
	for _, name := range state.Names() {
		out[name] = state.Get(name)
	}
	for i := range prog.Outputs {
		name := fmt.Sprintf("output %d", i)
		if i >= 2 {
			name = "gradient of " + k.Params[i-2].Name
		}
		out[name] = exec.Output(prog, i)
	}
	return out, nil
}

// small holds one narrow network a family.
func small() map[string]struct {
	config.Model
	shape []int
} {
	return map[string]struct {
		config.Model
		shape []int
	}{
		"ResNet3D": {config.Model{Name: "resnet18_3d", Options: map[string]any{
			"widths": []any{4, 8, 20, 24}, "blocks": []any{1, 2, 1, 1}, "hidden": 6,
		}}, []int{2, 1, 33, 20, 17}},
		"DenseNet3D": {config.Model{Name: "densenet_tiny_3d", Options: map[string]any{
			"stem": "small", "growth": 5, "init_features": 20, "bn_size": 2, "blocks": []any{2, 2, 1, 1}, "drop_rate": 0.1, "hidden": 6,
		}}, []int{2, 1, 16, 8, 9}},
		"ViT3D": {config.Model{Name: "vit_tiny_3d", Options: map[string]any{
			"patch_size": []any{4, 4, 8}, "dim": 24, "heads": 2, "depth": 2, "hidden": 6, "drop_rate": 0.1, "drop_path": 0.5,
		}}, []int{2, 1, 8, 12, 16}},
	}
}

// tasks calls f with each small network, with and without memory savers and with each way to use gradients.
func tasks(t *testing.T, f func(t *testing.T, name string, k *task)) {
	for name, s := range small() {
		for i := range 6 {
			saving := i%2 == 1
			s.UseCheckpointing = &saving
			if name == "DenseNet3D" {
				s.MemoryEfficient = &saving
			}
			optimizer := []engine.Optimizer{nil, adam{}, adam{clip: 0.5}}[i/2]
			t.Run(fmt.Sprintf("%s/saving=%v/optimizer=%v", name, saving, optimizer), func(t *testing.T) {
				net, err := models.New(s.Model, 2)
				if err != nil {
					t.Fatal(err)
				}
				k, err := newTask(graph.Type{Shape: s.shape, Class: graph.Volume}, optimizer, net.Build)
				if err != nil {
					t.Fatal(err)
				}
				f(t, name, k)
			})
		}
	}
}

// TestMemory runs programs of all families symbolically: nothing that is read later is written over.
func TestMemory(t *testing.T) {
	dev := cpu.New(1)
	defer dev.Close()
	tasks(t, func(t *testing.T, _ string, k *task) {
		for _, accumulate := range []bool{false, k.Optimizer == nil} {
			k.Accumulate = accumulate
			prog, err := engine.Compile(dev, k.Request)
			if err != nil {
				t.Fatal(err)
			}
			if err := engine.CheckMemory(prog); err != nil {
				t.Errorf("accumulate %v: %v", accumulate, err)
			}
			if !engine.Clobber(prog) || engine.CheckMemory(prog) == nil {
				t.Error("the check misses two values at one place")
			}
		}
	})
}

// TestFusion compares programs with programs without fusion, in float64 on the reference device.
func TestFusion(t *testing.T) {
	dev := reference.New[float64]()
	tasks(t, func(t *testing.T, name string, k *task) {
		if name == "ViT3D" { // the log-sum-exp of attention exists in its fused form only
			t.Skip("attention is not computed in parts")
		}
		fused, err := engine.Compile(dev, k.Request)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := engine.CompileUnfused(dev, k.Request)
		if err != nil {
			t.Fatal(err)
		}
		if len(fused.Instrs) >= len(plain.Instrs) {
			t.Errorf("%d instructions, %d without fusion", len(fused.Instrs), len(plain.Instrs))
		}
		got, err := k.run(dev, fused)
		if err != nil {
			t.Fatal(err)
		}
		want, err := k.run(dev, plain)
		if err != nil {
			t.Fatal(err)
		}
		for n, v := range want { // exported as float32
			if e := distance(got[n], v); e > 1e-7 {
				t.Errorf("%s is off by %.3g", n, e)
			}
		}
	})
}

// TestDevices compares the CPU device with the reference device in float64.
func TestDevices(t *testing.T) {
	dev := cpu.New(2)
	defer dev.Close()
	exact := reference.New[float64]()
	tasks(t, func(t *testing.T, _ string, k *task) {
		if k.Optimizer != nil { // Adam's first step has the sign of the gradient: rounding shows
			t.Skip("gradients are compared")
		}
		compareDevices(t, k, dev, exact)
	})
}

// tester is what testing.T and rapid.T share here.
type tester interface {
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

func compareDevices(t tester, k *task, dev, exact engine.Device) {
	var results [2]map[string][]float32
	for i, d := range []engine.Device{dev, exact} {
		prog, err := engine.Compile(d, k.Request)
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.CheckMemory(prog); err != nil {
			t.Errorf("%s: %v", d.Name(), err)
		}
		if results[i], err = k.run(d, prog); err != nil {
			t.Fatal(err)
		}
	}
	var all []float64
	for name, want := range results[1] {
		e := distance(results[0][name], want)
		all = append(all, e)
		// A ReLU or maximum near a tie may change over, and sums may cancel: what was overwritten is off by all.
		if e > 0.2 {
			t.Errorf("%s is off by %.3g", name, e)
		}
	}
	slices.Sort(all)
	if m := all[len(all)/2]; m > 1e-3 {
		t.Errorf("the median error is %.3g", m)
	}
}

// distance is the relative l2 distance, absolute near zero.
func distance(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		diff += d * d
		norm += float64(w) * float64(w)
	}
	if math.IsNaN(diff) {
		return math.Inf(1)
	}
	return math.Sqrt(diff) / (math.Sqrt(norm) + 1e-3)
}

// TestRandomGraphs compiles random networks: the devices agree, no memory is written over, and recomputation
// changes no bit.
func TestRandomGraphs(t *testing.T) {
	dev := cpu.New(2)
	defer dev.Close()
	exact := reference.New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "batch")
		x := graph.Type{Shape: []int{n, rapid.IntRange(1, 2).Draw(t, "channels"), 4, 3, 5}, Class: graph.Volume}
		plan := drawPlan(t)
		var results []map[string][]float32
		for _, marks := range []bool{false, true} {
			k, err := newTask(x, nil, plan.build(marks))
			if err != nil {
				t.Fatal(err)
			}
			compareDevices(t, k, dev, exact)
			prog, err := engine.Compile(dev, k.Request)
			if err != nil {
				t.Fatal(err)
			}
			r, err := k.run(dev, prog)
			if err != nil {
				t.Fatal(err)
			}
			results = append(results, r)
		}
		for name, v := range results[0] {
			if !slices.Equal(v, results[1][name]) {
				t.Errorf("%s differs with recomputation", name)
			}
		}
	})
}

// TestUnlikeMaps: the CPU device groups the channels of concatenations and must refuse what it cannot add.
func TestUnlikeMaps(t *testing.T) {
	dev := cpu.New(1)
	defer dev.Close()
	k, err := newTask(graph.Type{Shape: []int{2, 1, 4, 4, 4}, Class: graph.Volume}, nil, func(b *nn.Builder, x *graph.Value) *graph.Value {
		x = b.Conv3D("first", x, 12, 3, 1, 1, nn.KaimingFanIn)
		y := b.Add(b.Concat(x, x), b.Conv3D("second", x, 24, 3, 1, 1, nn.KaimingFanIn))
		return b.Linear("head", b.GlobalAvgPool(y), 2, nil, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Compile(dev, k.Request); err == nil || !strings.Contains(err.Error(), "groups of [12 12] and [24]") {
		t.Errorf("compiled: %v", err)
	}
}

// netPlan is a random network: steps that each take earlier values.
type netPlan []struct {
	kind     string
	from, to int // earlier values
	channels int
	segment  bool
	drop     bool
}

func drawPlan(t *rapid.T) netPlan {
	p := make(netPlan, rapid.IntRange(2, 8).Draw(t, "steps"))
	for i := range p {
		p[i].kind = rapid.SampledFrom([]string{"conv3", "conv1", "norm", "norm relu", "relu", "add", "add relu", "concat", "dropout", "drop path", "dense"}).Draw(t, "kind")
		p[i].from = rapid.IntRange(0, i).Draw(t, "from")
		p[i].to = rapid.IntRange(0, i).Draw(t, "other")
		p[i].channels = rapid.SampledFrom([]int{3, 16, 20}).Draw(t, "out")
		p[i].segment = rapid.Bool().Draw(t, "segment")
		p[i].drop = rapid.Bool().Draw(t, "drop")
	}
	return p
}

// build makes the network of a plan. Values that no later step takes are joined at the end.
func (p netPlan) build(marks bool) func(b *nn.Builder, x *graph.Value) *graph.Value {
	return func(b *nn.Builder, x *graph.Value) *graph.Value {
		values := []*graph.Value{b.Conv3D("stem", x, 12, 3, 1, 1, nn.KaimingFanIn)}
		used := make([]bool, len(p)+1)
		for i, s := range p {
			b.In(fmt.Sprint("step", i), func() {
				b.Recomputed(marks && s.segment, func() {
					b.Dropped(marks && s.drop, func() {
						y, z := values[s.from], values[s.to]
						used[s.from] = true
						switch s.kind {
						case "conv3":
							y = b.Conv3D("conv", y, s.channels, 3, 1, 1, nn.KaimingFanIn)
						case "conv1":
							y = b.Conv3D("conv", y, s.channels, 1, 1, 0, nn.KaimingFanIn)
						case "norm":
							y = b.BatchNorm("norm", y, 1)
						case "norm relu":
							y = b.ReLU(b.BatchNorm("norm", y, 1))
						case "relu":
							y = b.ReLU(y)
						case "dropout":
							y = b.Dropout("dropout", y, 0.3)
						case "drop path":
							y = b.Add(y, b.DropPath("path", b.BatchNorm("norm", y, 1), 0.4))
						case "concat":
							used[s.to] = true
							y = b.Concat(y, z)
						case "dense":
							y = b.Concat(y, b.Conv3D("conv", b.ReLU(b.BatchNorm("norm", y, 1)), 5, 3, 1, 1, nn.KaimingFanIn))
						default:
							if g := parts(y); !slices.Equal(parts(z), g) {
								if len(g) > 1 { // a concatenation adds to its like only
									y = b.Conv3D("unite", y, y.Dim(1), 1, 1, 0, nn.KaimingFanIn)
								}
								z = b.Conv3D("fit", z, y.Dim(1), 1, 1, 0, nn.KaimingFanIn)
							}
							used[s.to] = true
							y = b.Add(b.BatchNorm("norm", y, 1), z)
							if s.kind == "add relu" {
								y = b.ReLU(y)
							}
						}
						values = append(values, y)
					})
				})
			})
		}
		out := values[len(values)-1]
		for i, v := range values[:len(values)-1] {
			if !used[i] {
				out = b.Concat(out, v)
			}
		}
		return b.Linear("head", b.GlobalAvgPool(b.BatchNorm("last", out, 1)), 2, nil, nil)
	}
}

// parts lists the channels of what v is a concatenation of.
func parts(v *graph.Value) []int {
	switch v.Op.(type) {
	case ops.Conv3D:
		return []int{v.Dim(1)}
	case ops.Concat:
		return slices.Concat(parts(v.In[0]), parts(v.In[1]))
	}
	return parts(v.In[0])
}
