package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"syscall"
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

// A training process keeps to the memory that its log states, also when it saves and resumes, and with all that
// reading samples can ask for.
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
		"--set", "data.table=ph/labels.csv", "--set", "data.labels=nodule", "--set", "preprocess.shape_dhw=12,16,16",
		"--set", "train.epochs=1", "--set", "train.batch_size=1", "--set", "train.drop_last=false",
		"--set", "model.options.blocks=[1,1,1,1]", "--set", "model.options.widths=[16,16,256,512]", "--set", "model.options.stem=small",
	}
	everything := []string{
		"--set", "data.augment.affine.p=1", "--set", "data.augment.elastic.p=1", "--set", "data.augment.blur.p=1",
		"--set", "data.augment.lowres.p=1", "--set", "data.augment.cutout.p=1", "--set", "data.cache.dir=cache",
		"--set", "train.mixup=0.4", "--set", "train.ema=0.9", "--set", "train.accumulate=2", "--set", "train.epochs=3",
	}
	promised := 0
	for _, more := range [][]string{{"--out", "run", "--max-steps", "1"}, {"--out", "run", "--resume"}, append([]string{"--out", "everything"}, everything...)} {
		cmd := exec.CommandContext(t.Context(), "ctclass", slices.Concat([]string{"train"}, args, more)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", more, err, out)
		}
		m := regexp.MustCompile(`memory planned total="(\d+) MiB"`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("no memory planned:\n%s", out)
		}
		promised, _ = strconv.Atoi(string(m[1]))
		peak := int(reflect.ValueOf(cmd.ProcessState.SysUsage()).Elem().FieldByName("Maxrss").Int() >> 10) // MiB
		t.Logf("%v: promised %d MiB, took %d MiB", more, promised, peak)
		if peak > promised || promised-peak > 150 {
			t.Errorf("%v: promised %d MiB, took %d MiB", more, promised, peak)
		}
	}

	// ctclass plan promises the same.
	out, err := exec.CommandContext(t.Context(), "ctclass", slices.Concat([]string{"plan", "--json", "--rate", "50"}, args, everything)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Bytes int `json:"promised_peak_bytes"`
	}
	if err := json.Unmarshal(out, &plan); err != nil || (plan.Bytes+1<<20-1)>>20 != promised {
		t.Errorf("plan promises %d bytes, train %d MiB: %v", plan.Bytes, promised, err)
	}
}

// killTest is a short run on phantoms, of which the tests know the results that an uninterrupted run has.
type killTest struct {
	t     *testing.T
	whole time.Duration // of the uninterrupted run
}

func newKillTest(t *testing.T) *killTest {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send signals to another one here")
	}
	t.Chdir(t.TempDir())
	k := &killTest{t: t}
	k.ctclass("phantom", "--out", "ph", "--cases", "12", "--size", "20,28,28", "--spacing", "14,12,12", "--format", "nifti")
	start := time.Now()
	k.ctclass(k.args("whole")...)
	k.whole = time.Since(start)
	return k
}

// ctclass runs to the end.
func (k *killTest) ctclass(args ...string) {
	k.t.Helper()
	if out, err := exec.CommandContext(k.t.Context(), "ctclass", args...).CombinedOutput(); err != nil {
		k.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// args trains into a folder, with everything that has a state between the steps.
func (k *killTest) args(dir string, more ...string) []string {
	args := append([]string{
		"train", "--out", dir, "--set", "data.table=ph/labels.csv", "--set", "data.task=multilabel", "--set", "data.labels=nodule,effusion",
		"--set", "train.epochs=25", "--set", "train.batch_size=2", "--set", "data.flip=w", "--set", "train.sampler=class_aware",
		"--set", "train.ema=0.9", "--set", "train.mixup=0.4", "--set", "train.schedule.name=plateau", "--set", "train.schedule.patience=2",
		"--set", "train.early_stop.patience=20", "--set", "train.save_every_minutes=0.001",
	}, tinyModel()...)
	return append(args, more...)
}

// start begins a run.
func (k *killTest) start(dir string, more ...string) (*exec.Cmd, *bytes.Buffer) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), "ctclass", k.args(dir, more...)...)
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	return cmd, out
}

