package losses

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"pgregory.net/rapid"
)

func weights(w ...float64) config.PosWeight { return config.PosWeight{Values: w} }

// elementLosses lists settings of the losses of single logits, for five labels where weights are per label.
func elementLosses() map[string]config.Loss {
	return map[string]config.Loss{
		"bce":                   {Name: "bce"},
		"bce pos_weight":        {Name: "bce", PosWeight: weights(0.5, 1, 3, 10, 2)},
		"focal 0":               {Name: "focal", Alpha: 0.7},
		"focal 1":               {Name: "focal", Alpha: 1, Gamma: 1},
		"focal 1.5":             {Name: "focal", Alpha: 0.25, Gamma: 1.5},
		"focal 2":               {Name: "focal", Alpha: 1, Gamma: 2},
		"focal 5":               {Name: "focal", Alpha: 1, Gamma: 5},
		"focal balanced":        {Name: "focal_balanced", Alpha: 0.25, Gamma: 2},
		"asymmetric clip":       {Name: "asymmetric", GammaPos: 1, GammaNeg: 4, Clip: 0.05},
		"asymmetric only clip":  {Name: "asymmetric", Clip: 0.05},
		"asymmetric no clip":    {Name: "asymmetric", GammaPos: 2, GammaNeg: 1.5},
		"asymmetric all 1":      {Name: "asymmetric", GammaPos: 1, GammaNeg: 1},
		"asymmetric no gammas":  {Name: "asymmetric"},
		"asymmetric large clip": {Name: "asymmetric", GammaPos: 1, GammaNeg: 4, Clip: 0.7},
	}
}

// classLosses lists settings of the losses of classes, for three classes.
func classLosses() map[string]config.Loss {
	w := []float64{1, 2, 0.5}
	return map[string]config.Loss{
		"cross-entropy":         {Name: "cross_entropy"},
		"weights and smoothing": {Name: "cross_entropy", ClassWeight: w, LabelSmoothing: 0.1},
		"focal 0":               {Name: "focal_softmax"},
		"focal 1":               {Name: "focal_softmax", Gamma: 1, ClassWeight: w},
		"focal 2":               {Name: "focal_softmax", Gamma: 2},
	}
}

func mustNew(t testing.TB, c config.Loss, task string, classes int) Loss {
	t.Helper()
	l, err := New(c, task, classes)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestFormulas compares each loss with its plain formula at a moderate logit.
func TestFormulas(t *testing.T) {
	const z = 0.7
	p := 1 / (1 + math.Exp(-z))
	for _, c := range []struct {
		name string
		loss config.Loss
		y    float64
		want float64
	}{
		{"bce positive", config.Loss{Name: "bce"}, 1, -math.Log(p)},
		{"bce soft", config.Loss{Name: "bce"}, 0.25, -0.25*math.Log(p) - 0.75*math.Log(1-p)},
		{"bce weighted", config.Loss{Name: "bce", PosWeight: weights(3)}, 1, -3 * math.Log(p)},
		{"bce weighted negative", config.Loss{Name: "bce", PosWeight: weights(3)}, 0, -math.Log(1 - p)},
		{"focal positive", config.Loss{Name: "focal", Alpha: 0.3, Gamma: 2}, 1, -0.3 * (1 - p) * (1 - p) * math.Log(p)},
		{"focal negative", config.Loss{Name: "focal", Alpha: 0.3, Gamma: 2}, 0, -0.3 * p * p * math.Log(1-p)},
		{"balanced positive", config.Loss{Name: "focal_balanced", Alpha: 0.3, Gamma: 2}, 1, -0.3 * (1 - p) * (1 - p) * math.Log(p)},
		{"balanced negative", config.Loss{Name: "focal_balanced", Alpha: 0.3, Gamma: 2}, 0, -0.7 * p * p * math.Log(1-p)},
		{"asymmetric positive", config.Loss{Name: "asymmetric", GammaPos: 1, GammaNeg: 4, Clip: 0.05}, 1, -(1 - p) * math.Log(p)},
		{"asymmetric negative", config.Loss{Name: "asymmetric", GammaPos: 1, GammaNeg: 4, Clip: 0.05}, 0, -math.Pow(p-0.05, 4) * math.Log(1-p+0.05)},
		{"asymmetric easy negative", config.Loss{Name: "asymmetric", GammaPos: 1, GammaNeg: 4, Clip: 0.7}, 0, 0},
		{"asymmetric no clip", config.Loss{Name: "asymmetric", GammaPos: 1, GammaNeg: 2}, 0, -p * p * math.Log(1-p)},
	} {
		got := mustNew(t, c.loss, "binary", 1).Row([]float64{z}, []float64{c.y}, nil)
		if math.Abs(got-c.want) > 1e-14 {
			t.Errorf("%s: %.16g, want %.16g", c.name, got, c.want)
		}
	}

	x := []float64{0.2, -1, 1.5}
	sum := math.Exp(0.2) + math.Exp(-1) + math.Exp(1.5)
	focal := mustNew(t, config.Loss{Name: "focal_softmax", Gamma: 2, ClassWeight: []float64{4, 4, 4}}, "multiclass", 3)
	for y := range x {
		p := math.Exp(x[y]) / sum
		want := -4 * (1 - p) * (1 - p) * math.Log(p)
		if got := focal.Row(x, []float64{float64(y)}, nil); math.Abs(got-want) > 1e-14 {
			t.Errorf("focal_softmax of class %d: %.16g, want %.16g", y, got, want)
		}
	}
}

// checkGradient compares Row's gradient with central differences of its value.
func checkGradient(t *rapid.T, l Loss, x, targets []float64) {
	const step = 1e-5
	grad := make([]float64, len(x))
	for i := range grad {
		grad[i] = math.NaN() // every element must be written
	}
	if a, b := l.Row(x, targets, grad), l.Row(x, targets, nil); a != b {
		t.Fatalf("the value is %g with the gradient, %g without", a, b)
	}
	for i, kept := range x {
		x[i] = kept + step
		up := l.Row(x, targets, nil)
		x[i] = kept - step
		down := l.Row(x, targets, nil)
		x[i] = kept
		if d := (up - down) / (2 * step); !(math.Abs(d-grad[i]) <= 1e-7*(1+math.Abs(d))) {
			t.Fatalf("logits %v, targets %v: gradient %d is %.12g, central difference %.12g", x, targets, i, grad[i], d)
		}
	}
}

func TestElementGradients(t *testing.T) {
	for name, c := range elementLosses() {
		l := mustNew(t, c, "multilabel", 5)
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				x, targets := make([]float64, 5), make([]float64, 5)
				for i := range x {
					x[i] = rapid.Float64Range(-6, 6).Draw(t, "logit")
					if c.Clip > 0 && math.Abs(x[i]-math.Log(c.Clip/(1-c.Clip))) < 1e-3 {
						x[i] += 0.01 // off the kink of the clip
					}
					targets[i] = rapid.SampledFrom([]float64{0, 1, 0.3, -1, math.NaN()}).Draw(t, "target")
				}
				checkGradient(t, l, x, targets)
			})
		})
	}
}

