package session

import (
	"fmt"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/nn"
	"github.com/ctclass/ctclass/internal/ops"
)

// Probe says what a diagnostic pass over one sample gives beside the logits. The score that is differentiated
// is a weighted sum of the logits.
type Probe struct {
	Values    []*graph.Value // values to read
	Gradients []*graph.Value // values with respect to which the score is differentiated
}

// Probed is the result of a diagnostic pass: row-major values in the order of the Probe.
type Probed struct {
	Logits            []float32
	Values, Gradients [][]float32
}

// compileProbe compiles the network without training for one sample, with what Options.Probe asks for.
func (s *Session) compileProbe(dev engine.Device) (*engine.Program, error) {
	var req engine.Request
	g, err := graph.Build(func(g *graph.Graph) error {
		b := nn.New(g, false)
		logits := s.opt.Network.Build(b, s.input(g, 1))
		p, err := s.opt.Probe(logits)
		if err != nil {
			return err
		}
		s.probed = p
		req.Outputs = append([]*graph.Value{logits}, p.Values...)
		if len(p.Gradients) == 0 {
			return nil
		}
		weights := g.Leaf(graph.Input, "targets", graph.Type{Shape: logits.Shape})
		scale := g.Leaf(graph.Input, "scale", graph.Type{Shape: []int{1}})
		req.Params = p.Gradients
		req.Gradients, err = g.Gradients(g.Apply(ops.Loss{F: score{}}, logits, weights, scale), p.Gradients...)
		return err
	})
	if err != nil {
		return nil, err
	}
	req.Graph = g
	return engine.Compile(dev, req)
}

// Probe runs the diagnostic pass of Options.Probe on one sample x (C, D, H, W). The score is the sum of the
// logits times weights, one for each class.
func (s *Session) Probe(x, weights []float32) (Probed, error) {
	if len(x) != s.sampleLen() || len(weights) != s.opt.Network.Classes {
		return Probed{}, fmt.Errorf("session: %d values and %d weights for a sample of %d and %d classes",
			len(x), len(weights), s.sampleLen(), s.opt.Network.Classes)
	}
	inputs := map[string][]float32{"x": x}
	if len(s.probed.Gradients) > 0 {
		inputs["targets"], inputs["scale"] = weights, []float32{1}
	}
	for name, v := range inputs {
		if err := s.exec.SetInput(s.probe, name, v); err != nil {
			return Probed{}, err
		}
	}
	s.exec.Run(s.probe, &engine.RunInfo{})
	r := Probed{Logits: s.exec.Output(s.probe, 0)}
	for i := range s.probed.Values {
		r.Values = append(r.Values, s.exec.Output(s.probe, 1+i))
	}
	for i := range s.probed.Gradients {
		r.Gradients = append(r.Gradients, s.exec.Output(s.probe, 1+len(s.probed.Values)+i))
	}
	return r, nil
}

// score is the weighted sum of logits that a probe differentiates, in the form of a loss; the targets are the
// weights.
type score struct{}

func (score) Name() string            { return "score" }
func (score) Targets(classes int) int { return classes }

func (score) Row(logits, targets, grad []float64) float64 {
	sum := 0.0
	for i, z := range logits {
		sum += z * targets[i]
		if grad != nil {
			grad[i] = targets[i]
		}
	}
	return sum
}
