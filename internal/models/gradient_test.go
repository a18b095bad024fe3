package models

import (
	"math"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/reference"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/nn"
	"github.com/ctclass/ctclass/internal/ops"
	"github.com/ctclass/ctclass/internal/rng"
)

// TestGradients compares the gradients of whole small networks, in training with dropout and recomputation,
// with central differences of the loss, in float64 on the reference device.
func TestGradients(t *testing.T) {
	for _, c := range []struct {
		name    string
		shape   []int // N, C, D, H, W
		options map[string]any
	}{
		{"resnet18_3d", []int{3, 1, 6, 7, 9}, map[string]any{
			"stem": "small", "blocks": []any{1, 1, 1, 1}, "widths": []any{2, 3, 4, 5}, "hidden": 6,
		}},
		{"densenet_tiny_3d", []int{2, 2, 8, 9, 16}, map[string]any{
			"in_channels": 2, "stem": "small", "blocks": []any{1, 2, 1, 1}, "growth": 3, "init_features": 4, "bn_size": 2, "hidden": 6, "drop_rate": 0.2,
		}},
		{"vit_tiny_3d", []int{2, 2, 8, 4, 6}, map[string]any{
			"in_channels": 2, "patch_size": []any{4, 2, 3}, "dim": 8, "heads": 2, "depth": 2, "mlp_ratio": 1.5, "hidden": 6,
			"drop_rate": 0.1, "proj_drop_rate": 0.1,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			yes := true
			net, err := New(config.Model{Name: c.name, Options: c.options, UseCheckpointing: &yes}, 2)
			if err != nil {
				t.Fatal(err)
			}
			checkGradients(t, net, c.shape)
		})
	}
}

func checkGradients(t *testing.T, net *Network, shape []int) {
	dev := reference.New[float64]()
	loss, err := losses.New(config.Loss{Name: "bce"}, "multilabel", net.Classes)
	if err != nil {
		t.Fatal(err)
	}
	var req engine.Request
	var b *nn.Builder
	req.Graph, err = graph.Build(func(g *graph.Graph) error {
		b = nn.New(g, true)
		logits := net.Build(b, g.Leaf(graph.Input, "x", graph.Type{Shape: shape, Class: graph.Volume}))
		targets := g.Leaf(graph.Input, "targets", logits.Type)
		l := g.Apply(ops.Loss{F: loss}, logits, targets, g.Leaf(graph.Input, "scale", graph.Type{Shape: []int{1}}))
		req.Outputs, req.Params = []*graph.Value{l}, b.Trainable()
		req.Gradients, err = g.Gradients(l, req.Params...)
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
	defer exec.Close()
	stream := rng.New(4)
	draw := func(n int, sigma float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(sigma * stream.Normal())
		}
		return v
	}
	for _, p := range b.Params {
		if p.Value.Role != graph.Parameter {
			continue
		}
		v := nn.Initialize(p, 2, nil)
		for i, d := range draw(len(v), 0.2) { // away from zeros and ones, which hide mistakes
			v[i] += d
		}
		if err := state.Set(p.Value.Name, v); err != nil {
			t.Fatal(err)
		}
	}
	targets := []float32{1, 0, 0, 1, 1, 1}
	for name, v := range map[string][]float32{
		"x": draw(prog.Inputs["x"].Type.Elements(), 1), "targets": targets[:shape[0]*net.Classes], "scale": {0.5},
	} {
		if err := exec.SetInput(prog, name, v); err != nil {
			t.Fatal(err)
		}
	}
	run := func() float64 {
		exec.Run(prog, &engine.RunInfo{Seed: 6, SampleIDs: []uint64{1, 2, 3}})
		return dev.Values(exec.OutputBuf(prog, 0))[0]
	}
	run()
	grads := map[string][]float64{}
	for i, p := range req.Params {
		grads[p.Name] = append(grads[p.Name], dev.Values(exec.OutputBuf(prog, 1+i))[:p.Elements()]...)
	}
	const step = 1.0 / (1 << 19) // so small that hardly any ReLU or maximum changes over
	checked := 0
	for _, p := range req.Params {
		w := state.Get(p.Name)
		for range min(2, len(w)) {
			i := stream.Intn(len(w))
			old := w[i]
			at := func(v float32) float64 {
				w[i] = v
				if err := state.Set(p.Name, w); err != nil {
					t.Fatal(err)
				}
				return run()
			}
			up, down := old+step, old-step // rounded to float32: what counts is their distance
			want := (at(up) - at(down)) / (float64(up) - float64(down))
			at(old)
			if got := grads[p.Name][i]; math.Abs(got-want) > 1e-6+1e-5*math.Abs(want) {
				t.Errorf("%s[%d]: gradient %.9g, by differences %.9g", p.Name, i, got, want)
			}
			checked++
		}
	}
	t.Logf("%d derivatives", checked)
}
