package models_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/rng"
	"github.com/ctclass/ctclass/internal/session"
)

// small networks, one or more a family, with volumes that no stride divides where the family takes them.
func smallNets() []struct {
	config.Model
	shape [3]int
} {
	odd := [3]int{33, 47, 61}
	narrow := map[string]any{"widths": []any{8, 16, 24, 40}, "blocks": []any{1, 1, 1, 1}, "hidden": 12}
	vit := map[string]any{"patch_size": []any{8, 16, 16}, "dim": 48, "heads": 3, "depth": 2, "hidden": 12}
	return []struct {
		config.Model
		shape [3]int
	}{
		{config.Model{Name: "resnet18_3d", Options: narrow}, odd},
		{config.Model{Name: "densenet_tiny_3d"}, odd},
		{config.Model{Name: "densenet_small_3d"}, odd},
		{config.Model{Name: "densenet121_3d", Options: map[string]any{
			"stem": "small", "blocks": []any{1, 2, 1, 1}, "growth": 10, "init_features": 20, "drop_rate": 0.2, "in_channels": 2,
		}}, [3]int{9, 15, 17}},
		{config.Model{Name: "vit_tiny_3d", Options: vit}, [3]int{24, 32, 48}},
	}
}

// start compiles and initialises a session that trains on batches of n.
func start(t *testing.T, dev *cpu.Device, c config.Model, shape [3]int, classes, n, evalBatch int) *session.Session {
	t.Helper()
	net, err := models.New(c, classes)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := losses.New(config.Loss{Name: "bce"}, "multilabel", classes)
	if err != nil {
		t.Fatal(err)
	}
	p, err := session.Compile(dev, session.Options{
		Network: net, ShapeDHW: shape, EvalBatch: evalBatch,
		Training: &session.Training{Loss: loss, BatchSizes: []int{n}, Optimizer: session.Optimizer{Rule: session.AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Initialize(1); err != nil {
		t.Fatal(err)
	}
	return s
}

// random returns n normal values.
func random(key uint64, n int) []float32 {
	s := rng.New(key)
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(s.Normal())
	}
	return v
}

func microBatch(net *models.Network, shape [3]int, n int) session.MicroBatch {
	b := session.MicroBatch{
		X:       random(7, n*net.InChannels*shape[0]*shape[1]*shape[2]),
		Targets: make([]float32, n*net.Classes),
	}
	for i := range b.Targets {
		b.Targets[i] = float32(i % 2)
	}
	for i := range n {
		b.IDs = append(b.IDs, uint64(10+i))
	}
	return b
}

// TestTrainsOddShapes makes one step of each small network and looks at the first moments: a parameter that no
// gradient reached has none.
func TestTrainsOddShapes(t *testing.T) {
	dev := cpu.New(2)
	defer dev.Close()
	for i, m := range smallNets() {
		for _, size := range []struct{ n, classes int }{{1, 18}, {3, 1}, {2, 2}} {
			t.Run(fmt.Sprintf("%s/%d/batch%d/classes%d", m.Name, i, size.n, size.classes), func(t *testing.T) {
				net, err := models.New(m.Model, size.classes)
				if err != nil {
					t.Fatal(err)
				}
				s := start(t, dev, m.Model, m.shape, size.classes, size.n, 0)
				loss, err := s.Train([]session.MicroBatch{microBatch(net, m.shape, size.n)}, session.Step{Number: 1, LR: 1e-3, Seed: 3}, false)
				if err != nil || loss < 0.05 || loss > 20 {
					t.Errorf("loss %v, %v", loss, err)
				}
				for _, p := range s.Params() {
					name := p.Value.Name
					if st := engine.OptimizerState("m", name); s.State().Has(st) && allZero(s.State().Get(st)) {
						t.Errorf("no gradient reached %s", name)
					}
				}
			})
		}
	}
}

func allZero(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return x != 0 })
}

// TestSaversReplayDropout trains with all dropout on: memory savers must not change a bit of the state.
func TestSaversReplayDropout(t *testing.T) {
	dev := cpu.New(2)
	defer dev.Close()
	for _, c := range []struct {
		name    string
		shape   [3]int
		options map[string]any
	}{
		{"resnet18_3d", [3]int{32, 32, 32}, map[string]any{"widths": []any{16, 16, 24, 40}, "blocks": []any{1, 1, 1, 1}}},
		{"densenet_tiny_3d", [3]int{32, 45, 64}, map[string]any{"drop_rate": 0.25}},
		{"vit_tiny_3d", [3]int{32, 64, 64}, map[string]any{"patch_size": []any{4, 8, 8}, "dim": 48, "depth": 2, "drop_rate": 0.1, "proj_drop_rate": 0.2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want map[string][]float32
			for i := range 4 {
				ckpt, eff := i&1 == 1, i&2 == 2
				m := config.Model{Name: c.name, Options: c.options, UseCheckpointing: &ckpt}
				if c.name == "densenet_tiny_3d" {
					m.MemoryEfficient = &eff
				} else if eff {
					continue
				}
				net, err := models.New(m, 3)
				if err != nil {
					t.Fatal(err)
				}
				s := start(t, dev, m, c.shape, 3, 2, 0)
				for step := 1; step <= 2; step++ {
					_, err := s.Train([]session.MicroBatch{microBatch(net, c.shape, 2)}, session.Step{Number: step, LR: 1e-2, Seed: 3, Epoch: step}, false)
					if err != nil {
						t.Fatal(err)
					}
				}
				got := map[string][]float32{}
				for _, name := range s.State().Names() {
					got[name] = s.State().Get(name)
				}
				if want == nil {
					want = got
					continue
				}
				for name, v := range want {
					if !slices.EqualFunc(v, got[name], func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
						t.Errorf("%s differs with use_checkpointing %v, memory_efficient %v", name, ckpt, eff)
					}
				}
			}
		})
	}
}

// TestLogitsDoNotDependOnTheBatch compares each sample's logits with those of the sample alone, also for a network
// of the usual widths, whose convolutions take other ways than the narrow ones'.
func TestLogitsDoNotDependOnTheBatch(t *testing.T) {
	dev := cpu.New(2)
	defer dev.Close()
	full := smallNets()[0]
	full.Options, full.shape = nil, [3]int{40, 48, 56}
	for i, m := range append(smallNets(), full) {
		t.Run(fmt.Sprintf("%s/%d", m.Name, i), func(t *testing.T) {
			net, err := models.New(m.Model, 5)
			if err != nil {
				t.Fatal(err)
			}
			const n = 7
			per := net.InChannels * m.shape[0] * m.shape[1] * m.shape[2]
			x := random(9, n*per)
			together, err := start(t, dev, m.Model, m.shape, 5, 2, n).Logits(x, n)
			if err != nil {
				t.Fatal(err)
			}
			alone := start(t, dev, m.Model, m.shape, 5, 2, 1)
			for k := range n {
				got, err := alone.Logits(x[k*per:][:per], 1)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, together[k*5:][:5]) {
					t.Errorf("sample %d: %v alone, %v in a batch", k, got, together[k*5:][:5])
				}
			}
		})
	}
}

