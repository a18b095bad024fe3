package train

import (
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
)

// TestAutoPosWeight: the weights come from the training split alone, and the configuration keeps the word.
func TestAutoPosWeight(t *testing.T) {
	c := config.Default()
	c.Loss.Name, c.Loss.PosWeight.Auto = "bce", true
	ds := &data.Dataset{Task: data.Multilabel, Labels: []string{"nodule", "effusion"}}
	for i, y := range [][]float64{{1, 0}, {0, 0}, {0, math.NaN()}, {0, 0}} {
		ds.Samples = append(ds.Samples, data.Sample{Split: data.Train, Target: y})
		if i < 3 {
			ds.Samples = append(ds.Samples, data.Sample{Split: data.Val, Target: []float64{1, 1}})
		}
	}
	var log strings.Builder
	r := &run{Options: Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, cfg: &c, ds: ds}
	l, err := r.newLoss(2)
	if err != nil {
		t.Fatal(err)
	}
	// Three negatives and one positive of nodule, no positive of effusion; log 2 is the loss at logit 0.
	for y, want := range map[[2]float64]float64{{1, -1}: 3 * math.Ln2, {0, -1}: math.Ln2, {-1, 1}: math.Ln2} {
		if got := l.Row([]float64{0, 0}, y[:], nil); math.Abs(got-want) > 1e-14 {
			t.Errorf("targets %v: loss %g, want %g", y, got, want)
		}
	}
	if !strings.Contains(log.String(), "effusion has no positives") || strings.Contains(log.String(), "nodule has") {
		t.Errorf("log: %s", log.String())
	}
	if text, err := config.Marshal(&c); err != nil || !strings.Contains(string(text), "pos_weight: auto\n") {
		t.Errorf("the configuration of the run is %v\n%s", err, text)
	}

	c.Preprocess.ShapeDHW, c.Data.Task, c.Data.Labels = [3]int{16, 16, 16}, "multilabel", ds.Labels
	if err := Check(&c); err != nil {
		t.Errorf("check: %v", err)
	}
	c.Loss.Name = "focal"
	if err := Check(&c); err == nil || !strings.Contains(err.Error(), "loss.pos_weight is only for bce") {
		t.Errorf("check of focal with pos_weight: %v", err)
	}
}