// waitForState waits until a run has saved its state.
func (k *killTest) waitForState(dir string, out *bytes.Buffer) {
	k.t.Helper()
	state := filepath.Join(dir, "last", "state.safetensors")
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(state); err == nil {
			return
		}
		if time.Now().After(end) {
			k.t.Fatalf("no state after two minutes\n%s", out.String())
		}
	}
}

// same fails unless a finished run has the results of the uninterrupted one, and nothing is left of files that
// were being written.
func (k *killTest) same(dir string) {
	k.t.Helper()
	for _, f := range []string{"best.safetensors", "last/model.safetensors", "last/state.safetensors", "history.jsonl"} {
		got, errGot := os.ReadFile(filepath.Join(dir, f))
		want, errWant := os.ReadFile(filepath.Join("whole", f))
		if errGot != nil || errWant != nil || !bytes.Equal(got, want) {
			k.t.Errorf("%s: %s differs (%v, %v)", dir, f, errGot, errWant)
		}
	}
	for _, pattern := range []string{".*.tmp", "last/.*.tmp"} {
		if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 {
			k.t.Errorf("%s: %v is left over (%v)", dir, left, err)
		}
	}
}

// A run that is killed at random moments, and resumed each time with another number of threads, comes to the bytes
// of a run that was left alone; so does one that gets SIGTERM, which saves and ends with code 130. CTCLASS_KILLS
// sets how often; the moments differ from run to run with the machine's speed.
func TestTrainSurvivesKills(t *testing.T) {
	k := newKillTest(t)
	kills := 4
	if n, err := strconv.Atoi(os.Getenv("CTCLASS_KILLS")); err == nil {
		kills = n
	}
	r := rand.New(rand.NewPCG(1, 2))
	for name, signal := range map[string]os.Signal{"killed": os.Kill, "terminated": syscall.SIGTERM} {
		folders := 1 // a run may end before it is killed: the next one goes into another folder
		dir := func() string { return fmt.Sprintf("%s%d", name, folders) }
		for n := 0; n < kills; {
			cmd, out := k.start(dir(), "--resume", "--threads", strconv.Itoa(1+n%2))
			time.Sleep(time.Duration(r.Float64() * 0.7 * float64(k.whole)))
			sent := cmd.Process.Signal(signal)
			err := cmd.Wait()
			if sent != nil || err == nil { // it was done
				k.same(dir())
				folders++
				continue
			}
			n++
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("%v\n%s", err, out.String())
			}
			if code := exit.ExitCode(); signal == syscall.SIGTERM && code != 130 && code != -1 { // -1: before it listens
				t.Errorf("exit code %d\n%s", code, out.String())
			}
		}
		k.ctclass(k.args(dir(), "--resume")...)
		k.same(dir())
	}
}

// An interrupt saves and ends with code 130; a second one ends the process at once. Meanwhile the folder is locked.
func TestTrainIsInterrupted(t *testing.T) {
	k := newKillTest(t)
	cmd, out := k.start("run")
	k.waitForState("run", out)
	if other, err := exec.CommandContext(t.Context(), "ctclass", k.args("run", "--resume")...).CombinedOutput(); err == nil ||
		!bytes.Contains(other, []byte("another process is working on the run in run")) {
		t.Errorf("two processes in one folder: %v\n%s", err, other)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 || !bytes.Contains(out.Bytes(), []byte("the state is saved")) ||
		!bytes.HasSuffix(out.Bytes(), []byte("ctclass: interrupted\n")) {
		t.Errorf("%v\n%s", err, out.String())
	}
	k.ctclass(k.args("run", "--resume")...)
	k.same("run")

	cmd, out = k.start("twice")
	k.waitForState("twice", out)
	for range 1000 { // until it is gone: the first saves, and one behind it ends the process
		if cmd.Process.Signal(os.Interrupt) != nil {
			break
		}
		time.Sleep(100 * time.Microsecond)
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid)); err != nil {
			break
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("it ran to its end\n%s", out.String())
	}
	k.ctclass(k.args("twice", "--resume")...)
	k.same("twice")
}
