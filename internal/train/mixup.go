package train

import (
	"math"
	"slices"

	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/rng"
)

// mixup blends each sample of a batch with the next one, the last with the first (Zhang et al. 2018), by a share
// drawn from Beta(alpha, alpha) that depends on seed, epoch and draw. The targets become those of a losses.Mixed:
// the sample's own, the other's, and the share of the own.
type mixup struct {
	alpha   float64
	seed    uint64
	first   []float32 // a copy of the first sample, the partner of the last
	targets []float32
}

// apply changes the batch's X and Y; Y is the mixup's own memory until the next call.
func (m *mixup) apply(b *data.Batch, epoch int) {
	n := len(b.IDs)
	x, t := len(b.X)/n, len(b.Y)/n
	m.first = append(slices.Grow(m.first[:0], x), b.X[:x]...)
	m.targets = slices.Grow(m.targets[:0], n*(2*t+1))
	for i := range n {
		s := rng.New(rng.Key(m.seed, "mixup", uint64(epoch), b.IDs[i]))
		share := float32(beta(&s, m.alpha))
		other, next := m.first, (i+1)%n
		if next > 0 {
			other = b.X[next*x:][:x] // not blended yet
		}
		blend(b.X[i*x:][:x], other, share)
		m.targets = append(m.targets, b.Y[i*t:][:t]...)
		m.targets = append(m.targets, b.Y[next*t:][:t]...)
		m.targets = append(m.targets, share)
	}
	b.Y = m.targets
}

// bytes is the memory that a mixup of batches of n samples takes, of x values and t targets each.
func (m *mixup) bytes(n, x, t int) int64 { return 4 * (int64(x) + int64(n)*int64(2*t+1)) }

// blend sets x to share*x + (1-share)*other.
func blend(x, other []float32, share float32) {
	for i, v := range other {
		x[i] = share*x[i] + (1-share)*v
	}
}

// beta draws from the symmetric Beta(alpha, alpha) as a ratio of gammas.
func beta(s *rng.Stream, alpha float64) float64 {
	a, b := gamma(s, alpha), gamma(s, alpha)
	if a+b == 0 { // both too small for a float64: alpha is so small that one of the two is all
		return math.Round(s.Float64())
	}
	return a / (a + b)
}

// gamma draws from Gamma(alpha, 1) (Marsaglia & Tsang 2000).
func gamma(s *rng.Stream, alpha float64) float64 {
	scale := 1.0
	if alpha < 1 {
		scale = math.Pow(1-s.Float64(), 1/alpha)
		alpha++
	}
	d := alpha - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := s.Normal()
		v := 1 + c*x
		u := 1 - s.Float64() // in (0, 1]
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(u) < x*x/2+d-d*v+d*math.Log(v) {
			return scale * d * v
		}
	}
}