func TestClassGradients(t *testing.T) {
	for name, c := range classLosses() {
		l := mustNew(t, c, "multiclass", 3)
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				x := rapid.SliceOfN(rapid.Float64Range(-6, 6), 3, 3).Draw(t, "logits")
				checkGradient(t, l, x, []float64{rapid.SampledFrom([]float64{0, 1, 2, -1, math.NaN()}).Draw(t, "class")})
			})
		})
	}
}

// TestExtremeLogits: values and gradients stay finite for every loss and target far beyond what a float32
// exponential holds, and a confident error keeps its pull: only a clip bounds the loss of a negative.
func TestExtremeLogits(t *testing.T) {
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	logits := []float64{-1e4, -800, -100, -40, 0, 40, 100, 800, 1e4}
	for name, c := range elementLosses() {
		c.PosWeight.Values = c.PosWeight.Values[:min(1, len(c.PosWeight.Values))]
		l := mustNew(t, c, "binary", 1)
		for _, z := range logits {
			for _, y := range []float64{0, 0.5, 1} {
				grad := []float64{0}
				value := l.Row([]float64{z}, []float64{y}, grad)
				if !finite(value) || !finite(grad[0]) || value < 0 {
					t.Errorf("%s at logit %g, target %g: value %g, gradient %g", name, z, y, value, grad[0])
				}
				wrong := y == 1 && z <= -100 || y == 0 && z >= 100 && c.Clip == 0
				if wrong && math.Abs(grad[0]) < 0.2 {
					t.Errorf("%s at logit %g, target %g: the gradient %g has vanished", name, z, y, grad[0])
				}
			}
		}
	}
	for name, c := range classLosses() {
		l := mustNew(t, c, "multiclass", 3)
		for _, a := range logits {
			for _, b := range logits {
				for y := range 3 {
					x, grad := []float64{a, b, 0}, make([]float64, 3)
					value := l.Row(x, []float64{float64(y)}, grad)
					if !finite(value) || value < 0 || slices.ContainsFunc(grad, func(g float64) bool { return !finite(g) }) {
						t.Errorf("%s at logits %v, class %d: value %g, gradient %v", name, x, y, value, grad)
					}
				}
			}
		}
	}
}

