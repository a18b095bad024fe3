package train

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/rng"
	"github.com/ctclass/ctclass/internal/volume"
)

// Every choice of optimiser, schedule, sampler and so on changes the result, does not depend on the number of threads,
// and is resumed exactly.
func TestOptionsResumeExactly(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 13), rows("val", 6)...))
	base := t.TempDir()
	finish(t, small(table), base)
	for name, change := range map[string]func(c *config.Train){
		"sgd":         func(c *config.Train) { c.Optimizer.Name = "sgd" },
		"lion":        func(c *config.Train) { c.Optimizer.Name = "lion" },
		"layer_decay": func(c *config.Train) { c.LayerDecay = 0.7 },
		"multistep":   func(c *config.Train) { c.Schedule.Name, c.Schedule.Milestones = "multistep", []int{1} },
		"plateau":     func(c *config.Train) { c.Schedule.Name, c.Schedule.Patience = "plateau", 0; c.Monitor = "specificity" },
		"ema":         func(c *config.Train) { c.EMA = 0.9 },
		"balanced":    func(c *config.Train) { c.Sampler = "balanced" },
		"class_aware": func(c *config.Train) { c.Sampler = "class_aware" },
		"mixup":       func(c *config.Train) { c.Mixup = 0.5 },
		"accumulate":  func(c *config.Train) { c.BatchSize, c.Accumulate, c.Mixup, c.EMA = 2, 2, 1, 0.99 },
	} {
		c := small(table)
		change(&c.Train)
		whole, parts := t.TempDir(), t.TempDir()
		finish(t, c, whole)
		for n := range 3 {
			c.Train.Threads = 1 + n
			finish(t, c, parts, resume, maxSteps(2*n+1))
		}
		finish(t, c, parts, resume)
		sameResults(t, name, parts, whole)
		if folderFile(t, whole, lastFile) == folderFile(t, base, lastFile) {
			t.Errorf("%s: the result is that of the defaults", name)
		}
	}
}

// The model files hold the averages; the state holds the weights that go on.
func TestModelsHoldAverages(t *testing.T) {
	t.Parallel()
	c := small(writeTable(t, append(rows("train", 8), rows("val", 4)...)))
	plain, averaged := t.TempDir(), t.TempDir()
	finish(t, c, plain)
	c.Train.EMA = 0.9
	finish(t, c, averaged)
	tensors := func(dir, file string) map[string][]float32 {
		m := map[string][]float32{}
		f, err := modelfile.Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range f.Tensors {
			m[x.Name] = x.F32
		}
		return m
	}
	want, state, model := tensors(plain, lastFile), tensors(averaged, stateFile), tensors(averaged, lastFile)
	for _, name := range []string{"conv1.weight", "fc.4.bias"} {
		if !slices.Equal(state[name], want[name]) {
			t.Errorf("%s: averaging changes the training", name)
		}
		if avg := state["optim.average/"+name]; !slices.Equal(model[name], avg) || slices.Equal(avg, want[name]) {
			t.Errorf("%s: the model does not hold the average", name)
		}
	}
	if !slices.Equal(model["bn1.running_mean"], want["bn1.running_mean"]) {
		t.Error("running statistics are not those of the training")
	}
}

// A scan whose values blow up is left out with its step, which is counted, or ends the run; the message names the
// scan and where it began. What was begun with stop can go on with skip.
func TestOnNaN(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 8), rows("val", 4)...))
	c := small(table)
	c.Train.Optimizer.LR, c.Train.Epochs = 1e-3, 2
	c.Preprocess.Intensity = "window"
	c.Preprocess.ScaleTo = [2]float64{0, 3e38} // the first norm's variance overflows
	dir := t.TempDir()
	err := fail(t, t.Context(), c, dir)
	if !strings.Contains(err.Error(), "first appeared in ") || !strings.Contains(err.Error(), ", forward)") ||
		!strings.Contains(err.Error(), "its scans: scan") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	c.Train.OnNaN = "skip"
	err = fail(t, t.Context(), c, dir, resume)
	if !strings.Contains(err.Error(), "every step of epoch 1 was left out") {
		t.Errorf("%v", err)
	}
	steps, _ := readHistory(t, dir)
	raw, err := os.ReadFile(filepath.Join(dir, historyFile))
	if err != nil || len(steps) != 2 || strings.Count(string(raw), `"skipped":true`) != 2 || strings.Contains(string(raw), `"loss"`) {
		t.Errorf("%v\n%s", err, raw)
	}
}

// A scan whose values blow up, among good ones, costs the steps that it is in and nothing else: the run goes on with
// finite weights and statistics, counts them, and comes to the same bytes when it is interrupted.
func TestOneScanIsNotFinite(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 12), rows("val", 4)...))
	v := &volume.Volume{Size: [3]int{9, 8, 7}, Spacing: [3]float64{3, 2, 2}, Affine: [4][4]float64{{2, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 3, 0}, {0, 0, 0, 1}}}
	for i := range v.Voxels() {
		v.HU = append(v.HU, 3e38*float32(i%2)) // the first norm's variance overflows
	}
	if err := nifti.Write(filepath.Join(filepath.Dir(table), "scan05.nii"), v, nifti.Float32); err != nil {
		t.Fatal(err)
	}
	c := small(table)
	c.Preprocess.Intensity, c.Train.OnNaN = "raw", "skip"
	base := t.TempDir()
	res := finish(t, c, base)
	if res.Steps != 9 {
		t.Errorf("%d steps, want 9", res.Steps)
	}
	steps, epochs := readHistory(t, base)
	raw, err := os.ReadFile(filepath.Join(base, historyFile))
	if err != nil || strings.Count(string(raw), `"skipped":true`) != 3 || len(steps) != 9 || len(epochs) != 3 {
		t.Errorf("%d steps, %d epochs, %v\n%s", len(steps), len(epochs), err, raw)
	}
	for _, e := range epochs {
		if e.ValLoss == nil || !(e.TrainLoss > 0) {
			t.Errorf("epoch %+v", e)
		}
	}
	for _, n := range []int{2, 4, 7} {
		dir := t.TempDir()
		finish(t, c, dir, maxSteps(n))
		finish(t, c, dir, resume)
		sameResults(t, fmt.Sprintf("stopped after %d steps", n), dir, base)
	}
}