// Stochastic depth leaves the first block alone and the last one out for the stated share of the samples, attention
// and MLP each by its own draw, the same whenever a sample comes in an epoch.
func TestDropPath(t *testing.T) {
	dev := cpu.New(1)
	defer dev.Close()
	m := config.Model{Name: "vit_tiny_3d", Options: map[string]any{
		"patch_size": []any{8, 8, 8}, "dim": 12, "heads": 2, "depth": 2, "hidden": 4, "drop_path": 0.7, "head_dropout": 0.0,
	}}
	shape := [3]int{8, 16, 16}
	net, err := models.New(m, 1)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, dev, m, shape, 1, 1, 1)
	b := microBatch(net, shape, 1)
	reached := func(id uint64, epoch int, param string) bool { // by a gradient
		b.IDs[0] = id
		for _, n := range s.State().Names() {
			if m := engine.OptimizerState("m", param); n == m {
				if err := s.State().Set(n, make([]float32, len(s.State().Get(n)))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := s.Train([]session.MicroBatch{b}, session.Step{Number: 1, LR: 0, Seed: 3, Epoch: epoch}, false); err != nil {
			t.Fatal(err)
		}
		return !allZero(s.State().Get(engine.OptimizerState("m", param)))
	}
	const draws = 200
	kept := map[string]int{}
	differ := 0
	for id := range uint64(draws) {
		for _, p := range []string{"blocks.0.mlp.fc2.weight", "blocks.1.attn.proj.weight", "blocks.1.mlp.fc2.weight"} {
			if reached(id, 0, p) {
				kept[p]++
			}
		}
		a := reached(id, 0, "blocks.1.attn.proj.weight")
		if a != reached(id, 0, "blocks.1.attn.proj.weight") {
			t.Fatalf("sample %d: another draw in the same epoch", id)
		}
		if a != reached(id, 1, "blocks.1.attn.proj.weight") || a != reached(id, 0, "blocks.1.mlp.fc2.weight") {
			differ++
		}
	}
	if kept["blocks.0.mlp.fc2.weight"] != draws {
		t.Errorf("the first block is left out %d times", draws-kept["blocks.0.mlp.fc2.weight"])
	}
	for _, p := range []string{"blocks.1.attn.proj.weight", "blocks.1.mlp.fc2.weight"} {
		if share := float64(kept[p]) / draws; math.Abs(share-0.3) > 0.1 { // three deviations
			t.Errorf("%s is kept for %.0f%% of the samples, want 30%%", p, 100*share)
		}
	}
	if differ < draws/4 {
		t.Errorf("epochs and branches differ for %d of %d samples only", differ, draws)
	}
}
