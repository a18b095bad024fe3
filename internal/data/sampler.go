package data

import (
	"math"
	"slices"

	"github.com/ctclass/ctclass/internal/rng"
)

// Sampler says which samples an epoch draws; every epoch has as many draws as there are samples.
type Sampler int

// The samplers. All but Each draw anew in each epoch.
const (
	Each       Sampler = iota // each sample once
	Balanced                  // with replacement, each class with the same probability
	ClassAware                // the classes in turn, each class's samples one after the other (Shen et al. 2016)
)

// classesOf groups the samples by class. Of a binary task the classes are the negatives and the positives, of a
// multiclass task its classes, and of a multilabel task the samples without any finding and the positives of each
// label. A sample without a known label is in none. task is binary, multilabel or multiclass.
func classesOf(samples []Sample, task string) [][]int {
	byClass := map[int][]int{}
	for i, s := range samples {
		if task == Multiclass {
			if t := s.Target[0]; !math.IsNaN(t) {
				byClass[int(t)] = append(byClass[int(t)], i)
			}
			continue
		}
		known, found := false, false
		for c, t := range s.Target {
			known = known || !math.IsNaN(t)
			if t == 1 {
				found = true
				byClass[c+1] = append(byClass[c+1], i)
			}
		}
		if known && !found {
			byClass[0] = append(byClass[0], i)
		}
	}
	var classes [][]int
	for c := range maxKey(byClass) + 1 {
		if len(byClass[c]) > 0 {
			classes = append(classes, byClass[c])
		}
	}
	return classes
}

func maxKey(m map[int][]int) int {
	top := -1
	for k := range m {
		top = max(top, k)
	}
	return top
}

// balanced draws n of n samples, each with a probability that is inverse to the size of the rarest of its classes.
func balanced(s *rng.Stream, classes [][]int, n int) []int {
	weight := make([]float64, n)
	for _, class := range classes {
		for _, i := range class {
			weight[i] = max(weight[i], 1/float64(len(class)))
		}
	}
	sums := make([]float64, n)
	var total float64
	for i, w := range weight {
		total += w
		sums[i] = total
	}
	order := make([]int, n)
	for k := range order {
		x := s.Float64() * total
		// The first whose sum is beyond x: one of weight 0 is never it.
		at, _ := slices.BinarySearchFunc(sums, x, func(sum, x float64) int {
			if sum <= x {
				return -1
			}
			return 1
		})
		order[k] = min(at, n-1)
	}
	return order
}

// classAware draws n samples: the classes in a random order, again and again, and from each the next of its
// samples, which are shuffled anew when all were drawn.
func classAware(s *rng.Stream, classes [][]int, n int) []int {
	left := make([][]int, len(classes))
	var order, turn []int
	for len(order) < n {
		if len(turn) == 0 {
			turn = s.Perm(len(classes))
		}
		c := turn[0]
		turn = turn[1:]
		if len(left[c]) == 0 {
			left[c] = s.Perm(len(classes[c]))
		}
		order = append(order, classes[c][left[c][0]])
		left[c] = left[c][1:]
	}
	return order
}

// Order returns the draws of an epoch: indices into the samples.
func (l *Loader) Order(epoch int) []int {
	n := len(l.samples)
	s := rng.New(rng.Key(l.o.Seed, "shuffle", uint64(epoch)))
	switch {
	case l.o.Sampler == Balanced:
		return balanced(&s, l.byClass, n)
	case l.o.Sampler == ClassAware:
		return classAware(&s, l.byClass, n)
	case l.o.Shuffle:
		return s.Perm(n)
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

// draws returns the number that names each draw of an order in random streams: the sample's ID, or one derived
// from it where the sample has been drawn before, so that it is augmented anew.
func (l *Loader) draws(order []int) []uint64 {
	seen := make([]uint64, len(l.samples))
	ids := make([]uint64, len(order))
	for k, i := range order {
		ids[k] = l.samples[i].ID
		if seen[i] > 0 {
			ids[k] = rng.Key(ids[k], "drawn again", seen[i])
		}
		seen[i]++
	}
	return ids
}