// TestConfidentGradients: a confident and correct answer has a tiny gradient, not a rounded-off one.
func TestConfidentGradients(t *testing.T) {
	p := math.Exp(-40) / (1 + math.Exp(-40)) // of the wrong answer
	exact := func(got, want float64) bool { return math.Abs(got-want) <= 1e-14*math.Abs(want) }
	grad := make([]float64, 2)
	mustNew(t, config.Loss{Name: "cross_entropy"}, "multiclass", 2).Row([]float64{40, 0}, []float64{0}, grad)
	if !exact(grad[0], -p) || !exact(grad[1], p) {
		t.Errorf("cross_entropy: gradient %v, want ∓%g", grad, p)
	}
	mustNew(t, config.Loss{Name: "bce"}, "multilabel", 2).Row([]float64{40, -40}, []float64{1, 0}, grad)
	if !exact(grad[0], -p) || !exact(grad[1], p) {
		t.Errorf("bce: gradient %v, want ∓%g", grad, p)
	}
	// log(1+exp(−40)) = exp(−40) to 17 digits
	focal := mustNew(t, config.Loss{Name: "focal", Alpha: 1, Gamma: 1}, "binary", 1)
	if got := focal.Row([]float64{40}, []float64{1}, nil); !exact(got, math.Exp(-80)) {
		t.Errorf("focal: %g, want %g", got, math.Exp(-80))
	}
}

// TestMissingTargets: NaN and negative targets add nothing to the loss, the gradient or the count.
func TestMissingTargets(t *testing.T) {
	nan := math.NaN()
	for name, c := range elementLosses() {
		c.PosWeight.Values = nil
		l := mustNew(t, c, "multilabel", 4)
		one := mustNew(t, c, "binary", 1)
		grad := []float64{9, 9, 9, 9}
		got := l.Row([]float64{1, 2, 3, 4}, []float64{nan, 1, -1, 0}, grad)
		want := one.Row([]float64{2}, []float64{1}, nil) + one.Row([]float64{4}, []float64{0}, nil)
		if math.Abs(got-want) > 1e-14 || want == 0 {
			t.Errorf("%s: %g, want %g", name, got, want)
		}
		if grad[0] != 0 || grad[2] != 0 || grad[1] >= 0 || grad[3] <= 0 {
			t.Errorf("%s: gradient %v, want 0 at the missing targets, − at the positive and + at the negative", name, grad)
		}
		if n := l.Count([]float32{float32(nan), 1, -1, 0}); n != 2 {
			t.Errorf("%s: counts %g targets, want 2", name, n)
		}
	}
	for name, c := range classLosses() {
		c.ClassWeight = []float64{3, 5, 7}
		l := mustNew(t, c, "multiclass", 3)
		for _, missing := range []float64{nan, -1} {
			grad := []float64{9, 9, 9}
			if v := l.Row([]float64{1, 2, 3}, []float64{missing}, grad); v != 0 || !slices.Equal(grad, []float64{0, 0, 0}) {
				t.Errorf("%s: a missing target (%g) gives %g and gradient %v", name, missing, v, grad)
			}
		}
		if n := l.Count([]float32{-1, 1, 0, float32(nan), 1}); n != 13 { // 5 + 3 + 5
			t.Errorf("%s: the weights of the valid targets sum to %g, want 13", name, n)
		}
	}
	plain := mustNew(t, config.Loss{Name: "cross_entropy"}, "multiclass", 3)
	if n := plain.Count([]float32{2, -1, 0}); n != 2 {
		t.Errorf("cross_entropy without weights counts %g targets, want 2", n)
	}
}

