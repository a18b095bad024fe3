package session

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/reference"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// optimizerCase is a case of bench/pytorch/optimizers.py: two parameters, a row w and a bias, over 100 steps.
type optimizerCase struct {
	Name        string
	LR          float64
	Betas       [2]float64
	Eps         float64
	Momentum    float64
	WeightDecay float64 `json:"weight_decay"`
	Clip        float64
	Average     float64
	First       []float64
	After       []struct {
		Step             int
		W, Bias, Average []float64
	}
}

func (c optimizerCase) optimizer() Optimizer {
	o := Optimizer{Decay: c.WeightDecay, Clip: c.Clip, Average: c.Average}
	switch c.Name {
	case "adamw":
		o.Rule = AdamW{c.Betas[0], c.Betas[1], c.Eps}
	case "sgd":
		o.Rule = SGD{c.Momentum}
	case "lion":
		o.Rule = Lion{c.Betas[0], c.Betas[1]}
	}
	return o
}

// itself is a loss that is its only logit.
type itself struct{}

func (itself) Name() string    { return "itself" }
func (itself) Targets(int) int { return 1 }
func (itself) Row(logits, _, grad []float64) float64 {
	if grad != nil {
		grad[0] = 1
	}
	return logits[0]
}

// After 100 steps at changing rates the optimisers, clipping and the average are where PyTorch's are: to 1e-6 of
// the largest weight in float32, and as far as float32 can tell in the float64 of the reference.
func TestOptimizersAsPyTorch(t *testing.T) {
	raw, err := os.ReadFile("testdata/optimizers.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []optimizerCase }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	for _, c := range file.Cases {
		for name, dev := range map[string]engine.Device{"fast": cpuDevice(t), "reference": reference.New[float64]()} {
			tolerance := 1e-6
			if name == "reference" {
				tolerance = 1e-7 // the state is read as float32
			}
			exec, prog := rowTask(t, dev, c.optimizer(), len(c.First))
			for step := 1; step <= 100; step++ {
				if err := exec.SetInput(prog, "x", gradientRow(step, len(c.First))); err != nil {
					t.Fatal(err)
				}
				info := engine.RunInfo{LR: c.LR * (1.5 + math.Cos(float64(step)/7)) / 2, Step: step}
				exec.Run(prog, &info)
				for _, want := range c.After {
					if want.Step != step {
						continue
					}
					top := 0.0
					for _, v := range slices.Concat(want.W, want.Bias) {
						top = max(top, math.Abs(v))
					}
					check := func(tensor string, want []float64) {
						for i, got := range exec.State().Get(tensor) {
							if !(math.Abs(float64(got)-want[i]) <= tolerance*top) {
								t.Errorf("%s %+v on %s, step %d: %s[%d] is %v, want %v", c.Name, c.optimizer(), name, step, tensor, i, got, want[i])
							}
						}
					}
					check("w", want.W)
					check("b", want.Bias)
					if want.Average != nil {
						check(engine.OptimizerState(average, "w"), want.Average)
					}
				}
			}
			exec.Close()
		}
	}
}

