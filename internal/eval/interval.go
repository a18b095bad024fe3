package eval

import (
	"math"
	"slices"
)

// Confidence is the level of all intervals.
const Confidence = 0.95

// quantile is that of the normal distribution for two-sided intervals of the level Confidence.
func quantile() float64 { return math.Sqrt2 * math.Erfinv(Confidence) }

// The methods by which intervals are made.
const (
	DeLong    = "delong"    // AUROC: DeLong's variance, on the logit scale
	Newcombe  = "newcombe"  // AUROC where DeLong's variance is nothing: Newcombe's method 5
	Wilson    = "wilson"    // proportions: Wilson's score, with the effective sample size of Rao and Scott
	Bootstrap = "bootstrap" // percentiles over resampled patients
)

// Interval is a confidence interval.
type Interval struct {
	Low    Score  `json:"low"`
	High   Score  `json:"high"`
	Method string `json:"method"`
}

// Intervals are the intervals of measures, by their JSON name. A measure without one has none that is defined.
type Intervals map[string]Interval

// wilson returns Wilson's score interval (JASA 1927) of a share of n, which need not be a whole number.
func wilson(share, n float64) Interval {
	z := quantile()
	middle := (share + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(share*(1-share)/n+z*z/(4*n*n))
	low, high := middle-half, middle+half
	if share == 0 { // exactly, where rounding leaves a trace
		low = 0
	}
	if share == 1 {
		high = 1
	}
	return Interval{Score(max(low, 0)), Score(min(high, 1)), Wilson}
}

// proportion returns the interval of the ratio Σa/Σb over patients, of whom each brings b cases, a of them counted.
// Where patients bring more than one, the sample size is divided by the design effect (Rao and Scott, Biometrics 1992),
// of at least 1; at a ratio of 0 or 1, which has no such effect, it is the number of patients.
func proportion(a, b []int) (Interval, bool) {
	sumA, sumB, units := 0, 0, 0
	clustered := false
	for i := range b {
		sumA += a[i]
		sumB += b[i]
		if b[i] > 0 {
			units++
		}
		clustered = clustered || b[i] > 1
	}
	if sumB == 0 {
		return Interval{}, false
	}
	n := float64(sumB)
	share := float64(sumA) / n
	if !clustered {
		return wilson(share, n), true
	}
	if share == 0 || share == 1 || units < 2 {
		return wilson(share, float64(units)), true
	}
	squares := 0.0
	for i := range b {
		d := float64(a[i]) - share*float64(b[i])
		squares += d * d
	}
	variance := squares / (n * n) * float64(units) / float64(units-1)
	effect := variance / (share * (1 - share) / n)
	return wilson(share, n/max(effect, 1)), true
}

// proportions returns the intervals of the shares that counts give, of predictions resampled by patient.
func (r *ranked) proportions(units int) Intervals {
	out := Intervals{}
	share := func(name string, in func(positive, predicted bool) (counts, hit bool)) {
		a, b := make([]int, units), make([]int, units)
		for i, u := range r.unit {
			counts, hit := in(r.positive[i], r.predicted[i])
			if counts {
				b[u]++
			}
			if counts && hit {
				a[u]++
			}
		}
		if v, ok := proportion(a, b); ok {
			out[name] = v
		}
	}
	share("accuracy", func(positive, predicted bool) (bool, bool) { return true, positive == predicted })
	share("sensitivity", func(positive, predicted bool) (bool, bool) { return positive, predicted })
	share("specificity", func(positive, predicted bool) (bool, bool) { return !positive, !predicted })
	share("ppv", func(positive, predicted bool) (bool, bool) { return predicted, positive })
	share("npv", func(positive, predicted bool) (bool, bool) { return !predicted, !positive })
	return out
}

// percentiles returns the interval that holds the middle of the defined values, and reports whether enough of them are,
// 19 of 20, and whether it has a width too. Without one it says nothing: resamples of cases without a mistake have none
// either.
func percentiles(values []float64) (v Interval, wide, enough bool) {
	defined := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(defined) < 2 || 20*len(defined) < 19*len(values) {
		return Interval{}, false, false
	}
	slices.Sort(defined)
	at := func(share float64) Score { // linear between neighbours
		x := share * float64(len(defined)-1)
		i := min(int(x), len(defined)-2)
		return Score(defined[i] + (x-float64(i))*(defined[i+1]-defined[i]))
	}
	v = Interval{at((1 - Confidence) / 2), at((1 + Confidence) / 2), Bootstrap}
	return v, v.Low < v.High, true
}
