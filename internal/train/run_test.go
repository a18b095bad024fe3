package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/modelfile"
)

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// The steps of an epoch, with short last batches left out or kept, whole and in micro-batches.
func TestStepsOfAnEpoch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		samples, batch, accumulate int
		dropLast                   bool
		steps                      int
	}{
		{8, 4, 1, true, 2},
		{11, 4, 1, true, 2},
		{11, 4, 1, false, 3}, // 4 4 3
		{11, 2, 2, true, 2},
		{11, 2, 2, false, 3}, // 2+2 2+2 2+1
		{3, 4, 1, false, 1},  // fewer than a batch
		{3, 2, 3, false, 1},  // 2+1
		{5, 4, 2, false, 1},  // 4+1
		{1, 4, 2, false, 1},
	} {
		name := fmt.Sprintf("%d samples in batches of %d×%d, drop_last %v", tt.samples, tt.batch, tt.accumulate, tt.dropLast)
		table := writeTable(t, rows("train", tt.samples))
		c := small(table)
		c.Train.Epochs, c.Train.BatchSize, c.Train.Accumulate, c.Train.DropLast = 2, tt.batch, tt.accumulate, tt.dropLast
		dir := t.TempDir()
		res := finish(t, c, dir, func(o *Options) { o.NoDoctor = true }) // one sample has one label
		if res.Steps != 2*tt.steps {
			t.Errorf("%s: %d steps, want %d", name, res.Steps, 2*tt.steps)
		}
		steps, epochs := readHistory(t, dir)
		if len(steps) != 2*tt.steps || len(epochs) != 2 {
			t.Errorf("%s: the history has %d steps and %d epochs", name, len(steps), len(epochs))
		}
		for i, s := range steps {
			if want := learningRate(c.Train.Optimizer.LR, c.Train.Schedule, moment{Step: i, Total: 2 * tt.steps}); s.LR != want || s.Step != i+1 || s.Epoch != i/tt.steps+1 {
				t.Errorf("%s: %+v, want learning rate %v", name, s, want)
			}
		}
		for e, l := range epochs {
			var sum float64
			for _, s := range steps[e*tt.steps:][:tt.steps] {
				sum += s.Loss
			}
			if mean := sum / float64(tt.steps); math.Abs(l.TrainLoss-mean) > 1e-12 || !(mean > 0) {
				t.Errorf("%s: training loss %v, the mean of its steps is %v", name, l.TrainLoss, mean)
			}
		}
	}
}

func TestWithoutValidation(t *testing.T) {
	t.Parallel()
	c := small(writeTable(t, rows("train", 8)))
	dir := t.TempDir()
	var j journal
	res, err := Run(t.Context(), c, j.options(dir))
	if err != nil {
		t.Fatal(err)
	}
	if res.BestEpoch != 0 || res.Best.Defined() || !exists(dir, bestFile) || !strings.Contains(j.String(), "no validation samples") {
		t.Errorf("%+v\n%s", res, j.String())
	}
	if best, last := folderFile(t, dir, bestFile), folderFile(t, dir, lastFile); best != last {
		t.Error("the model of the run is not that of its last epoch")
	}
	if _, epochs := readHistory(t, dir); epochs[0].Val != nil || epochs[0].ValLoss != nil || epochs[0].Best {
		t.Errorf("%+v", epochs[0])
	}
}

