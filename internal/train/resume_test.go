package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/exitcode"
)

// Neither threads nor workers nor the batch of the evaluation nor the place of the folder change a result.
func TestRunIsDeterministic(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 13), rows("val", 5)...))
	base := t.TempDir()
	finish(t, small(table), base)
	for name, change := range map[string]func(c *config.Config){
		"again":                func(*config.Config) {},
		"2 threads":            func(c *config.Config) { c.Train.Threads = 2 },
		"3 threads, 1 worker":  func(c *config.Config) { c.Train.Threads, c.Data.Workers = 3, 1 },
		"1 thread, 5 workers":  func(c *config.Config) { c.Data.Workers = 5 },
		"a budget":             func(c *config.Config) { c.Memory.Budget = "8GiB" },
		"without saving paths": func(c *config.Config) { c.Output.Dir = "elsewhere" },
	} {
		c := small(table)
		change(c)
		dir := t.TempDir()
		finish(t, c, dir)
		sameResults(t, name, dir, base)
	}

	other := small(table)
	other.Train.Seed = 2
	dir := t.TempDir()
	finish(t, other, dir)
	for _, f := range results() {
		a, errA := os.ReadFile(filepath.Join(base, f))
		b, errB := os.ReadFile(filepath.Join(dir, f))
		if errA != nil || errB != nil || bytes.Equal(a, b) {
			t.Errorf("another seed gives the same %s (%v, %v)", f, errA, errB)
		}
	}
}

// A run that is stopped after any number of steps, also twice, and resumed is the run that was not stopped.
func TestResumeAfterMaxSteps(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 14), rows("val", 4)...))
	c := small(table)
	c.Train.Accumulate, c.Train.BatchSize = 2, 2 // 3 steps an epoch, 9 in all
	base := t.TempDir()
	if res := finish(t, c, base); res.Steps != 9 {
		t.Fatalf("%d steps, want 9", res.Steps)
	}
	for n := 1; n <= 8; n++ {
		dir := t.TempDir()
		if res := finish(t, c, dir, maxSteps(n)); res.Steps != n {
			t.Fatalf("%d steps, want %d", res.Steps, n)
		}
		if n == 2 {
			finish(t, c, dir, resume, maxSteps(5))
		}
		finish(t, c, dir, resume)
		sameResults(t, fmt.Sprintf("stopped after %d steps", n), dir, base)
	}
	// The last step of the run ends it: nothing is left to do.
	dir := t.TempDir()
	finish(t, c, dir, maxSteps(9))
	sameResults(t, "all steps", dir, base)
	if res := finish(t, c, dir, resume); res.Steps != 9 || res.BestEpoch == 0 {
		t.Errorf("resuming a finished run: %+v", res)
	}
	sameResults(t, "resumed when finished", dir, base)
}

// A run that is cancelled anywhere, in training and in validation, saves its state and can be resumed.
func TestResumeAfterCancellation(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 9), rows("val", 6)...))
	c := small(table)
	c.Train.Epochs, c.Train.ValidateEvery = 2, 1
	c.Eval.BatchSize = 2
	base := t.TempDir()
	finish(t, c, base)
	interrupted := 0
	for n := 1; n < 100; n++ {
		dir := t.TempDir()
		ctx := newCountdown(t.Context(), n)
		var j journal
		_, err := Run(ctx, c, j.options(dir))
		if err == nil {
			sameResults(t, "not cancelled", dir, base)
			break
		}
		interrupted++
		if !errors.Is(err, context.Canceled) || exitcode.Of(err) != exitcode.Interrupted {
			t.Fatalf("cancelled at %d: %v", n, err)
		}
		if !strings.Contains(j.String(), "the state is saved") {
			t.Fatalf("cancelled at %d: the log does not tell that the state is saved:\n%s", n, j.String())
		}
		finish(t, c, dir, resume)
		sameResults(t, fmt.Sprintf("cancelled at %d", n), dir, base)
	}
	if interrupted < 12 {
		t.Errorf("cancelled in %d places only", interrupted)
	}
}

