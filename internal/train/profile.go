package train

import (
	"cmp"
	"slices"
	"time"

	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/kernels"
)

// Profile says where the time of a step goes.
type Profile struct {
	Ceilings kernels.Ceilings `json:"ceilings"` // what the machine can do at most on these threads
	Kinds    []ProfileRow     `json:"kinds"`    // by kind of operation, the longest first
	Layers   []ProfileRow     `json:"layers"`   // by layer and kind, the longest first
}

// ProfileRow is the time of some instructions of a step, mean over the steps. The operations are those of the
// definition (a faster algorithm than the direct one can pass the ceiling), the bytes those of operands and results.
type ProfileRow struct {
	Layer  string  `json:"layer,omitempty"`
	Kind   string  `json:"kind"`
	Calls  int     `json:"calls"`
	MS     float64 `json:"ms"`
	Share  float64 `json:"share"` // of the time of all instructions
	GFLOPS float64 `json:"gflops"`
	GBPS   float64 `json:"gbps"`

	took        time.Duration
	flop, bytes int64
}

// profiler adds up the times of instructions.
type profiler struct {
	dev    engine.Device
	steps  int
	kinds  map[string]*ProfileRow
	layers map[[2]string]*ProfileRow
}

func newProfiler(dev engine.Device) *profiler {
	return &profiler{dev: dev, kinds: map[string]*ProfileRow{}, layers: map[[2]string]*ProfileRow{}}
}

func (p *profiler) observe(in *engine.Instr, took time.Duration) {
	kind := in.Op.Kind()
	flop, bytes := in.Work(p.dev)
	if p.kinds[kind] == nil {
		p.kinds[kind] = &ProfileRow{Kind: kind}
	}
	key := [2]string{in.Name, kind}
	if p.layers[key] == nil {
		p.layers[key] = &ProfileRow{Layer: in.Name, Kind: kind}
	}
	for _, r := range []*ProfileRow{p.kinds[kind], p.layers[key]} {
		r.Calls++
		r.took += took
		r.flop += flop
		r.bytes += bytes
	}
}

func (p *profiler) result(c kernels.Ceilings) *Profile {
	var all time.Duration
	for _, r := range p.kinds {
		all += r.took
	}
	out := &Profile{Ceilings: c}
	for _, r := range p.kinds {
		out.Kinds = append(out.Kinds, r.finish(p.steps, all))
	}
	for _, r := range p.layers {
		out.Layers = append(out.Layers, r.finish(p.steps, all))
	}
	for _, rows := range [][]ProfileRow{out.Kinds, out.Layers} {
		slices.SortFunc(rows, func(a, b ProfileRow) int {
			return cmp.Or(cmp.Compare(b.took, a.took), cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Kind, b.Kind))
		})
	}
	return out
}

func (r *ProfileRow) finish(steps int, all time.Duration) ProfileRow {
	row := *r
	row.Calls /= steps
	row.MS = float64(r.took.Microseconds()) / 1000 / float64(steps)
	row.Share = float64(r.took) / float64(max(1, all))
	if ns := float64(r.took.Nanoseconds()); ns > 0 {
		row.GFLOPS, row.GBPS = float64(r.flop)/ns, float64(r.bytes)/ns
	}
	return row
}
