package engine_test

import (
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/nn"
)

// TestConvolutionsTakeTheirNorms: without training, no batch norm and no max-pool of a ResNet is an instruction of its own.
func TestConvolutionsTakeTheirNorms(t *testing.T) {
	dev := cpu.New(1)
	defer dev.Close()
	net, err := models.New(small()["ResNet3D"].Model, 2)
	if err != nil {
		t.Fatal(err)
	}
	req := engine.Request{}
	req.Graph, err = graph.Build(func(g *graph.Graph) error {
		x := g.Leaf(graph.Input, "x", graph.Type{Shape: []int{2, 1, 33, 20, 17}, Class: graph.Volume})
		req.Outputs = []*graph.Value{net.Build(nn.New(g, false), x)}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Compile(dev, req)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, in := range p.Instrs {
		kinds = append(kinds, in.Op.Kind())
	}
	for kind, want := range map[string]bool{"conv3d_bn": true, "conv3d_bn_pool": true, "conv3d": false, "bn_norm": false, "max_pool3d": false} {
		if slices.Contains(kinds, kind) != want {
			t.Errorf("%s is in the program: %v, want %v", kind, !want, want)
		}
	}
}
