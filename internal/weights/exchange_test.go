package weights_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/onnx"
	"github.com/ctclass/ctclass/internal/session"
	"github.com/ctclass/ctclass/internal/weights"
)

// volumes makes n input volumes as bench/pytorch/reference.py does.
func volumes(n int, shape [3]int) []float32 {
	x := make([]float32, n*shape[0]*shape[1]*shape[2])
	for i := range x {
		x[i] = float32(float64(i*7919%1009-504) / 504)
	}
	return x
}

// importFile imports a file for a network that it must fit.
func importFile(t *testing.T, path, name string, options map[string]any, classes int, shape [3]int) (*models.Network, *modelfile.Model, *weights.Report) {
	t.Helper()
	net, err := models.New(config.Model{Name: name, Options: options}, classes)
	if err != nil {
		t.Fatal(err)
	}
	file, err := modelfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	target := weights.Target{Network: net}
	for i := range classes {
		target.Labels = append(target.Labels, fmt.Sprint("label ", i))
	}
	p := config.Default().Preprocess
	p.ShapeDHW = shape
	m, report, err := weights.Import(file, target, "multilabel", p, 1, weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return net, m, report
}

// logits runs the model on volumes.
func logits(t *testing.T, net *models.Network, m *modelfile.Model, n int) [][]float64 {
	t.Helper()
	dev := cpu.New(2)
	defer dev.Close()
	plan, err := session.Compile(dev, session.Options{Network: net, ShapeDHW: m.Preprocess.ShapeDHW, EvalBatch: n})
	if err != nil {
		t.Fatal(err)
	}
	s, err := plan.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.LoadTensors(m.Tensors); err != nil {
		t.Fatal(err)
	}
	flat, err := s.Logits(volumes(n, m.Preprocess.ShapeDHW), n)
	if err != nil {
		t.Fatal(err)
	}
	rows := make([][]float64, n)
	for i := range rows {
		for _, z := range flat[i*net.Classes:][:net.Classes] {
			rows[i] = append(rows[i], float64(z))
		}
	}
	return rows
}

// distance is the largest difference over the largest value.
func distance(a, b [][]float64) float64 {
	var diff, most float64
	for i := range b {
		for j := range b[i] {
			diff, most = max(diff, math.Abs(a[i][j]-b[i][j])), max(most, math.Abs(b[i][j]))
		}
	}
	return diff / most
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

// equalTensors compares what a file holds with tensors, bit by bit.
func equalTensors(t *testing.T, path string, want []modelfile.Tensor) {
	t.Helper()
	f, err := modelfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Tensors) != len(want) {
		t.Fatalf("%s has %d tensors, want %d", path, len(f.Tensors), len(want))
	}
	byName := map[string]modelfile.Tensor{}
	for _, x := range f.Tensors {
		byName[x.Name] = x
	}
	for _, w := range want {
		g := byName[w.Name]
		same := slices.EqualFunc(g.F32, w.F32, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
		if !same || !slices.Equal(g.I64, w.I64) || !slices.Equal(g.Shape, w.Shape) {
			t.Errorf("%s: %s comes back as another tensor", path, w.Name)
		}
	}
}

// fixture is a small file that PyTorch wrote and what PyTorch's network makes of it in float64.
type fixture struct {
	File    string         `json:"file"`
	Model   string         `json:"model"`
	Options map[string]any `json:"options"`
	Shape   [3]int         `json:"shape"`
	Logits  [][]float64    `json:"logits"`
}

// TestFixtures imports files of PyTorch in every layout, element type and nesting, compares logits, and
// brings the weights through both formats and back.
func TestFixtures(t *testing.T) {
	var cases []fixture
	readJSON(t, "testdata/fixtures.json", &cases)
	layouts := map[string]string{
		"resnet_residual_module.pth": "residual_layers module.", "densenet_14_bf16.pth": "classifier14 ",
	}
	keys := map[string]string{
		"resnet_f16_nested.pth": "model.state_dict", "densenet.pth": "model_state_dict", "vit_protocol4.pth": "state_dict",
	}
	for _, c := range cases {
		t.Run(c.File, func(t *testing.T) {
			path := filepath.Join("testdata", c.File)
			net, m, report := importFile(t, path, c.Model, c.Options, len(c.Logits[0]), c.Shape)
			if d := distance(logits(t, net, m, len(c.Logits)), c.Logits); d > 1e-5 {
				t.Errorf("logits are off by %.2g", d)
			}
			layout, ok := layouts[c.File]
			if !ok {
				layout = "original "
			}
			if got := report.Layout + " " + report.Prefix; got != layout {
				t.Errorf("layout and prefix %q, want %q", got, layout)
			}
			if f, _, err := modelfile.List(path); err != nil || f.StateKey != keys[c.File] {
				t.Errorf("the state_dict is under %q, %v, want %q", f.StateKey, err, keys[c.File])
			}
			if len(report.LeftOver)+len(report.New)+len(report.Changed) > 0 || len(report.Matched)+len(report.Renamed) != len(m.Tensors) {
				t.Errorf("report: %+v", report)
			}
			dir := t.TempDir()
			for _, l := range weights.Layouts(net.Family) {
				rename, err := weights.Names(net.Family, l.Name)
				if err != nil {
					continue // read only
				}
				named := slices.Clone(m.Tensors)
				for i := range named {
					named[i].Name = rename(named[i].Name)
				}
				pth, st := filepath.Join(dir, l.Name+".pth"), filepath.Join(dir, l.Name+".safetensors")
				if err := modelfile.SaveTorch(pth, named); err != nil {
					t.Fatal(err)
				}
				if err := modelfile.SaveTensors(st, named, nil); err != nil {
					t.Fatal(err)
				}
				for _, file := range []string{pth, st} {
					equalTensors(t, file, named)
					_, again, report := importFile(t, file, c.Model, c.Options, len(c.Logits[0]), c.Shape)
					if report.Layout != l.Name {
						t.Errorf("%s is taken for the layout %s", file, report.Layout)
					}
					slices.SortFunc(again.Tensors, func(a, b modelfile.Tensor) int { return strings.Compare(a.Name, b.Name) })
					back := filepath.Join(dir, "back.safetensors")
					if err := modelfile.Save(back, again); err != nil {
						t.Fatal(err)
					}
					equalTensors(t, back, m.Tensors)
				}
			}
		})
	}
}

// smallest is a volume that a network takes and that is quick to run.
func smallest(family string) [3]int {
	if family == "ViT3D" {
		return [3]int{32, 48, 32}
	}
	return [3]int{32, 48, 40}
}

// TestPyTorch compares all twelve networks with PyTorch and onnxruntime: import and export of weights, strict
// loading, logits, and every kind of ONNX file. CTCLASS_PYTHON names a Python interpreter that has what
// bench/pytorch/requirements.txt lists.
func TestPyTorch(t *testing.T) {
	python := os.Getenv("CTCLASS_PYTHON")
	if python == "" {
		t.Skip("CTCLASS_PYTHON names no Python interpreter with torch, onnx, onnxruntime and safetensors")
	}
	script, err := filepath.Abs("../../bench/pytorch/check.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range models.Registry() {
		t.Run(e.Name, func(t *testing.T) {
			shape := smallest(e.Family)
			dir := t.TempDir()
			run := func(command string) []byte {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), python, script, command, e.Name, fmt.Sprintf("%d,%d,%d", shape[0], shape[1], shape[2]), dir)
				var errText strings.Builder
				cmd.Stderr = &errText
				cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%s: %v\n%s", command, err, errText.String())
				}
				return out
			}
			run("make")
			net, m, _ := importFile(t, filepath.Join(dir, "torch.pth"), e.Name, nil, 18, shape)
			ours := logits(t, net, m, 3)
			var theirs [][]float64
			readJSON(t, filepath.Join(dir, "logits.json"), &theirs)
			d := distance(ours, theirs)
			t.Logf("imported weights: logits differ by %.2g", d)
			if !(d <= 1e-4) {
				t.Errorf("imported weights give logits that are off by %.2g", d)
			}
			raw, err := json.Marshal(ours)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "go.json"), raw, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := modelfile.SaveTorch(filepath.Join(dir, "out.pth"), m.Tensors); err != nil {
				t.Fatal(err)
			}
			if err := modelfile.SaveTensors(filepath.Join(dir, "out.safetensors"), m.Tensors, map[string]string{"format": "pt"}); err != nil {
				t.Fatal(err)
			}
			metadata, err := onnx.Metadata(m, "test", "")
			if err != nil {
				t.Fatal(err)
			}
			for name, o := range map[string]onnx.Options{
				"one": {}, "dynamic": {DynamicBatch: true}, "half": {Half: true}, "half_dynamic": {Half: true, DynamicBatch: true},
			} {
				o.Metadata = metadata
				if err := onnx.Write(filepath.Join(dir, name+".onnx"), net, shape, m.Tensors, o); err != nil {
					t.Fatal(err)
				}
			}
			m.Tensors = nil
			result := map[string]any{}
			if err := json.Unmarshal(run("compare"), &result); err != nil {
				t.Fatal(err)
			}
			if len(result) != 14 {
				t.Errorf("%d results, want 14", len(result))
			}
			for what, v := range result {
				switch v := v.(type) {
				case float64:
					bound := 1e-4
					if strings.HasPrefix(what, "half") {
						bound = 1e-2
					}
					t.Logf("%s: %.2g", what, v)
					if !(v <= bound) {
						t.Errorf("%s: logits are off by %.2g, allowed %.2g", what, v, bound)
					}
				case bool:
					if !v {
						t.Errorf("%s: a tensor comes back as another one", what)
					}
				case []any:
					if fmt.Sprint(v) != "[activation calibration ctclass labels preprocess provenance task thresholds]" {
						t.Errorf("%s: %v", what, v)
					}
				}
			}
		})
	}
}
