package data

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/rng"
)

// Folds divides the samples outside the test split into k folds for cross-validation and returns the fold of
// each sample of d, 0 to k-1, -1 for test samples. Groups (patients) stay whole, and the folds are alike in size
// and in how often each label occurs (see stratify). The result depends on the samples, k and seed alone.
//
// To train on fold f: open the data set once, call Folds once, and give d.Fold(folds, f) to the run.
func (d *Dataset) Folds(k int, seed uint64) ([]int, error) {
	if k < 2 {
		return nil, fmt.Errorf("%d folds cannot be made: want at least 2", k)
	}
	folds := make([]int, len(d.Samples))
	var among []int
	for i, s := range d.Samples {
		folds[i] = -1
		if s.Split != Test {
			among = append(among, i)
		}
	}
	groups := d.gather(among, seed)
	if len(groups) < k {
		return nil, fmt.Errorf("%d folds cannot be made of %d patients: want at least one for each", k, len(groups))
	}
	shares := slices.Repeat([]float64{1 / float64(k)}, k)
	for g, part := range stratify(groups, shares, seed) {
		for _, i := range groups[g].samples {
			folds[i] = part
		}
	}
	return folds, nil
}

// Fold returns the data set for one round of cross-validation: what Folds put into fold f is the validation split,
// the other folds are for training, test samples stay. d is left alone.
func (d *Dataset) Fold(folds []int, f int) *Dataset {
	round := *d
	round.Samples = slices.Clone(d.Samples)
	for i := range round.Samples {
		switch folds[i] {
		case -1:
			round.Samples[i].Split = Test
		case f:
			round.Samples[i].Split = Val
		default:
			round.Samples[i].Split = Train
		}
	}
	return &round
}

// Divide gives the samples new splits: the shares val and test of them, the others for training. Groups (patients)
// stay whole, and the splits are alike in how often each label occurs (see stratify). With keepTest the samples
// that are in the test split already stay there, and only the others are divided. The result depends on the
// samples, the shares and seed alone.
func (d *Dataset) Divide(val, test float64, keepTest bool, seed uint64) error {
	if !(val >= 0 && test >= 0 && val+test < 1) {
		return fmt.Errorf("shares of %v for validation and %v for test leave nothing to train on: want shares of at least 0, together below 1", val, test)
	}
	var among []int
	for i, s := range d.Samples {
		if !keepTest || s.Split != Test {
			among = append(among, i)
		}
	}
	parts, shares := []string{Train}, []float64{1 - val - test}
	for _, p := range []struct {
		split string
		share float64
	}{{Val, val}, {Test, test}} {
		if p.share > 0 {
			parts, shares = append(parts, p.split), append(shares, p.share)
		}
	}
	groups := d.gather(among, seed)
	if len(groups) < len(parts) {
		return fmt.Errorf("%d patients cannot be divided into %s: want at least one for each", len(groups), strings.Join(parts, ", "))
	}
	for g, part := range stratify(groups, shares, seed) {
		for _, i := range groups[g].samples {
			d.Samples[i].Split = parts[part]
		}
	}
	return nil
}

// splitOff divides a data set that comes without splits.
func (d *Dataset) splitOff(fraction float64, seed uint64) error {
	err := d.Divide(fraction, 0, false, seed)
	if err != nil && fraction > 0 {
		return errors.New("all samples are of one patient, so no validation split can be split off: name a split column, or set data.val_fraction to 0")
	}
	return err
}

// keepFraction leaves a share of the training samples, by patient and alike in every label; 0 and 1 leave all.
func (d *Dataset) keepFraction(share float64, seed uint64) error {
	if share == 0 || share == 1 {
		return nil
	}
	var among []int
	for i, s := range d.Samples {
		if s.Split == Train {
			among = append(among, i)
		}
	}
	groups := d.gather(among, rng.Key(seed, "fraction"))
	if len(groups) < 2 {
		return fmt.Errorf("data.fraction %v of %d training patients cannot be drawn: want at least 2 patients", share, len(groups))
	}
	drop := map[int]bool{}
	for g, part := range stratify(groups, []float64{share, 1 - share}, seed) {
		for _, i := range groups[g].samples {
			drop[i] = part == 1
		}
	}
	var kept []Sample
	for i, s := range d.Samples {
		if !drop[i] {
			kept = append(kept, s)
		}
	}
	d.Samples = kept
	return nil
}

