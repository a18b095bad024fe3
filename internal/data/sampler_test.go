package data

import (
	"math"
	"slices"
	"testing"
)

// drawTolerance is the relative deviation of counts of some hundred random draws that a test allows.
const drawTolerance = 0.13

// labelled makes samples with the given targets.
func labelled(targets ...[]float64) []Sample {
	s := fakes(len(targets))
	for i := range s {
		s[i].Target = targets[i]
	}
	return s
}

func draws(t *testing.T, samples []Sample, task string, sampler Sampler, epochs int) (count []int) {
	t.Helper()
	l := newLoader(t, samples, options(func(o *Options) { o.Sampler, o.Task = sampler, task }))
	count = make([]int, len(samples))
	for e := range epochs {
		order := l.Order(e)
		if len(order) != len(samples) || !slices.Equal(order, l.Order(e)) {
			t.Fatalf("epoch %d draws %v, then %v", e, order, l.Order(e))
		}
		for _, i := range order {
			count[i]++
		}
	}
	return count
}

// Two of ten are positive, and one has no label: positives and negatives come equally often, the samples of each
// class equally often among themselves.
func TestSamplersOfTwoClasses(t *testing.T) {
	nan := math.NaN()
	samples := labelled([]float64{1}, []float64{0}, []float64{0}, []float64{1}, []float64{nan}, []float64{0}, []float64{0},
		[]float64{0}, []float64{0}, []float64{0})
	const epochs = 1000
	for _, sampler := range []Sampler{Balanced, ClassAware} {
		count := draws(t, samples, Binary, sampler, epochs)
		for i, s := range samples {
			want := 10.0 * epochs / 2 / 7
			switch {
			case s.Target[0] == 1:
				want = 10.0 * epochs / 2 / 2
			case math.IsNaN(s.Target[0]):
				want = 0
			}
			if math.Abs(float64(count[i])-want) > drawTolerance*want {
				t.Errorf("sampler %d: sample %d with %v is drawn %d times, want %v", sampler, i, s.Target, count[i], want)
			}
		}
	}
	// Within an epoch, class by class: exactly half, and nothing twice before all of its class have come.
	for e := range 20 {
		l := newLoader(t, samples, options(func(o *Options) { o.Sampler, o.Task = ClassAware, Binary }))
		seen := map[int]int{}
		positives := 0
		for _, i := range l.Order(e) {
			seen[i]++
			positives += int(samples[i].Target[0])
		}
		if positives != 5 || len(seen) != 7 || max(seen[0], seen[3]) != 3 || min(seen[0], seen[3]) != 2 {
			t.Errorf("epoch %d: %v", e, seen)
		}
	}
}

// Of several labels the classes are the positives of each and the samples without any; of several classes these.
func TestSamplersOfManyClasses(t *testing.T) {
	nan := math.NaN()
	multi := labelled([]float64{0, 0}, []float64{0, nan}, []float64{0, 0}, []float64{0, 0}, []float64{1, 0}, []float64{1, 1}, []float64{nan, nan},
		[]float64{0, 0})
	// Rarest classes: 5 without finding, 2 with the first, 1 with the second. Weights 1/5 ×5, 1/2, 1, 0.
	const epochs = 1000
	count := draws(t, multi, Multilabel, Balanced, epochs)
	for i, w := range []float64{0.2, 0.2, 0.2, 0.2, 0.5, 1, 0, 0.2} {
		want := 8 * epochs * w / 2.5
		if math.Abs(float64(count[i])-want) > drawTolerance*want {
			t.Errorf("balanced: sample %d is drawn %d times, want %v", i, count[i], want)
		}
	}
	count = draws(t, multi, Multilabel, ClassAware, epochs)
	for i, share := range []float64{1.0 / 15, 1.0 / 15, 1.0 / 15, 1.0 / 15, 1.0 / 6, 1.0/6 + 1.0/3, 0, 1.0 / 15} {
		want := 8 * epochs * share
		if math.Abs(float64(count[i])-want) > drawTolerance*want {
			t.Errorf("class_aware: sample %d is drawn %d times, want %v", i, count[i], want)
		}
	}
	classes := labelled([]float64{2}, []float64{0}, []float64{0}, []float64{2}, []float64{2}, []float64{2})
	count = draws(t, classes, Multiclass, ClassAware, 100)
	if got := count[1] + count[2]; got != 300 { // class 1 has no sample
		t.Errorf("two classes: the first is drawn %d of 600 times", got)
	}
}

// A sample that comes again within an epoch is a draw of its own: augmented and dropped out anew. An epoch that
// begins in the middle gives the same draws.
func TestSamplesDrawnAgain(t *testing.T) {
	samples := labelled([]float64{1}, []float64{0}, []float64{0}, []float64{0}, []float64{0}, []float64{0}, []float64{0}, []float64{0})
	l := newLoader(t, samples, options(func(o *Options) { o.Sampler, o.Task, o.BatchSize = ClassAware, Binary, 2 }))
	ids := func(start int) (ids []uint64, first int) {
		for b, err := range l.Epoch(t.Context(), 1, start) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, b.IDs...)
			for _, s := range b.Samples {
				if s.Target[0] == 1 {
					first++
				}
			}
		}
		return ids, first
	}
	all, positives := ids(0)
	unique := slices.Compact(slices.Sorted(slices.Values(all)))
	if positives != 4 || len(unique) != 8 || !slices.Contains(all, samples[0].ID) {
		t.Errorf("the positive is drawn %d times, %d of 8 draws have names of their own", positives, len(unique))
	}
	if rest, _ := ids(4); !slices.Equal(rest, all[4:]) {
		t.Errorf("from the middle: %v, want %v", rest, all[4:])
	}
	if _, err := NewLoader(labelled([]float64{math.NaN()}), options(func(o *Options) { o.Sampler, o.Task = Balanced, Binary })); err == nil {
		t.Error("nothing to balance by: no error")
	}
}
