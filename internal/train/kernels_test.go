package train

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/kerneltable"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/runs"
	"github.com/ctclass/ctclass/internal/session"
)

// The measured table names every convolution of the network that has a choice, with algorithms that were measured.
func TestTuneKernels(t *testing.T) {
	t.Parallel()
	c := small("")
	c.Train.BatchSize = 2
	table := kerneltable.New(kernels.Best())
	times, err := TuneKernels(t.Context(), c, 1, table, progress.New(io.Discard, progress.Off))
	if err != nil {
		t.Fatal(err)
	}
	net, _, err := parts(c)
	if err != nil {
		t.Fatal(err)
	}
	dev := cpu.New(1)
	defer dev.Close()
	plan, err := session.Compile(dev, session.Options{Network: net, ShapeDHW: c.Preprocess.ShapeDHW, EvalBatch: 2})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, u := range cpu.Convolutions(plan.Programs()...) {
		if !u.Passes[kernels.Forward] || u.Passes[kernels.BackwardData] || u.Samples != 2 {
			t.Errorf("%s in an inference program: %+v", u.Spec.Key(), u)
		}
		if len(kernels.Candidates(u.Spec, kernels.Forward)) > 1 {
			want[u.Spec.Key()] = true
		}
	}
	if len(want) == 0 || len(want) != len(table.Convolutions) {
		t.Errorf("%d convolutions in the table, %d have a choice", len(table.Convolutions), len(want))
	}
	for _, r := range times {
		if !want[r.Convolution] || r.MS[r.Chosen] <= 0 || r.MS[kernels.Direct] <= 0 {
			t.Errorf("measured: %+v", r)
		}
	}
	if len(times) < 3*len(want)-1 { // nothing wants the gradient of the network's input
		t.Errorf("%d passes measured of %d convolutions", len(times), len(want))
	}
}

// directTable is a table that takes the direct algorithm where a Winograd one is usual.
func directTable(t *testing.T) (path string, table *kerneltable.Table) {
	t.Helper()
	table = kerneltable.New(kernels.Best())
	if _, err := TuneKernels(t.Context(), small(""), 1, table, progress.New(io.Discard, progress.Off)); err != nil {
		t.Fatal(err)
	}
	for key := range table.Convolutions {
		table.Convolutions[key] = kernels.ConvChoice{}
	}
	path = filepath.Join(t.TempDir(), "direct.json")
	if err := table.Write(path); err != nil {
		t.Fatal(err)
	}
	return path, table
}

// A run is carried out with the table that it is given, keeps it, and goes on with it whatever is configured then.
func TestRunKeepsItsKernels(t *testing.T) {
	t.Parallel()
	data := writeTable(t, append(rows("train", 8), rows("val", 4)...))
	path, table := directTable(t)
	c := small(data)
	tuned := small(data)
	tuned.Train.Kernels = path

	usual, other := t.TempDir(), t.TempDir()
	finish(t, c, usual)
	finish(t, tuned, other)
	a, errA := os.ReadFile(filepath.Join(usual, lastFile))
	b, errB := os.ReadFile(filepath.Join(other, lastFile))
	if errA != nil || errB != nil || bytes.Equal(a, b) {
		t.Errorf("the table of kernels changes no bit (%v, %v)", errA, errB)
	}
	if _, err := os.Stat(filepath.Join(usual, KernelsFile)); err == nil {
		t.Error("a run with the usual kernels has a table")
	}
	for dir, want := range map[string]string{usual: kerneltable.Default, other: table.ID()} {
		raw, err := os.ReadFile(filepath.Join(dir, runs.EnvironmentFile))
		if err != nil {
			t.Fatal(err)
		}
		var e runs.Environment
		if err := json.Unmarshal(raw, &e); err != nil || e.Sessions[0].Kernels != want {
			t.Errorf("the environment names the kernels %q, want %q (%v)", e.Sessions[0].Kernels, want, err)
		}
	}

	dir := t.TempDir()
	finish(t, tuned, dir, maxSteps(2))
	finish(t, c, dir, resume)
	sameResults(t, "begun with a table, resumed without", dir, other)
	dir = t.TempDir()
	finish(t, c, dir, maxSteps(2))
	finish(t, tuned, dir, resume)
	sameResults(t, "begun without a table, resumed with one", dir, usual)

	again := small(data)
	again.Train.Kernels = filepath.Join(other, KernelsFile)
	dir = t.TempDir()
	finish(t, again, dir)
	sameResults(t, "repeated with the run's table", dir, other)
}

func TestWrongKernelTables(t *testing.T) {
	t.Parallel()
	data := writeTable(t, rows("train", 8))
	_, table := directTable(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	table.ISA = "other"
	foreign := filepath.Join(dir, "foreign.json")
	if err := table.Write(foreign); err != nil {
		t.Fatal(err)
	}
	named := `{"convolutions": {"x": ["direct", "fast", "direct"]}}`
	for path, want := range map[string]string{
		foreign:                             "was measured with other",
		filepath.Join(dir, "none.json"):     "none.json",
		write("broken.json", "{"):           "is no table of kernels",
		write("old.json", `{"version": 0}`): "knows version 1",
		write("name.json", named):           `"fast" is no algorithm`,
	} {
		c := small(data)
		c.Train.Kernels = path
		if err := fail(t, t.Context(), c, t.TempDir()); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
