package session

import (
	"math"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// Optimizer says how gradients change parameters. It is an engine.Optimizer.
type Optimizer struct {
	Rule     Rule
	Decay    float64                    // weight decay
	DecayAll bool                       // of everything; otherwise only of tensors of two axes or more that NoDecay does not name
	NoDecay  func(param string) bool    // nil: none
	Clip     float64                    // global norm of the gradients; 0: none
	Gate     bool                       // a step whose gradients are not all finite changes no parameter at all
	Average  float64                    // decay of a moving average of the parameters, see ops.Update; 0: none
	Rate     func(param string) float64 // multiplies the learning rate; nil: 1
}

// Rule is what an optimiser does with a gradient: AdamW, SGD or Lion.
type Rule interface {
	op(u ops.Update) graph.Op
	states() []string
}

// AdamW is Adam with decoupled weight decay (ops.AdamW).
type AdamW struct{ Beta1, Beta2, Eps float64 }

func (r AdamW) op(u ops.Update) graph.Op {
	return ops.AdamW{Update: u, Beta1: r.Beta1, Beta2: r.Beta2, Eps: r.Eps}
}

func (AdamW) states() []string { return []string{"m", "v"} }

// SGD is gradient descent with Nesterov's momentum (ops.SGD).
type SGD struct{ Momentum float64 }

func (r SGD) op(u ops.Update) graph.Op { return ops.SGD{Update: u, Momentum: r.Momentum} }

func (SGD) states() []string { return []string{"momentum"} }

// Lion takes the sign of an interpolated momentum (ops.Lion).
type Lion struct{ Beta1, Beta2 float64 }

func (r Lion) op(u ops.Update) graph.Op {
	return ops.Lion{Update: u, Beta1: r.Beta1, Beta2: r.Beta2}
}

func (Lion) states() []string { return []string{"m"} }

// average names the state that holds a parameter's moving average.
const average = "average"

// Op returns a parameter's update.
func (o Optimizer) Op(param string, shape []int, clipped bool) graph.Op {
	u := ops.Update{Decay: o.Decay, Rate: 1, Clipped: clipped, Average: o.Average}
	if !o.DecayAll && (len(shape) < 2 || o.NoDecay != nil && o.NoDecay(param)) {
		u.Decay = 0
	}
	if o.Rate != nil {
		u.Rate = o.Rate(param)
	}
	return o.Rule.op(u)
}

// States names the rule's states and the average.
func (o Optimizer) States() []string {
	if o.Average > 0 {
		return append(o.Rule.states(), average)
	}
	return o.Rule.states()
}

// ClipNorm returns the largest global norm, which is infinite where only finite gradients are asked for.
func (o Optimizer) ClipNorm() float64 {
	if o.Clip == 0 && o.Gate {
		return math.Inf(1)
	}
	return o.Clip
}

// averages lists the parameters that have a moving average: all that are trained.
func (s *Session) averages() []string {
	if s.opt.Training == nil || s.opt.Training.Optimizer.Average == 0 {
		return nil
	}
	var names []string
	for _, p := range s.params {
		if s.state.Has(engine.OptimizerState(average, p.Value.Name)) {
			names = append(names, p.Value.Name)
		}
	}
	return names
}

// StartAverages makes the moving averages equal to the parameters, as they are before the first step.
func (s *Session) StartAverages() {
	for _, name := range s.averages() {
		s.state.Copy(engine.OptimizerState(average, name), name)
	}
}

// WithAverages runs f with the moving averages, where there are any, in place of the parameters. Buffers, such
// as running statistics, stay those of the training.
func (s *Session) WithAverages(f func() error) error {
	swap := func() {
		for _, name := range s.averages() {
			s.state.Swap(engine.OptimizerState(average, name), name)
		}
	}
	swap()
	defer swap()
	return f()
}
