package cpu

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/goldens"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/ops"
)

// netCases are networks of the operations that ops.json has no case of, and of what the engine fuses.
func netCases() map[string]func(j *job, g *graph.Graph) *graph.Value {
	return map[string]func(j *job, g *graph.Graph) *graph.Value{
		"residual block": func(j *job, g *graph.Graph) *graph.Value {
			x := g.Apply(enter{shape: []int{2, 20, 5, 4, 6}}, j.values(g, "x", 0, 2, 20, 5, 4, 6))
			y := g.Apply(ops.Scale{By: 0.75}, g.Apply(ops.Dropout{P: 0.3, Key: "a"}, j.normed(g, "bn1", x, true)))
			y = g.Apply(ops.Conv3D{Stride: [3]int{1, 1, 1}, Pad: [3]int{1, 1, 1}}, y, j.values(g, "w", 0, 20, 20, 3, 3, 3))
			return g.Apply(ops.ReLU{}, g.Apply(ops.Add{}, j.normed(g, "bn2", y, false), x))
		},
		"dense block": func(j *job, g *graph.Graph) *graph.Value {
			x := g.Apply(enter{shape: []int{2, 18, 3, 4, 5}, segments: []int{7, 11}}, j.values(g, "x", 0, 2, 18, 3, 4, 5))
			for i, growth := range []int{12, 16, 5} {
				name := fmt.Sprint("layer", i)
				w := j.values(g, name+"w", 0, growth, x.Dim(1), 3, 3, 3)
				y := g.Apply(ops.Conv3D{Stride: [3]int{1, 1, 1}, Pad: [3]int{1, 1, 1}}, j.normed(g, name, x, true), w)
				x = g.Apply(ops.Concat{}, x, y)
			}
			return g.Apply(ops.GlobalAvgPool3D{}, g.Apply(ops.Dropout{P: 0.4, Key: "b"}, x))
		},
		"wide tokens": func(j *job, g *graph.Graph) *graph.Value {
			x := g.Apply(ops.Linear{}, j.values(g, "wide x", 0, 2, 7, 64), j.values(g, "wide w0", 0, 96, 64), j.values(g, "wide b0", 0, 96))
			y := g.Apply(ops.EmbedTokens{}, x, j.values(g, "wide cls", 0, 1, 1, 96), j.values(g, "wide pos", 0, 1, 8, 96))
			z := g.Apply(ops.Linear{}, y, j.values(g, "wide w1", 0, 288, 96), j.values(g, "wide b1", 0, 288))
			return g.Apply(ops.FirstToken{}, g.Apply(ops.Add{}, y, g.Apply(ops.Attention{Heads: 3}, z)))
		},
		"tokens": func(j *job, g *graph.Graph) *graph.Value {
			y := g.Apply(ops.EmbedTokens{}, j.values(g, "x", 0, 2, 9, 24), j.values(g, "cls", 0, 1, 1, 24), j.values(g, "pos", 0, 1, 10, 24))
			y = g.Apply(ops.Dropout{P: 0.25, Key: "c"}, y)
			z := g.Apply(ops.LayerNorm{Eps: 1e-5}, y, j.values(g, "gamma", 1, 24), j.values(g, "beta", 0, 24))
			z = g.Apply(ops.GELU{}, g.Apply(ops.Linear{}, z, j.values(g, "w1", 0, 72, 24), j.values(g, "b1", 0, 72)))
			z = g.Apply(ops.Attention{Heads: 3}, z)
			return g.Apply(ops.FirstToken{}, g.Apply(ops.Add{}, y, z))
		},
	}
}

// halfMachines are those of every instruction set, and one that multiplies pairs in Go.
func halfMachines() []kernels.Machine {
	all := []kernels.Machine{{ISA: kernels.Generic, Pairs: true}}
	for _, isa := range kernels.Supported() {
		all = append(all, kernels.Machine{ISA: isa, Pairs: isa == kernels.AVX512 && kernels.HasPairs()})
	}
	return all
}

