package train

import (
	"math"

	"github.com/ctclass/ctclass/internal/config"
)

// moment is where in a run a learning rate is asked for.
type moment struct {
	Step, Total int     // optimiser step, from 0, of all
	Epoch       int     // from 0
	Falls       float64 // what the plateau schedule has multiplied the rate by
}

// learningRate returns the learning rate of an optimiser step.
func learningRate(lr float64, s config.Schedule, m moment) float64 {
	if s.Name == "one_cycle" {
		return oneCycle(lr, s, m.Step, m.Total)
	}
	if m.Step < s.WarmupSteps {
		return lr * float64(m.Step+1) / float64(s.WarmupSteps)
	}
	switch s.Name {
	case "cosine":
		done := float64(m.Step-s.WarmupSteps) / float64(max(1, m.Total-s.WarmupSteps))
		return anneal(lr, s.MinLR, min(1, done))
	case "multistep":
		for _, e := range s.Milestones {
			if m.Epoch >= e {
				lr *= s.Factor
			}
		}
		return lr
	case "plateau":
		return max(lr*m.Falls, s.MinLR)
	default: // constant
		return lr
	}
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

// plateau is what the plateau schedule remembers, with the rules of PyTorch's ReduceLROnPlateau with a relative
// threshold.
type plateau struct {
	Falls    float64  `json:"falls"` // what the rate has been multiplied by
	Best     *float64 `json:"best,omitempty"`
	Bad      int      `json:"bad"`      // validations without improvement
	Cooldown int      `json:"cooldown"` // validations that are still not counted
}

// observe takes the monitored metric of a validation; sign is 1 where more is better, and -1 where less is. It
// reports whether the rate falls.
func (p *plateau) observe(value, sign float64, s config.Schedule) (fall bool) {
	if p.Best == nil || sign*value > sign**p.Best*(1+sign*s.Threshold) {
		p.Best, p.Bad = &value, 0
	} else {
		p.Bad++
	}
	if p.Cooldown > 0 {
		p.Cooldown--
		p.Bad = 0
	}
	if p.Bad <= s.Patience {
		return false
	}
	p.Falls *= s.Factor
	p.Cooldown, p.Bad = s.Cooldown, 0
	return true
}
