package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var testNames = Names{Models: []string{"resnet18_3d", "resnet34_3d", "densenet121_3d"}, Losses: []string{"focal", "bce"}}

// write puts files into a new folder and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDefaultIsValid(t *testing.T) {
	c, err := Load("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := Default(); !reflect.DeepEqual(*c, want) {
		t.Errorf("nothing loaded gives\n%+v\nwant the default\n%+v", *c, want)
	}
	if err := Validate(c, Names{}); err != nil {
		t.Error(err)
	}
	if c.Train.Optimizer.LR != 1e-3 || c.Preprocess.HUWindow != [2]float64{-1000, 400} || !c.Train.DropLast || c.Loss.Gamma != 2 {
		t.Errorf("unexpected defaults: %+v", c)
	}
}

func TestPrecedence(t *testing.T) {
	dir := write(t, map[string]string{
		"base/a.yaml":   "train: {epochs: 2, batch_size: 2, seed: 2, accumulate: 2, threads: 2}\nmodel: {options: {k: 2, deep: {x: 2, y: 2}}}\n",
		"base/b.yaml":   "include: ../deep.yaml\ntrain: {batch_size: 3}\n",
		"deep.yaml":     "train: {accumulate: 9}\n",
		"main.yaml":     "include: [base/a.yaml, base/b.yaml]\ntrain:\n  seed: 4\n  threads: 4\nmodel:\n  options:\n    deep: {y: 4}\n    CamelCase: yes\n",
		"reset.yaml":    "include: main.yaml\nmodel: {options: null, dropout: null}\n",
		"dropout.yaml":  "model: {dropout: 0.5}\n",
		"dropout2.yaml": "include: dropout.yaml\nmodel: {dropout: null}\n",
	})
	c, err := Load(filepath.Join(dir, "main.yaml"),
		[]string{"train.threads=6", "model.options.deep.x=6", "data.flip=d,w", "data.root=a: b"},
		[]string{"CTCLASS_TRAIN_SEED=5", "CTCLASS_TRAIN_THREADS=5", "CTCLASS_MODEL_OPTIONS_K=5", "CTCLASS_TESTDATA=/x", "CTCLASS_DEBUG=1", "HOME=/"})
	if err != nil {
		t.Fatal(err)
	}
	tr := c.Train
	if got, want := []int{tr.Epochs, tr.BatchSize, int(tr.Seed), tr.Accumulate, tr.Threads}, []int{2, 3, 5, 9, 6}; !reflect.DeepEqual(got, want) {
		t.Errorf("epochs, batch, seed, accumulate, threads = %v, want %v", got, want)
	}
	wantOpts := map[string]any{"k": 5, "deep": map[string]any{"x": 6, "y": 4}, "CamelCase": "yes"}
	if !reflect.DeepEqual(c.Model.Options, wantOpts) {
		t.Errorf("options = %v, want %v", c.Model.Options, wantOpts)
	}
	if !reflect.DeepEqual(c.Data.Flip, []string{"d", "w"}) || c.Data.Root != "a: b" {
		t.Errorf("flip %q, root %q", c.Data.Flip, c.Data.Root)
	}
	if c, err = Load(filepath.Join(dir, "reset.yaml"), nil, nil); err != nil || c.Model.Options != nil {
		t.Errorf("null should drop the included options: %v, %v", c, err)
	}
	c, err = Load(filepath.Join(dir, "reset.yaml"), []string{"model.options={a: 1, b: 2}", "model.options.a=null"}, nil)
	if err != nil || len(c.Model.Options) != 1 || c.Model.Options["b"] != 2 {
		t.Errorf("null for one option: %v, %v", c.Model.Options, err)
	}
	if c, err = Load(filepath.Join(dir, "dropout2.yaml"), nil, nil); err != nil || c.Model.Dropout != nil {
		t.Errorf("null should drop the included dropout: %v, %v", c, err)
	}
	if c, err = Load(filepath.Join(dir, "dropout.yaml"), nil, nil); err != nil || c.Model.Dropout == nil || *c.Model.Dropout != 0.5 {
		t.Errorf("dropout: %v, %v", c, err)
	}
}

