package engine_test

import (
	"testing"
	"time"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/models"
)

func TestScratch(t *testing.T) {
	dev := cpu.New(2)
	for _, c := range []struct {
		name  string
		batch int
		shape [3]int
	}{{"densenet121_3d", 4, [3]int{128, 256, 256}}, {"resnet18_3d", 1, [3]int{128, 256, 256}}, {"densenet201_3d", 1, [3]int{128, 256, 256}}, {"vit_large_3d", 1, [3]int{96, 224, 224}}, {"resnet34_3d", 1, [3]int{128, 256, 256}}} {
		net, _ := models.New(config.Model{Name: c.name}, 2)
		t0 := time.Now()
		k, err := newTask(graph.Type{Shape: []int{c.batch, 1, c.shape[0], c.shape[1], c.shape[2]}, Class: graph.Volume}, adam{}, net.Build)
		if err != nil {
			t.Fatal(err)
		}
		t1 := time.Now()
		src, err := engine.Prepare(dev, k.Request)
		if err != nil {
			t.Fatal(err)
		}
		t2 := time.Now()
		p, _ := src.KeepAll()
		t.Logf("%s: graph %v, prepare %v, compile %v: %d MiB, %.1f TFLOP", c.name, t1.Sub(t0), t2.Sub(t1), time.Since(t2), p.ArenaBytes>>20, float64(p.FLOP)/1e12)
		t3 := time.Now()
		s, err := src.Smallest()
		t.Logf("smallest %d MiB, %.1f%% more, %v", s.ArenaBytes>>20, 100*float64(s.AddedFLOP)/float64(s.FLOP), time.Since(t3))
		for f := 0.9; f > 0.2; f -= 0.1 {
			t3 := time.Now()
			q, err := src.Fit(int64(f * float64(p.ArenaBytes)))
			if err != nil {
				t.Log(f, err, time.Since(t3))
				continue
			}
			t.Logf("%.1f: %d MiB of %d, lb %d, %.2f%% more, %v", f, q.ArenaBytes>>20, int64(f*float64(p.ArenaBytes))>>20, q.LowerBoundBytes>>20, 100*float64(q.AddedFLOP)/float64(q.FLOP), time.Since(t3))
		}
	}
}
