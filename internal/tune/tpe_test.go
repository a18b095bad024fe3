package tune

import (
	"math"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/rng"
)

// The densities are densities: their integral over the range is 1, and they are what is drawn.
func TestParzen(t *testing.T) {
	for name, d := range map[string]dimension{
		"linear": {low: -3, high: 5},
		"log":    {low: 1e-5, high: 1e-1, log: true},
		"steps":  {low: 1, high: 9, step: 2},
	} {
		for _, seen := range [][]float64{nil, {d.at(0.1)}, {d.at(0.2), d.at(0.21), d.at(0.9), d.low, d.high, d.at(0.5)}} {
			p := newParzen(d, seen)
			low, high := d.bounds()
			const n = 20000
			sum, mean := 0.0, 0.0
			for i := range n {
				x := low + (float64(i)+0.5)*(high-low)/n
				density := math.Exp(p.logDensity(x)) * (high - low) / n
				sum += density
				mean += x * density
			}
			if math.Abs(sum-1) > 1e-4 {
				t.Errorf("%s of %d: the density sums to %v", name, len(seen), sum)
			}
			s := rng.New(3)
			drawn := 0.0
			for range n {
				x := p.draw(&s)
				if !(x >= low && x <= high) {
					t.Fatalf("%s: drew %v beyond %v to %v", name, x, low, high)
				}
				drawn += x / n
			}
			// The mean of n draws has a standard deviation of at most (high-low)/(2√n).
			if math.Abs(drawn-mean) > 4*(high-low)/(2*math.Sqrt(n)) {
				t.Errorf("%s of %d: the mean drawn is %v, of the density %v", name, len(seen), drawn, mean)
			}
		}
	}
}

// A density is computed by hand: one observation in the middle of a quarter.
func TestParzenByHand(t *testing.T) {
	p := newParzen(dimension{low: 0, high: 4}, []float64{1})
	// The observation reaches 1 to the left and right, as its neighbours are the end and the prior; the prior, at 2,
	// over the whole range. Both are cut at 0 and 4.
	normal := func(x, m, sd float64) float64 { return math.Exp(-(x-m)*(x-m)/(2*sd*sd)) / (sd * math.Sqrt(2*math.Pi)) }
	phi := func(z float64) float64 { return 0.5 * (1 + math.Erf(z/math.Sqrt2)) }
	x := 1.5
	narrow := 4.0 / 3 // no narrower than the range over one more than the distributions
	want := 0.5*normal(x, 1, narrow)/(phi((4-1)/narrow)-phi(-1/narrow)) + 0.5*normal(x, 2, 4)/(phi(0.5)-phi(-0.5))
	if got := math.Exp(p.logDensity(x)); math.Abs(got-want) > 1e-12 {
		t.Errorf("density %v, want %v", got, want)
	}
	c := newParzen(dimension{choices: 4}, []float64{2, 2, 0})
	for i, want := range []float64{0.3125, 0.0625, 0.5625, 0.0625} {
		if got := math.Exp(c.logDensity(float64(i))); math.Abs(got-want) > 1e-15 {
			t.Errorf("choice %d has the share %v, want %v", i, got, want)
		}
	}
}

// bowl is a function of three numbers and a choice with its minimum of 0 at 2, 1e-3, 0.7 and 1.
func bowl(v []float64) float64 {
	l := math.Log10(v[1]) + 3
	return (v[0]-2)*(v[0]-2)/25 + l*l + (v[2]-0.7)*(v[2]-0.7)*4 + math.Abs(v[3]-1)/2
}

// search returns the best of n trials.
func search(n int, seed uint64, observe bool) float64 {
	dims := []dimension{{low: -10, high: 10}, {low: 1e-5, high: 1e-1, log: true}, {low: 0, high: 1}, {choices: 3}}
	var seen []observation
	best := math.Inf(1)
	for i := range n {
		s := rng.New(rng.Key(seed, "test", uint64(i)))
		o := observation{values: propose(dims, seen, &s)}
		o.score = bowl(o.values)
		best = min(best, o.score)
		if observe {
			seen = append(seen, o)
		}
	}
	return best
}

// TestEstimatorBeatsChance compares the medians of 40 searches of 60 trials.
func TestEstimatorBeatsChance(t *testing.T) {
	var tpe, random []float64
	for seed := range uint64(40) {
		tpe = append(tpe, search(60, seed, true))
		random = append(random, search(60, seed, false))
	}
	slices.Sort(tpe)
	slices.Sort(random)
	t.Logf("medians: %.4f, by chance %.4f", tpe[20], random[20])
	if !(tpe[20] < random[20]/4) {
		t.Errorf("medians: %v, by chance %v", tpe[20], random[20])
	}
}

func TestRound(t *testing.T) {
	d := dimension{low: 0.1, high: 0.95, step: 0.2}
	for v, want := range map[float64]float64{0: 0.1, 0.19: 0.1, 0.21: 0.3, 0.3: 0.3, 0.85: 0.9, 5: 0.9} {
		if got := d.round(v); got != want {
			t.Errorf("%v becomes %v, want %v", v, got, want)
		}
	}
	if got := (dimension{low: 1, high: 8, log: true, step: 1}).round(2.6); got != 3 {
		t.Errorf("2.6 becomes %v", got)
	}
	if got := (dimension{choices: 3}).at(0.999); got != 2 {
		t.Errorf("choice %v", got)
	}
}
