package session

import (
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
)

// Frozen parameters, and the statistics of frozen batch norms, keep every bit while the others change; with
// one micro-batch a step as with several.
func TestFrozen(t *testing.T) {
	frozen := func(name string) bool {
		return strings.HasPrefix(name, "conv1") || strings.HasPrefix(name, "bn1") || strings.HasPrefix(name, "layer1") ||
			name == "layer2.0.bn1.bias" // without its weight: this norm is trained
	}
	for _, accumulate := range []bool{false, true} {
		net, err := models.New(config.Model{
			Name:    "resnet18_3d",
			Options: map[string]any{"widths": []any{4, 4, 8, 8}, "blocks": []any{1, 1, 1, 1}, "hidden": 4, "stem": "small"},
		}, 1)
		if err != nil {
			t.Fatal(err)
		}
		loss, err := losses.New(config.Loss{Name: "bce"}, "binary", 1)
		if err != nil {
			t.Fatal(err)
		}
		dev := cpu.New(1)
		defer dev.Close()
		plan, err := Compile(dev, Options{Network: net, ShapeDHW: [3]int{8, 8, 8}, Training: &Training{
			Loss: loss, BatchSizes: []int{2}, Accumulate: accumulate, Frozen: frozen,
			Optimizer: Optimizer{Rule: AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, Decay: 0.1, DecayAll: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := plan.Start()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Initialize(1); err != nil {
			t.Fatal(err)
		}
		before := map[string][]float32{}
		for _, p := range s.Params() {
			before[p.Value.Name] = slices.Clone(s.State().Get(p.Value.Name))
		}
		for step := 1; step <= 2; step++ {
			b := MicroBatch{X: ramp(2 * 8 * 8 * 8), Targets: []float32{1, 0}, IDs: []uint64{0, 1}}
			batches := []MicroBatch{b}
			if accumulate {
				batches = append(batches, b)
			}
			if _, err := s.Train(batches, Step{Number: step, LR: 0.01}, false); err != nil {
				t.Fatal(err)
			}
		}
		for name, old := range before {
			now := s.State().Get(name)
			fixed := frozen(name)
			if same := slices.Equal(old, now); same != fixed {
				t.Errorf("accumulate %v: %s: unchanged is %v, want %v", accumulate, name, same, fixed)
			}
		}
		for _, name := range s.State().Names() {
			for _, prefix := range []string{engine.GradientPrefix, engine.OptimizerState("m", ""), engine.OptimizerState("v", "")} {
				if param, ok := strings.CutPrefix(name, prefix); ok && frozen(param) {
					t.Errorf("there is training state %s of a frozen parameter", name)
				}
			}
		}
	}
}