// distance is the norm of the difference over that of want.
func distance(got, want []float64) float64 {
	var d, w float64
	for i, v := range want {
		d += (got[i] - v) * (got[i] - v)
		w += v * v
	}
	return math.Sqrt(d / w)
}

// values adds a parameter of uniform values around centre.
func (j *job) values(g *graph.Graph, name string, centre float32, shape ...int) *graph.Value {
	p := g.Leaf(graph.Parameter, name, graph.Type{Shape: shape})
	v := goldens.Input("nets/"+name, p.Elements())
	for i := range v {
		v[i] = centre + v[i]/2
	}
	j.state[name] = v
	return p
}

// normed normalises by the batch's statistics, or by given ones, and rectifies the former.
func (j *job) normed(g *graph.Graph, name string, x *graph.Value, train bool) *graph.Value {
	c := x.Dim(1)
	gamma, beta := j.values(g, name+".gamma", 1, c), j.values(g, name+".beta", 0, c)
	if train {
		return g.Apply(ops.ReLU{}, g.Apply(ops.BNNorm{Eps: 1e-5}, x, g.Apply(ops.BNStats{}, x), gamma, beta))
	}
	mean, variance := goldens.Input("nets/"+name+".mean", c), goldens.Input("nets/"+name+".var", c)
	for i := range variance {
		variance[i] = 1.5 + variance[i]
	}
	stats := g.Apply(ops.Stack2{}, j.buffer(g, name+".mean", mean), j.buffer(g, name+".var", variance))
	return g.Apply(ops.BNNorm{Eps: 1e-5, Frozen: true}, x, stats, gamma, beta)
}

// TestNets compares networks on every instruction set with the float64 reference: outputs and all gradients
// to within 1e-4 of their rms, in hybrid precision to within 0.08 of their norm, and the same bits for any number of threads.
func TestNets(t *testing.T) {
	for name, build := range netCases() {
		t.Run(name, func(t *testing.T) {
			on := func(dev probed) *job {
				j := &job{form: name, params: map[string]*graph.Value{}, state: map[string][]float32{}, inputs: map[string][]float32{}, times: 1}
				var err error
				j.req.Graph, err = graph.Build(func(g *graph.Graph) error {
					j.y = build(j, g)
					return j.differentiate(g, goldens.Input("nets/upstream", j.y.Elements()))
				})
				if err != nil {
					t.Fatal(err)
				}
				return j.run(t, dev)
			}
			want := on(newReferenceProbe[float64]())
			for _, isa := range kernels.Supported() {
				one, three := on(newCPUProbe(t, isa, 1)), on(newCPUProbe(t, isa, 3))
				for i := range one.results {
					one.results[i].want = want.results[i].got
					if !slices.Equal(one.results[i].got, three.results[i].got) {
						t.Errorf("%s: %s depends on the number of threads", isa, one.results[i].name)
					}
				}
				one.check(t, fmt.Sprintf("%s on %s", name, isa), 1e-4)
			}
			for _, m := range halfMachines() {
				half := func(threads int) *job {
					return on(newCPUProbeOn(t, &kernels.Machine{Pool: kernels.NewPool(threads), ISA: m.ISA, Pairs: m.Pairs}, Options{Half: true}))
				}
				one, three := half(1), half(3)
				for i := range one.results {
					one.results[i].want = want.results[i].got
					if !slices.Equal(one.results[i].got, three.results[i].got) {
						t.Errorf("%s in hybrid precision: %s depends on the number of threads", m.ISA, one.results[i].name)
					}
				}
				for _, r := range one.results { // rounding turns the sign of a few values before a ReLU: no bound for single ones
					if e := distance(r.got, r.want); !(e <= 0.08) {
						t.Errorf("%s in hybrid precision: %s is off by %.3f of its norm", m.ISA, r.name, e)
					}
				}
			}
		})
	}
}
