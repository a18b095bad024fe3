package nn

import (
	"math"

	"github.com/ctclass/ctclass/internal/rng"
)

// Init fills a new tensor of the given shape with values drawn from the stream.
type Init func(s *rng.Stream, shape []int, dst []float32)

// Initialize returns the first values of a parameter, drawn from a stream of its own: they depend on the
// seed, the name and the shape alone. The values are written to buf where it is large enough.
func Initialize(p Param, seed uint64, buf []float32) []float32 {
	n := p.Value.Elements()
	if cap(buf) < n {
		buf = make([]float32, n)
	}
	dst := buf[:n]
	s := rng.New(rng.Key(seed, "init "+p.Value.Name))
	p.Init(&s, p.Value.Shape, dst)
	return dst
}

// Constant fills with one value.
func Constant(v float32) Init {
	return func(_ *rng.Stream, _ []int, dst []float32) {
		for i := range dst {
			dst[i] = v
		}
	}
}

// fans returns the number of inputs that an output sums over and of outputs that an input feeds.
func fans(shape []int) (in, out float64) {
	receptive := 1
	for _, s := range shape[2:] {
		receptive *= s
	}
	return float64(shape[1] * receptive), float64(shape[0] * receptive)
}

// KaimingFanOut draws from a normal distribution of variance 2/fan_out (He et al. 2015).
func KaimingFanOut(s *rng.Stream, shape []int, dst []float32) {
	_, out := fans(shape)
	normal(s, math.Sqrt(2/out), dst)
}

// KaimingFanIn draws from a normal distribution of variance 2/fan_in (He et al. 2015).
func KaimingFanIn(s *rng.Stream, shape []int, dst []float32) {
	in, _ := fans(shape)
	normal(s, math.Sqrt(2/in), dst)
}

func normal(s *rng.Stream, sigma float64, dst []float32) {
	for i := range dst {
		dst[i] = float32(sigma * s.Normal())
	}
}

// UniformFan draws uniformly from ±1/√fanIn: PyTorch's default for weights and biases of linear layers and
// convolutions.
func UniformFan(fanIn int) Init {
	bound := 1 / math.Sqrt(float64(fanIn))
	return func(s *rng.Stream, _ []int, dst []float32) {
		for i := range dst {
			dst[i] = float32((2*s.Float64() - 1) * bound)
		}
	}
}

// TruncatedNormal draws from a normal distribution of the given deviation, cut at ±2.
func TruncatedNormal(sigma float64) Init {
	return func(s *rng.Stream, _ []int, dst []float32) {
		for i := range dst {
			v := sigma * s.Normal()
			for math.Abs(v) > 2 {
				v = sigma * s.Normal()
			}
			dst[i] = float32(v)
		}
	}
}