func folderFile(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The epoch that is marked best has the best value of the monitored metric so far, and its model is the file.
func TestMonitor(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 8), rows("val", 7)...))
	for _, monitor := range []string{"auroc", "loss"} {
		c := small(table)
		c.Train.Monitor, c.Train.Epochs = monitor, 5
		c.Train.Schedule = config.Schedule{Name: "constant"}
		dir := t.TempDir()
		res := finish(t, c, dir)
		value := func(l line) float64 {
			if monitor == "loss" {
				return -*l.ValLoss
			}
			return *l.Val.Macro.AUROC
		}
		_, epochs := readHistory(t, dir)
		top, at := math.Inf(-1), 0
		for _, l := range epochs {
			better := value(l) > top
			if better {
				top, at = value(l), l.Epoch
			}
			if l.Best != better {
				t.Errorf("%s: epoch %d with %v is marked %v", monitor, l.Epoch, value(l), l.Best)
			}
		}
		if res.BestEpoch != at || math.Abs(float64(res.Best)) != math.Abs(top) {
			t.Errorf("%s: %+v, want %v of epoch %d", monitor, res, top, at)
		}
		m, err := modelfile.Load(res.ModelPath)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(m.History), `"epoch":`); got != at {
			t.Errorf("%s: the best model's history has %d epochs, want %d", monitor, got, at)
		}
	}
}

func TestValidateEvery(t *testing.T) {
	t.Parallel()
	c := small(writeTable(t, append(rows("train", 4), rows("val", 4)...)))
	c.Train.Epochs, c.Train.ValidateEvery = 5, 2
	dir := t.TempDir()
	finish(t, c, dir)
	_, epochs := readHistory(t, dir)
	for _, l := range epochs {
		if want := l.Epoch == 2 || l.Epoch == 4 || l.Epoch == 5; (l.Val != nil) != want { // the last always
			t.Errorf("epoch %d: validated %v, want %v", l.Epoch, l.Val != nil, want)
		}
	}
}

func TestEarlyStop(t *testing.T) {
	t.Parallel()
	c := small(writeTable(t, append(rows("train", 8), rows("val", 4)...)))
	c.Train.Epochs, c.Train.Monitor = 9, "loss"
	c.Train.EarlyStop = config.EarlyStop{Patience: 2, MinDelta: 100} // nothing improves that much
	dir := t.TempDir()
	res := finish(t, c, dir)
	if res.Steps != 6 || res.BestEpoch != 1 {
		t.Errorf("%d steps, best epoch %d; want to stop after 3 epochs of 2 steps, the first the best", res.Steps, res.BestEpoch)
	}
	again := finish(t, c, dir, resume)
	if again.Steps != 6 {
		t.Errorf("a run that stopped early goes on to %d steps", again.Steps)
	}
	c.Train.Monitor = "auroc"
	c.Train.EarlyStop.MinDelta = 0
	for _, n := range []int{2, 3, 4} { // stopped and resumed: the count of validations is kept
		base, dir := t.TempDir(), t.TempDir()
		finish(t, c, base)
		finish(t, c, dir, maxSteps(n))
		finish(t, c, dir, resume)
		sameResults(t, "early stop", dir, base)
	}
}

// With one class in the validation split its AUROC is undefined: training goes on, and the newest model is kept.
func TestUndefinedMetric(t *testing.T) {
	t.Parallel()
	list := append(rows("train", 8), row{"val", 1}, row{"val", 1})
	c := small(writeTable(t, list))
	c.Train.EarlyStop.Patience = 1
	dir := t.TempDir()
	var j journal
	res, err := Run(t.Context(), c, j.options(dir))
	if err != nil {
		t.Fatal(err)
	}
	if res.Steps != 6 || res.Best.Defined() || res.BestEpoch != 3 {
		t.Errorf("%+v, want all 6 steps and the model of epoch 3", res)
	}
	if n := strings.Count(j.String(), "is undefined on the validation split"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, j.String())
	}
	if _, epochs := readHistory(t, dir); epochs[2].Val.Macro.AUROC != nil || epochs[2].ValLoss == nil {
		t.Errorf("%+v", epochs[2])
	}
}

