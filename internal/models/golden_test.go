package models

import (
	"os"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/goldens"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/nn"
	"github.com/ctclass/ctclass/internal/ops"
)

// TestGolden compares every network with float64 results of the public PyTorch layout. CTCLASS_GOLDENS names
// a folder of other golden files to check instead of the stored ones.
func TestGolden(t *testing.T) {
	files, err := goldens.Models(os.Getenv("CTCLASS_GOLDENS"))
	if err != nil {
		t.Fatal(err)
	}
	dev := cpu.New(2)
	defer dev.Close()
	for _, f := range files {
		t.Run(f.Name, func(t *testing.T) {
			g, err := f.Model()
			if err != nil {
				t.Fatal(err)
			}
			for mode, name := range map[goldens.Mode]string{goldens.Eval: "eval", goldens.Train: "train"} {
				r := runGolden(t, dev, g, config.Model{Name: g.Model}, mode)
				report, err := goldens.Check(g, mode, r)
				t.Logf("%s: %+v", name, report)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// runGolden runs one forward and backward pass of a golden.
func runGolden(t *testing.T, dev engine.Device, g *goldens.ModelGolden, c config.Model, mode goldens.Mode) goldens.Result[float32] {
	t.Helper()
	none := 0.0
	c.Dropout = &none // goldens are without dropout
	net, err := New(c, g.Classes)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := losses.New(config.Loss{Name: g.Loss.Name, Alpha: g.Loss.Alpha, Gamma: g.Loss.Gamma}, "multilabel", g.Classes)
	if err != nil {
		t.Fatal(err)
	}
	var req engine.Request
	var b *nn.Builder
	req.Graph, err = graph.Build(func(gr *graph.Graph) error {
		b = nn.New(gr, mode == goldens.Train)
		x := gr.Leaf(graph.Input, "x", graph.Type{Shape: []int{g.Batch, 1, g.Volume[0], g.Volume[1], g.Volume[2]}, Class: graph.Volume})
		targets := gr.Leaf(graph.Input, "targets", graph.Type{Shape: []int{g.Batch, g.Classes}})
		scale := gr.Leaf(graph.Input, "scale", graph.Type{Shape: []int{1}})
		logits := net.Build(b, x)
		scaled := logits
		if mode == goldens.Eval {
			scaled = gr.Apply(ops.Scale{By: 1 / g.EvalLogitScale}, logits)
		}
		l := gr.Apply(ops.Loss{F: loss}, scaled, targets, scale)
		req.Outputs = []*graph.Value{logits, l}
		req.Params = b.Trainable()
		req.Gradients, err = gr.Gradients(l, req.Params...)
		req.Updates = gr.Updates
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
	count := 0
	for _, p := range b.Params {
		v, err := goldens.ParamValue(p.Value.Name, p.Value.Shape)
		if err != nil {
			t.Fatal(err)
		}
		if p.Value.Role == graph.Parameter {
			count += len(v)
		}
		if err := state.Set(p.Value.Name, v); err != nil {
			t.Fatal(err)
		}
	}
	if count != g.Parameters {
		t.Errorf("%d parameters, want %d", count, g.Parameters)
	}
	n := g.Batch * g.Classes
	for name, v := range map[string][]float32{
		"x": goldens.Input(g.InputStream, g.InputLen()), "targets": goldens.Targets(g.TargetStream, n), "scale": {1 / float32(n)},
	} {
		if err := exec.SetInput(prog, name, v); err != nil {
			t.Fatal(err)
		}
	}
	exec.Run(prog, &engine.RunInfo{})
	r := goldens.Result[float32]{
		Logits: exec.Output(prog, 0), Loss: float64(exec.Output(prog, 1)[0]),
		Grads: map[string][]float32{}, Running: map[string][]float32{},
	}
	for i, p := range req.Params {
		r.Grads[p.Name] = exec.Output(prog, 2+i)
	}
	for _, p := range b.Params {
		if p.Value.Role == graph.Buffer && mode == goldens.Train {
			r.Running[p.Value.Name] = state.Get(p.Value.Name)
		}
	}
	return r
}