// group is the samples of one patient.
type group struct {
	name    string
	order   uint64 // random, from the seed and the name
	samples []int
	strata  []int // how many of the samples are in each stratum
}

// counts returns how many samples of the group are in each stratum, and, last, how many there are.
func (g *group) counts() []int { return append(g.strata[:len(g.strata):len(g.strata)], len(g.samples)) }

// gather returns the groups of some of the samples, in their random order, which depends on seed and the groups'
// names alone.
func (d *Dataset) gather(among []int, seed uint64) []group {
	strata, count := d.strata()
	index := map[string]int{}
	var groups []group
	key := rng.Key(seed, "split")
	for _, i := range among {
		name := d.Samples[i].Group
		k, ok := index[name]
		if !ok {
			k = len(groups)
			index[name] = k
			groups = append(groups, group{name: name, order: rng.At(key, rng.Hash(name)), strata: make([]int, count)})
		}
		groups[k].samples = append(groups[k].samples, i)
		for _, s := range strata[i] {
			groups[k].strata[s]++
		}
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.name, b.name))
	})
	return groups
}

// strata returns the strata of each sample and their number. There is one for the positives of each label, and,
// where a label is not known of all samples, one for its negatives, which would otherwise not be told from the
// unknown. Of a multiclass data set each class is one.
func (d *Dataset) strata() (of [][]int, count int) {
	unknown := make([]bool, len(d.Labels))
	for _, s := range d.Samples {
		for k, v := range s.Target {
			if math.IsNaN(v) {
				unknown[k] = true
			}
		}
	}
	of = make([][]int, len(d.Samples))
	for i, s := range d.Samples {
		for k, v := range s.Target {
			switch {
			case math.IsNaN(v):
			case d.Task == Multiclass:
				of[i] = append(of[i], int(v))
			case v == 1:
				of[i] = append(of[i], k)
			case unknown[k]:
				of[i] = append(of[i], len(d.Labels)+k)
			}
		}
	}
	return of, 2 * len(d.Labels)
}

// stratify gives each group to one of the parts, whose shares of all samples add up to 1, and returns the part of
// each group. There are at least as many groups as parts; no part stays empty.
//
// It is iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data",
// ECML PKDD 2011, algorithm 1), with groups for examples: the stratum with the fewest samples left is given out
// first, each of its groups to the part that still wants most of the stratum, then most samples, then by lot.
// Groups with more of the stratum come first, while every part has room for them. Groups in no stratum go to the
// part that wants most samples, large ones first. Because groups are of several samples, which may differ, a last
// pass moves single groups as long as that makes the parts more alike.
func stratify(groups []group, shares []float64, seed uint64) []int {
	total, strata := 0.0, len(groups[0].strata)
	left := make([]int, strata) // samples of each stratum that are not given out
	for _, g := range groups {
		total += float64(len(g.samples))
		for s, n := range g.strata {
			left[s] += n
		}
	}
	type want struct {
		samples float64
		strata  []float64
	}
	parts := make([]want, len(shares))
	for p, share := range shares {
		parts[p] = want{samples: share * total, strata: make([]float64, strata)}
		for s, n := range left {
			parts[p].strata[s] = share * float64(n)
		}
	}
	of := slices.Repeat([]int{-1}, len(groups))
	lots := rng.New(rng.Key(seed, "split lots"))
	// compare says which of two parts wants more of a stratum (-1: none), then of samples.
	compare := func(stratum, a, b int) int {
		order := 0
		if stratum >= 0 {
			order = compareWants(parts[a].strata[stratum], parts[b].strata[stratum])
		}
		return cmp.Or(order, compareWants(parts[a].samples, parts[b].samples))
	}
	// give hands out the groups that have a weight, the heavy ones first; by is the stratum it is about, -1: none.
	give := func(by int, weight func(g *group) int) {
		var among []int
		for i := range groups {
			if of[i] < 0 && weight(&groups[i]) > 0 {
				among = append(among, i)
			}
		}
		slices.SortStableFunc(among, func(a, b int) int { return weight(&groups[b]) - weight(&groups[a]) })
		for _, i := range among {
			g := &groups[i]
			best := []int{0}
			for p := 1; p < len(parts); p++ {
				switch order := compare(by, p, best[0]); {
				case order > 0:
					best = []int{p}
				case order == 0:
					best = append(best, p)
				}
			}
			p := best[0]
			if len(best) > 1 {
				p = best[lots.Intn(len(best))]
			}
			of[i] = p
			parts[p].samples -= float64(len(g.samples))
			for s, n := range g.strata {
				left[s] -= n
				parts[p].strata[s] -= float64(n)
			}
		}
	}
	for {
		rarest := -1
		for s, n := range left {
			if n > 0 && (rarest < 0 || n < left[rarest]) {
				rarest = s
			}
		}
		if rarest < 0 {
			break
		}
		give(rarest, func(g *group) int { return g.strata[rarest] })
	}
	give(-1, func(g *group) int { return len(g.samples) })
	level(groups, of, shares)
	fillEmpty(groups, of, len(shares))
	return of
}

