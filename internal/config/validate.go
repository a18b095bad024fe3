package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Names are the names that other packages give meaning to. An empty list is not checked.
type Names struct {
	Models  []string // allowed values of model.name
	Losses  []string // allowed values of loss.name
	Metrics []string // allowed values of train.monitor
}

// of returns the names that the key may have.
func (n Names) of(key string) []string {
	switch key {
	case "model.name":
		return n.Models
	case "loss.name":
		return n.Losses
	case "train.monitor":
		return n.Metrics
	}
	return nil
}

// Validate checks a whole configuration: every value, how values go together, and the names against known.
// Its error is of type Problems.
func Validate(c *Config, known Names) error {
	var ps Problems
	bad := map[string]bool{}
	for _, f := range tree().leaves() {
		if v := f.value(c); v != nil && f.doc.rule != nil && !f.doc.rule.ok(v) {
			bad[f.key] = true
			ps = append(ps, Problem{Key: f.key, Text: fmt.Sprintf("got %v, allowed: %s", v, f.allowed())})
		}
	}
next:
	for _, p := range append(checkNames(c, known), crossCheck(c)...) {
		for _, k := range p.keys {
			if bad[k] {
				continue next
			}
		}
		ps = append(ps, p.Problem)
	}
	return ps.err()
}

// crossProblem is a problem of several keys; it is reported where the first of them was set, and only when
// each of them is right by itself.
type crossProblem struct {
	Problem
	keys []string
}

func checkNames(c *Config, known Names) []crossProblem {
	var out []crossProblem
	check := func(key, what, name string, names []string) {
		if len(names) == 0 || oneOf(names...).ok(name) {
			return
		}
		out = append(out, crossProblem{keys: []string{key}, Problem: Problem{
			Key:  key,
			Text: fmt.Sprintf("%q is no %s, allowed: %s%s", name, what, strings.Join(names, ", "), DidYouMean(name, names)),
		}})
	}
	check("model.name", "known model", c.Model.Name, known.Models)
	check("loss.name", "known loss", c.Loss.Name, known.Losses)
	check("train.monitor", "known metric", c.Train.Monitor, known.Metrics)
	return out
}

