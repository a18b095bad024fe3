package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
)

// tinyModel are the settings of a small network.
func tinyModel() []string {
	return []string{
		"--set", "model.options.blocks=[1,1,1,1]", "--set", "model.options.widths=[8,16,16,16]", "--set", "preprocess.shape_dhw=12,16,16",
	}
}

// The promise of memory holds for the whole process, and is not much more than what it takes.
func TestBenchMemory(t *testing.T) {
	for _, mode := range []string{"train", "infer"} {
		for name, settings := range map[string][]string{"tiny": tinyModel(), "full": {"--set", "preprocess.shape_dhw=16,16,16"}} {
			args := append([]string{"bench", "--mode", mode, "--steps", "2", "--json"}, settings...)
			cmd := exec.CommandContext(t.Context(), "ctclass", args...)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %v\n%s", args, err, errs.String())
			}
			var keys map[string]json.RawMessage
			if err := json.Unmarshal(out, &keys); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, key := range []string{
				"model", "mode", "batch", "shape_dhw", "threads", "median_ms", "min_ms", "max_ms", "samples_per_s", "arena_bytes",
				"promised_peak_bytes",
			} {
				if keys[key] == nil {
					t.Errorf("no key %s in %s", key, out)
				}
			}
			var b struct {
				Batch    int     `json:"batch"`
				Median   float64 `json:"median_ms"`
				Min      float64 `json:"min_ms"`
				Max      float64 `json:"max_ms"`
				Rate     float64 `json:"samples_per_s"`
				Arena    int64   `json:"arena_bytes"`
				Promised int64   `json:"promised_peak_bytes"`
				Measured int64   `json:"measured_peak_bytes"`
			}
			if err := json.Unmarshal(out, &b); err != nil {
				t.Fatal(err)
			}
			if !(0 < b.Min && b.Min <= b.Median && b.Median <= b.Max) || b.Arena <= 0 || b.Arena >= b.Promised {
				t.Errorf("%s", out)
			}
			if want := 1000 * float64(b.Batch) / b.Median; b.Rate < 0.999*want || b.Rate > 1.001*want {
				t.Errorf("%v samples/s, want %v", b.Rate, want)
			}
			if runtime.GOOS != "linux" {
				continue
			}
			if b.Measured <= 0 || b.Measured > b.Promised || b.Promised-b.Measured > 150<<20 {
				t.Errorf("%s %s: promised %d MiB, took %d MiB", name, mode, b.Promised>>20, b.Measured>>20)
			}
		}
	}
}

// A training process keeps to the memory that its log states, also when it saves and resumes.
func TestTrainMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the unit of the peak memory is another one here")
	}
	t.Chdir(t.TempDir())
	if out, err := exec.CommandContext(t.Context(), "ctclass", "phantom", "--out", "ph", "--cases", "4", "--size", "20,28,28", "--spacing", "14,12,12").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// 12 million parameters: a second copy of them and of their moments would be seen.
	args := []string{
		"train", "--out", "run", "--set", "data.table=ph/labels.csv", "--set", "data.labels=nodule", "--set", "preprocess.shape_dhw=12,16,16",
		"--set", "train.epochs=1", "--set", "train.batch_size=1", "--set", "train.drop_last=false",
		"--set", "model.options.blocks=[1,1,1,1]", "--set", "model.options.widths=[16,16,256,512]", "--set", "model.options.stem=small",
	}
	for _, more := range [][]string{{"--max-steps", "1"}, {"--resume"}} {
		cmd := exec.CommandContext(t.Context(), "ctclass", append(slices.Clone(args), more...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", more, err, out)
		}
		m := regexp.MustCompile(`memory planned total="(\d+) MiB"`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("no memory planned:\n%s", out)
		}
		promised, _ := strconv.Atoi(string(m[1]))
		peak := int(reflect.ValueOf(cmd.ProcessState.SysUsage()).Elem().FieldByName("Maxrss").Int() >> 10) // MiB
		if peak > promised || promised-peak > 150 {
			t.Errorf("%v: promised %d MiB, took %d MiB", more, promised, peak)
		}
	}
}

// An interrupted process ends with code 130 and a saved state; one that is killed leaves what it saved before.
// Both, resumed, come to the bytes of a run that was left alone.
func TestTrainSurvivesSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send an interrupt to another one here")
	}
	t.Chdir(t.TempDir())
	ctclass := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ctclass", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	ctclass("phantom", "--out", "ph", "--cases", "12", "--size", "20,28,28", "--spacing", "14,12,12", "--format", "nifti")
	train := append([]string{
		"train", "--set", "data.table=ph/labels.csv", "--set", "data.task=multilabel", "--set", "data.labels=nodule,effusion",
		"--set", "train.epochs=40", "--set", "train.batch_size=2", "--out",
	}, tinyModel()...)
	at := slices.Index(train, "--out") + 1
	into := func(dir string, more ...string) []string {
		return append(slices.Insert(slices.Clone(train), at, dir), more...)
	}
	ctclass(into("whole")...)

	for name, signal := range map[string]os.Signal{"interrupt": os.Interrupt, "kill": os.Kill} {
		cmd := exec.CommandContext(t.Context(), "ctclass", into(name)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		state := filepath.Join(name, "last", "state.safetensors")
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(state); err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("no state after a minute\n%s", out.String())
			}
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("%s: %v, want it to end the run\n%s", name, err, out.String())
		}
		if signal == os.Interrupt {
			if exit.ExitCode() != 130 || !bytes.Contains(out.Bytes(), []byte("the state is saved")) || !bytes.HasSuffix(out.Bytes(), []byte("ctclass: interrupted\n")) {
				t.Errorf("exit code %d\n%s", exit.ExitCode(), out.String())
			}
		}
		ctclass(into(name, "--resume")...)
		for _, f := range []string{"best.safetensors", "last/model.safetensors", "last/state.safetensors", "history.jsonl"} {
			got, errGot := os.ReadFile(filepath.Join(name, f))
			want, errWant := os.ReadFile(filepath.Join("whole", f))
			if errGot != nil || errWant != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s differs (%v, %v)", name, f, errGot, errWant)
			}
		}
	}
}
