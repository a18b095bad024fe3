package train

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/modelfile"
)

// tensorOf returns a tensor of a file of weights.
func tensorOf(t *testing.T, path, name string) []float32 {
	t.Helper()
	f, err := modelfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range f.Tensors {
		if x.Name == name {
			return x.F32
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return nil
}

// TestPretrained: a run starts from the weights of another one, its head new where the labels differ; what is
// frozen stays as it came; and a resumed run does not start from them again.
func TestPretrained(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 9), rows("val", 4)...))
	c := small(table)
	c.Train.Epochs = 1
	first := t.TempDir()
	finish(t, c, first)
	model := filepath.Join(first, lastFile)

	// The same findings under another name, from weights as PyTorch has them.
	raw, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(table, []byte(strings.Replace(string(raw), "finding", "other", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := modelfile.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(t.TempDir(), "weights.pth")
	if err := modelfile.SaveTorch(plain, file.Tensors); err != nil {
		t.Fatal(err)
	}
	c.Data.Labels = []string{"other"}
	c.Train.Optimizer.LR = 1e-12 // nothing moves far
	start := func(c *config.Config) (model, log string) {
		dir := t.TempDir()
		var j journal
		if _, err := Run(t.Context(), c, j.options(dir)); err != nil {
			t.Fatalf("%v\n%s", err, j.String())
		}
		return filepath.Join(dir, lastFile), j.String()
	}
	near := func(a, b []float32) bool {
		return slices.EqualFunc(a, b, func(x, y float32) bool { return x-y < 1e-6 && y-x < 1e-6 })
	}
	for _, from := range []string{model, plain} {
		newHead := from == model // which knows its labels
		c.Model.Pretrained = from
		got, log := start(c)
		if !near(tensorOf(t, got, "layer3.0.conv1.weight"), tensorOf(t, model, "layer3.0.conv1.weight")) {
			t.Errorf("%s: the backbone is not the pretrained one", from)
		}
		if same := near(tensorOf(t, got, "fc.4.weight"), tensorOf(t, model, "fc.4.weight")); same == newHead {
			t.Errorf("%s: the head is the pretrained one: %v", from, same)
		}
		if says := strings.Contains(log, "starts afresh"); says != newHead || !strings.Contains(log, "pretrained weights loaded") {
			t.Errorf("%s: log\n%s", from, log)
		}
	}

	c.Train.Optimizer.LR = 1e-2
	c.Train.Epochs = 2
	c.Train.Freeze = []string{"conv1.*", "bn1.*", "layer[1-3].*"}
	base := t.TempDir()
	finish(t, c, base)
	for name, frozen := range map[string]bool{
		"conv1.weight": true, "bn1.running_mean": true, "layer3.0.bn2.bias": true, "layer3.0.bn2.running_var": true,
		"layer4.0.conv1.weight": false, "layer4.0.bn1.running_mean": false, "fc.1.weight": false,
	} {
		if same := slices.Equal(tensorOf(t, filepath.Join(base, lastFile), name), tensorOf(t, model, name)); same != frozen {
			t.Errorf("%s is unchanged: %v, want %v", name, same, frozen)
		}
	}
	dir := t.TempDir()
	finish(t, c, dir, maxSteps(3))
	if err := os.Remove(plain); err != nil {
		t.Fatal(err)
	}
	finish(t, c, dir, resume) // its weights are in the run folder
	sameResults(t, "resumed", dir, base)
}

// TestPretrainedRefusals: what cannot be used is said before the first step.
func TestPretrainedRefusals(t *testing.T) {
	t.Parallel()
	table := writeTable(t, rows("train", 6))
	for want, change := range map[string]func(c *config.Config){
		"none.pth": func(c *config.Config) { c.Model.Pretrained = "none.pth" },
		"is [16 16 3 3 3], expected [24 16 3 3 3]": func(c *config.Config) {
			base := t.TempDir()
			d := small(table)
			d.Train.Epochs = 1
			finish(t, d, base)
			c.Model.Pretrained = filepath.Join(base, lastFile)
			c.Model.Options["widths"] = []any{8, 16, 16, 24}
		},
		`no parameter matches "layer9.*"`: func(c *config.Config) { c.Train.Freeze = []string{"layer9.*"} },
		"nothing is left to train":        func(c *config.Config) { c.Train.Freeze = []string{"*"} },
	} {
		c := small(table)
		change(c)
		err := fail(t, t.Context(), c, t.TempDir())
		if !strings.Contains(err.Error(), want) || exitcode.Of(err) != exitcode.Usage {
			t.Errorf("got %v (code %d), want %q", err, exitcode.Of(err), want)
		}
	}
}