// level moves groups between parts as long as a move lowers the chi-square statistic of the parts: summed over the
// parts and what they want of each stratum and of all samples, (have-want)²/want. All samples weigh as much as all
// strata together.
func level(groups []group, of []int, shares []float64) {
	const sweeps = 50 // the statistic falls with every move; this bounds the time
	strata := len(groups[0].strata)
	want := make([][]float64, len(shares)) // [part][stratum], the last for all samples
	have := make([][]float64, len(shares))
	for p := range shares {
		want[p], have[p] = make([]float64, strata+1), make([]float64, strata+1)
	}
	for i := range groups {
		for s, n := range groups[i].counts() {
			have[of[i]][s] += float64(n)
			for p, share := range shares {
				want[p][s] += share * float64(n)
			}
		}
	}
	used := 0
	for _, w := range want[0][:strata] {
		if w > 0 {
			used++
		}
	}
	weight := slices.Repeat([]float64{1}, strata+1)
	weight[strata] = float64(max(used, 1))
	// gain is how much lower the statistic of part p gets when it takes the counts with a sign.
	gain := func(p int, counts []int, sign float64) float64 {
		sum := 0.0
		for s, n := range counts {
			if n > 0 {
				x, d := have[p][s]-want[p][s], sign*float64(n)
				sum -= weight[s] * d * (2*x + d) / want[p][s]
			}
		}
		return sum
	}
	for range sweeps {
		moved := false
		for i := range groups {
			counts := groups[i].counts()
			from, to, best := of[i], of[i], 1e-9
			off := gain(from, counts, -1)
			for p := range shares {
				if g := off + gain(p, counts, 1); p != from && g > best {
					to, best = p, g
				}
			}
			if to == from {
				continue
			}
			for s, n := range counts {
				have[from][s] -= float64(n)
				have[to][s] += float64(n)
			}
			of[i], moved = to, true
		}
		if !moved {
			return
		}
	}
}

// compareWants compares what two parts want; rounding does not count.
func compareWants(a, b float64) int {
	if math.Abs(a-b) < 1e-9 {
		return 0
	}
	return cmp.Compare(a, b)
}

// fillEmpty gives each part without groups the smallest group of the part that has most.
func fillEmpty(groups []group, of []int, parts int) {
	count := make([]int, parts)
	for _, p := range of {
		count[p]++
	}
	for p := range count {
		if count[p] > 0 {
			continue
		}
		most := slices.Index(count, slices.Max(count))
		smallest := -1
		for i := range groups {
			if of[i] == most && (smallest < 0 || len(groups[i].samples) < len(groups[smallest].samples)) {
				smallest = i
			}
		}
		of[smallest] = p
		count[most]--
		count[p]++
	}
}
