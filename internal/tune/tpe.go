package tune

import (
	"math"
	"slices"

	"github.com/ctclass/ctclass/internal/rng"
)

const (
	startup    = 10 // trials with a value before the estimator proposes; until then settings are drawn at random
	candidates = 24 // drawn for each parameter, of which the most promising one is taken
	bestShare  = 0.1
	bestMost   = 25
)

// dimension is the range of one parameter: numbers, or choices numbered from 0.
type dimension struct {
	low, high float64
	log       bool
	step      float64 // 0: any number
	choices   int     // above 0: no range
}

// observation is a trial that has a value.
type observation struct {
	values []float64 // one a dimension
	score  float64   // the smaller the better
}

// propose returns values for a trial. It depends on the observations and the stream alone.
func propose(dims []dimension, seen []observation, s *rng.Stream) []float64 {
	values := make([]float64, len(dims))
	if len(seen) < startup {
		for i, d := range dims {
			values[i] = d.round(d.at(s.Float64()))
		}
		return values
	}
	sorted := slices.Clone(seen)
	slices.SortStableFunc(sorted, func(a, b observation) int {
		if a.score < b.score {
			return -1
		}
		if a.score > b.score {
			return 1
		}
		return 0
	})
	n := min(int(math.Ceil(bestShare*float64(len(sorted)))), bestMost)
	for i, d := range dims {
		column := func(list []observation) []float64 {
			var x []float64
			for _, o := range list {
				x = append(x, o.values[i])
			}
			return x
		}
		good, rest := newParzen(d, column(sorted[:n])), newParzen(d, column(sorted[n:]))
		best := math.Inf(-1)
		for range candidates {
			x := d.round(d.back(good.draw(s)))
			if gain := good.logDensity(d.into(x)) - rest.logDensity(d.into(x)); gain > best {
				best, values[i] = gain, x
			}
		}
	}
	return values
}

// at returns the value at a share of the range.
func (d dimension) at(share float64) float64 {
	if d.choices > 0 {
		return min(math.Floor(share*float64(d.choices)), float64(d.choices-1))
	}
	low, high := d.bounds()
	return d.back(low + share*(high-low))
}

// bounds are the ends of the range as the estimator sees it: with half a step more on each side, so that the ends
// are as likely as the steps between, and as logarithms.
func (d dimension) bounds() (low, high float64) {
	low, high = d.low-d.step/2, d.high+d.step/2
	if d.log {
		return math.Log(max(low, d.low/2)), math.Log(high)
	}
	return low, high
}

// into and back go between a value and where the estimator sees it.
func (d dimension) into(v float64) float64 {
	if d.log {
		return math.Log(v)
	}
	return v
}

func (d dimension) back(x float64) float64 {
	if d.log {
		return math.Exp(x)
	}
	return x
}

// round puts a value on a step within the range.
func (d dimension) round(v float64) float64 {
	if d.choices > 0 {
		return v
	}
	if d.step > 0 {
		steps := math.Floor((d.high-d.low)/d.step + 1e-9)
		k := min(max(math.Round((v-d.low)/d.step), 0), steps)
		// The shortest number near it: 0.1 + 2·0.1 is 0.3.
		return math.Round((d.low+k*d.step)*1e12) / 1e12
	}
	return min(max(v, d.low), d.high)
}

// parzen is a density: a mixture of normal distributions cut at the ends of the range, one around each observation
// and a broad one over the whole range; or shares of choices.
type parzen struct {
	low, high  float64
	mean, sd   []float64
	inside     []float64 // of each normal distribution, the probability between the ends
	below      []float64 // and that before the lower end
	proportion []float64 // of the choices
}

// newParzen estimates the density of observed values.
func newParzen(d dimension, values []float64) *parzen {
	if d.choices > 0 {
		p := &parzen{proportion: make([]float64, d.choices)}
		prior := 1 / float64(d.choices)
		for i := range p.proportion {
			p.proportion[i] = prior / float64(len(values)+1)
		}
		for _, v := range values {
			p.proportion[int(v)] += 1 / float64(len(values)+1)
		}
		return p
	}
	p := &parzen{}
	p.low, p.high = d.bounds()
	width := p.high - p.low
	middle := (p.low + p.high) / 2
	for _, v := range values {
		p.mean = append(p.mean, d.into(v))
	}
	p.mean = append(p.mean, middle)
	slices.Sort(p.mean)
	prior := slices.Index(p.mean, middle)
	// Each distribution reaches to the farther neighbour.
	narrowest := width / min(100, float64(len(p.mean)+1))
	for i, m := range p.mean {
		sd := narrowest
		if i > 0 {
			sd = max(sd, m-p.mean[i-1])
		}
		if i+1 < len(p.mean) {
			sd = max(sd, p.mean[i+1]-m)
		}
		if i == prior {
			sd = width
		}
		p.sd = append(p.sd, sd)
		below := normalCDF((p.low - m) / sd)
		p.below = append(p.below, below)
		p.inside = append(p.inside, normalCDF((p.high-m)/sd)-below)
	}
	return p
}

// draw returns a sample.
func (p *parzen) draw(s *rng.Stream) float64 {
	if p.proportion != nil {
		u := s.Float64()
		for i, share := range p.proportion {
			if u -= share; u < 0 {
				return float64(i)
			}
		}
		return float64(len(p.proportion) - 1)
	}
	i := s.Intn(len(p.mean))
	z := math.Sqrt2 * math.Erfinv(2*(p.below[i]+s.Float64()*p.inside[i])-1)
	return min(max(p.mean[i]+p.sd[i]*z, p.low), p.high)
}

// logDensity returns the logarithm of the density at x, for choices of the share.
func (p *parzen) logDensity(x float64) float64 {
	if p.proportion != nil {
		return math.Log(p.proportion[int(x)])
	}
	var sum float64
	for i, m := range p.mean {
		z := (x - m) / p.sd[i]
		sum += math.Exp(-z*z/2) / (p.sd[i] * p.inside[i])
	}
	return math.Log(sum / (math.Sqrt(2*math.Pi) * float64(len(p.mean))))
}

func normalCDF(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }
