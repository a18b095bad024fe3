package train

import (
	"math"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/session"
)

// optimizer is the optimiser that the configuration describes for a network.
func optimizer(t config.Train, net *models.Network) session.Optimizer {
	o := t.Optimizer
	opt := session.Optimizer{
		Decay: o.WeightDecay, DecayAll: o.DecayOn == "all", Clip: t.ClipNorm, Gate: t.OnNaN == "skip", Average: t.EMA,
		NoDecay: net.Embedding,
	}
	if t.LayerDecay < 1 {
		opt.Rate = func(param string) float64 {
			at, top := net.Layer(param)
			return math.Pow(t.LayerDecay, float64(top-at))
		}
	}
	switch o.Name {
	case "sgd":
		opt.Rule = session.SGD{Momentum: o.Momentum}
	case "lion":
		opt.Rule = session.Lion{Beta1: o.Betas[0], Beta2: o.Betas[1]}
	default:
		opt.Rule = session.AdamW{Beta1: o.Betas[0], Beta2: o.Betas[1], Eps: o.Eps}
	}
	return opt
}
