package weights

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/nn"
)

// Target is the network that weights are for.
type Target struct {
	Network  *models.Network
	ShapeDHW [3]int // of its input; it decides the number of a vision transformer's positions
	Labels   []string
}

// Options say what may differ between a file and the network. The zero Options want every tensor, and no
// other one, in its own shape.
type Options struct {
	NewHead     bool   // layers of the head that are missing or do not fit keep their first values
	Partial     bool   // so does everything else, and what the network lacks is left over
	Inflate     bool   // 2D kernels become 3D ones
	Interpolate bool   // positions of another volume size are interpolated
	FromDHW     [3]int // that size, for files that do not say it; zeros: unknown
}

// Note says something about a tensor.
type Note struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Rename is a tensor that a layout names differently.
type Rename struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Report tells what became of every tensor.
type Report struct {
	Layout   string   `json:"layout"`
	Prefix   string   `json:"prefix,omitempty"` // taken away from every name, such as module.
	Matched  []string `json:"matched"`          // under their own name, prefix aside
	Renamed  []Rename `json:"renamed"`
	Changed  []Note   `json:"changed"`   // values that were adapted, by ctclass's name
	LeftOver []Note   `json:"left_over"` // tensors of the file that were not used, and why
	New      []Note   `json:"new"`       // parameters that keep their first values, and why
}

// MismatchError lists every difference that keeps a file from being loaded.
type MismatchError struct {
	Network, Layout string
	Missing         []string // name and shape
	Unexpected      []string // name and shape
	Misshaped       []string // name, both shapes
}

func (e *MismatchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the weights do not fit %s: %d tensors are missing, %d unexpected, %d of another shape", e.Network,
		len(e.Missing), len(e.Unexpected), len(e.Misshaped))
	for _, part := range []struct {
		what string
		list []string
	}{{"missing", e.Missing}, {"unexpected", e.Unexpected}, {"shape", e.Misshaped}} {
		for _, line := range part.list {
			fmt.Fprintf(&b, "\n  %s: %s", part.what, line)
		}
	}
	return b.String()
}

// Params lists the parameters and buffers of the target's network.
func (t Target) Params() ([]nn.Param, error) {
	var params []nn.Param
	_, err := graph.Build(func(g *graph.Graph) error {
		b := nn.New(g, false)
		d := t.ShapeDHW
		t.Network.Build(b, g.Leaf(graph.Input, "x", graph.Type{Shape: []int{1, t.Network.InChannels, d[0], d[1], d[2]}, Class: graph.Volume}))
		params = b.Params
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s cannot take volumes of %d×%d×%d voxels (D, H, W): %w",
			t.Network.Name, t.ShapeDHW[0], t.ShapeDHW[1], t.ShapeDHW[2], err)
	}
	return params, nil
}

// Counters beside the running statistics of PyTorch's batch norms.
const (
	runningMean    = "running_mean"
	batchesTracked = "num_batches_tracked"
)

// fitting is a Fit under way.
type fitting struct {
	target Target
	file   *modelfile.File
	opt    Options
	want   map[string][]int // shape of each parameter and buffer
	order  []string         // its keys as the network creates them
	found  map[string]modelfile.Tensor
	misfit map[string]bool             // parameters whose tensor has another shape
	biases map[string]modelfile.Tensor // of convolutions, by the running mean that takes them in
	report Report
	bad    MismatchError
}

