package engine

import (
	"slices"

	"github.com/ctclass/ctclass/internal/graph"
)

// Anomaly is the first value of a run that holds NaN or an infinity.
type Anomaly struct {
	Name     string // the layer of a computed value; otherwise the name of the input, parameter or buffer
	Role     graph.Role
	Kind     string // operation that computed it
	Backward bool
	NaN      bool  // otherwise it holds infinities only
	Samples  []int // where the value has a part for each sample of the batch: the places that are not finite
}

// Diagnose runs the program once more without changing the state, checks each value as it comes, and returns the
// first that is not finite; nil when there is none. The inputs must still be set; those that may hold NaN by
// their nature are named in exempt.
func (e *Exec) Diagnose(p *Program, info *RunInfo, exempt ...string) *Anomaly {
	b := e.programs[p]
	samples := len(info.SampleIDs)
	var inputs []string
	for name, t := range p.Inputs {
		if t.Role == graph.Input && !slices.Contains(exempt, name) {
			inputs = append(inputs, name)
		}
	}
	slices.Sort(inputs)
	for _, name := range inputs {
		if a := e.anomaly(p.Inputs[name], b.inputs[name], samples); a != nil {
			return a
		}
	}
	for _, t := range p.states {
		if t.like == nil { // a parameter or buffer; training state is not read on the way to the gradients
			if a := e.anomaly(t, e.state.entries[t.state].buf, samples); a != nil {
				return a
			}
		}
	}
	computes := func(in *Instr) bool { // something else than a change of the state
		return slices.ContainsFunc(in.Out, func(t *Tensor) bool { return t.state == "" })
	}
	for in, c := range e.steps(p, info, computes) {
		for i, t := range in.Out {
			if a := e.anomaly(t, c.Out[i], samples); a != nil {
				a.Name, a.Kind, a.Backward = in.Name, in.Op.Kind(), in.Backward && !in.Clone
				return a
			}
		}
	}
	return nil
}

// anomaly says what is not finite in a tensor; nil: nothing.
func (e *Exec) anomaly(t *Tensor, buf Buf, samples int) *Anomaly {
	if !e.suspicious(t.Layout, buf) {
		return nil
	}
	values := make([]float32, t.Type.Elements())
	e.dev.Export(values, t.Layout, buf)
	a := &Anomaly{Name: t.Name, Role: t.Role}
	per := 0
	if s := t.Type.Shape; t.state == "" && len(s) > 1 && s[0] == samples {
		per = len(values) / samples
	}
	any := false
	for i, v := range values {
		if v-v == 0 {
			continue
		}
		any = true
		a.NaN = a.NaN || v != v
		if per > 0 && (len(a.Samples) == 0 || a.Samples[len(a.Samples)-1] != i/per) {
			a.Samples = append(a.Samples, i/per)
		}
	}
	if !any { // it was between the parts that belong to the tensor
		return nil
	}
	return a
}

// suspicious reports whether a buffer holds anything that is not finite, in whatever layout.
func (e *Exec) suspicious(l Layout, buf Buf) bool {
	if l.Half {
		const exponent = 0x7f80
		return slices.ContainsFunc(BF16(buf), func(v uint16) bool { return v&exponent == exponent })
	}
	if e.dev.ElementSize() == 8 {
		return slices.ContainsFunc(F64(buf), func(v float64) bool { return v-v != 0 })
	}
	return slices.ContainsFunc(F32(buf), func(v float32) bool { return v-v != 0 })
}
