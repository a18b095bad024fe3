package goldens

import (
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The expected values were computed with an independent program from the definition of the streams.

func TestUniform(t *testing.T) {
	want := []float64{0.0901498794555664, 0.49032342433929443, -0.9541566371917725, 0.47239553928375244}
	if got := Uniform("conv1.weight", 4); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Input("dev/input/resnet18_3d", 3); !slices.Equal(got, []float32{-0.6551518440246582, 0.10263288021087646, -0.8601505756378174}) {
		t.Errorf("input: got %v", got)
	}
	want32 := []float32{1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 1, 1}
	if got := Targets(OpTargetStream, 24); !slices.Equal(got, want32) {
		t.Errorf("targets: got %v, want %v", got, want32)
	}
}

func TestParamValue(t *testing.T) {
	for _, c := range []struct {
		name  string
		shape []int
		want  [2]float32 // the first two values
	}{
		{"bn1.running_var", []int{64}, [2]float32{1.1423075199127197, 1.2867534160614014}},
		{"bn1.running_mean", []int{64}, [2]float32{0.046889983117580414, 0.020123731344938278}},
		{"cls_token", []int{1, 1, 8}, [2]float32{-0.0011411249870434403, -0.015368878841400146}},
		{"pos_embed", []int{1, 3, 8}, [2]float32{-0.027193140238523483, 0.0007560253143310547}},
		{"bn1.weight", []int{64}, [2]float32{0.9720407724380493, 1.0648818016052246}},
		{"bn1.bias", []int{64}, [2]float32{-0.06556075811386108, -0.0919690877199173}},
		{"conv1.weight", []int{64, 1, 7, 7, 7}, [2]float32{0.011923224665224552, 0.06485018134117126}},
		{"fc.1.weight", []int{256, 512}, [2]float32{0.01797507330775261, 0.06882895529270172}},
		{"layer1.0.conv1.weight", []int{64, 64, 3, 3, 3}, [2]float32{0.04023946449160576, 0.008627966046333313}},
	} {
		got, err := ParamValue(c.name, c.shape)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got[0] != c.want[0] || got[1] != c.want[1] {
			t.Errorf("%s: starts with %v, want %v", c.name, got[:2], c.want)
		}
	}
	if _, err := ParamValue("bn1.num_batches_tracked", nil); err == nil {
		t.Error("a scalar got values")
	}
}

func TestStoredFiles(t *testing.T) {
	files, err := Files("")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	want := strings.Fields(`densenet121_3d densenet161_3d densenet169_3d densenet201_3d densenet_small_3d
		densenet_small_3d_odd densenet_tiny_3d densenet_tiny_3d_odd ops resnet18_3d resnet18_3d_odd resnet34_3d
		vit_base_3d vit_large_3d vit_small_3d vit_tiny_3d`)
	if !slices.Equal(names, want) {
		t.Errorf("stored files are %v, want %v", names, want)
	}
	models, err := Models("")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range models {
		m, err := f.Model()
		if err != nil {
			t.Error(err)
			continue
		}
		if m.Model != strings.TrimSuffix(f.Name, "_odd") {
			t.Errorf("%s is of model %s", f.Name, m.Model)
		}
		parameters := 0
		for _, g := range m.TrainGrads {
			parameters += g.Len()
		}
		if parameters != m.Parameters {
			t.Errorf("%s: the gradients hold %d values, want %d", f.Name, parameters, m.Parameters)
		}
		checkLoss(t, f.Name, m)
	}
}

// checkLoss recomputes the stored losses from the stored logits and the target rule.
func checkLoss(t *testing.T, name string, m *ModelGolden) {
	targets := Targets(m.TargetStream, m.Batch*m.Classes)
	mean := func(logits [][]float64, scale float64) float64 {
		sum := 0.0
		for i, y := range targets {
			z := logits[i/m.Classes][i%m.Classes] / scale
			if y == 0 {
				z = -z
			}
			bce := math.Log1p(math.Exp(-z))
			switch m.Loss.Name {
			case "focal":
				sum += m.Loss.Alpha * math.Pow(1-math.Exp(-bce), m.Loss.Gamma) * bce
			case "bce":
				sum += bce
			default:
				t.Fatalf("%s: unknown loss %q", name, m.Loss.Name)
			}
		}
		return sum / float64(len(targets))
	}
	if got := mean(m.EvalLogits, m.EvalLogitScale); math.Abs(got-m.EvalLoss) > 1e-9*m.EvalLoss {
		t.Errorf("%s: evaluation loss of the stored logits is %.12g, stored %.12g", name, got, m.EvalLoss)
	}
	if got := mean(m.TrainLogits, 1); math.Abs(got-m.TrainLoss) > 1e-9*m.TrainLoss {
		t.Errorf("%s: training loss of the stored logits is %.12g, stored %.12g", name, got, m.TrainLoss)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := Files(dir); err == nil {
		t.Error("an empty folder is no error")
	}
	stored, err := Open("resnet18_3d_odd")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := stored.read()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "b.json"), raw)
	zipped, err := os.Create(filepath.Join(dir, "a.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	zw := gzip.NewWriter(zipped)
	if _, err := zw.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "ops.json"), []byte("[]"))
	write(t, filepath.Join(dir, "README.md"), []byte("text"))
	models, err := Models(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(models) != 2 || models[0].Name != "a" || models[1].Name != "b" {
		t.Fatalf("models are %v, want a and b", models)
	}
	for _, f := range models {
		m, err := f.Model()
		if err != nil {
			t.Error(err)
		} else if m.Volume != [3]int{33, 47, 61} {
			t.Errorf("%s: volume %v", f.Name, m.Volume)
		}
	}
}

func TestBadFiles(t *testing.T) {
	const good = `{"model":"m","classes":1,"volume_dhw":[2,2,2],"batch":1,"eval_logit_scale":1,
		"eval_logits":[[1]],"train_logits":[[1]],
		"eval_grads":{"w":{"shape":[2],"l2":1,"samples":[[0,1]]}},"train_grads":{"w":{"shape":[2],"l2":1,"samples":[[1,1]]}}}`
	for _, c := range []struct{ name, from, to, message string }{
		{"as it is", "", "", ""},
		{"no JSON", good, "{", "unexpected end"},
		{"no model", `"m"`, `""`, "model is missing"},
		{"huge volume", "[2,2,2]", "[100000,100000,100000]", "not a usable input size"},
		{"empty batch", `"batch":1`, `"batch":0`, "not a usable input size"},
		{"classes", `"classes":1`, `"classes":0`, "classes is 0"},
		{"logits", `"eval_logits":[[1]]`, `"eval_logits":[[1,2]]`, "eval_logits has a row of 2"},
		{"rows", `"train_logits":[[1]]`, `"train_logits":[]`, "train_logits has 0 rows"},
		{"scale", `"eval_logit_scale":1`, `"eval_logit_scale":0`, "eval_logit_scale"},
		{"index", "[[1,1]]", "[[2,1]]", "sample 2 lies outside"},
		{"pair", "[[1,1]]", "[[1]]", "not a pair"},
		{"no samples", "[[1,1]]", "[]", "no samples"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "bad.json"), []byte(strings.Replace(good, c.from, c.to, 1)))
			files, err := Files(dir)
			if err != nil {
				t.Fatal(err)
			}
			_, err = files[0].Model()
			if c.message == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.message) || !strings.Contains(err.Error(), "bad.json") {
				t.Errorf("error is %v, want one with %q", err, c.message)
			}
		})
	}
}