// Fit finds for every parameter and buffer of the network its tensor in the file. The layout is the one of
// the network's family that explains most names. The result is complete but for the names in Report.New, the
// batch counters included. An error of type *MismatchError lists everything that does not fit, and nothing
// is used then.
func Fit(file *modelfile.File, target Target, opt Options) ([]modelfile.Tensor, *Report, error) {
	params, err := target.Params()
	if err != nil {
		return nil, nil, err
	}
	f := &fitting{
		target: target, file: file, opt: opt, want: map[string][]int{},
		found: map[string]modelfile.Tensor{}, misfit: map[string]bool{}, biases: map[string]modelfile.Tensor{},
	}
	for _, p := range params {
		f.want[p.Value.Name] = p.Value.Shape
		f.order = append(f.order, p.Value.Name)
		if layer, ok := strings.CutSuffix(p.Value.Name, runningMean); ok {
			f.want[layer+batchesTracked] = []int{}
		}
	}
	layout, prefix := f.choose()
	f.report.Layout, f.report.Prefix = layout.Name, prefix
	f.bad.Network, f.bad.Layout = target.Network.Name, layout.Name
	for _, t := range file.Tensors {
		if err := f.place(t, strings.TrimPrefix(t.Name, prefix), layout); err != nil {
			return nil, nil, err
		}
	}
	f.foldBiases()
	f.complete()
	if len(f.bad.Missing)+len(f.bad.Unexpected)+len(f.bad.Misshaped) > 0 {
		return nil, &f.report, &f.bad
	}
	var out []modelfile.Tensor
	for _, name := range f.order {
		if t, ok := f.found[name]; ok {
			out = append(out, t)
		}
		if layer, ok := strings.CutSuffix(name, runningMean); ok {
			t, ok := f.found[layer+batchesTracked]
			if !ok { // files of old versions of PyTorch
				t = modelfile.Tensor{Name: layer + batchesTracked, I64: []int64{0}}
			}
			out = append(out, t)
		}
	}
	return out, &f.report, nil
}

// choose returns the layout and the prefix that explain most names.
func (f *fitting) choose() (Layout, string) {
	var names []string
	for _, t := range f.file.Tensors {
		names = append(names, t.Name)
	}
	prefix := unwrap(names)
	var best Layout
	most := -1
	for _, l := range Layouts(f.target.Network.Family) {
		n := 0
		for _, name := range names {
			if _, ok := f.want[l.in(strings.TrimPrefix(name, prefix))]; ok {
				n++
			}
		}
		if n > most {
			best, most = l, n
		}
	}
	return best, prefix
}

// place puts a tensor of the file, whose name without prefix is given, where it belongs.
func (f *fitting) place(t modelfile.Tensor, name string, layout Layout) error {
	stored, to := t.Name, layout.in(name)
	shape, ok := f.want[to]
	switch {
	case !ok:
		f.unwanted(t, to)
		return nil
	case f.found[to].Name != "":
		f.leaveOver(stored, "the file has "+to+" twice", fmt.Sprintf("%s %v, a second tensor for %s", stored, t.Shape, to))
		return nil
	case f.otherClasses(to):
		f.report.LeftOver = append(f.report.LeftOver, Note{stored, "the model's labels are others: " + strings.Join(f.file.Model.Labels, ", ")})
		return nil
	}
	t.Name = to
	wantType := modelfile.F32
	if strings.HasSuffix(to, batchesTracked) {
		wantType = modelfile.I64
	}
	if t.DType() != wantType {
		f.misshaped(stored, to, fmt.Sprintf("%s has elements of type %s, expected %s", stored, t.DType(), wantType))
		return nil
	}
	if !slices.Equal(t.Shape, shape) {
		adapted, how, err := f.adapt(t, shape)
		if err != nil {
			return err
		}
		if how == "" || adapted.Name == "" {
			text := fmt.Sprintf("%s is %v, expected %v", stored, t.Shape, shape)
			if how != "" {
				text += " (" + how + ")"
			}
			f.misshaped(stored, to, text)
			return nil
		}
		t = adapted
		f.report.Changed = append(f.report.Changed, Note{to, how})
	}
	f.found[to] = t
	if name == to {
		f.report.Matched = append(f.report.Matched, to)
	} else {
		f.report.Renamed = append(f.report.Renamed, Rename{stored, to})
	}
	return nil
}

