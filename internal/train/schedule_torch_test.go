package train

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/ctclass/ctclass/internal/config"
)

// The rates of 100 steps are those of PyTorch, which bench/pytorch/optimizers.py has written down.
func TestSchedulesAsPyTorch(t *testing.T) {
	raw, err := os.ReadFile("testdata/schedules.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			LR       float64
			Schedule json.RawMessage
			Rates    []float64
			Mode     string    // plateau: max or min
			Values   []float64 // plateau: the metric behind each step
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, c := range file.Cases {
		var s config.Schedule
		if err := yaml.Unmarshal(c.Schedule, &s); err != nil {
			t.Fatal(err)
		}
		names[s.Name] = true
		if len(c.Rates) != 100 {
			t.Fatalf("%s: %d rates", c.Schedule, len(c.Rates))
		}
		p := plateau{Falls: 1}
		sign := 1.0
		if c.Mode == "min" {
			sign = -1
		}
		for step, want := range c.Rates {
			got := learningRate(c.LR, s, moment{Step: step, Total: 100, Epoch: step / 10, Falls: p.Falls})
			if !(math.Abs(got-want) <= 1e-12*c.LR) {
				t.Errorf("%s, step %d: %v, want %v", c.Schedule, step, got, want)
			}
			if c.Values != nil {
				p.observe(c.Values[step], sign, s)
			}
		}
		if s.Name == "plateau" && p.Falls > 0.1 {
			t.Errorf("%s: the rate fell to %v of itself only: the case tests too little", c.Schedule, p.Falls)
		}
	}
	if len(names) != 5 {
		t.Errorf("the cases are of %v, want all five schedules", names)
	}
}
