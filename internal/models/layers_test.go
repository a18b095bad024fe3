package models

import (
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/nn"
)

func TestLayer(t *testing.T) {
	for name, want := range map[string]map[string]int{
		"resnet34_3d": {
			"conv1.weight": 0, "bn1.bias": 0, "layer1.2.conv2.weight": 1, "layer4.0.downsample.1.weight": 4, "fc.1.weight": 5, "fc.4.bias": 5,
		},
		"densenet121_3d": {
			"features.conv0.weight": 0, "features.norm0.weight": 0, "features.denseblock1.denselayer6.conv2.weight": 1,
			"features.transition1.conv.weight": 1, "features.denseblock4.denselayer16.norm1.bias": 4, "features.norm5.weight": 4, "classifier.6.bias": 5,
		},
		"vit_tiny_3d": {
			"cls_token": 0, "pos_embed": 0, "patch_embed.proj.weight": 0, "blocks.0.norm1.weight": 1, "blocks.11.mlp.fc2.bias": 12,
			"norm.weight": 13, "head.3.weight": 13,
		},
	} {
		net, err := New(config.Model{Name: name}, 2)
		if err != nil {
			t.Fatal(err)
		}
		var params []string
		if _, err := graph.Build(func(g *graph.Graph) error {
			b := nn.New(g, false)
			net.Build(b, g.Leaf(graph.Input, "x", graph.Type{Shape: []int{1, 1, 32, 32, 32}, Class: graph.Volume}))
			for _, p := range b.Trainable() {
				params = append(params, p.Name)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, p := range params {
			if want := p == "cls_token" || p == "pos_embed"; net.Embedding(p) != want {
				t.Errorf("%s: %s is an embedding: %v", name, p, !want)
			}
		}
		last, highest := 0, 0
		for _, p := range params { // in the order of creation: layers never go back, and none is empty
			at, top := net.Layer(p)
			if at < last || at > last+1 || at > top {
				t.Errorf("%s: %s is in layer %d of %d, behind one of layer %d", name, p, at, top, last)
			}
			last, highest = at, top
		}
		if last != highest {
			t.Errorf("%s: the head is layer %d of %d", name, last, highest)
		}
		for p, layer := range want {
			if at, _ := net.Layer(p); at != layer || !slices.Contains(params, p) {
				t.Errorf("%s: %s is in layer %d, want %d", name, p, at, layer)
			}
		}
	}
}
