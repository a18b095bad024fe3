package models_test

import (
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/session"
)

// plan compiles training and evaluation of one volume.
func plan(t *testing.T, dev *cpu.Device, c config.Model, shapeDHW [3]int) *session.Plan {
	t.Helper()
	net, err := models.New(c, 18)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := losses.New(config.Loss{Name: "bce"}, "multilabel", 18)
	if err != nil {
		t.Fatal(err)
	}
	p, err := session.Compile(dev, session.Options{
		Network: net, ShapeDHW: shapeDHW, EvalBatch: 1,
		Training: &session.Training{Loss: loss, BatchSizes: []int{1}, Optimizer: session.Optimizer{Rule: session.AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPlans checks at full size, without taking any memory, that plans come close to what liveness alone asks
// for and that the memory savers save.
func TestPlans(t *testing.T) {
	dev := cpu.New(2)
	defer dev.Close()
	for _, e := range models.Registry() {
		t.Run(e.Name, func(t *testing.T) {
			var arena [2]int64
			for i, saving := range []bool{false, true} {
				c := config.Model{Name: e.Name, UseCheckpointing: &saving}
				if e.Family == "DenseNet3D" {
					c.MemoryEfficient = &saving
				}
				p := plan(t, dev, c, [3]int{128, 256, 256})
				for j, prog := range p.Programs() {
					over := float64(prog.ArenaBytes)/float64(prog.LowerBoundBytes) - 1
					t.Logf("saving %v, %s: arena %.1f MiB, %.2f %% over the lower bound; %d instructions",
						saving, []string{"evaluation", "training"}[j], float64(prog.ArenaBytes)/(1<<20), 100*over, len(prog.Instrs))
					if over < 0 || over > 0.02 {
						t.Errorf("saving %v: the arena of program %d is %.2f %% over the lower bound", saving, j, 100*over)
					}
				}
				arena[i] = p.ArenaBytes()
			}
			if arena[1] >= arena[0] {
				t.Errorf("the memory savers take %d bytes, without them it is %d", arena[1], arena[0])
			}
		})
	}
}

// TestLargestForward: at 96×224×224 the weights of vit_large_3d are 1.15 GiB.
func TestLargestForward(t *testing.T) {
	dev := cpu.New(2)
	defer dev.Close()
	net, err := models.New(config.Model{Name: "vit_large_3d"}, 18)
	if err != nil {
		t.Fatal(err)
	}
	p, err := session.Compile(dev, session.Options{Network: net, ShapeDHW: [3]int{96, 224, 224}, EvalBatch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if gib := float64(p.ProcessBytes()) / (1 << 30); gib < 1.15 || gib > 1.6 {
		t.Errorf("a forward pass takes %.2f GiB, want under 1.6", gib)
	}
}
