package session

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/engine/reference"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
)

// The tests of training work on a two-label ResNet on volumes of this shape.
var (
	testShape  = [3]int{8, 12, 10}
	testVoxels = 8 * 12 * 10
)

// training starts a session for micro-batches of 2 samples, with weights that do not depend on the options.
func training(t *testing.T, dev engine.Device, accumulate bool, opt Optimizer) *Session {
	t.Helper()
	net, err := models.New(config.Model{
		Name:    "resnet18_3d",
		Options: map[string]any{"widths": []any{4, 8, 8, 20}, "blocks": []any{1, 1, 1, 1}, "hidden": 8, "stem": "small", "head_dropout": []any{0.0, 0.0}},
	}, 2)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := losses.New(config.Loss{Name: "focal", Alpha: 1, Gamma: 2}, "multilabel", 2)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Compile(dev, Options{
		Network: net, ShapeDHW: testShape, EvalBatch: 2,
		Training: &Training{Loss: loss, BatchSizes: []int{2}, Accumulate: accumulate, Optimizer: opt},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := plan.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Initialize(3); err != nil {
		t.Fatal(err)
	}
	return s
}

func cpuDevice(t *testing.T) engine.Device {
	dev := cpu.New(1)
	t.Cleanup(dev.Close)
	return dev
}

func plainAdamW() Optimizer { return Optimizer{Rule: AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}} }

// micro is a batch of 2 samples of noise.
func micro(seed uint64, targets ...float32) MicroBatch {
	r := rand.New(rand.NewPCG(seed, 0))
	b := MicroBatch{X: make([]float32, 2*testVoxels), Targets: targets, IDs: []uint64{2 * seed, 2*seed + 1}}
	for i := range b.X {
		b.X[i] = float32(r.NormFloat64())
	}
	return b
}

func step(t *testing.T, s *Session, number int, lr float64, sum bool, batches ...MicroBatch) float64 {
	t.Helper()
	loss, err := s.Train(batches, Step{Number: number, LR: lr, Seed: 1}, sum)
	if err != nil {
		t.Fatal(err)
	}
	return loss
}

// trainable returns the names of the tensors that the optimiser moves.
func trainable(s *Session) []string {
	var names []string
	for _, p := range s.params {
		if s.state.Has(engine.OptimizerState("m", p.Value.Name)) {
			names = append(names, p.Value.Name)
		}
	}
	return names
}

// gradients returns the gradients of the first step, all in one, from Adam's first moment, which is (1−β1)·g.
func gradients(s *Session) []float64 {
	var g []float64
	for _, name := range trainable(s) {
		for _, m := range s.state.Get(engine.OptimizerState("m", name)) {
			g = append(g, float64(m)/(1-s.opt.Training.Optimizer.Rule.(AdamW).Beta1))
		}
	}
	return g
}

func norm(g []float64) float64 {
	var sum float64
	for _, v := range g {
		sum += v * v
	}
	return math.Sqrt(sum)
}

// distance is the norm of a − b relative to that of b.
func distance(a, b []float64) float64 {
	d := make([]float64, len(b))
	for i := range b {
		d[i] = a[i] - b[i]
	}
	return norm(d) / norm(b)
}

// Loss and gradients of a step are sums over all of its micro-batches ÷ the count of their valid labels, however
// these are spread.
func TestMissingLabelsOverTheGlobalBatch(t *testing.T) {
	nan := float32(math.NaN())
	a := micro(1, 1, 0, nan, 1)     // 3 labels
	b := micro(2, nan, nan, 0, nan) // 1 label
	none := micro(3, nan, nan, nan, nan)
	dev := cpuDevice(t)
	single := func(m MicroBatch) (float64, []float64) {
		s := training(t, dev, false, plainAdamW())
		loss := step(t, s, 1, 0, false, m)
		return loss, gradients(s)
	}
	lossA, gradA := single(a)
	lossB, gradB := single(b)
	mix := func(x, y float64) float64 { return (3*x + y) / 4 }
	want := make([]float64, len(gradA))
	for i := range want {
		want[i] = mix(gradA[i], gradB[i])
	}
	for _, batches := range [][]MicroBatch{{a, b}, {b, a}, {a, none, b}, {none, b, a}} {
		s := training(t, dev, true, plainAdamW())
		if loss := step(t, s, 1, 0, false, batches...); math.Abs(loss-mix(lossA, lossB)) > 1e-6*loss {
			t.Errorf("loss %v, want %v", loss, mix(lossA, lossB))
		}
		if d := distance(gradients(s), want); d > 1e-5 {
			t.Errorf("gradients of %d micro-batches are off by %.2g of their norm", len(batches), d)
		}
		if s.BatchesTracked() != int64(len(batches)) {
			t.Errorf("%d batches tracked, want %d", s.BatchesTracked(), len(batches))
		}
	}
	s := training(t, dev, true, plainAdamW())
	if loss := step(t, s, 1, 0, true, a, b); math.Abs(loss-4*mix(lossA, lossB)) > 1e-6*loss {
		t.Errorf("sum %v, want %v", loss, 4*mix(lossA, lossB))
	}
	if d := distance(scaled(gradients(s), 0.25), want); d > 1e-5 {
		t.Errorf("gradients of the sum are off by %.2g of their norm", d)
	}
	// Nothing valid: no loss, no gradient, nothing moves.
	s = training(t, dev, false, plainAdamW())
	if loss := step(t, s, 1, 1, false, none); loss != 0 || norm(gradients(s)) != 0 {
		t.Errorf("loss %v, gradient %v without labels", loss, norm(gradients(s)))
	}
}

func scaled(g []float64, f float64) []float64 {
	out := slices.Clone(g)
	for i := range out {
		out[i] *= f
	}
	return out
}

// Identical micro-batches give the step of one of them: exactly for two, whose scale is half a power of two.
// Accumulators begin anew in each step.
func TestAccumulationOfIdenticalBatches(t *testing.T) {
	dev := cpuDevice(t)
	m := micro(4, 1, 0, 0, 1)
	opt := plainAdamW()
	opt.Clip, opt.Decay = 0.05, 0.01
	for _, k := range []int{1, 2, 3} {
		one, many := training(t, dev, false, opt), training(t, dev, true, opt)
		batches := slices.Repeat([]MicroBatch{m}, k)
		for n := 1; n <= 3; n++ {
			a, b := step(t, one, n, 1e-3, false, m), step(t, many, n, 1e-3, false, batches...)
			if math.Abs(a-b) > 1e-6*a {
				t.Errorf("%d micro-batches, step %d: loss %v, want %v", k, n, b, a)
			}
		}
		for _, name := range trainable(one) {
			a, b := one.state.Get(name), many.state.Get(name)
			for i := range a {
				// A step moves a weight by at most about its rate; rounding may turn the sign of a tiny gradient.
				if k < 3 && a[i] != b[i] || math.Abs(float64(a[i]-b[i])) > 1e-4 {
					t.Fatalf("%d micro-batches: %s[%d] is %v, want %v", k, name, i, b[i], a[i])
				}
			}
		}
	}
}

// Gradients of a larger norm are scaled by clip/(norm + 1e-6), others are left alone.
func TestClipNorm(t *testing.T) {
	dev := cpuDevice(t)
	batches := []MicroBatch{micro(5, 1, 0, 1, 1), micro(6, 0, 0, 1, 0)}
	for _, accumulate := range []bool{false, true} {
		used := batches[:1]
		if accumulate {
			used = batches
		}
		free := training(t, dev, accumulate, plainAdamW())
		step(t, free, 1, 0, false, used...)
		g := gradients(free)
		full := norm(g)
		for _, part := range []float64{0.01, 0.5, 2} {
			opt := plainAdamW()
			opt.Clip = part * full
			s := training(t, dev, accumulate, opt)
			step(t, s, 1, 0, false, used...)
			want := scaled(g, min(1, opt.Clip/(full+1e-6)))
			if d := distance(gradients(s), want); d > 1e-6 {
				t.Errorf("accumulate %v, clip at %v of the norm: the gradients are off by %.2g", accumulate, part, d)
			}
		}
	}
}

// Decay takes lr·decay of the weights of matrices and kernels that are not spared, or of everything.
func TestDecay(t *testing.T) {
	dev := cpuDevice(t)
	m := micro(7, 1, 0, 0, 1)
	const lr, decay, spared = 1e-3, 0.5, "layer1.0.conv1.weight"
	after := func(all bool, decay float64) (*Session, map[string][]float32) {
		opt := plainAdamW()
		opt.Decay, opt.DecayAll, opt.NoDecay = decay, all, func(param string) bool { return param == spared }
		s := training(t, dev, false, opt)
		first := map[string][]float32{}
		for _, name := range trainable(s) {
			first[name] = s.state.Get(name)
		}
		step(t, s, 1, lr, false, m)
		return s, first
	}
	plain, first := after(false, 0)
	for _, all := range []bool{false, true} {
		s, _ := after(all, decay)
		decayed := 0
		for _, name := range trainable(s) {
			matrix := len(s.state.Shape(name)) >= 2
			part := 0.0
			if matrix && name != spared || all {
				part = lr * decay
			}
			a, b := s.state.Get(name), plain.state.Get(name)
			for i, w := range first[name] {
				want := float64(b[i]) - part*float64(w)
				if math.Abs(float64(a[i])-want) > 3e-7*max(math.Abs(want), 1e-1) {
					t.Fatalf("decay_on all %v: %s[%d] is %v, want %v", all, name, i, a[i], want)
				}
			}
			if part > 0 {
				decayed++
			}
			if isNorm := strings.Contains(name, "bn") || strings.HasSuffix(name, ".bias"); isNorm && matrix {
				t.Errorf("%s has %d axes", name, len(s.state.Shape(name)))
			}
		}
		if n := len(trainable(s)); decayed == 0 || (decayed == n) != all {
			t.Errorf("decay_on all %v: %d of %d tensors decay", all, decayed, n)
		}
	}
}

// Steps with all of it, accumulation, clipping, decay and missing labels, are those of the reference device.
func TestStepsAsOnTheReferenceDevice(t *testing.T) {
	opt := Optimizer{Rule: AdamW{Beta1: 0.9, Beta2: 0.99, Eps: 1e-3}, Decay: 0.1, Clip: 0.1}
	fast, plain := training(t, cpuDevice(t), true, opt), training(t, reference.New[float32](), true, opt)
	nan := float32(math.NaN())
	for n := 1; n <= 4; n++ {
		batches := []MicroBatch{micro(uint64(n), 1, 0, nan, 1), micro(uint64(10+n), 0, 1, 1, 0)}
		a, b := step(t, fast, n, 1e-2, false, batches...), step(t, plain, n, 1e-2, false, batches...)
		if math.Abs(a-b) > 2e-5*b {
			t.Errorf("step %d: loss %v, want %v", n, a, b)
		}
	}
	for _, p := range fast.params {
		var a, b []float64
		for i, v := range fast.state.Get(p.Value.Name) {
			a, b = append(a, float64(v)), append(b, float64(plain.state.Get(p.Value.Name)[i]))
		}
		if d := distance(a, b); d > 2e-4 {
			t.Errorf("%s is off by %.2g of its norm", p.Value.Name, d)
		}
	}
}

func TestTrainRefusals(t *testing.T) {
	s := training(t, cpuDevice(t), false, plainAdamW())
	m := micro(1, 1, 0, 1, 0)
	three := MicroBatch{X: make([]float32, 3*testVoxels), Targets: make([]float32, 6), IDs: make([]uint64, 3)}
	short := m
	short.X = m.X[1:]
	for name, batches := range map[string][]MicroBatch{"none": {}, "two": {m, m}, "three samples": {three}, "short": {short}} {
		if _, err := s.Train(batches, Step{Number: 1}, false); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := training(t, cpuDevice(t), true, plainAdamW()).Train(nil, Step{Number: 1}, false); err == nil {
		t.Error("no micro-batches to accumulate: no error")
	}
	if s.Trains(3) || !s.Trains(2) {
		t.Error("Trains is wrong")
	}
	for _, n := range []int{0, 1, 3} {
		if _, err := s.Logits(m.X, n); err == nil {
			t.Errorf("logits of %d samples from an input of 2: no error", n)
		}
	}
	if !s.Finite() {
		t.Error("the first weights are not finite")
	}
	bad := micro(1, 1, 0, 1, 0)
	bad.X[17] = float32(math.Inf(1))
	if _, err := s.Train([]MicroBatch{bad}, Step{Number: 1, LR: 1e-3}, false); !errors.Is(err, ErrDiverged) {
		t.Errorf("an infinite voxel: %v, want %v", err, ErrDiverged)
	}
	if !s.Finite() {
		t.Error("a gradient that is not finite was applied")
	}
}

// The standard network gives a sample the same logits, bit for bit, alone, in any place of a full batch and beside
// anything, and on any number of threads.
func TestLogitsDoNotDependOnTheBatch(t *testing.T) {
	const n, voxels = 7, 24 * 24 * 24
	x := make([]float32, n*voxels)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range x {
		x[i] = float32(r.Float64())
	}
	evaluate := func(threads, batch int) *Session {
		net, err := models.New(config.Model{Name: "resnet18_3d"}, 3)
		if err != nil {
			t.Fatal(err)
		}
		dev := cpu.New(threads)
		t.Cleanup(dev.Close)
		plan, err := Compile(dev, Options{Network: net, ShapeDHW: [3]int{24, 24, 24}, EvalBatch: batch})
		if err != nil {
			t.Fatal(err)
		}
		s, err := plan.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		if err := s.Initialize(1); err != nil {
			t.Fatal(err)
		}
		return s
	}
	logits := func(s *Session, x []float32) []float32 {
		z, err := s.Logits(x, len(x)/voxels)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(z)
	}
	full := evaluate(2, n)
	want := logits(full, x)
	if slices.Equal(want[:3], want[3:6]) {
		t.Fatal("all samples have the same logits")
	}
	single := evaluate(1, 1)
	for i := range n {
		sample := x[i*voxels:][:voxels]
		if got := logits(single, sample); !slices.Equal(got, want[3*i:][:3]) {
			t.Errorf("sample %d: %v alone, %v in a batch of %d", i, got, want[3*i:][:3], n)
		}
	}
	if got := logits(full, x[2*voxels:5*voxels]); !slices.Equal(got, want[6:15]) {
		t.Errorf("3 of %d samples: %v, want %v", n, got, want[6:15])
	}
}
