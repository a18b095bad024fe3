package predict

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/phantom"
	"github.com/ctclass/ctclass/internal/session"
)

// untrained writes the model file of a narrow ResNet with random weights to path, changed by edit if given.
func untrained(t *testing.T, path, task string, labels []string, edit func(*modelfile.Model)) {
	t.Helper()
	net, err := models.New(config.Model{
		Name:    "resnet18_3d",
		Options: map[string]any{"widths": []any{8, 8, 16, 16}, "blocks": []any{1, 1, 1, 1}, "hidden": 8, "stem": "small"},
	}, len(labels))
	if err != nil {
		t.Fatal(err)
	}
	dev := cpu.New(1)
	defer dev.Close()
	p := config.Preprocess{
		Orientation: "LPS", SpacingMM: config.Spacing{Keep: true}, Intensity: "window", HUWindow: [2]float64{-1000, 400},
		ScaleTo: [2]float64{-1, 1}, ShapeDHW: [3]int{8, 12, 12}, Fit: "resize",
	}
	plan, err := session.Compile(dev, session.Options{Network: net, ShapeDHW: p.ShapeDHW, EvalBatch: 1})
	if err != nil {
		t.Fatal(err)
	}
	s, err := plan.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Initialize(1); err != nil {
		t.Fatal(err)
	}
	m, err := s.Model(task, labels, p)
	if err != nil {
		t.Fatal(err)
	}
	m.Tensors = s.Tensors()
	if edit != nil {
		edit(m)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := modelfile.Save(path, m); err != nil {
		t.Fatal(err)
	}
}

// scans makes a folder: one/ a DICOM series, two.nii and three.nii phantoms, and bad.nii, which is none.
func scans(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"one", "two.nii", "three.nii"} {
		c, err := phantom.Generate(phantom.Options{Seed: 5, Case: i, Size: [3]int{20, 28, 28}, SpacingMM: [3]float64{14, 12, 12}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if i == 0 {
			err = phantom.WriteDICOM(path, c.Volume, phantom.SeriesInfo{Seed: 5, Case: i, PatientID: "P"})
		} else {
			err = nifti.Write(path, c.Volume, nifti.Int16)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bad.nii"), []byte("no volume"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, m *Model, opt Options, paths ...string) []Result {
	t.Helper()
	p, err := New([]*Model{m}, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var results []Result
	if err := p.Run(t.Context(), paths, func(r Result) error { results = append(results, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return results
}

func load(t *testing.T, path string) *Model {
	t.Helper()
	m, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What Run says is what preprocessing, network and logistic function give one after the other; broken and
// missing scans keep their place and stop nobody, and a batch changes no bit.
func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	untrained(t, path, "multilabel", []string{"nodule", "effusion"}, nil)
	m := load(t, path)
	dir := scans(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	paths := []string{file("three.nii"), file("missing"), dir}
	found := 0
	results := run(t, m, Options{Threads: 1, Found: func(n int) { found += n }}, paths...)

	var order []string
	for _, r := range results {
		order = append(order, filepath.Base(r.Path))
	}
	if want := []string{"three.nii", "missing", "bad.nii", "three.nii", "two.nii", "one"}; !slices.Equal(order, want) || found != len(want) {
		t.Fatalf("results for %v (%d announced), want %v", order, found, want)
	}
	for _, i := range []int{1, 2} {
		if r := results[i]; r.Error == "" || r.Labels != nil || strings.Contains(r.Error, r.Path+": "+r.Path) {
			t.Errorf("%s: %+v, want a reason and no labels", order[i], r)
		}
	}
	if r := results[5]; r.SeriesUID == "" || r.Why != "the only volume" || r.SeriesDescription == "" {
		t.Errorf("the series is not named: %+v", r)
	}

	dev := cpu.New(2)
	defer dev.Close()
	s, err := m.Start(dev, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, i := range []int{0, 4} {
		v, _, err := nifti.Read(results[i].Path)
		if err != nil {
			t.Fatal(err)
		}
		in, _, err := preprocess.Apply(v, m.Preprocess)
		if err != nil {
			t.Fatal(err)
		}
		logits, err := s.Logits(in.Data, 1)
		if err != nil {
			t.Fatal(err)
		}
		for c, z := range logits {
			want := 1 / (1 + math.Exp(-float64(z)))
			if got := results[i].Labels[c]; got.Probability != want || got.Name != m.Labels[c] {
				t.Errorf("%s: got %+v, want %s %v", order[i], got, m.Labels[c], want)
			}
		}
	}
	if results[0].Labels[0] == results[4].Labels[0] {
		t.Error("two different scans have the same probability: the test sees nothing")
	}

	batched := run(t, m, Options{Threads: 2, Batch: 3}, paths...)
	for i := range batched {
		batched[i].Reading, results[i].Reading, batched[i].Computing, results[i].Computing = 0, 0, 0, 0
	}
	if !reflect.DeepEqual(batched, results) {
		t.Errorf("in batches of 3:\n%+v\none by one:\n%+v", batched, results)
	}
}

func TestMulticlass(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	untrained(t, path, "multiclass", []string{"a", "b", "c"}, nil)
	r := run(t, load(t, path), Options{}, filepath.Join(scans(t), "two.nii"))[0]
	sum := 0.0
	for _, l := range r.Labels {
		sum += l.Probability
	}
	if len(r.Labels) != 3 || math.Abs(sum-1) > 1e-12 {
		t.Errorf("class probabilities %v, want three that add up to 1", r.Labels)
	}
}

// Weights that are no numbers must not become an answer.
func TestBrokenWeights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	untrained(t, path, "binary", []string{"a"}, func(m *modelfile.Model) {
		for _, x := range m.Tensors {
			if x.Name == "fc.4.bias" {
				x.F32[0] = float32(math.NaN())
			}
		}
	})
	r := run(t, load(t, path), Options{}, filepath.Join(scans(t), "two.nii"))[0]
	if r.Labels != nil || !strings.Contains(r.Error, "weights") {
		t.Errorf("got %+v, want an error about the weights", r)
	}
}

func TestSeriesSelection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	untrained(t, path, "binary", []string{"a"}, nil)
	m, one := load(t, path), filepath.Join(scans(t), "one")
	uid := run(t, m, Options{}, one)[0].SeriesUID
	if r := run(t, m, Options{Series: uid}, one)[0]; r.Error != "" || !strings.Contains(r.Why, "selected by series") {
		t.Errorf("by UID: %+v", r)
	}
	if r := run(t, m, Options{Series: "77"}, one)[0]; !strings.Contains(r.Error, "no series 77") {
		t.Errorf("by a number that is not there: %+v", r)
	}
}

func TestRunIsCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	untrained(t, path, "binary", []string{"a"}, nil)
	p, err := New([]*Model{load(t, path)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	two := filepath.Join(scans(t), "two.nii")
	ctx, cancel := context.WithCancel(t.Context())
	count := 0
	err = p.Run(ctx, slices.Repeat([]string{two}, 20), func(Result) error { count++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || count != 1 {
		t.Errorf("%d results and %v after a cancellation in the first", count, err)
	}
}

func TestLoad(t *testing.T) {
	labels := []string{"x"}
	dir := t.TempDir()
	run := func(name, save string, files ...string) string {
		t.Helper()
		folder := filepath.Join(dir, name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		text := "model: {name: resnet18_3d}\ndata: {task: binary, labels: [x]}\noutput: {save: " + save + "}\n"
		if err := os.WriteFile(filepath.Join(folder, "config.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			untrained(t, filepath.Join(folder, filepath.FromSlash(f)), "binary", labels, nil)
		}
		return folder
	}
	const best, last = "best.safetensors", "last/model.safetensors"
	for _, tt := range []struct{ path, want string }{
		{run("best", "best", best, last), best},
		{run("last", "last", best, last), last},
		{run("early", "best", last), last},
		{filepath.Join(dir, "best", best), best},
	} {
		if m := load(t, tt.path); !strings.HasSuffix(filepath.ToSlash(m.Path), tt.want) {
			t.Errorf("%s: loaded %s, want %s", tt.path, m.Path, tt.want)
		}
	}
	other := filepath.Join(dir, "other.safetensors")
	untrained(t, other, "binary", labels, func(m *modelfile.Model) { m.Arch = "resnet19_3d" })
	option := filepath.Join(dir, "option.safetensors")
	untrained(t, option, "binary", labels, func(m *modelfile.Model) { m.Options["colour"] = 1 })
	channels := filepath.Join(dir, "channels.safetensors")
	untrained(t, channels, "binary", labels, func(m *modelfile.Model) { m.InputChannels = 2 })
	for path, want := range map[string]string{
		filepath.Join(dir, "nowhere"):   "cannot be found",
		t.TempDir():                     "without config.yaml",
		run("empty", "best"):            "holds no model yet",
		run("unsaved", "last", best):    "holds no model yet",
		other:                           `unknown model "resnet19_3d"`,
		option:                          "colour",
		channels:                        "2 input channels",
		filepath.Join(dir, "best/last"): "without config.yaml",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", path, err, want)
		}
	}
}

// Weights that do not fit are a matter of usage, and every difference is told.
func TestStartIsStrict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	untrained(t, path, "binary", []string{"a"}, func(m *modelfile.Model) {
		m.Tensors = m.Tensors[1:]
		m.Tensors = append(m.Tensors, modelfile.Tensor{Name: "more", F32: []float32{1}})
	})
	_, err := New([]*Model{load(t, path)}, Options{})
	if err == nil || exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "conv1.weight") || !strings.Contains(err.Error(), "more") {
		t.Errorf("got %v, want an error of usage that names conv1.weight and more", err)
	}
}
