package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Two processes work on one study; one of them is killed, and another one takes its place. In the end every trial was
// worked on, each stage once to its end, and the one that was killed came to what it would have come to alone.
func TestTuneProcesses(t *testing.T) {
	t.Chdir(t.TempDir())
	if out, err := exec.CommandContext(t.Context(), "ctclass", "phantom", "--out", "ph", "--cases", "12", "--size", "20,28,28", "--spacing", "14,12,12", "--format", "nifti").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, text := range map[string]string{
		"base.yaml": `
model: {name: resnet18_3d, options: {blocks: [1, 1, 1, 1], widths: [8, 8, 8, 8], hidden: 8, stem: small}}
data: {table: ph/labels.csv, labels: [nodule], group_column: patient, val_fraction: 0.34}
preprocess: {shape_dhw: [12, 16, 16]}
loss: {name: bce}
train: {epochs: 12, batch_size: 2, monitor: loss, threads: 1}
`,
		"study.yaml": `
base: base.yaml
dir: study
trials: 6
median: false
stages: [{epochs: 6}, {}]
space: [{key: train.optimizer.lr, low: 1.0e-4, high: 1.0e-2, log: true}]
`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	start := func() (*exec.Cmd, *bytes.Buffer) {
		t.Helper()
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "ctclass", "--quiet", "tune", "-c", "study.yaml", "--json")
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out
	}
	first, _ := start()
	state := filepath.Join("study", "trial-001", "stage-1", "last", "state.safetensors")
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(state); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no state of the first trial after two minutes")
		}
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	second, out2 := start()
	third, out3 := start()
	for _, p := range []struct {
		cmd *exec.Cmd
		out *bytes.Buffer
	}{{second, out2}, {third, out3}} {
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, p.out.String())
		}
	}
	var res struct {
		Best   int `json:"best"`
		Trials []struct {
			Stage  int        `json:"stage"`
			State  string     `json:"state"`
			Values []*float64 `json:"values"`
		} `json:"trials"`
	}
	if err := json.Unmarshal(out3.Bytes(), &res); err != nil {
		t.Fatalf("%v\n%s", err, out3.String())
	}
	twice := 0
	for i, tr := range res.Trials {
		if tr.State != "done" {
			t.Errorf("trial %d is %s", i+1, tr.State)
		}
		if tr.Stage == 2 {
			twice++
		}
	}
	if len(res.Trials) != 6 || twice < 2 || res.Best == 0 || res.Trials[res.Best-1].Stage != 2 {
		t.Errorf("%s", out3.String())
	}
	// The trial of the process that was killed, as a run that was left alone.
	if out, err := exec.CommandContext(t.Context(), "ctclass", "--quiet", "train", "--no-doctor", "-c", "study/trial-001/stage-1/config.yaml", "--out", "alone").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	a, errA := os.ReadFile(filepath.Join("alone", "last", "model.safetensors"))
	b, errB := os.ReadFile(filepath.Join("study", "trial-001", "stage-1", "last", "model.safetensors"))
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("the trial that was killed and resumed differs from a run that was left alone (%v, %v)", errA, errB)
	}
	if raw, err := os.ReadFile(filepath.Join("study", "trials.csv")); err != nil || strings.Count(string(raw), "\n") != 7 {
		t.Errorf("trials.csv: %v\n%s", err, raw)
	}
}