// rowTask compiles training of w (1, n) and b (1) with the loss x·w + b, whose gradients are x and 1.
func rowTask(t *testing.T, dev engine.Device, opt Optimizer, n int) (*engine.Exec, *engine.Program) {
	t.Helper()
	req := engine.Request{Optimizer: opt}
	var err error
	req.Graph, err = graph.Build(func(g *graph.Graph) (err error) {
		w := g.Leaf(graph.Parameter, "w", graph.Type{Shape: []int{1, n}})
		b := g.Leaf(graph.Parameter, "b", graph.Type{Shape: []int{1}})
		y := g.Apply(ops.Linear{}, g.Leaf(graph.Input, "x", w.Type), w, b)
		one := graph.Type{Shape: []int{1}}
		loss := g.Apply(ops.Loss{F: itself{}}, y, g.Leaf(graph.Input, "targets", graph.Type{Shape: []int{1, 1}}), g.Leaf(graph.Input, "scale", one))
		req.Outputs, req.Params = []*graph.Value{loss}, []*graph.Value{w, b}
		req.Gradients, err = g.Gradients(loss, req.Params...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
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
	first := make([]float32, n)
	for i := range first {
		first[i] = float32(math.Sin(float64(1 + i)))
	}
	for name, v := range map[string][]float32{"w": first, "b": {0.5}} {
		if err := state.Set(name, v); err != nil {
			t.Fatal(err)
		}
	}
	if opt.Average > 0 {
		state.Copy(engine.OptimizerState(average, "w"), "w")
	}
	if err := exec.SetInput(prog, "scale", []float32{1}); err != nil {
		t.Fatal(err)
	}
	return exec, prog
}

// gradientRow is the gradient that the script gives w.
func gradientRow(step, n int) []float32 {
	g := make([]float32, n)
	for i := range g {
		g[i] = float32(float64((step*37+i*101+step*i*13)%257-128) / 128 * math.Pow(10, float64(i%4-2)))
	}
	return g
}

// The rate of a parameter multiplies its whole step, weight decay included.
func TestRate(t *testing.T) {
	for _, rule := range []Rule{AdamW{0.9, 0.999, 1e-8}, SGD{0.9}, Lion{0.9, 0.99}} {
		run := func(opt Optimizer, lr float64) []float32 {
			exec, prog := rowTask(t, cpuDevice(t), opt, 21)
			defer exec.Close()
			for step := 1; step <= 3; step++ {
				if err := exec.SetInput(prog, "x", gradientRow(step, 21)); err != nil {
					t.Fatal(err)
				}
				exec.Run(prog, &engine.RunInfo{LR: lr, Step: step})
			}
			return exec.State().Get("w")
		}
		slow := Optimizer{Rule: rule, Decay: 0.1, Rate: func(param string) float64 {
			if param == "w" {
				return 0.25
			}
			return 1
		}}
		if a, b := run(slow, 0.5), run(Optimizer{Rule: rule, Decay: 0.1}, 0.125); !slices.Equal(a, b) {
			t.Errorf("%T: %v, want %v", rule, a, b)
		}
	}
}

// A gradient with NaN or an infinity is not applied; with a gate, or clipping, nothing is. Running statistics
// stay finite, and the diagnosis names where it began.
func TestGradientThatIsNotFinite(t *testing.T) {
	dev := cpuDevice(t)
	for _, opt := range []Optimizer{plainAdamW(), {Rule: SGD{0.9}}, {Rule: Lion{0.9, 0.99}}} {
		for _, gate := range []bool{false, true} {
			for _, accumulate := range []bool{false, true} {
				opt.Gate = gate
				s := training(t, dev, accumulate, opt)
				good, bad := micro(1, 1, 0, 1, 0), micro(2, 1, 0, 1, 0)
				batches := []MicroBatch{bad}
				if accumulate {
					batches = []MicroBatch{good, bad}
				}
				step(t, s, 1, 1e-3, false, slices.Repeat([]MicroBatch{good}, len(batches))...)
				before := map[string][]float32{}
				for _, p := range s.params {
					before[p.Value.Name] = slices.Clone(s.state.Get(p.Value.Name))
				}
				bad.X[testVoxels+17] = float32(math.Inf(1))
				st := Step{Number: 2, LR: 1e-3, Seed: 1}
				if _, err := s.Train(batches, st, false); !errors.Is(err, ErrDiverged) {
					t.Fatalf("%v, want %v", err, ErrDiverged)
				}
				if !s.Finite() {
					t.Error("a gradient that is not finite was applied")
				}
				for _, name := range trainable(s) {
					if gate && !slices.Equal(before[name], s.state.Get(name)) {
						t.Errorf("gated: %s has changed", name)
					}
				}
				saved := s.state.Get("bn1.running_mean")
				a, batch, err := s.Diagnose(batches, st, false)
				if err != nil || a == nil || a.Role != graph.Input || a.NaN || !slices.Equal(a.Samples, []int{1}) || batch != len(batches)-1 {
					t.Errorf("diagnosis %+v in micro-batch %d, %v", a, batch, err)
				}
				if !slices.Equal(saved, s.state.Get("bn1.running_mean")) {
					t.Error("the diagnosis changes running statistics")
				}
			}
		}
	}
}

// A value that overflows inside the network is found in its layer, forward and backward.
func TestDiagnoseFindsTheLayer(t *testing.T) {
	for _, dev := range []engine.Device{cpuDevice(t), reference.New[float32]()} {
		s := training(t, dev, false, plainAdamW())
		m := micro(1, 1, 0, 1, 0)
		st := Step{Number: 1, LR: 1e-3, Seed: 1}
		if a, _, err := s.Diagnose([]MicroBatch{m}, st, false); a != nil || err != nil {
			t.Fatalf("a healthy step: %+v, %v", a, err)
		}
		scaleUp := func(name string, by float32) {
			w := s.state.Get(name)
			for i := range w {
				w[i] *= by
			}
			if err := s.state.Set(name, w); err != nil {
				t.Fatal(err)
			}
		}
		scaleUp("layer2.0.conv2.weight", 1e37)
		a, _, err := s.Diagnose([]MicroBatch{m}, st, false)
		if err != nil || a == nil || !strings.HasPrefix(a.Name, "layer2.0.") || a.Backward {
			t.Errorf("%s: weights of layer2.0.conv2 that overflow: %+v, %v", dev.Name(), a, err)
		}
		scaleUp("layer2.0.conv2.weight", 1e-37)

		// Steep at its end: logits and loss are large but finite, and the gradient overflows on its way back.
		scaleUp("fc.4.weight", 3e37)
		scaleUp("fc.1.weight", 1e6)
		scaleUp("layer4.0.bn2.weight", 1e-6)
		scaleUp("layer4.0.downsample.1.weight", 1e-6)
		a, _, err = s.Diagnose([]MicroBatch{m}, st, false)
		if err != nil || a == nil || !a.Backward || strings.HasPrefix(a.Name, "fc.4") {
			t.Errorf("%s: a gradient that overflows: %+v, %v", dev.Name(), a, err)
		}
	}
}

// The averages take the weights' place within WithAverages, bit for bit, and start equal to them.
func TestAverages(t *testing.T) {
	opt := plainAdamW()
	opt.Average = 0.5
	s := training(t, cpuDevice(t), false, opt)
	s.StartAverages()
	want := map[string][]float32{}
	for _, name := range trainable(s) {
		want[name] = slices.Clone(s.state.Get(name))
	}
	for n := 1; n <= 3; n++ {
		step(t, s, n, 1e-2, false, micro(uint64(n), 1, 0, 1, 0))
		decay := float32(min(0.5, float64(1+n)/float64(10+n)))
		for name, avg := range want {
			for i, w := range s.state.Get(name) {
				avg[i] += (1 - decay) * (w - avg[i])
			}
		}
	}
	raw := slices.Clone(s.state.Get("conv1.weight"))
	boom := errors.New("boom")
	if err := s.WithAverages(func() error {
		for name, avg := range want {
			for i, got := range s.state.Get(name) {
				if math.Abs(float64(got-avg[i])) > 1e-6*max(1, math.Abs(float64(avg[i]))) {
					t.Fatalf("%s[%d] is %v, want %v", name, i, got, avg[i])
				}
			}
		}
		return boom
	}); err != boom {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(raw, s.state.Get("conv1.weight")) {
		t.Error("the weights do not come back")
	}
}