func TestRegistry(t *testing.T) {
	names := Names()
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			t.Errorf("%s is there twice", n)
		}
		c := config.Default().Loss
		c.Name = n
		if n == "focal_balanced" {
			c.Alpha = 0.25
		}
		task, targets := "multilabel", 3
		if n == "cross_entropy" || n == "focal_softmax" {
			task, targets = "multiclass", 1
		}
		l := mustNew(t, c, task, 3)
		if l.Name() != n || l.Targets(3) != targets {
			t.Errorf("%s: name %s, %d target columns, want %d", n, l.Name(), l.Targets(3), targets)
		}
	}

	for _, c := range []struct {
		name string
		loss config.Loss
		task string
		want string // part of the error
	}{
		{"unknown", config.Loss{Name: "dice"}, "binary", `unknown loss "dice"; there are focal, focal_balanced, bce, asymmetric, cross_entropy, focal_softmax`},
		{"empty", config.Loss{}, "binary", "unknown loss"},
		{"wrong task", config.Loss{Name: "bce"}, "multiclass", "loss.name: bce is for binary and multilabel, not for data.task multiclass"},
		{"wrong task for classes", config.Loss{Name: "cross_entropy"}, "multilabel", "cross_entropy is for multiclass"},
		{"gamma", config.Loss{Name: "focal", Alpha: 1, Gamma: 0.5}, "binary", "loss.gamma is 0.5"},
		{"negative gamma", config.Loss{Name: "focal", Alpha: 1, Gamma: -2}, "binary", "loss.gamma is -2"},
		{"gamma not a number", config.Loss{Name: "focal", Alpha: 1, Gamma: math.NaN()}, "binary", "loss.gamma is NaN"},
		{"gamma of classes", config.Loss{Name: "focal_softmax", Gamma: 0.5}, "multiclass", "loss.gamma is 0.5"},
		{"gamma_pos", config.Loss{Name: "asymmetric", GammaPos: 0.5}, "binary", "loss.gamma_pos is 0.5"},
		{"gamma_neg", config.Loss{Name: "asymmetric", GammaNeg: 0.9}, "binary", "loss.gamma_neg is 0.9"},
		{"clip", config.Loss{Name: "asymmetric", Clip: 1}, "binary", "loss.clip is 1"},
		{"alpha", config.Loss{Name: "focal"}, "binary", "loss.alpha is 0"},
		{"balanced alpha 0", config.Loss{Name: "focal_balanced", Gamma: 2}, "binary", "loss.alpha is 0"},
		{"balanced alpha 1", config.Loss{Name: "focal_balanced", Alpha: 1, Gamma: 2}, "binary", "loss.alpha is 1"},
		{"pos_weight too short", config.Loss{Name: "bce", PosWeight: weights(1, 2)}, "multilabel", "loss.pos_weight has 2 numbers, want one for each of 3 labels"},
		{"pos_weight too long", config.Loss{Name: "bce", PosWeight: weights(1, 2, 3, 4)}, "multilabel", "loss.pos_weight has 4 numbers"},
		{"pos_weight 0", config.Loss{Name: "bce", PosWeight: weights(1, 0, 3)}, "multilabel", "loss.pos_weight contains 0"},
		{"pos_weight auto", config.Loss{Name: "bce", PosWeight: config.PosWeight{Auto: true}}, "multilabel", "training split"},
		{"pos_weight of another loss", config.Loss{Name: "focal", Alpha: 1, PosWeight: weights(1, 2, 3)}, "multilabel", "loss.pos_weight is only for bce"},
		{"auto of another loss", config.Loss{Name: "focal", Alpha: 1, PosWeight: config.PosWeight{Auto: true}}, "multilabel", "loss.pos_weight is only for bce"},
		{"class_weight length", config.Loss{Name: "cross_entropy", ClassWeight: []float64{1, 2}}, "multiclass", "loss.class_weight has 2 numbers"},
		{"class_weight of another loss", config.Loss{Name: "bce", ClassWeight: []float64{1, 2, 3}}, "multilabel", "loss.class_weight is only for"},
		{"smoothing", config.Loss{Name: "cross_entropy", LabelSmoothing: 1}, "multiclass", "loss.label_smoothing is 1"},
		{"smoothing of another loss", config.Loss{Name: "focal_softmax", LabelSmoothing: 0.1}, "multiclass", "loss.label_smoothing is only for cross_entropy"},
	} {
		if l, err := New(c.loss, c.task, 3); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v, want an error with %q", c.name, l, err, c.want)
		}
	}
}

func TestAutoPosWeight(t *testing.T) {
	nan := math.NaN()
	labels := []string{"half", "rare", "common", "partly", "never", "always", "unknown"}
	var targets [][]float64
	for i := range 100 {
		row := []float64{float64(i % 2), 0, 1, nan, 0, 1, nan}
		if i == 0 {
			row[1] = 1
		}
		if i%5 == 0 {
			row[2] = 0
		}
		switch { // 10 positives and 30 negatives, the others missing
		case i < 10:
			row[3] = 1
		case i < 40:
			row[3] = 0
		case i < 60:
			row[3] = -1
		}
		targets = append(targets, row)
	}
	got, warnings := AutoPosWeight(targets, labels)
	if want := []float64{1, MaxAutoPosWeight, 0.25, 3, 1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(warnings) != 3 || !strings.Contains(warnings[0], "never has no positives") ||
		!strings.Contains(warnings[1], "always has no negatives") || !strings.Contains(warnings[2], "unknown has no positives") {
		t.Errorf("warnings %q", warnings)
	}
	if l, err := New(config.Loss{Name: "bce", PosWeight: weights(got...)}, "multilabel", len(labels)); err != nil {
		t.Errorf("the loss refuses the weights: %v, %v", l, err)
	}
	if got, warnings := AutoPosWeight(nil, labels[:1]); !slices.Equal(got, []float64{1}) || len(warnings) != 1 {
		t.Errorf("of no samples: %v, %q", got, warnings)
	}
}
