package data

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/rng"
)

// group is the samples of one patient.
type group struct {
	name    string
	order   uint64 // random, from the seed and the name
	samples []int
	stratum int
}

// splitOff sets the split of every sample of d: fraction of them val, the others train. Groups
// stay whole. They are drawn in an order that depends on seed and their names alone, stratum by
// stratum, so that rare labels come to both splits: a group's stratum is the rarest label that
// any of its samples has, or for multiclass the rarest class.
func splitOff(d *Dataset, fraction float64, seed uint64) error {
	for i := range d.Samples {
		d.Samples[i].Split = Train
	}
	if fraction == 0 {
		return nil
	}
	groups := gather(d, seed)
	if len(groups) < 2 {
		return errors.New("all samples are of one patient, so no validation split can be split off: name a split column, or set data.val_fraction to 0")
	}
	strata := map[int][]group{}
	for _, g := range groups {
		strata[g.stratum] = append(strata[g.stratum], g)
	}
	var val []group
	var due float64 // validation samples owed by the strata so far
	for _, k := range slices.Sorted(maps.Keys(strata)) {
		for _, g := range strata[k] {
			due += fraction * float64(len(g.samples))
		}
		for _, g := range strata[k] {
			size := float64(len(g.samples))
			if size/2 > due { // nearer to what is due without this group
				break
			}
			due -= size
			val = append(val, g)
		}
	}
	switch len(val) {
	case 0:
		val = groups[:1]
	case len(groups):
		val = val[1:]
	}
	for _, g := range val {
		for _, i := range g.samples {
			d.Samples[i].Split = Val
		}
	}
	return nil
}

// gather returns the groups of d in their random order.
func gather(d *Dataset, seed uint64) []group {
	frequency := map[int]int{}
	for _, s := range d.Samples {
		for _, k := range labelsOf(d.Task, s) {
			frequency[k]++
		}
	}
	index := map[string]int{}
	var groups []group
	key := rng.Key(seed, "split")
	for i, s := range d.Samples {
		k, ok := index[s.Group]
		if !ok {
			k = len(groups)
			index[s.Group] = k
			groups = append(groups, group{name: s.Group, order: rng.At(key, rng.Hash(s.Group)), stratum: -1})
		}
		g := &groups[k]
		g.samples = append(g.samples, i)
		for _, l := range labelsOf(d.Task, s) {
			if g.stratum < 0 || rarer(frequency, l, g.stratum) {
				g.stratum = l
			}
		}
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.name, b.name))
	})
	return groups
}

// rarer reports whether label a is rarer than b; equally rare labels go by their index.
func rarer(frequency map[int]int, a, b int) bool {
	return cmp.Or(frequency[a]-frequency[b], a-b) < 0
}

// labelsOf returns the labels that a sample has, or its class.
func labelsOf(task string, s Sample) []int {
	var has []int
	for k, v := range s.Target {
		switch {
		case math.IsNaN(v):
		case task == Multiclass:
			has = append(has, int(v))
		case v == 1:
			has = append(has, k)
		}
	}
	return has
}
