package session

import (
	"strings"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
)

// Part is a piece of the memory of the process.
type Part struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// largestProgram is the one whose arena and inputs take most.
func (p *Plan) largestProgram() *engine.Program {
	largest := p.programs[0]
	for _, prog := range p.programs {
		if engine.RunBytes(prog) > engine.RunBytes(largest) {
			largest = prog
		}
	}
	return largest
}

// Account divides what the session and the runtime take, ProcessBytes less Options.Beside. The arena is that of
// the largest program at its peak.
func (p *Plan) Account() []Part {
	var weights, buffers, moments, averages, gradients int64
	for _, name := range p.state.Names() {
		to := &weights
		switch {
		case strings.HasPrefix(name, engine.GradientPrefix):
			to = &gradients
		case strings.HasPrefix(name, engine.OptimizerState(average, "")):
			to = &averages
		case strings.HasPrefix(name, engine.OptimizerPrefix):
			to = &moments
		case p.state.Role(name) == graph.Buffer:
			to = &buffers
		}
		*to += p.state.BytesOf(name)
	}
	prog := p.largestProgram()
	_, peak := prog.Peak()
	parts := []Part{
		{"weights", weights},
		{"running statistics", buffers},
		{"optimiser state", moments},
		{"moving average", averages},
		{"accumulated gradients", gradients},
		{"weights as kernels take them", engine.KeptBytes(p.programs...)},
		{"inputs of the step", engine.RunBytes(prog) - prog.ArenaBytes},
	}
	for _, part := range engine.Parts() {
		parts = append(parts, Part{part.String(), peak.Bytes[part]})
	}
	return append(parts,
		Part{"gaps in the arena", prog.ArenaBytes - peak.Total()},
		Part{"a weight on its way in or out", p.weightBytes()},
		Part{"Go heap and stacks", heapBytes},
		Part{"code", codeBytes},
	)
}

// Used returns the parts that are not empty.
func Used(parts []Part) (out []Part) {
	for _, part := range parts {
		if part.Bytes > 0 {
			out = append(out, part)
		}
	}
	return out
}

// Peak is the instruction of a plan at which most memory is in use.
type Peak struct {
	Program string `json:"program"` // training, evaluation or update
	Layer   string `json:"layer"`
	Kind    string `json:"kind"` // of the operation
	Phase   string `json:"phase"`
	Step    int    `json:"instruction"` // from 1
	Steps   int    `json:"instructions"`
}

// Peak tells when most memory is in use.
func (p *Plan) Peak() Peak {
	prog := p.largestProgram()
	at, m := prog.Peak()
	out := Peak{Program: "evaluation", Layer: m.Layer, Kind: m.Kind, Phase: phase(m), Step: at + 1, Steps: len(prog.Instrs)}
	switch {
	case prog == p.update:
		out.Program = "update"
	case prog != p.eval && prog != p.probe:
		out.Program = "training"
	}
	return out
}

func phase(m engine.Moment) string {
	switch {
	case m.Clone:
		return "recomputation"
	case m.Backward:
		return "backward"
	}
	return "forward"
}

// Training returns the program of a training step on n samples, nil where there is none.
func (p *Plan) Training(n int) *engine.Program { return p.train[n] }
