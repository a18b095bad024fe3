package eval

import (
	"math"
	"testing"

	"github.com/ctclass/ctclass/internal/rng"
)

// covered reports whether the interval of a measure of a label holds the truth.
func covered(t *testing.T, r *Report, measure string, truth float64) bool {
	t.Helper()
	v, ok := r.Labels[0].Intervals[measure]
	if !ok {
		t.Fatalf("no interval for %s", measure)
	}
	return float64(v.Low) <= truth && truth <= float64(v.High)
}

// phi is the distribution function of the normal distribution.
func phi(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }

// The intervals of the AUROC of 100 positives and 100 negatives, and of the sensitivity and specificity at a threshold,
// hold the true values in 93 to 97 of 100 samples. Scores are normal, the positives' by d higher: the AUROC is Φ(d/√2).
func TestCoverage(t *testing.T) {
	const n, rounds = 100, 2000
	for i, area := range []float64{0.6, 0.75, 0.9} {
		d := 2 * math.Erfinv(2*area-1)
		const cut = 0.5
		sensitivity, specificity := 1-phi(cut-d), phi(cut)
		s := rng.New(rng.Key(9, "coverage", uint64(i)))
		var hits [3]int
		for range rounds {
			c := &Cases{Task: Binary, Labels: []string{"x"}}
			for k := range 2 * n {
				y := float64(k % 2)
				// A probability, of which only the order matters; the cut becomes 1/2.
				p := 1 / (1 + math.Exp(cut-(s.Normal()+y*d)))
				c.Prob, c.Target = append(c.Prob, []float64{p}), append(c.Target, []float64{y})
			}
			r, err := Analyze(c, Options{Thresholds: half("x")})
			if err != nil {
				t.Fatal(err)
			}
			for k, m := range []struct {
				name  string
				truth float64
			}{{"auroc", area}, {"sensitivity", sensitivity}, {"specificity", specificity}} {
				if covered(t, r, m.name, m.truth) {
					hits[k]++
				}
			}
		}
		t.Logf("AUROC %v: coverage %v of %d", area, hits, rounds)
		for k, h := range hits {
			if share := float64(h) / rounds; share < 0.93 || share > 0.97 {
				t.Errorf("AUROC %v, measure %d: the intervals hold the truth in %.1f %%", area, k, 100*share)
			}
		}
	}
}

// Patients with several alike scans are what counts: intervals by patient hold the truth, intervals by scan do not.
func TestCoverageOfClusters(t *testing.T) {
	const patients, scans, rounds, resamples = 120, 4, 300, 200
	const area = 0.8
	d := 2 * math.Erfinv(2*area-1)
	s := rng.New(rng.Key(9, "clusters"))
	var byPatient, byScan, shares int
	for range rounds {
		c := &Cases{Task: Binary, Labels: []string{"x"}}
		for p := range patients {
			y := float64(p % 2)
			own := s.Normal() * math.Sqrt(0.8) // what the scans of a patient have in common
			for range scans {
				score := own + s.Normal()*math.Sqrt(0.2) + y*d
				c.Prob = append(c.Prob, []float64{1 / (1 + math.Exp(0.5-score))})
				c.Target = append(c.Target, []float64{y})
				c.Patients = append(c.Patients, string(rune('A'+p)))
			}
		}
		r, err := Analyze(c, Options{Thresholds: half("x"), Resamples: resamples, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if r.Patients != patients || r.Labels[0].Intervals["auroc"].Method != Bootstrap {
			t.Fatalf("%d patients, method %s", r.Patients, r.Labels[0].Intervals["auroc"].Method)
		}
		if covered(t, r, "auroc", area) {
			byPatient++
		}
		if covered(t, r, "sensitivity", 1-phi(0.5-d)) {
			shares++
		}
		c.Patients = nil
		if r, err = Analyze(c, Options{Thresholds: half("x")}); err != nil {
			t.Fatal(err)
		}
		if covered(t, r, "auroc", area) {
			byScan++
		}
	}
	t.Logf("by patient %d and %d, by scan %d of %d", byPatient, shares, byScan, rounds)
	for _, hits := range []int{byPatient, shares} {
		if share := float64(hits) / rounds; share < 0.91 || share > 0.98 { // two standard errors around 93 to 97
			t.Errorf("intervals by patient hold the truth in %.1f %%", 100*share)
		}
	}
	if share := float64(byScan) / rounds; share > 0.85 {
		t.Errorf("intervals that take scans for patients hold the truth in %.1f %%: the test says nothing", 100*share)
	}
}
