package session

import (
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/models"
)

// A session without training keeps what its convolutions make of the weights, where the budget has room for it: that
// changes no bit of the logits, and is made anew when a weight changes.
func TestKeptWeights(t *testing.T) {
	net, err := models.New(config.Model{
		Name:    "resnet18_3d",
		Options: map[string]any{"widths": []any{16, 16, 32, 32}, "blocks": []any{1, 1, 1, 1}, "hidden": 4, "stem": "small"},
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	dev := cpu.New(1)
	defer dev.Close()
	opt := Options{Network: net, ShapeDHW: [3]int{12, 12, 12}, EvalBatch: 2}
	var logits [][]float32
	for _, keeps := range []bool{true, false} {
		plan, err := Compile(dev, opt)
		if err != nil {
			t.Fatal(err)
		}
		kept := engine.KeptBytes(plan.programs...)
		if (kept > 0) != keeps {
			t.Fatalf("%d bytes are kept under a budget of %d, %d are promised", kept, opt.Budget, plan.ProcessBytes())
		}
		var parts int64
		for _, p := range plan.Account() {
			parts += p.Bytes
		}
		if parts != plan.ProcessBytes() {
			t.Errorf("the parts add up to %d bytes, %d are promised", parts, plan.ProcessBytes())
		}
		opt.Budget = plan.ProcessBytes() - 1
		s, err := plan.Start()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Initialize(1); err != nil {
			t.Fatal(err)
		}
		x := ramp(2 * 12 * 12 * 12)
		for i := range 5 {
			if i == 2 {
				const name = "layer1.0.conv1.weight"
				w := s.State().Get(name)
				w[0]++
				if err := s.State().Set(name, w); err != nil {
					t.Fatal(err)
				}
			}
			if i == 4 {
				s.State().Swap("layer1.0.conv1.weight", "layer1.0.conv2.weight")
			}
			y, err := s.Logits(x, 2)
			if err != nil {
				t.Fatal(err)
			}
			logits = append(logits, slices.Clone(y))
		}
	}
	for i, y := range logits[:5] {
		if !slices.Equal(y, logits[5+i]) {
			t.Errorf("run %d: %v with kept weights, %v without", i, y, logits[5+i])
		}
		if same := i > 0 && slices.Equal(y, logits[i-1]); same != (i == 1 || i == 3) {
			t.Errorf("run %d gives %v after %v", i, y, logits[max(0, i-1)])
		}
	}
}
