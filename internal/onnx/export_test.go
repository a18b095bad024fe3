package onnx_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/onnx"
	"github.com/ctclass/ctclass/internal/weights"
)

var update = flag.Bool("update", false, "write the stored files anew; check them with bench/pytorch/check.py onnx")

// fixture is a file of internal/weights/testdata, made by PyTorch.
type fixture struct {
	File    string         `json:"file"`
	Model   string         `json:"model"`
	Options map[string]any `json:"options"`
	Shape   [3]int         `json:"shape"`
	Logits  [][]float64    `json:"logits"`
}

const fixtures = "../weights/testdata"

// load imports a fixture.
func load(t *testing.T, file string) (*models.Network, *modelfile.Model) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(fixtures, "fixtures.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []fixture
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	f := all[slices.IndexFunc(all, func(f fixture) bool { return f.File == file })]
	net, err := models.New(config.Model{Name: f.Model, Options: f.Options}, 2)
	if err != nil {
		t.Fatal(err)
	}
	in, err := modelfile.Open(filepath.Join(fixtures, f.File))
	if err != nil {
		t.Fatal(err)
	}
	p := config.Default().Preprocess
	p.ShapeDHW = f.Shape
	m, _, err := weights.Import(in, weights.Target{Network: net, Labels: []string{"nodule", "effusion"}}, "multilabel", p, 1, weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m.DataFingerprint = "fingerprint"
	m.Metrics = json.RawMessage(`{"threshold":0.25}`)
	return net, m
}

// TestStored compares exports with stored files, byte by byte. Those files have passed the ONNX checker and
// give PyTorch's logits in onnxruntime: bench/pytorch/check.py onnx shows it.
func TestStored(t *testing.T) {
	for file, opt := range map[string]onnx.Options{
		"resnet":        {},
		"densenet":      {DynamicBatch: true},
		"vit_protocol4": {DynamicBatch: true},
		"resnet_half":   {DynamicBatch: true, Half: true},
		"vit_shared":    {Half: true},
	} {
		net, m := load(t, strings.TrimSuffix(file, "_half")+".pth")
		var err error
		if opt.Metadata, err = onnx.Metadata(m, "version", "sum"); err != nil {
			t.Fatal(err)
		}
		stored := filepath.Join("testdata", file+".onnx")
		path := filepath.Join(t.TempDir(), "x.onnx")
		if *update {
			path = stored
		}
		if err := onnx.Write(path, net, m.Preprocess.ShapeDHW, m.Tensors, opt); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(stored)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the export is another one than the stored file: if that is meant, run with -update and check the files", file)
		}
	}
}

// fields splits a message into its fields of one number.
func fields(t *testing.T, b []byte, number protowire.Number) [][]byte {
	t.Helper()
	var out [][]byte
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeField(b)
		if n < 0 {
			t.Fatal("the file is no protocol buffer")
		}
		if num == number && typ == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(b)
			v, _ := protowire.ConsumeBytes(b[tag:])
			out = append(out, v)
		}
		b = b[n:]
	}
	return out
}

// TestOperators: only standard operators, no batch norm behind a convolution that could take it in, and
// metadata that says everything.
func TestOperators(t *testing.T) {
	for file, want := range map[string]string{
		"resnet.pth":     "Add Conv Flatten Gemm GlobalAveragePool Identity MaxPool Relu",
		"densenet.pth":   "AveragePool BatchNormalization Concat Conv Flatten Gemm GlobalAveragePool Identity MaxPool Relu",
		"vit_shared.pth": "Add Conv Div Erf Gather Gemm Identity LayerNormalization MatMul Mul Pad Relu Reshape Softmax Split Transpose",
	} {
		net, m := load(t, file)
		metadata, err := onnx.Metadata(m, "1.2", "abc")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "x.onnx")
		if err := onnx.Write(path, net, m.Preprocess.ShapeDHW, m.Tensors, onnx.Options{Metadata: metadata, Producer: "1.2"}); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ops := map[string]bool{}
		norms := 0
		for _, node := range fields(t, fields(t, raw, 7)[0], 1) {
			op := string(fields(t, node, 4)[0])
			ops[op] = true
			if op == "BatchNormalization" {
				norms++
			}
		}
		var names []string
		for op := range ops {
			names = append(names, op)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s has the operators %s, want %s", file, got, want)
		}
		// Of a DenseNet layer's two norms the first follows a concatenation or pooling; five layers, three
		// transitions and the last norm keep theirs.
		if file == "densenet.pth" && norms != 9 {
			t.Errorf("%d batch norms, want 9", norms)
		}
		meta := map[string]string{}
		for _, p := range fields(t, raw, 14) {
			meta[string(fields(t, p, 1)[0])] = string(fields(t, p, 2)[0])
		}
		for key, want := range map[string]string{
			"labels": `["nodule","effusion"]`, "thresholds": "[0.25,0.25]", "activation": "sigmoid", "task": "multilabel",
			"provenance": `{"program":"ctclass","version":"1.2","architecture":"` + net.Name + `","model_sha256":"abc","data_fingerprint":"fingerprint"}`,
		} {
			if meta[key] != want {
				t.Errorf("metadata %s is %s, want %s", key, meta[key], want)
			}
		}
		if !strings.Contains(meta["preprocess"], `"hu_window":[-1000,400]`) || !strings.Contains(meta["ctclass"], `"format_version"`) {
			t.Errorf("metadata: %v", meta)
		}
	}
}

func TestExportRefuses(t *testing.T) {
	net, m := load(t, "resnet.pth")
	path := filepath.Join(t.TempDir(), "x.onnx")
	if err := onnx.Write(path, net, m.Preprocess.ShapeDHW, m.Tensors[1:], onnx.Options{}); err == nil || !strings.Contains(err.Error(), "1 missing") {
		t.Errorf("got %v", err)
	}
	if err := onnx.Write(path, net, [3]int{0, 1, 1}, m.Tensors, onnx.Options{}); err == nil {
		t.Error("an impossible shape is exported")
	}
	m.Tensors = slices.Clone(m.Tensors)
	i := slices.IndexFunc(m.Tensors, func(x modelfile.Tensor) bool { return x.Name == "fc.4.bias" })
	m.Tensors[i].F32 = []float32{1e6, 0}
	if err := onnx.Write(path, net, m.Preprocess.ShapeDHW, m.Tensors, onnx.Options{Half: true}); err == nil || !strings.Contains(err.Error(), "fc.4.bias") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a refused export leaves a file")
	}
}

func TestScript(t *testing.T) {
	path := filepath.Join(t.TempDir(), "net.py")
	if err := onnx.WriteScript(path, "net.onnx"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(raw); !strings.Contains(s, `"net.onnx")`) || !strings.Contains(s, "python net.py SCAN.npy") || strings.Contains(s, "MODEL") {
		t.Errorf("got\n%s", s)
	}
}