// breakScan makes scan number i of a test table unreadable.
func breakScan(t *testing.T, table string, i int) (name string) {
	t.Helper()
	name = fmt.Sprintf("scan%02d.nii", i)
	if err := os.WriteFile(filepath.Join(filepath.Dir(table), name), []byte("no scan"), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBrokenScan(t *testing.T) {
	t.Parallel()
	for split, i := range map[string]int{"train": 5, "val": 10} {
		table := writeTable(t, append(rows("train", 9), rows("val", 4)...))
		name := breakScan(t, table, i)
		c := small(table)
		err := fail(t, t.Context(), c, t.TempDir())
		if exitcode.Of(err) != exitcode.NoInput || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("broken scan of the %s split: exit code %d, %v", split, exitcode.Of(err), err)
		}

		c.Data.OnError = "skip"
		base := t.TempDir()
		var j journal
		res, err := Run(t.Context(), c, j.options(base))
		if err != nil {
			t.Fatal(err)
		}
		if res.Steps != 6 || strings.Count(j.String(), "left out: ") != 1 {
			t.Errorf("%s: %d steps\n%s", split, res.Steps, j.String())
		}
		list, err := os.ReadFile(filepath.Join(base, skippedFile))
		if rows := strings.Split(string(list), "\n"); err != nil || res.Skipped != 1 || len(rows) != 3 || !strings.HasPrefix(rows[1], split+","+name) {
			t.Errorf("%s: %d skipped, list %q, %v", split, res.Skipped, list, err)
		}
		for _, n := range []int{1, 3, 5} {
			dir := t.TempDir()
			finish(t, c, dir, maxSteps(n))
			finish(t, c, dir, resume)
			sameResults(t, fmt.Sprintf("%s: a scan is skipped, stopped after %d steps", split, n), dir, base)
		}
	}
}

// Scans that cannot be read may leave a short batch of a size that nothing was planned for.
func TestBrokenScanShortensTheLastBatch(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 7), rows("val", 4)...))
	breakScan(t, table, 2)
	c := small(table)
	c.Data.OnError, c.Train.DropLast = "skip", false // 4 and 3 samples were planned, 4 and 2 come
	dir := t.TempDir()
	var j journal
	res, err := Run(t.Context(), c, j.options(dir))
	if err != nil {
		t.Fatal(err)
	}
	if res.Steps != 3 || !strings.Contains(j.String(), "left out the rest of a batch") {
		t.Errorf("%d steps, want 3\n%s", res.Steps, j.String())
	}
}

func TestNothingToTrainOn(t *testing.T) {
	t.Parallel()
	broken := func(n int, list ...row) string {
		table := writeTable(t, list)
		for i := range n {
			breakScan(t, table, i)
		}
		return table
	}
	skip := func(c *config.Config) { c.Data.OnError = "skip" }
	for _, tt := range []struct {
		name   string
		table  string
		change func(*config.Config)
		code   int
		want   string
	}{
		{"no training samples", broken(0, rows("val", 4)...), nil, exitcode.NoInput, "no training samples"},
		{"fewer than a batch", broken(0, rows("train", 3)...), nil, exitcode.Usage, "3 samples, fewer than one batch of 4"},
		{
			"fewer than a batch of micro-batches", broken(0, rows("train", 7)...),
			func(c *config.Config) { c.Train.Accumulate = 2 }, exitcode.Usage, "7 samples, fewer than one batch of 8",
		},
		{"all training scans broken", broken(8, append(rows("train", 8), rows("val", 2)...)...), skip, exitcode.NoInput, "none of the 8 samples"},
		{"too many broken", broken(5, append(rows("train", 8), rows("val", 2)...)...), skip, exitcode.NoInput, "no training step in a whole epoch"},
		{"all validation scans broken", broken(2, append(rows("val", 2), rows("train", 8)...)...), skip, exitcode.NoInput, "none of the 2 samples"},
		{
			"plateau without validation", broken(0, rows("train", 8)...),
			func(c *config.Config) { c.Train.Schedule.Name = "plateau" }, exitcode.Usage, "train.schedule.name plateau goes by the validation split",
		},
		{
			"early stopping without validation", broken(0, rows("train", 8)...),
			func(c *config.Config) { c.Train.EarlyStop.Patience = 1 }, exitcode.Usage, "train.early_stop goes by the validation split",
		},
		{"budget", broken(0, rows("train", 8)...), func(c *config.Config) { c.Memory.Budget = "32MiB" }, exitcode.Memory, "more than memory.budget 32MiB"},
		{"no table", "nowhere.csv", nil, exitcode.Usage, "nowhere.csv"},
	} {
		c := small(tt.table)
		if tt.change != nil {
			tt.change(c)
		}
		dir := t.TempDir()
		err := fail(t, t.Context(), c, dir)
		if exitcode.Of(err) != tt.code || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: exit code %d, want %d: %v", tt.name, exitcode.Of(err), tt.code, err)
		}
		if exists(dir, lastFile) || exists(dir, bestFile) || exists(dir, stateFile) {
			t.Errorf("%s: there is a model or a state", tt.name)
		}
	}
}

