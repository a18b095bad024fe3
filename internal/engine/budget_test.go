package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/models"
)

// fitShapes are shapes of the small networks whose feature maps are large enough to be recomputed.
func fitShapes() map[string][]int {
	return map[string][]int{"ResNet3D": {1, 1, 20, 24, 20}, "DenseNet3D": {1, 1, 16, 16, 14}, "ViT3D": {2, 1, 32, 48, 48}}
}

// TestFit plans each small network for several budgets, with and without clipping: the plan keeps to its limit,
// nothing is written over, and a step gives the bits that it gives when everything is kept.
func TestFit(t *testing.T) {
	dev := cpu.New(1)
	defer dev.Close()
	for name, s := range small() {
		for _, clip := range []float64{0, 0.5} {
			t.Run(fmt.Sprintf("%s/clip=%v", name, clip), func(t *testing.T) {
				t.Parallel()
				if name == "ResNet3D" {
					s.Options["stem"] = "small"
				}
				net, err := models.New(s.Model, 2)
				if err != nil {
					t.Fatal(err)
				}
				k, err := newTask(graph.Type{Shape: fitShapes()[name], Class: graph.Volume}, adam{clip}, net.Build)
				if err != nil {
					t.Fatal(err)
				}
				src, err := engine.Prepare(dev, k.Request)
				if err != nil {
					t.Fatal(err)
				}
				whole, err := src.KeepAll()
				if err != nil {
					t.Fatal(err)
				}
				want, err := k.run(dev, whole)
				if err != nil {
					t.Fatal(err)
				}
				smallest, err := src.Smallest()
				if err != nil {
					t.Fatal(err)
				}
				least, most := engine.RunBytes(smallest), engine.RunBytes(whole)
				t.Logf("%d to %d KiB, %.1f %% more operations", least>>10, most>>10, 100*float64(smallest.AddedFLOP)/float64(smallest.FLOP))
				if least >= most {
					t.Fatalf("the smallest plan takes %d bytes, keeping everything %d", least, most)
				}
				added := int64(-1)
				for _, limit := range []int64{least, (3*least + most) / 4, (least + most) / 2, most} {
					p, err := src.Fit(limit)
					if err != nil {
						t.Fatalf("limit %d: %v", limit, err)
					}
					if n := engine.RunBytes(p); n > limit {
						t.Errorf("the plan for %d bytes takes %d", limit, n)
					}
					if added >= 0 && p.AddedFLOP > added {
						t.Errorf("%d FLOP are recomputed in %d bytes, %d in less", p.AddedFLOP, limit, added)
					}
					added = p.AddedFLOP
					if limit == least {
						if err := engine.CheckMemory(p); err != nil {
							t.Errorf("limit %d: %v", limit, err)
						}
					}
					got, err := k.run(dev, p)
					if err != nil {
						t.Fatal(err)
					}
					for n, v := range want {
						if !slices.Equal(got[n], v) {
							t.Errorf("limit %d: %s differs", limit, n)
						}
					}
				}
				if added != 0 {
					t.Errorf("%d FLOP are recomputed where everything fits", added)
				}
				var none *engine.BudgetError
				if _, err := src.Fit(least / 2); !errors.As(err, &none) || none.Smallest <= least/2 {
					t.Errorf("half of the smallest plan: %v", err)
				}
			})
		}
	}
}
