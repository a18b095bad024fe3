package train

import (
	"math"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
)

// The wanted rates are those of PyTorch 2's OneCycleLR (anneal_strategy cos, three_phase False) and of
// SequentialLR of LinearLR(1/w, total_iters w−1) and CosineAnnealingLR(total−w).
func TestLearningRateAsPyTorch(t *testing.T) {
	oneCycle := func(pct, div, finalDiv float64) config.Schedule {
		return config.Schedule{Name: "one_cycle", PctStart: pct, DivFactor: div, FinalDiv: finalDiv}
	}
	cosine := func(warmUp int, floor float64) config.Schedule {
		return config.Schedule{Name: "cosine", WarmupSteps: warmUp, MinLR: floor}
	}
	for _, tt := range []struct {
		name string
		lr   float64
		s    config.Schedule
		want []float64
	}{
		{"one cycle", 1e-3, oneCycle(0.3, 25, 1e4), []float64{
			3.9999999999999996e-05, 0.0005200000000000001, 0.001, 0.0009504846320134736, 0.000811745653949763,
			0.0006112620219362892, 0.00038874197806371076, 0.00018825834605023698, 4.9519367986526286e-05, 4e-09,
		}},
		{"peak between two steps", 1e-3, oneCycle(0.5, 10, 100), []float64{
			0.00010000000000000005, 0.0004109423525312737, 0.0009140576474687263, 0.0009505339495172585,
			0.0006116492065111791, 0.00018906684397156263, 1e-06,
		}},
		{"late peak", 1e-3, oneCycle(0.9, 25, 1e4), []float64{
			3.9999999999999996e-05, 0.0002207248951078079, 0.0006268100482990309, 0.0009524650565931611, 4e-09,
		}},
		{"almost all rising", 1e-3, oneCycle(0.99, 25, 1e4), []float64{
			3.9999999999999996e-05, 0.00018397980420667578, 0.0005295434500792336, 0.000869381828977357, 4e-09,
		}},
		{"no step rises", 2e-3, oneCycle(0.3, 25, 1e4), []float64{0.0019888308709018233, 0.0009252742053339501, 8e-09}},
		{"small share of four steps", 1e-3, oneCycle(0.05, 25, 1e4), []float64{
			0.0008945706764171779, 0.0005412915075774752, 0.0001613625687502728, 4e-09,
		}},
		{"two steps", 1e-3, oneCycle(0.3, 25, 1e4), []float64{0.0008117456539497629, 4e-09}},
		{"one step", 1e-3, oneCycle(0.3, 25, 1e4), []float64{4e-09}},
		{"cosine with warm-up", 1e-3, cosine(3, 1e-5), []float64{
			0.0003333333333333333, 0.0006666666666666666, 0.001, 0.001, 0.000905463412215599, 0.000657963412215599,
			0.0003520365877844011, 0.00010453658778440106,
		}},
		{"cosine", 1e-3, cosine(0, 0), []float64{
			0.001, 0.0009045084971874737, 0.0006545084971874737, 0.00034549150281252633, 9.549150281252633e-05,
		}},
		{"cosine, one step of warm-up", 1e-3, cosine(1, 0), []float64{
			0.001, 0.001, 0.0009045084971874737, 0.0006545084971874737, 0.00034549150281252633, 9.549150281252633e-05,
		}},
	} {
		for step, want := range tt.want {
			got := learningRate(tt.lr, tt.s, moment{Step: step, Total: len(tt.want)})
			if !(math.Abs(got-want) <= 1e-12*tt.lr) {
				t.Errorf("%s: step %d of %d: %v, want %v", tt.name, step, len(tt.want), got, want)
			}
		}
	}
}

// What PyTorch has no value for.
func TestLearningRateOfShortRuns(t *testing.T) {
	rising := config.Schedule{Name: "one_cycle", PctStart: 0.1, DivFactor: 25, FinalDiv: 1e4}
	warm := config.Schedule{Name: "cosine", WarmupSteps: 8}
	for _, tt := range []struct {
		name        string
		s           config.Schedule
		step, total int
		want        float64
	}{
		{"the rise is one step", rising, 0, 10, 1},
		{"behind it", rising, 1, 10, 0.969846431008},
		{"the end", rising, 9, 10, 4e-6},
		{"ends in the warm-up", warm, 3, 4, 0.5},
		{"ends with the warm-up", warm, 7, 8, 1},
		{"constant, warming up", config.Schedule{Name: "constant", WarmupSteps: 4}, 2, 100, 0.75},
		{"constant", config.Schedule{Name: "constant", WarmupSteps: 4}, 50, 100, 1},
	} {
		if got := learningRate(1, tt.s, moment{Step: tt.step, Total: tt.total}); !(math.Abs(got-tt.want) <= 1e-9) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Every rate of every run is positive, or 0 at the very end, and at most the highest.
func TestLearningRateStaysInRange(t *testing.T) {
	for total := 1; total <= 40; total++ {
		for _, pct := range []float64{1e-6, 0.025, 0.1, 0.2, 0.25, 1.0 / 3, 0.5, 0.75, 0.999999} {
			for _, s := range []config.Schedule{
				{Name: "one_cycle", PctStart: pct, DivFactor: 1, FinalDiv: 1e4},
				{Name: "one_cycle", PctStart: pct, DivFactor: 25, FinalDiv: 1},
				{Name: "cosine", WarmupSteps: int(pct * 30), MinLR: 1e-7},
			} {
				for step := range total {
					if lr := learningRate(1e-3, s, moment{Step: step, Total: total}); !(lr > 0 && lr <= 1e-3*(1+1e-12)) {
						t.Fatalf("%+v, step %d of %d: %v", s, step, total, lr)
					}
				}
			}
		}
	}
}
