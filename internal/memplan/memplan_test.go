package memplan

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/session"
)

// tiny is the training of a small network on batches of 2.
func tiny(t *testing.T, budget string) *Workload {
	t.Helper()
	c := config.Default()
	c.Model.Options = map[string]any{"blocks": []any{1, 1, 1, 1}, "widths": []any{8, 8, 8, 8}, "hidden": 8, "stem": "small"}
	c.Preprocess.ShapeDHW = [3]int{64, 64, 96}
	c.Train.BatchSize, c.Memory.Budget = 2, budget
	net, err := models.ForInput(c.Model, c.Preprocess, 2)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := losses.New(c.Loss, "multilabel", 2)
	if err != nil {
		t.Fatal(err)
	}
	dev := cpu.New(1)
	t.Cleanup(dev.Close)
	w := &Workload{Device: dev, Config: &c, Beside: Beside{Data: 1 << 20, Scans: 2 << 20, Samples: 3 << 20, Batches: 4 << 20}, Options: session.Options{
		Network: net, ShapeDHW: c.Preprocess.ShapeDHW, EvalBatch: 2,
		Training: &session.Training{
			Loss: loss, BatchSizes: []int{2}, Optimizer: session.Optimizer{Rule: session.AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, Average: 0.9},
		},
	}}
	if w.Budget, err = Budget(&c, slog.New(slog.NewTextHandler(io.Discard, nil))); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestReport(t *testing.T) {
	w := tiny(t, "390MiB")
	r, err := w.Report(t.Context(), Rate{GFLOPS: 10, GBPS: 5}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	parts := map[string]int64{}
	for _, p := range r.Parts {
		sum += p.Bytes
		parts[p.Name] = p.Bytes
	}
	if sum != r.PromisedPeakBytes {
		t.Errorf("the parts add up to %d bytes, %d are promised", sum, r.PromisedPeakBytes)
	}
	if m := parts["optimiser state"]; m == 0 || m != 2*parts["weights"] || parts["moving average"] != parts["weights"] {
		t.Errorf("weights %d, two moments %d, average %d bytes", parts["weights"], m, parts["moving average"])
	}
	if parts["scans being read"] != 2<<20 || parts["batches read ahead"] != 4<<20 {
		t.Errorf("parts beside the session: %v", parts)
	}
	if !r.Fits || r.PromisedPeakBytes > w.Budget || r.Peak.Step < 1 || r.Peak.Step > r.Peak.Steps || r.Peak.Layer == "" {
		t.Errorf("fits %v, %d bytes of %d, peak %+v", r.Fits, r.PromisedPeakBytes, w.Budget, r.Peak)
	}
	choices := map[string]Choice{}
	for _, c := range r.Choices {
		choices[c.Name] = c
		if c.StepSeconds <= c.AddedSeconds || (c.AddedFLOP > 0) && c.AddedSeconds == 0 {
			t.Errorf("choice %+v", c)
		}
	}
	free, saver := choices["no savers"], choices["use_checkpointing"]
	if free.AddedFLOP != 0 || saver.AddedFLOP <= 0 || saver.PromisedPeakBytes >= free.PromisedPeakBytes {
		t.Errorf("no savers %+v, checkpointing %+v", free, saver)
	}

	// What is said to fit does, and the next one does not.
	fits := func(batch int, shape [3]int) bool {
		o := *w
		training := *w.Options.Training
		training.BatchSizes = []int{batch}
		o.Options.Training, o.Options.EvalBatch, o.Options.ShapeDHW = &training, batch, shape
		usual := voxels([3]int{64, 64, 96})
		o.Beside.Samples = o.Beside.Samples * voxels(shape) / usual
		o.Beside.Batches = o.Beside.Batches * voxels(shape) * int64(batch) / (2 * usual)
		_, err := o.compile(o.Budget)
		return err == nil
	}
	if n := r.LargestBatch; n < 2 {
		t.Fatalf("the largest batch is said to be %d", n)
	} else if !fits(n, r.ShapeDHW) || fits(n+1, r.ShapeDHW) {
		t.Errorf("the largest batch is said to be %d; it fits: %v, one more: %v", n, fits(n, r.ShapeDHW), fits(n+1, r.ShapeDHW))
	}
	s := r.LargestShapeDHW
	next := [3]int{s[0] + 16, s[1] + 16, s[2] + 16} // at least as large as the next of these proportions
	if s[0] < 64 || s[0] != s[1] || !fits(2, s) || fits(2, next) {
		t.Errorf("the largest shape is said to be %v; it fits: %v, %v: %v", s, fits(2, s), next, fits(2, next))
	}
	svg := string(r.SVG())
	for _, want := range []string{"<svg xmlns", "promised: " + mebibytes(r.PromisedPeakBytes), r.Model, "forward", "backward"} {
		if !strings.Contains(svg, want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
}

// TestRefusal: a budget that holds nothing is answered with the least that would, and with what would help.
func TestRefusal(t *testing.T) {
	w := tiny(t, "66MiB")
	r, err := w.Report(t.Context(), Rate{GFLOPS: 10, GBPS: 5}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if r.Fits || exitcode.Of(r.Refusal) != exitcode.Memory {
		t.Fatalf("fits %v: %v", r.Fits, r.Refusal)
	}
	if _, err := w.Plan(t.Context()); err == nil || err.Error() != r.Refusal.Error() {
		t.Errorf("planning fails with %v, the report with %v", err, r.Refusal)
	}
	if _, err := w.compile(r.PromisedPeakBytes); err != nil {
		t.Errorf("the smallest plan is said to take %d bytes: %v", r.PromisedPeakBytes, err)
	}
}

// TestHybridAdvice: between what either precision needs at least, the other one is the first advice, and it holds.
func TestHybridAdvice(t *testing.T) {
	w := tiny(t, "66MiB")
	h, ok := w.hybrid()
	if !ok {
		t.Fatal("there is no other precision")
	}
	least := func(w *Workload) int64 {
		_, err := w.compile(1)
		var none *session.BudgetError
		if !errors.As(err, &none) {
			t.Fatal(err)
		}
		return none.Smallest
	}
	single, half := least(w), least(h)
	if half >= single {
		t.Fatalf("bfloat16 needs %d bytes, float32 %d", half, single)
	}
	w.Budget = (single + half) / 2
	if _, err := w.Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "what fits: "+hybridSetting) {
		t.Errorf("a budget that bfloat16 meets is refused with %v", err)
	}
	if _, err := h.compile(w.Budget); err != nil {
		t.Errorf("the advice does not hold: %v", err)
	}
	if _, again := h.hybrid(); again {
		t.Error("bfloat16 has another precision")
	}
}

// TestLargest: the search is right for needs that are not affine, too, and where some sizes cannot be planned.
func TestLargest(t *testing.T) {
	for budget := range int64(140) {
		w := &Workload{Budget: budget}
		calls := 0
		got := w.largest(3, 10, func(k int) float64 { return float64(k * k) }, func(k int) (int64, bool) {
			calls++
			return int64(k*k + 7*k%5), k < 10
		})
		want := 0
		for k := 1; k < 10; k++ {
			if int64(k*k+7*k%5) > budget {
				break
			}
			want = k
		}
		if got != want || calls > 10 {
			t.Errorf("budget %d: %d after %d questions, want %d", budget, got, calls, want)
		}
	}
}
