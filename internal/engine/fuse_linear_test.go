package engine_test

import (
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/engine/reference"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
	"github.com/ctclass/ctclass/internal/rng"
)

// TestLinearLayersTakeSums: a linear layer takes the patches that it alone reads and the sum behind it, here with a value
// whose place the result takes over, and the results are those of the operations one by one.
func TestLinearLayersTakeSums(t *testing.T) {
	single := cpu.New(2)
	defer single.Close()
	half := cpu.NewWith(2, cpu.Options{Half: true})
	defer half.Close()
	for _, c := range []struct {
		name  string
		dev   engine.Device
		width int // of a patch
		want  []string
		tol   float64
	}{
		{"lines", single, 16, []string{"patch_embed", "linear"}, 1e-6},
		{"several lines", single, 32, []string{"patch_embed", "linear"}, 1e-6},
		{"no whole lines", single, 8, []string{"patches", "linear", "linear"}, 1e-6},
		{"hybrid precision", half, 16, []string{"patches", "linear", "linear", "add"}, 0.01},
		{"reference", reference.New[float64](), 16, []string{"patch_embed", "linear"}, 1e-7},
	} {
		t.Run(c.name, func(t *testing.T) {
			var req engine.Request
			var err error
			req.Graph, err = graph.Build(func(g *graph.Graph) error {
				parameter := func(name string, shape ...int) *graph.Value {
					return g.Leaf(graph.Parameter, name, graph.Type{Shape: shape})
				}
				x := g.Leaf(graph.Input, "x", graph.Type{Shape: []int{2, 3, 6, 4, 64}, Class: graph.Volume})
				y := g.Apply(ops.Patches{Size: [3]int{3, 2, c.width}}, x)
				y = g.Apply(ops.Linear{}, y, parameter("w1", 40, 3*3*2*c.width), parameter("b1", 40))
				z := g.Apply(ops.Linear{}, y, parameter("w2", 40, 40), parameter("b2", 40))
				req.Outputs = []*graph.Value{g.Apply(ops.Add{}, y, z)}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			fused, err := engine.Compile(c.dev, req)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for _, in := range fused.Instrs {
				kinds = append(kinds, in.Op.Kind())
			}
			if !slices.Equal(kinds, c.want) {
				t.Errorf("the program is %v, want %v", kinds, c.want)
			}
			if c.dev != engine.Device(half) { // whose elements have different sizes
				if err := engine.CheckMemory(fused); err != nil {
					t.Error(err)
				}
			}
			plain, err := engine.CompileUnfused(reference.New[float64](), req)
			if err != nil {
				t.Fatal(err)
			}
			if e := distance(outputOf(t, c.dev, fused), outputOf(t, reference.New[float64](), plain)); e > c.tol {
				t.Errorf("off by %.3g", e)
			}
		})
	}
}

// outputOf runs a program on random values.
func outputOf(t *testing.T, dev engine.Device, p *engine.Program) []float32 {
	state, err := engine.NewState(dev, p)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := engine.NewExec(state, p)
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Close()
	s := rng.New(3)
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(s.Normal())
		}
		return v
	}
	for _, tensor := range p.StateTensors() {
		if err := state.Set(tensor.StateName(), random(tensor.Type.Elements())); err != nil {
			t.Fatal(err)
		}
	}
	if err := exec.SetInput(p, "x", random(p.Inputs["x"].Type.Elements())); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time with what the kernels keep
		exec.Run(p, &engine.RunInfo{})
	}
	return exec.Output(p, 0)
}