func TestValues(t *testing.T) {
	dir := write(t, map[string]string{"c.yaml": `
data: {table: t.csv, labels: [Nodule, "null", MixedCase], task: multilabel, flip: []}
preprocess: {spacing_mm: [3, 0.75, 0.75], shape_dhw: [8, 9, 10], hu_window: [-150, 250]}
train: {seed: 18446744073709551615, optimizer: {lr: 1, betas: [0.5, 0.25]}}
model: {use_checkpointing: true}
loss: {pos_weight: [1, 2.5, 3]}
memory: {budget: 8GiB}
output:
`})
	c, err := Load(filepath.Join(dir, "c.yaml"), []string{"preprocess.scale_to=[-1, 1]", "data.labels=[a, 'b, c', d]", "train.optimizer={eps: 1e-6}"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Data.Table, want.Data.Task, want.Data.Labels = "t.csv", "multilabel", []string{"a", "b, c", "d"}
	want.Preprocess.SpacingMM = Spacing{MM: [3]float64{3, 0.75, 0.75}}
	want.Preprocess.ShapeDHW, want.Preprocess.HUWindow, want.Preprocess.ScaleTo = [3]int{8, 9, 10}, [2]float64{-150, 250}, [2]float64{-1, 1}
	want.Train.Seed, want.Train.Optimizer.LR, want.Train.Optimizer.Betas, want.Train.Optimizer.Eps = 1<<64-1, 1, [2]float64{0.5, 0.25}, 1e-6
	want.Model.UseCheckpointing = ptr(true)
	want.Loss.PosWeight, want.Memory.Budget = PosWeight{Values: []float64{1, 2.5, 3}}, "8GiB"
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("got\n%+v\nwant\n%+v", *c, want)
	}
}

// TestProblems checks the exact lines, because people and scripts read them. $ stands for the folder.
func TestProblems(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string // c.yaml is loaded
		sets  []string
		env   []string
		want  []string
	}{
		{
			name: "all at once",
			files: map[string]string{"c.yaml": "train:\n  epoch: 3\n  batch_size: many\n  optimizer:\n    lr: 0\n" +
				"preprocess:\n  hu_window: [400, -1000]\n  shape_dhw: [64, 0, 64]\n  orientation: RAS\nmodel:\n  name: resnet18\n" +
				"epochs: 4\nwhatever_this_is: 1\n"},
			want: []string{
				`$/c.yaml:2: unknown key "train.epoch"; did you mean "train.epochs"?`,
				`$/c.yaml:3: train.batch_size: got "many", allowed: a whole number from 1 to 65536`,
				`$/c.yaml:5: train.optimizer.lr: got 0, allowed: a number above 0`,
				`$/c.yaml:7: preprocess.hu_window: got [400, -1000], allowed: two numbers, the first below the second`,
				`$/c.yaml:8: preprocess.shape_dhw: got [64, 0, 64], allowed: a list of 3 whole numbers, each a whole number from 1 to 4096`,
				`$/c.yaml:9: preprocess.orientation: got "RAS", allowed: LPS, stored`,
				`$/c.yaml:12: unknown key "epochs"; did you mean "train.epochs"?`,
				`$/c.yaml:13: unknown key "whatever_this_is"`,
				`$/c.yaml:11: model.name: "resnet18" is no known model, allowed: resnet18_3d, resnet34_3d, densenet121_3d; did you mean "resnet18_3d"?`,
			},
		},
		{
			name:  "near words and quotes",
			files: map[string]string{"c.yaml": "data:\n  task: multilable\n  labels: [1, two]\n  flip: [d, x]\ntrain:\n  drop_last: yes\nmodel:\n  dropout: 1\n"},
			want: []string{
				`$/c.yaml:2: data.task: got "multilable", allowed: binary, multilabel, multiclass; did you mean "multilabel"?`,
				`$/c.yaml:3: data.labels: got [1, "two"], allowed: a list of texts, each text that is not empty, none twice; write text that looks like something else in quotes`,
				`$/c.yaml:4: data.flip: got ["d", "x"], allowed: a list of d, h, w, none twice; did you mean "d"?`,
				`$/c.yaml:6: train.drop_last: got "yes", allowed: true or false`,
				`$/c.yaml:8: model.dropout: got 1, allowed: a number between 0 and 1, 0 included, or null`,
			},
		},
		{
			name:  "keys are case sensitive and unique",
			files: map[string]string{"c.yaml": "Train: {epochs: 1}\ntrain:\n  epochs: 1\n  epochs: 2\n  seed: 1\ntrain:\n  seed: 2\n"},
			want: []string{
				`$/c.yaml:1: unknown key "Train"; did you mean "train"?`,
				`$/c.yaml:4: key "train.epochs" is set twice; the first is in line 3`,
				`$/c.yaml:6: key "train" is set twice; the first is in line 2`,
			},
		},
		{
			name:  "options",
			files: map[string]string{"c.yaml": "model:\n  options:\n    growth: 1\n    growth: 2\n    3: x\n"},
			want: []string{
				`$/c.yaml:4: key "model.options.growth" is set twice; the first is in line 3`,
				`$/c.yaml:5: model.options: a key must be plain text, got 3`,
			},
		},
		{
			name:  "sections and null",
			files: map[string]string{"c.yaml": "train: 3\ndata: [1]\nloss:\n  alpha:\n  gamma: 0.5\npreprocess:\n  spacing_mm: [1, 0, 1]\n"},
			want: []string{
				`$/c.yaml:1: train: got 3, allowed: a mapping with the keys epochs, batch_size, accumulate, drop_last, sampler, mixup, seed, threads, kernels, precision, optimizer, layer_decay, schedule, clip_norm, ema, on_nan, early_stop, monitor, validate_every, save_every_minutes, freeze`,
				`$/c.yaml:2: data: got [1], allowed: a mapping with the keys format, table, root, index, join_key, metadata, task, labels, label_column, path_column, series_column, group_column, group_pattern, split_column, split_file, fold, val_fraction, fraction, flip, workers, on_error, strict, cache, augment`,
				`$/c.yaml:4: loss.alpha: got nothing, allowed: a number above 0`,
				`$/c.yaml:5: loss.gamma: got 0.5, allowed: 0, or a number of at least 1`,
				`$/c.yaml:7: preprocess.spacing_mm: got [1, 0, 1], allowed: keep, or three numbers above 0 for d, h, w`,
			},
		},
		{
			name:  "syntax",
			files: map[string]string{"c.yaml": "train:\n  epochs: [1\nmodel: {}\n"},
			want:  []string{`$/c.yaml:2: not valid YAML: did not find expected ',' or ']'`},
		},
		{
			name:  "two documents",
			files: map[string]string{"c.yaml": "train: {}\n---\nmodel: {}\n"},
			want:  []string{`$/c.yaml:2: not valid YAML: a second document starts here; a configuration is one document`},
		},
		{
			name:  "include cycle",
			files: map[string]string{"c.yaml": "include: sub/d.yaml\n", "sub/d.yaml": "\ninclude: ../c.yaml\n"},
			want:  []string{`$/sub/d.yaml:2: include: $/c.yaml includes itself ($/c.yaml > $/sub/d.yaml > $/c.yaml)`},
		},
		{
			name:  "include",
			files: map[string]string{"c.yaml": "include: [3, none.yaml, d.yaml]\n", "d.yaml": "modle: {}\n"},
			want: []string{
				`$/c.yaml:1: include: got 3, allowed: the path of a file, or a list of paths`,
				`$/c.yaml:1: include: cannot be read: open $/none.yaml: no such file or directory`,
				`$/d.yaml:1: unknown key "modle"; did you mean "model"?`,
			},
		},
		{
			name: "set",
			sets: []string{"train.epochs=0", "train.epoch=1", "novalue", "train.seed=-1", "model.optons.x=1", "data.val_fraction=[", "memory.budget=500%"},
			want: []string{
				`--set train.epochs=0: train.epochs: got 0, allowed: a whole number from 1 to 1000000`,
				`--set train.epoch=1: unknown key "train.epoch"; did you mean "train.epochs"?`,
				`--set novalue: write --set key=value, such as --set train.epochs=5`,
				`--set train.seed=-1: train.seed: got -1, allowed: a whole number of at least 0`,
				`--set model.optons.x=1: unknown key "model.optons.x"; did you mean "model.options"?`,
				`--set data.val_fraction=[: data.val_fraction: "[" is not valid YAML: did not find expected node content`,
				`--set memory.budget=500%: memory.budget: got "500%", allowed: a size such as 8GiB, 512MB or 1.5GiB (units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB); a share of what is available such as 50%; auto; or none`,
			},
		},
		{
			name: "environment",
			env:  []string{"CTCLASS_TRAIN_EPOCH=3", "CTCLASS_TRIAN_SEED=3", "CTCLASS_TRAIN_SEED=x", "CTCLASS_GOLDENS=/x"},
			want: []string{
				`environment CTCLASS_TRAIN_EPOCH: sets no key of the configuration; did you mean "CTCLASS_TRAIN_EPOCHS"?`,
				`environment CTCLASS_TRAIN_SEED: train.seed: got "x", allowed: a whole number of at least 0`,
				`environment CTCLASS_TRIAN_SEED: sets no key of the configuration; did you mean "CTCLASS_TRAIN_SEED"?`,
			},
		},
		{
			name: "keys that do not go together",
			files: map[string]string{"c.yaml": "data:\n  table: t.csv\n  labels: [a, b]\n  label_column: c\nloss:\n  class_weight: [1]\n" +
				"train:\n  schedule: {name: one_cycle, warmup_steps: 5, min_lr: 1e-6}\n"},
			want: []string{
				`$/c.yaml:3: data.labels: 2 labels are given, allowed: exactly one for data.task binary (multilabel takes several)`,
				`$/c.yaml:4: data.label_column: is only for data.task multiclass; name the columns in data.labels`,
				`$/c.yaml:6: loss.class_weight: is only for data.task multiclass; use loss.pos_weight`,
				`$/c.yaml:8: train.schedule.warmup_steps: got 5, allowed: 0 for one_cycle, which rises by itself (pct_start)`,
				`$/c.yaml:8: train.schedule.min_lr: got 1e-06, allowed: 0 for one_cycle, which has no use for it`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, path := write(t, tt.files), ""
			if tt.files != nil {
				path = filepath.Join(dir, "c.yaml")
			}
			c, err := Source{Path: path, Sets: tt.sets, Environ: tt.env, Known: testNames}.Load()
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("got %v, %v, want problems", c, err)
			}
			got := strings.ReplaceAll(filepath.ToSlash(err.Error()), filepath.ToSlash(dir), "$")
			if want := strings.Join(tt.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestCrossCheck(t *testing.T) {
	tests := []struct {
		name string
		sets []string
		key  string // of the only problem; empty: none
	}{
		{"no data set", nil, ""},
		{"binary without a label", []string{"data.table=t.csv"}, "data.labels"},
		{"binary", []string{"data.table=t.csv", "data.labels=a"}, ""},
		{"binary npz", []string{"data.table=t.npz"}, ""},
		{"binary npz, format given", []string{"data.table=t.npz", "data.format=medmnist"}, ""},
		{"multilabel without labels may be CT-RATE", []string{"data.table=t.csv", "data.task=multilabel"}, ""},
		{"multilabel table", []string{"data.table=t.csv", "data.task=multilabel", "data.format=table"}, "data.labels"},
		{"multiclass", []string{"data.table=t.csv", "data.task=multiclass", "data.labels=a,b", "data.label_column=c"}, ""},
		{"multiclass without column", []string{"data.table=t.csv", "data.task=multiclass", "data.labels=a,b"}, "data.label_column"},
		{"multiclass of one", []string{"data.table=t.csv", "data.task=multiclass", "data.labels=a", "data.label_column=c"}, "data.labels"},
		{"multiclass npz", []string{"data.table=t.npz", "data.task=multiclass"}, ""},
		{"multiclass CT-RATE", []string{"data.format=ctrate", "data.task=multiclass"}, "data.task"},
		{"pos_weight", []string{"data.labels=a", "loss.pos_weight=2"}, ""},
		{"pos_weight length", []string{"data.labels=a", "loss.pos_weight=2,3"}, "loss.pos_weight"},
		{"pos_weight of a binary set with its own label", []string{"data.table=t.npz", "loss.pos_weight=2,3"}, "loss.pos_weight"},
		{"pos_weight multilabel", []string{"data.task=multilabel", "data.labels=a,b,c", "loss.pos_weight=[1,2]"}, "loss.pos_weight"},
		{"pos_weight auto", []string{"data.labels=a", "loss.pos_weight=auto"}, ""},
		{"pos_weight another word", []string{"data.labels=a", "loss.pos_weight=automatic"}, "loss.pos_weight"},
		{"pos_weight of 0", []string{"data.labels=a", "loss.pos_weight=0"}, "loss.pos_weight"},
		{"pos_weight auto multiclass", []string{"data.task=multiclass", "data.labels=a,b", "loss.pos_weight=auto"}, "loss.pos_weight"},
		{"pos_weight multiclass", []string{"data.task=multiclass", "data.labels=a,b", "loss.pos_weight=[1,2]"}, "loss.pos_weight"},
		{"class_weight", []string{"data.task=multiclass", "data.labels=a,b", "loss.class_weight=[1,2]"}, ""},
		{"class_weight length", []string{"data.task=multiclass", "data.labels=a,b", "loss.class_weight=[1,2,3]"}, "loss.class_weight"},
		{"min_lr", []string{"train.schedule.min_lr=1e-4"}, ""},
		{"min_lr above lr", []string{"train.schedule.min_lr=0.1"}, "train.schedule.min_lr"},
		{"warm-up", []string{"train.schedule.warmup_steps=10", "train.schedule.name=constant"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load("", tt.sets, nil)
			var ps Problems
			switch {
			case tt.key == "" && err != nil:
				t.Errorf("unexpected: %v", err)
			case tt.key != "" && (!errors.As(err, &ps) || len(ps) != 1 || ps[0].Key != tt.key):
				t.Errorf("got %v, want one problem of %s", err, tt.key)
			}
		})
	}
}

func TestValidateInCode(t *testing.T) {
	c := Default()
	c.Train.Epochs, c.Model.Name, c.Model.Dropout, c.Preprocess.SpacingMM = 0, "vit", ptr(2.0), Spacing{}
	err := Validate(&c, testNames)
	want := `model.dropout: got 2, allowed: a number between 0 and 1, 0 included, or null
preprocess.spacing_mm: got {false [0 0 0]}, allowed: keep, or three numbers above 0 for d, h, w
train.epochs: got 0, allowed: a whole number from 1 to 1000000
model.name: "vit" is no known model, allowed: resnet18_3d, resnet34_3d, densenet121_3d`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := Default()
		text := rapid.StringMatching(`[ -~äß€]{1,12}`)
		c.Model.Options = map[string]any{rapid.StringMatching(`[A-Za-z_]{1,8}`).Draw(rt, "option"): rapid.SampledFrom([]any{1, 0.25, "yes", true, []any{1, "x"}, map[string]any{"a": 1}}).Draw(rt, "value")}
		if rapid.Bool().Draw(rt, "pointers") {
			c.Model.UseCheckpointing, c.Model.Dropout = ptr(rapid.Bool().Draw(rt, "cp")), ptr(rapid.Float64Range(0, 0.999).Draw(rt, "dropout"))
		}
		c.Data.Task = "multilabel"
		c.Data.Labels = rapid.SliceOfNDistinct(text.Filter(func(s string) bool { return strings.TrimSpace(s) != "" }), 1, 4, rapid.ID[string]).Draw(rt, "labels")
		c.Data.Root = text.Draw(rt, "root")
		if rapid.Bool().Draw(rt, "resample") {
			c.Preprocess.SpacingMM = Spacing{MM: [3]float64{rapid.Float64Range(1e-9, 1e9).Draw(rt, "d"), 0.1, 1}}
		}
		c.Loss.PosWeight = rapid.SampledFrom([]PosWeight{{}, {Auto: true}, {Values: []float64{0.5, 3}}}).Draw(rt, "pos_weight")
		if n := len(c.Loss.PosWeight.Values); n > 0 && n != len(c.Data.Labels) {
			c.Loss.PosWeight = PosWeight{}
		}
		c.Train.Seed = rapid.Uint64().Draw(rt, "seed")
		c.Train.Optimizer.LR = rapid.Float64Range(1e-300, 1e300).Draw(rt, "lr")
		c.Memory.Budget = rapid.SampledFrom([]string{"", "8GiB", "1.5 GB", "50%", "auto"}).Draw(rt, "budget")

		out, err := Marshal(&c)
		if err != nil {
			rt.Fatal(err)
		}
		dir, err := os.MkdirTemp("", "roundtrip")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "c.yaml")
		if err := os.WriteFile(path, out, 0o644); err != nil {
			rt.Fatal(err)
		}
		back, err := Load(path, nil, nil)
		if err != nil {
			rt.Fatalf("%v\n%s", err, out)
		}
		if !reflect.DeepEqual(*back, c) {
			rt.Fatalf("got\n%+v\nwant\n%+v\nfrom\n%s", *back, c, out)
		}
	})
}

// TestAnyTextIsSafe feeds arbitrary text, and fragments of configurations, to the loader.
func TestAnyTextIsSafe(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	piece := rapid.SampledFrom([]string{"train", ": ", "\n", "  ", "&a ", "*a", "[", "]", "{", "}", "- ", "<<", "!!int ", "epochs", "model", "options", "null", "1", ".nan", "'", "include", "~", ", ", "\t", "\x00", "\xff"})
	rapid.Check(t, func(rt *rapid.T) {
		text := strings.Join(rapid.SliceOfN(piece, 0, 30).Draw(rt, "pieces"), "")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			rt.Fatal(err)
		}
		if c, err := Load(path, nil, nil); err == nil {
			if err := Validate(c, Names{}); err != nil {
				rt.Fatalf("%q loads but is not valid: %v", text, err)
			}
		} else if _, isProblem := err.(Problems); !isProblem {
			rt.Fatalf("%q: %v", text, err)
		}
	})
}

func TestAliases(t *testing.T) {
	dir := write(t, map[string]string{
		"ok.yaml":  "preprocess: {scale_to: &w [0, 2], hu_window: *w}\n",
		"rec.yaml": "preprocess: {scale_to: &w [*w, *w]}\nmodel: {options: &o {a: *o}}\n",
	})
	c, err := Load(filepath.Join(dir, "ok.yaml"), nil, nil)
	if err != nil || c.Preprocess.HUWindow != [2]float64{0, 2} {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := Load(filepath.Join(dir, "rec.yaml"), nil, nil); err == nil {
		t.Error("a value that contains itself was accepted")
	}
}