// A run that is killed leaves its last saved state beside a history, and models, that may be newer.
func TestResumeAfterKill(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 12), rows("val", 4)...))
	c := small(table)
	base := t.TempDir()
	finish(t, c, base)

	for _, steps := range []int{3, 4} { // the end of the first epoch, and the middle of the second
		early := t.TempDir()
		finish(t, c, early, maxSteps(steps))
		dir := t.TempDir()
		finish(t, c, dir)
		copyFile(t, stateFile, early, dir)
		f, err := os.OpenFile(filepath.Join(dir, historyFile), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(`{"kind":"step","step":1,"epo`); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		finish(t, c, dir, resume)
		sameResults(t, fmt.Sprintf("killed after %d steps", steps), dir, base)
	}

	// Killed between the epoch's line and the state that follows it: the state saved in the middle of that
	// epoch's validation has the steps of the whole epoch, and the line comes again.
	dir := t.TempDir()
	ctx := newCountdown(t.Context(), 8)
	fail(t, ctx, c, dir)
	if steps, epochs := readHistory(t, dir); len(steps) != 3 || len(epochs) != 0 {
		t.Fatalf("%d steps and %d epochs, want a cancellation between the steps and the line of epoch 1", len(steps), len(epochs))
	}
	copyFile(t, historyFile, base, dir)
	finish(t, c, dir, resume)
	sameResults(t, "killed behind the line of the epoch", dir, base)

	// Killed before any state was saved.
	dir = t.TempDir()
	copyFile(t, historyFile, base, dir)
	finish(t, c, dir, resume)
	sameResults(t, "killed in the first epoch", dir, base)
}

func TestResumeRefusals(t *testing.T) {
	t.Parallel()
	table := writeTable(t, append(rows("train", 8), rows("val", 4)...))
	dir := t.TempDir()
	finish(t, small(table), dir, maxSteps(3))
	before := folder(t, dir)

	other := small(table)
	other.Train.Optimizer.LR = 0.002
	relabelled := small(writeTable(t, append(rows("train", 8), row{"val", 1}, row{"val", 1}, row{"val", 0}, row{"val", 1})))
	wider := small(table)
	wider.Model.Options["widths"] = []any{8, 16, 16, 32}
	for _, tt := range []struct {
		name   string
		c      *config.Config
		change []func(*Options)
		want   string
	}{
		{"without --resume", small(table), nil, "holds a run already: continue it with --resume"},
		{"another configuration", other, []func(*Options){resume}, "another configuration or other data"},
		{"other labels", relabelled, []func(*Options){resume}, "another configuration or other data"},
		{"another network", wider, []func(*Options){resume}, "another configuration or other data"},
	} {
		err := fail(t, t.Context(), tt.c, dir, tt.change...)
		if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: exit code %d, %v", tt.name, exitcode.Of(err), err)
		}
		if after := folder(t, dir); after != before {
			t.Errorf("%s: the refusal changed the run folder:\n%s\nbefore\n%s", tt.name, after, before)
		}
	}

	// A copy of the same data elsewhere is the same data.
	moved := small(writeTable(t, append(rows("train", 8), rows("val", 4)...)))
	finish(t, moved, dir, resume, maxSteps(4))

	path := filepath.Join(dir, stateFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	model, err := os.ReadFile(filepath.Join(dir, lastFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"empty": nil, "cut off": whole[:len(whole)/2], "cut in the header": whole[:40], "noise": bytes.Repeat([]byte{0xfe}, 100),
		"a model file": model,
	} {
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		err := fail(t, t.Context(), small(table), dir, resume)
		if exitcode.Of(err) != exitcode.Usage || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), path) {
			t.Errorf("state file that is %s: exit code %d, %v", name, exitcode.Of(err), err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, raw) {
			t.Errorf("state file that is %s: it was changed", name)
		}
	}
}

// folder returns the names and contents of the files of a run folder, but the log, which may grow.
func folder(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, f := range append(results(), ConfigFile) {
		raw, err := os.ReadFile(filepath.Join(dir, f))
		fmt.Fprintf(&all, "%s %x %v\n", f, fingerprint(raw), errors.Is(err, os.ErrNotExist))
	}
	return all.String()
}
