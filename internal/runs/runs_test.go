package runs

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makeRun makes a run folder with a configuration.
func makeRun(t *testing.T, dir, settings string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.yaml"), settings)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	a, b, old := filepath.Join(dir, "a"), filepath.Join(dir, "deep", "b"), filepath.Join(dir, "old")
	makeRun(t, a, "model: {name: resnet18_3d, options: {widths: [8, 16]}}\ntrain: {epochs: 3, optimizer: {lr: 0.001}}\noutput: {dir: a}\n")
	makeRun(t, b, "model: {name: resnet18_3d, options: {widths: [8, 32]}}\ntrain: {epochs: 3, optimizer: {lr: 0.002}}\noutput: {dir: b}\n")
	makeRun(t, old, "model: {name: resnet18_3d}\ntrain: {epochs: 3}\n")
	write(t, filepath.Join(old, "history.jsonl"), `{"kind":"step","step":1,"epoch":1,"loss":0.5}
{"kind":"epoch","step":1,"epoch":1,"train_loss":0.5,"best":true}
{"kind":"step","step":2,"ep`)
	makeRun(t, filepath.Join(dir, "no run"), "model: {}\n")
	makeRun(t, filepath.Join(dir, "1", "2", "3", "4", "too deep"), "model: {}\n")

	best, loss := 0.75, 0.25
	first := NewSession("cpu", 2, 1<<20, 0)
	if first.Version == "" || first.Cores < 1 || first.System == "" {
		t.Errorf("session %+v", first)
	}
	if err := AddSession(a, "configA", "data", first); err != nil {
		t.Fatal(err)
	}
	if err := WriteStatus(a, Status{State: Finished, Step: 9, Steps: 9, Epoch: 3, Epochs: 3, Monitor: "auroc", Best: &best, BestEpoch: 2, TrainLoss: &loss}); err != nil {
		t.Fatal(err)
	}
	later := first
	later.Started = later.Started.AddDate(0, 0, 1)
	if err := AddSession(b, "configB", "data", later); err != nil {
		t.Fatal(err)
	}
	again := later
	again.FromStep, again.Version = 4, "another"
	if err := AddSession(b, "configB", "data", again); err != nil {
		t.Fatal(err)
	}
	if err := WriteStatus(b, Status{State: Running, Step: 4}); err != nil {
		t.Fatal(err)
	}

	list, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 {
		t.Fatalf("%d runs: %+v", len(list), list)
	}
	if r := list[0]; r.Dir != old || r.State != Unknown || r.Step != 1 || r.Epoch != 1 || r.BestEpoch != 1 || *r.TrainLoss != 0.5 {
		t.Errorf("run without a status: %+v", r)
	}
	if r := list[1]; r.Dir != a || r.State != Finished || *r.Best != 0.75 || r.BestEpoch != 2 || r.ConfigID != "configA" || r.DataID != "data" {
		t.Errorf("finished run: %+v", r)
	}
	if r := list[2]; r.Dir != b || r.State != Running || r.Step != 4 || r.Version != "another" || !r.Started.Equal(later.Started) {
		t.Errorf("running run: %+v", r)
	}
	if got := slices.Sorted(maps.Keys(list[1].Differs)); !slices.Equal(got, []string{"model.options.widths", "train.optimizer.lr"}) {
		t.Errorf("the runs differ in %q", got)
	}
	if d := list[2].Differs; d["model.options.widths"] != "[8, 32]" || d["train.optimizer.lr"] != "0.002" {
		t.Errorf("%v", d)
	}
	if _, err := Find(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("a folder that is not there holds runs")
	}
	if _, err := Find(filepath.Join(a, "config.yaml")); err == nil || !strings.Contains(err.Error(), "no folder") {
		t.Error(err)
	}
	if list, err := Find(t.TempDir()); err != nil || len(list) != 0 {
		t.Errorf("empty folder: %v, %v", list, err)
	}
}

// A run whose process is gone does not count as running, unless it runs on another machine.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	for h, want := range map[string]string{host: Killed, "elsewhere": Running} {
		if err := writeJSON(dir, StatusFile, Status{State: Running, Host: h, PID: cmd.Process.Pid}); err != nil {
			t.Fatal(err)
		}
		if s, err := ReadStatus(dir); err != nil || s.State != want {
			t.Errorf("on %s: %v %v, want %s", h, s.State, err, want)
		}
	}
	write(t, filepath.Join(dir, StatusFile), "{")
	if _, err := ReadStatus(dir); err == nil || !strings.Contains(err.Error(), StatusFile) {
		t.Error(err)
	}
}