// otherClasses reports whether a tensor belongs to the last layer of a model with other labels.
func (f *fitting) otherClasses(name string) bool {
	if !f.opt.NewHead || f.file.Model == nil || slices.Equal(f.file.Model.Labels, f.target.Labels) {
		return false
	}
	return layerOf(name) == layerOf(f.order[len(f.order)-1])
}

// layerOf cuts the last part off a parameter's name.
func layerOf(name string) string { return name[:strings.LastIndexByte(name, '.')+1] }

// unwanted deals with a tensor that the network has no place for.
func (f *fitting) unwanted(t modelfile.Tensor, to string) {
	layer, isBias := strings.CutSuffix(to, "downsample.0.bias")
	if mean := layer + "downsample.1." + runningMean; isBias && f.want[mean] != nil && slices.Equal(t.Shape, f.want[mean]) {
		f.biases[mean] = t
		return
	}
	if f.opt.NewHead && isForeignHead(to) {
		f.report.LeftOver = append(f.report.LeftOver, Note{t.Name, "a head of another form"})
		return
	}
	f.leaveOver(t.Name, "the network has no such tensor", fmt.Sprintf("%s %v", t.Name, t.Shape))
}

// leaveOver notes a tensor that is not used; without Partial that is an error.
func (f *fitting) leaveOver(name, why, line string) {
	f.report.LeftOver = append(f.report.LeftOver, Note{name, why})
	if !f.opt.Partial {
		f.bad.Unexpected = append(f.bad.Unexpected, line)
	}
}

// misshaped notes a tensor that does not fit the parameter to.
func (f *fitting) misshaped(stored, to, text string) {
	f.report.LeftOver = append(f.report.LeftOver, Note{stored, text})
	if !f.mayBeNew(to) {
		f.bad.Misshaped = append(f.bad.Misshaped, text)
	}
	f.misfit[to] = true
}

// mayBeNew reports whether a parameter may keep its first value.
func (f *fitting) mayBeNew(name string) bool {
	return f.opt.Partial || f.opt.NewHead && strings.HasPrefix(name, headOf(f.target.Network.Family))
}

// foldBiases takes the bias of a convolution that a batch norm follows into the norm's running mean, which is
// the same function.
func (f *fitting) foldBiases() {
	for _, name := range f.order {
		bias, ok := f.biases[name]
		if !ok {
			continue
		}
		mean, ok := f.found[name]
		if !ok {
			f.leaveOver(bias.Name, "there is no "+name+" to take it", fmt.Sprintf("%s %v", bias.Name, bias.Shape))
			continue
		}
		folded := make([]float32, len(mean.F32))
		for i := range folded {
			folded[i] = mean.F32[i] - bias.F32[i]
		}
		f.found[name] = modelfile.Tensor{Name: name, Shape: mean.Shape, F32: folded}
		f.report.Changed = append(f.report.Changed, Note{name, "less " + bias.Name + ", the bias of the convolution before it"})
	}
}

// complete notes the parameters that the file has nothing for. A layer of the head is new as a whole.
func (f *fitting) complete() {
	fresh := map[string]bool{}
	for _, name := range f.order {
		if _, ok := f.found[name]; !ok && f.opt.NewHead && strings.HasPrefix(name, headOf(f.target.Network.Family)) {
			fresh[layerOf(name)] = true
		}
	}
	for _, name := range f.order {
		switch t, ok := f.found[name]; {
		case ok && fresh[layerOf(name)]:
			delete(f.found, name)
			f.report.LeftOver = append(f.report.LeftOver, Note{t.Name, "the rest of its layer does not fit"})
			f.report.New = append(f.report.New, Note{name, "the rest of its layer is new"})
		case ok:
		case f.misfit[name]:
			f.report.New = append(f.report.New, Note{name, "the file's tensor does not fit"})
		default:
			f.report.New = append(f.report.New, Note{name, "not in the file"})
			if !f.mayBeNew(name) {
				f.bad.Missing = append(f.bad.Missing, fmt.Sprintf("%s %v", name, f.want[name]))
			}
		}
	}
}