// crossCheck finds values that do not go together. Every problem names all keys that it looked at, the one to
// change first.
func crossCheck(c *Config) []crossProblem {
	var out []crossProblem
	report := func(keys []string, format string, args ...any) {
		out = append(out, crossProblem{keys: keys, Problem: Problem{Key: keys[0], Text: fmt.Sprintf(format, args...)}})
	}

	labels := len(c.Data.Labels)
	isTable := c.Data.Format == "table" ||
		c.Data.Format == "auto" && c.Data.Table != "" && !strings.EqualFold(filepath.Ext(c.Data.Table), ".npz")
	dataKeys := []string{"data.labels", "data.task", "data.format", "data.table"}
	switch c.Data.Task {
	case "binary":
		if labels > 1 {
			report(dataKeys, "%d labels are given, allowed: exactly one for data.task binary (multilabel takes several)", labels)
		} else if labels == 0 && isTable {
			report(dataKeys, "no label is given, allowed: exactly one label column for data.task binary")
		}
	case "multilabel":
		// A CSV whose format is auto may be CT-RATE's, which brings its labels.
		if labels == 0 && c.Data.Format == "table" {
			report(dataKeys, "no label is given, allowed: one or more label columns for data.task multilabel")
		}
	case "multiclass":
		if c.Data.Format == "ctrate" {
			report([]string{"data.task", "data.format"}, "CT-RATE has several findings a scan, allowed: multilabel, or binary with one label")
			break
		}
		if labels == 1 || labels == 0 && isTable {
			report(dataKeys, "%d class names are given, allowed: two or more for data.task multiclass", labels)
		}
		if c.Data.LabelColumn == "" && isTable {
			report(append([]string{"data.label_column"}, dataKeys[1:]...), "is empty, allowed: the column that holds the class, for data.task multiclass")
		}
	}
	if (c.Data.Index == "") != (c.Data.JoinKey == "") {
		report([]string{"data.index", "data.join_key"}, "goes together with data.join_key: one of them is empty")
	}
	if c.Data.Fold > 0 && c.Data.SplitFile == "" {
		report([]string{"data.fold", "data.split_file"}, "got %d, allowed: 0 without a data.split_file, which has the folds", c.Data.Fold)
	}
	if c.Data.LabelColumn != "" && c.Data.Task != "multiclass" {
		report([]string{"data.label_column", "data.task"}, "is only for data.task multiclass; name the columns in data.labels")
	}

	if n := len(c.Loss.PosWeight.Values); n > 0 || c.Loss.PosWeight.Auto {
		want := labels
		if c.Data.Task == "binary" {
			want = 1
		}
		keys := []string{"loss.pos_weight", "data.labels", "data.task"}
		if c.Data.Task == "multiclass" {
			report(keys, "is not for data.task multiclass; use loss.class_weight")
		} else if want > 0 && n != want && !c.Loss.PosWeight.Auto {
			report(keys, "has length %d, allowed: one number for each of the %d labels", n, want)
		}
	}
	if n := len(c.Loss.ClassWeight); n > 0 {
		keys := []string{"loss.class_weight", "data.labels", "data.task"}
		if c.Data.Task != "multiclass" {
			report(keys, "is only for data.task multiclass; use loss.pos_weight")
		} else if labels > 0 && n != labels {
			report(keys, "has length %d, allowed: one number for each of the %d classes", n, labels)
		}
	}

	if m := c.Model; m.Pretrained == "" && (m.PretrainedInflate || m.PretrainedInterpolate || m.PretrainedShapeDHW != [3]int{}) {
		report([]string{"model.pretrained", "model.pretrained_inflate", "model.pretrained_interpolate", "model.pretrained_shape_dhw"},
			"is empty, but other model.pretrained_ keys are set: name the file of weights, or remove them")
	}

	for i, axis := range []string{"d", "h", "w"} {
		if p := c.Data.Augment.FlipP[i]; p > 0 && slices.Contains(c.Data.Flip, axis) {
			report([]string{"data.augment.flip_p", "data.flip"}, "got %s for %s, which data.flip names too: use one of them", number(p), axis)
		}
	}
	if e := c.Data.Augment.Elastic; e.P > 0 && e.Displacement[1] > e.GridVoxels/4 {
		report([]string{"data.augment.elastic.displacement", "data.augment.elastic.grid_voxels", "data.augment.elastic.p"},
			"got up to %s voxels, allowed: at most a quarter of grid_voxels (%s), beyond which space folds", number(e.Displacement[1]), number(e.GridVoxels/4))
	}
	if p := c.Preprocess; p.Recipe == "ct_rate_classifier" && (p.SpacingMM.Keep || p.Orientation != "LPS" || p.Intensity != "window" || len(p.HUWindows) > 0) {
		report([]string{"preprocess.recipe", "preprocess.spacing_mm", "preprocess.orientation", "preprocess.intensity", "preprocess.hu_windows"},
			"is ct_rate_classifier, which needs a spacing_mm (1, 1, 1 there), orientation LPS, and intensity window with hu_window")
	}
	if p := c.Preprocess; len(p.HUWindows) > 0 && p.Intensity != "window" {
		report([]string{"preprocess.hu_windows", "preprocess.intensity"}, "is for intensity window, not %s", p.Intensity)
	}

	s := c.Train.Schedule
	if s.WarmupSteps > 0 && s.Name == "one_cycle" {
		report([]string{"train.schedule.warmup_steps", "train.schedule.name"}, "got %d, allowed: 0 for one_cycle, which rises by itself (pct_start)", s.WarmupSteps)
	}
	if (s.Name == "multistep") != (len(s.Milestones) > 0) {
		text := "is empty, allowed: the epochs after which the rate falls, for train.schedule.name multistep"
		if len(s.Milestones) > 0 {
			text = "is only for train.schedule.name multistep"
		}
		report([]string{"train.schedule.milestones", "train.schedule.name"}, "%s", text)
	}
	if s.MinLR > 0 && s.Name != "cosine" && s.Name != "plateau" {
		report([]string{"train.schedule.min_lr", "train.schedule.name"}, "got %s, allowed: 0 for %s, which has no use for it", number(s.MinLR), s.Name)
	} else if s.MinLR > c.Train.Optimizer.LR {
		report([]string{"train.schedule.min_lr", "train.optimizer.lr"}, "got %s, allowed: at most train.optimizer.lr (%s)", number(s.MinLR), number(c.Train.Optimizer.LR))
	}
	return out
}
