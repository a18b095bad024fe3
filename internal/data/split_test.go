package data

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/rng"
)

// findings makes a multi-label set of n samples, each a patient of its own, with labels of these frequencies.
func findings(n int, frequency ...float64) *Dataset {
	d := &Dataset{Task: Multilabel}
	r := rng.New(rng.Key(11, "findings"))
	for k := range frequency {
		d.Labels = append(d.Labels, fmt.Sprint("l", k))
	}
	for i := range n {
		name := fmt.Sprint("s", i)
		s := Sample{ID: sampleID(name), Name: name, Group: name, Split: Train, Target: make([]float64, len(frequency))}
		for k, f := range frequency {
			if r.Float64() < f {
				s.Target[k] = 1
			}
		}
		d.Samples = append(d.Samples, s)
	}
	return d
}

// Single samples: every fold has the whole number of each label next to its share, give or take what the labels
// before it took, and sizes differ by little.
func TestFoldsAreAlike(t *testing.T) {
	const k = 5
	d := findings(600, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
	folds, err := d.Folds(k, 3)
	if err != nil {
		t.Fatal(err)
	}
	size := make([]int, k)
	for label := range d.Labels {
		count, total := make([]float64, k), 0.0
		for i, s := range d.Samples {
			count[folds[i]] += s.Target[label]
			total += s.Target[label]
		}
		for f, n := range count {
			if math.Abs(n-total/k) > 1.5 {
				t.Errorf("label %d: fold %d has %v of %v", label, f, n, total)
			}
		}
	}
	for _, f := range folds {
		size[f]++
	}
	if slices.Max(size)-slices.Min(size) > 4 {
		t.Errorf("fold sizes %v", size)
	}
	again, _ := d.Folds(k, 3)
	other, _ := d.Folds(k, 4)
	if !slices.Equal(folds, again) || slices.Equal(folds, other) {
		t.Error("the folds do not depend on the seed alone")
	}
	// The order of the samples is the table's and must not matter.
	reversed := *d
	reversed.Samples = slices.Clone(d.Samples)
	slices.Reverse(reversed.Samples)
	back, _ := reversed.Folds(k, 3)
	slices.Reverse(back)
	if !slices.Equal(folds, back) {
		t.Error("the folds depend on the order of the samples")
	}
}

// Patients stay whole, and a rare label that sits in a few large patients still comes to every fold.
func TestFoldsOfPatients(t *testing.T) {
	d := findings(300, 0.4, 0)
	for i := range d.Samples {
		d.Samples[i].Group = fmt.Sprint("p", i/3)
		if g := i / 3; g%20 == 0 { // five patients with three scans each
			d.Samples[i].Target[1] = 1
		}
		if i < 30 {
			d.Samples[i].Split = Test
		}
	}
	folds, err := d.Folds(4, 9)
	if err != nil {
		t.Fatal(err)
	}
	rare := make([]int, 4)
	for i, s := range d.Samples {
		if (folds[i] < 0) != (i < 30) {
			t.Fatalf("sample %d, which is in %s, is in fold %d", i, s.Split, folds[i])
		}
		if i >= 30 && s.Target[1] == 1 {
			rare[folds[i]]++
		}
	}
	if !slices.Equal(slices.Sorted(slices.Values(rare)), []int{3, 3, 3, 3}) {
		t.Errorf("the rare label is in the folds %v times, want 3 each", rare)
	}
	for f := range 4 {
		round := d.Fold(folds, f)
		if err := checkGroups("fold", round.Samples, nil); err != nil {
			t.Error(err)
		}
		if len(round.Subset(Test)) != 30 || len(round.Subset(Val)) < 60 || len(round.Subset(Val)) > 75 {
			t.Errorf("fold %d: %d test, %d validation samples", f, len(round.Subset(Test)), len(round.Subset(Val)))
		}
	}
	if d.Samples[40].Split != Train {
		t.Error("Fold changed the data set itself")
	}
}

// Labels that only some samples have: known negatives are told from the unknown.
func TestFoldsOfUnknown(t *testing.T) {
	d := findings(200, 0.5)
	for i := range d.Samples {
		if i >= 20 {
			d.Samples[i].Target[0] = math.NaN()
		} else {
			d.Samples[i].Target[0] = float64(i % 2)
		}
	}
	folds, err := d.Folds(5, 1)
	if err != nil {
		t.Fatal(err)
	}
	for f := range 5 {
		var positive, negative int
		for i, s := range d.Samples {
			if folds[i] == f && s.Target[0] == 1 {
				positive++
			}
			if folds[i] == f && s.Target[0] == 0 {
				negative++
			}
		}
		if positive != 2 || negative != 2 {
			t.Errorf("fold %d has %d positives and %d negatives of 10 each", f, positive, negative)
		}
	}
}

// A split file gives back what it was written from, also where the archive brings other splits.
func TestSplitFile(t *testing.T) {
	npz := archive(t, func(i int) uint8 { return uint8(i % 2) })
	c := config.Data{Table: npz, Task: Binary}
	d, err := Open(c, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Divide(0.3, 0.3, false, 1); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := d.WriteSplits(&text, nil); err != nil {
		t.Fatal(err)
	}
	c.SplitFile = filepath.Join(t.TempDir(), "splits.csv")
	if err := os.WriteFile(c.SplitFile, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Open(c, 5)
	if err != nil {
		t.Fatal(err)
	}
	if got.Fingerprint() != d.Fingerprint() {
		t.Errorf("the splits that were read differ from those written:\n%s", text.String())
	}
	moved := 0
	for _, s := range got.Samples {
		if s.Split != s.array {
			moved++
		}
		v, err := got.archived(s)
		if err != nil || v.HU[0] != float32(s.Index*24) { // see archive
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	if moved == 0 || len(got.Subset(Val)) != 3 || len(got.Subset(Test)) != 3 {
		t.Errorf("%d samples moved, %d in val, %d in test", moved, len(got.Subset(Val)), len(got.Subset(Test)))
	}
}

// A fraction leaves whole patients of the training split, with every label as frequent as before, and nothing else.
func TestKeepFraction(t *testing.T) {
	d := findings(1200, 0.5, 0.1)
	for i := range d.Samples {
		d.Samples[i].Group = fmt.Sprint("p", i/3)
		if i%12 >= 9 {
			d.Samples[i].Split = Val
		} else {
			d.Samples[i].Split = Train
		}
	}
	count := func(d *Dataset, split string) (n int, positive [2]int) {
		for _, s := range d.Subset(split) {
			n++
			for k := range positive {
				positive[k] += int(s.Target[k])
			}
		}
		return n, positive
	}
	before, positiveBefore := count(d, Train)
	val, _ := count(d, Val)
	whole := map[string]int{}
	for _, s := range d.Samples {
		whole[s.Group]++
	}
	kept := *d
	kept.Samples = slices.Clone(d.Samples)
	if err := kept.keepFraction(0.25, 3); err != nil {
		t.Fatal(err)
	}
	n, positive := count(&kept, Train)
	if v, _ := count(&kept, Val); v != val {
		t.Errorf("%d validation samples, want %d", v, val)
	}
	if math.Abs(float64(n)-0.25*float64(before)) > 6 {
		t.Errorf("%d of %d training samples", n, before)
	}
	for k := range positive {
		if math.Abs(float64(positive[k])-0.25*float64(positiveBefore[k])) > 6 {
			t.Errorf("label %d: %d of %d positives", k, positive[k], positiveBefore[k])
		}
	}
	groups := map[string]int{}
	for _, s := range kept.Samples {
		groups[s.Group]++
	}
	for g, n := range groups {
		if n != whole[g] {
			t.Errorf("patient %s has %d of %d samples", g, n, whole[g])
		}
	}
	same := *d
	same.Samples = slices.Clone(d.Samples)
	for _, share := range []float64{0, 1} {
		if err := same.keepFraction(share, 3); err != nil || len(same.Samples) != len(d.Samples) {
			t.Errorf("%v: %d samples, %v", share, len(same.Samples), err)
		}
	}
}
