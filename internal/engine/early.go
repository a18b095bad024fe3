package engine

import "slices"

// applyEarly moves each change of parameters and training state that the backward part ends with to right
// behind the last instruction that it must follow, so that a gradient's memory is free again at once.
func applyEarly(p *Program) {
	lastUse := map[*Tensor]int{} // of a state tensor: reader or writer; of a computed one: writer
	moved := map[int][]*Instr{}  // by the instruction that they follow
	left := make([]bool, len(p.Instrs))
	for at, in := range p.Instrs {
		end := at
		if in.Backward && !slices.ContainsFunc(in.Out, func(t *Tensor) bool { return t.state == "" }) {
			end = 0
			for _, t := range slices.Concat(in.In, in.Out) {
				end = max(end, lastUse[t])
			}
			left[at] = true
			moved[end] = append(moved[end], in)
		}
		for _, t := range in.In {
			if t.state != "" {
				lastUse[t] = max(lastUse[t], end)
			}
		}
		for _, t := range in.Out {
			lastUse[t] = max(lastUse[t], end)
		}
	}
	var out []*Instr
	for at, in := range p.Instrs {
		if !left[at] {
			out = append(out, in)
		}
		out = append(out, moved[at]...)
	}
	p.Instrs = out
}