// A diverging run says where, and leaves the last good state to go back to.
func TestDivergence(t *testing.T) {
	t.Parallel()
	c := small(writeTable(t, append(rows("train", 8), rows("val", 4)...)))
	c.Train.Optimizer.LR, c.Train.ClipNorm, c.Train.Epochs = 1e38, 0, 20
	c.Train.Schedule = config.Schedule{Name: "constant"}
	dir := t.TempDir()
	err := fail(t, t.Context(), c, dir)
	if !strings.Contains(err.Error(), "lower train.optimizer.lr") || !strings.Contains(err.Error(), "step ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if exists(dir, stateFile) || exists(dir, lastFile) {
		t.Error("weights that are not finite were saved")
	}
	// At the first step with a loss that is not finite, the message names the scans.
	c.Train.BatchSize = 2
	if err := fail(t, t.Context(), c, t.TempDir()); !strings.Contains(err.Error(), "its scans: scan") {
		t.Errorf("%v", err)
	}
}

// Missing labels are left out of loss and metrics; a batch without any label is harmless.
func TestMissingLabels(t *testing.T) {
	t.Parallel()
	list := append(rows("train", 8), rows("val", 4)...)
	for i := range 6 {
		list[i].label = -1
	}
	list[11].label = -1
	c := small(writeTable(t, list))
	c.Train.BatchSize = 2
	dir := t.TempDir()
	finish(t, c, dir)
	steps, epochs := readHistory(t, dir)
	empty := 0
	for _, s := range steps {
		if math.IsNaN(s.Loss) {
			t.Errorf("%+v", s)
		}
		if s.Loss == 0 {
			empty++
		}
	}
	if len(steps) != 12 || empty == 0 || epochs[2].ValLoss == nil {
		t.Errorf("%d steps, %d without labels, %+v", len(steps), empty, epochs[2])
	}
}

// The deadline of a context ends a run as a signal does.
func TestDeadline(t *testing.T) {
	t.Parallel()
	c := small(writeTable(t, append(rows("train", 8), rows("val", 4)...)))
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	dir := t.TempDir()
	fail(t, ctx, c, dir)
	base := t.TempDir()
	finish(t, c, base)
	finish(t, c, dir, resume)
	sameResults(t, "deadline", dir, base)
}

// AfterEpoch is told each validation, and may end the run, which can be continued.
func TestAfterEpoch(t *testing.T) {
	c := small(writeTable(t, append(rows("train", 8), rows("val", 4)...)))
	whole, parts := t.TempDir(), t.TempDir()
	var epochs []int
	var values []float64
	finish(t, c, whole, func(o *Options) {
		o.AfterEpoch = func(epoch int, value float64) error {
			epochs, values = append(epochs, epoch), append(values, value)
			return nil
		}
	})
	_, history := readHistory(t, whole)
	if !slices.Equal(epochs, []int{1, 2, 3}) || values[1] != *history[1].Val.Macro.AUROC {
		t.Errorf("told of epochs %v with %v", epochs, values)
	}
	err := fail(t, t.Context(), c, parts, func(o *Options) {
		o.AfterEpoch = func(epoch int, _ float64) error {
			if epoch == 2 {
				return ErrEnded
			}
			return nil
		}
	})
	if !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	finish(t, c, parts, resume)
	sameResults(t, "ended after an epoch and resumed", parts, whole)
}