func write(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTensorError(t *testing.T) {
	want := Tensor{Shape: []int{4}, L2: 5, Samples: []Sample{{0, 3}, {2, 4}}}
	nan := math.NaN()
	for _, c := range []struct {
		got  []float64
		want Tensor
		err  float64
	}{
		{[]float64{3, 9, 4, 9}, want, 0},
		{[]float64{3, 9, 4.5, 9}, want, 0.1}, // 0.5/5: the norm of the samples exceeds 5*sqrt(2/4)
		{[]float64{0.5, 0, 0, 0}, Tensor{Shape: []int{4}, L2: 4, Samples: []Sample{{0, 0}}}, 0.25},
		{[]float64{0, 0}, Tensor{Shape: []int{2}, Samples: []Sample{{0, 0}}}, 0},
		{[]float64{1, 0}, Tensor{Shape: []int{2}, Samples: []Sample{{0, 0}}}, math.Inf(1)},
		{[]float64{3, 9, nan, 9}, want, math.Inf(1)},
		{[]float64{3, 9, 4}, want, math.Inf(1)},
	} {
		if got := TensorError(c.want, c.got); got != c.err {
			t.Errorf("%v against %v: error %g, want %g", c.got, c.want, got, c.err)
		}
	}
}

func TestCheck(t *testing.T) {
	tensor := func(v float64) Tensor { return Tensor{Shape: []int{1}, L2: math.Abs(v), Samples: []Sample{{0, v}}} }
	m := &ModelGolden{
		EvalLogits: [][]float64{{3, 4}}, EvalLoss: 2,
		TrainLogits: [][]float64{{3, 4}}, TrainLoss: 2,
		EvalGrads:        map[string]Tensor{"a": tensor(1), "b": tensor(2), "c": tensor(3)},
		TrainGrads:       map[string]Tensor{"a": tensor(1), "b": tensor(2), "c": tensor(3)},
		RunningAfterStep: map[string]Tensor{"n.running_mean": tensor(1)},
	}
	m.Noise.Train.GradMax = 0.01 // the bound becomes 0.05
	type pass = Result[float64]
	good := func() pass {
		return pass{Logits: []float64{3, 4}, Loss: 2, Grads: map[string][]float64{"a": {1}, "b": {2}, "c": {3}}}
	}
	for _, c := range []struct {
		name    string
		mode    Mode
		change  func(*pass)
		message string // "" = accepted
	}{
		{"exact", Eval, func(*pass) {}, ""},
		{"logits", Eval, func(p *pass) { p.Logits[1] = 4.0006 }, "logits: error 0.00012"},
		{"logits within", Eval, func(p *pass) { p.Logits[1] = 4.0004 }, ""},
		{"logits missing", Eval, func(p *pass) { p.Logits = p.Logits[:1] }, "logits: error +Inf"},
		{"logits extra", Eval, func(p *pass) { p.Logits = append(p.Logits, 0) }, "logits: error +Inf"},
		{"loss", Eval, func(p *pass) { p.Loss = math.NaN() }, "loss: error +Inf"},
		{"one gradient within the maximum", Eval, func(p *pass) { p.Grads["b"][0] = 2.009 }, ""},
		{"one gradient", Eval, func(p *pass) { p.Grads["b"][0] = 2.011 }, "gradient of b: error 0.0055"},
		{"median", Eval, func(p *pass) { p.Grads["a"][0], p.Grads["b"][0] = 1.0002, 2.0004 }, "median of the gradients"},
		{"missing", Eval, func(p *pass) { delete(p.Grads, "c") }, "c is missing"},
		{"unexpected", Eval, func(p *pass) { p.Grads["d"] = []float64{1} }, "d is not part of the golden"},
		{"size", Eval, func(p *pass) { p.Grads["a"] = []float64{1, 1} }, "a has 2 elements, want 1"},
		{"train within PyTorch's noise", Train, func(p *pass) {
			p.Grads["b"][0] = 2.09
			p.Running = map[string][]float64{"n.running_mean": {1}}
		}, ""},
		{"train without running", Train, func(*pass) {}, "n.running_mean is missing"},
		{"running", Train, func(p *pass) { p.Running = map[string][]float64{"n.running_mean": {1.0002}} }, "n.running_mean: error 0.0002"},
	} {
		p := good()
		c.change(&p)
		_, err := Check(m, c.mode, p)
		switch {
		case c.message == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.message != "" && (err == nil || !strings.Contains(err.Error(), c.message)):
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.message)
		}
	}
}