// Without a step to skip, the bits are those of a run that stops.
func TestSkipChangesNothingElse(t *testing.T) {
	t.Parallel()
	c := small(writeTable(t, append(rows("train", 8), rows("val", 4)...)))
	c.Train.ClipNorm = 0
	a, b := t.TempDir(), t.TempDir()
	finish(t, c, a)
	c.Train.OnNaN = "skip"
	finish(t, c, b)
	sameResults(t, "skip", b, a)
}

// A state is saved within an epoch when its time has come, and not otherwise: the run ends, as if it were killed, at a
// scan that cannot be read.
func TestSaveInTime(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 12), rows("val", 4)...))
	c := small(table)
	c.Train.BatchSize = 2
	ds, err := data.Open(c.Data, c.Train.Seed)
	if err != nil {
		t.Fatal(err)
	}
	l, err := data.NewLoader(ds.Subset(data.Train), data.Options{
		BatchSize: 2, Shuffle: true, Seed: c.Train.Seed, Preprocess: c.Preprocess, OpenVolume: ds.OpenVolume,
	})
	if err != nil {
		t.Fatal(err)
	}
	breakScan(t, table, l.Order(0)[8]) // in the fifth batch
	for minutes, want := range map[float64]bool{0: false, 100: false, 1e-9: true} {
		c.Train.SaveMinutes = minutes
		dir := t.TempDir()
		fail(t, t.Context(), c, dir)
		if exists(dir, stateFile) != want {
			t.Errorf("saving every %v minutes: there is a state: %v, want %v", minutes, !want, want)
		}
		if exists(dir, lastFile) {
			t.Errorf("saving every %v minutes: there is a model", minutes)
		}
	}
}

func TestMixup(t *testing.T) {
	t.Parallel()
	b := &data.Batch{X: []float32{1, 2, 10, 20, 100, 200}, Y: []float32{0, 1, float32(math.NaN())}, IDs: []uint64{5, 6, 7}}
	x := slices.Clone(b.X)
	m := &mixup{alpha: 0.4, seed: 3}
	m.apply(b, 2)
	y := []float32{0, 1, float32(math.NaN())}
	same := func(a, b float32) bool { return a == b || a != a && b != b }
	for i := range 3 {
		own, other, share := b.Y[3*i], b.Y[3*i+1], b.Y[3*i+2]
		s := rng.New(rng.Key(3, "mixup", 2, b.IDs[i]))
		if want := float32(beta(&s, 0.4)); share != want || !same(own, y[i]) || !same(other, y[(i+1)%3]) {
			t.Errorf("sample %d has targets %v", i, b.Y[3*i:][:3])
		}
		for v := range 2 {
			want := share*x[2*i+v] + (1-share)*x[2*((i+1)%3)+v]
			if got := b.X[2*i+v]; math.Abs(float64(got-want)) > 1e-5*float64(want) {
				t.Errorf("sample %d: voxel %v, want %v", i, got, want)
			}
		}
	}
	if got, want := m.bytes(3, 2, 1), int64(4*(len(m.first)+len(m.targets))); got != want {
		t.Errorf("it says %d bytes, and holds %d", got, want)
	}
}

// Mean and variance of Beta(α, α) are 1/2 and 1/(4·(2α+1)).
func TestBeta(t *testing.T) {
	t.Parallel()
	for _, alpha := range []float64{0.01, 0.2, 1, 4, 100} {
		s := rng.New(rng.Key(1, fmt.Sprint(alpha)))
		const n = 20000
		var sum, squares float64
		for range n {
			v := beta(&s, alpha)
			if !(v >= 0 && v <= 1) {
				t.Fatalf("alpha %v: %v", alpha, v)
			}
			sum += v - 0.5
			squares += (v - 0.5) * (v - 0.5)
		}
		want := 1 / (4 * (2*alpha + 1))
		if math.Abs(sum/n) > 4*math.Sqrt(want/n) || math.Abs(squares/n/want-1) > 0.05 {
			t.Errorf("alpha %v: mean %v, variance %v, want 0.5 and %v", alpha, 0.5+sum/n, squares/n, want)
		}
	}
}

// Any measure of the evaluation can pick the best model.
func TestMonitorOfAnyMetric(t *testing.T) {
	t.Parallel()
	c := small(writeTable(t, append(rows("train", 8), rows("val", 8)...)))
	c.Train.Monitor, c.Train.Epochs = "balanced_accuracy", 4
	dir := t.TempDir()
	res := finish(t, c, dir)
	top, at := math.Inf(-1), 0
	for l := range strings.Lines(folderFile(t, dir, historyFile)) {
		var e struct {
			Kind  string
			Epoch int
			Val   struct {
				Macro struct {
					Value float64 `json:"balanced_accuracy"`
				}
			}
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind == epochKind && e.Val.Macro.Value > top {
			top, at = e.Val.Macro.Value, e.Epoch
		}
	}
	if res.BestEpoch != at || float64(res.Best) != top {
		t.Errorf("best %v in epoch %d, want %v in epoch %d", res.Best, res.BestEpoch, top, at)
	}
}
