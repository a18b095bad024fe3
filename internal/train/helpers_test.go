package train

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/volume"
)

// row is a line of a test table; a negative label is a missing one.
type row struct {
	split string
	label int
}

// rows returns n rows of a split, labelled 0 and 1 in turn.
func rows(split string, n int) []row {
	var list []row
	for i := range n {
		list = append(list, row{split, i % 2})
	}
	return list
}

// writeTable makes a folder of small NIfTI files of noise, brighter where the label is 1, and their table.
func writeTable(t *testing.T, list []row) (table string) {
	t.Helper()
	dir := t.TempDir()
	var csv strings.Builder
	csv.WriteString("path,split,finding\n")
	s := rand.New(rand.NewPCG(1, 2))
	for i, r := range list {
		v := &volume.Volume{
			Size: [3]int{9, 8, 7}, Spacing: [3]float64{3, 2, 2},
			Affine: [4][4]float64{{2, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 3, 0}, {0, 0, 0, 1}},
		}
		v.HU = make([]float32, v.Voxels())
		for j := range v.HU {
			v.HU[j] = float32(s.NormFloat64()*200 - 400 + 150*float64(max(0, r.label)))
		}
		name := fmt.Sprintf("scan%02d.nii", i)
		if err := nifti.Write(filepath.Join(dir, name), v, nifti.Int16); err != nil {
			t.Fatal(err)
		}
		label := ""
		if r.label >= 0 {
			label = fmt.Sprint(r.label)
		}
		fmt.Fprintf(&csv, "%s,%s,%s\n", name, r.split, label)
	}
	table = filepath.Join(dir, "labels.csv")
	if err := os.WriteFile(table, []byte(csv.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return table
}

// small is the configuration of a tiny network on a test table: 3 epochs in batches of 4.
func small(table string) *config.Config {
	c := config.Default()
	c.Model.Options = map[string]any{"blocks": []any{1, 1, 1, 1}, "widths": []any{8, 16, 16, 16}, "hidden": 8, "stem": "small"}
	c.Data.Table, c.Data.Labels, c.Data.SplitColumn = table, []string{"finding"}, "split"
	c.Data.Flip = []string{"d", "h", "w"}
	c.Preprocess.ShapeDHW = [3]int{8, 9, 8}
	c.Loss.Name = "bce"
	c.Train.Epochs, c.Train.BatchSize, c.Train.Threads = 3, 4, 1
	c.Train.Schedule.Name = "one_cycle"
	c.Train.ClipNorm = 1
	return &c
}

// journal collects log messages; run logs to it from several goroutines.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) options(dir string) Options {
	return Options{Dir: dir, Log: slog.New(slog.NewTextHandler(j, nil)), Progress: progress.New(io.Discard, progress.Off)}
}

// finish runs to the end and returns the result.
func finish(t *testing.T, c *config.Config, dir string, change ...func(*Options)) *Result {
	t.Helper()
	var j journal
	opt := j.options(dir)
	for _, f := range change {
		f(&opt)
	}
	res, err := Run(t.Context(), c, opt)
	if err != nil {
		t.Fatalf("%v\n%s", err, j.String())
	}
	return res
}

// fail runs and returns the error, which there must be.
func fail(t *testing.T, ctx context.Context, c *config.Config, dir string, change ...func(*Options)) error {
	t.Helper()
	var j journal
	opt := j.options(dir)
	for _, f := range change {
		f(&opt)
	}
	_, err := Run(ctx, c, opt)
	if err == nil {
		t.Fatalf("no error\n%s", j.String())
	}
	return err
}

func resume(o *Options) { o.Resume = true }

func maxSteps(n int) func(*Options) { return func(o *Options) { o.MaxSteps = n } }

// results are the files of a run folder that do not depend on how the run was carried out.
func results() []string { return []string{bestFile, lastFile, stateFile, historyFile} }

// sameResults fails unless the two folders hold the same results, byte for byte.
func sameResults(t *testing.T, what, got, want string) {
	t.Helper()
	for _, f := range results() {
		g, err := os.ReadFile(filepath.Join(got, f))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		w, err := os.ReadFile(filepath.Join(want, f))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !bytes.Equal(g, w) {
			t.Errorf("%s: %s differs", what, f)
			if f == historyFile {
				t.Logf("got\n%s\nwant\n%s", g, w)
			}
		}
	}
}

// line is any line of a history.
type line struct {
	Kind      string   `json:"kind"`
	Step      int      `json:"step"`
	Epoch     int      `json:"epoch"`
	Loss      float64  `json:"loss"`
	LR        float64  `json:"lr"`
	TrainLoss float64  `json:"train_loss"`
	ValLoss   *float64 `json:"val_loss"`
	Best      bool     `json:"best"`
	Val       *struct {
		Macro struct {
			AUROC *float64 `json:"auroc"`
		} `json:"macro"`
	} `json:"val"`
}

// readHistory returns the lines of kind step and of kind epoch.
func readHistory(t *testing.T, dir string) (steps, epochs []line) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, historyFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		if l.Kind == "step" {
			steps = append(steps, l)
		} else {
			epochs = append(epochs, l)
		}
	}
	return steps, epochs
}

// copyFile copies a file between two run folders.
func copyFile(t *testing.T, name, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, name), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// countdown is a context that is cancelled when its error is asked for the n-th time.
type countdown struct {
	context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	left   int
}

func newCountdown(ctx context.Context, n int) *countdown {
	ctx, cancel := context.WithCancel(ctx)
	return &countdown{Context: ctx, cancel: cancel, left: n}
}

// Err counts down.
func (c *countdown) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.cancel()
	}
	return c.Context.Err()
}
