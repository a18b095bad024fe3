package engine_test

import (
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/models"
)

// TestStemIsStoredOnce: the standard stems never store what lies between their convolution and the pooled map.
func TestStemIsStoredOnce(t *testing.T) {
	dev := cpu.New(1)
	defer dev.Close()
	net, err := models.New(small()["ResNet3D"].Model, 2)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newTask(graph.Type{Shape: []int{2, 1, 33, 20, 17}, Class: graph.Volume}, adam{}, net.Build)
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Compile(dev, k.Request)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, in := range p.Instrs {
		kinds = append(kinds, in.Op.Kind())
	}
	for kind, want := range map[string]bool{"bn_pool": true, "bn_pool_reduce": true, "bn_pool_dx": true, "max_pool3d": false, "max_pool3d_dx": false} {
		if slices.Contains(kinds, kind) != want {
			t.Errorf("%s is in the program: %v, want %v", kind, !want, want)
		}
	}
}
