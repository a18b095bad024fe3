package train

import (
	"math"

	"github.com/ctclass/ctclass/internal/config"
)

// learningRate returns the learning rate of an optimiser step (from 0) of a run of total steps.
func learningRate(lr float64, s config.Schedule, step, total int) float64 {
	switch s.Name {
	case "one_cycle":
		return oneCycle(lr, s, step, total)
	case "cosine":
		if step < s.WarmupSteps {
			return warmUp(lr, s, step)
		}
		done := float64(step-s.WarmupSteps) / float64(max(1, total-s.WarmupSteps))
		return anneal(lr, s.MinLR, min(1, done))
	default: // constant
		if step < s.WarmupSteps {
			return warmUp(lr, s, step)
		}
		return lr
	}
}

func warmUp(lr float64, s config.Schedule, step int) float64 {
	return lr * float64(step+1) / float64(s.WarmupSteps)
}

// oneCycle rises from lr/div_factor to lr over pct_start of the steps and falls to
// lr/div_factor/final_div_factor, both along half a cosine (Smith & Topin 2018, with PyTorch's arithmetic of
// the steps; the optimiser's betas stay as they are).
func oneCycle(lr float64, s config.Schedule, step, total int) float64 {
	first := lr / s.DivFactor
	last := first / s.FinalDiv
	peak := s.PctStart*float64(total) - 1
	end := float64(total - 1)
	t := float64(step)
	switch {
	case t > peak: // peak < 0 in a run so short that it has no rising part
		return anneal(lr, last, min(1, (t-peak)/(end-peak)))
	case peak == 0: // the rise is a single step, which has the highest rate
		return lr
	}
	return anneal(first, lr, t/peak)
}

// anneal goes from a to b along half a cosine as done goes from 0 to 1.
func anneal(a, b, done float64) float64 {
	return b + (a-b)/2*(1+math.Cos(math.Pi*done))
}
