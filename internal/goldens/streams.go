package goldens

import (
	"fmt"
	"hash/fnv"
	"math"
	"strings"
)

// Uniform returns the first n values of the stream name, multiples of 2^-23 in [-1, 1), exact in float32.
// Value i (from 1) is the splitmix64 finaliser of h + i*0x9E3779B97F4A7C15 modulo 2^64, h the FNV-1a hash of
// the name; its upper 24 bits (z>>40) times 2^-23, minus 1.
func Uniform(name string, n int) []float64 {
	hash := fnv.New64a()
	hash.Write([]byte(name)) // never fails
	state := hash.Sum64()
	u := make([]float64, n)
	for i := range u {
		state += 0x9E3779B97F4A7C15
		z := state
		z ^= z >> 30
		z *= 0xBF58476D1CE4E5B9
		z ^= z >> 27
		z *= 0x94D049BB133111EB
		z ^= z >> 31
		u[i] = float64(z>>40)*0x1p-23 - 1 // exact in every step
	}
	return u
}

// Input returns n elements of an input stream in float32.
func Input(stream string, n int) []float32 {
	x := make([]float32, n)
	for i, u := range Uniform(stream, n) {
		x[i] = float32(u)
	}
	return x
}

// Targets returns the n binary targets of a stream: 1 where the uniform value exceeds 0.2, else 0.
func Targets(stream string, n int) []float32 {
	t := make([]float32, n)
	for i, u := range Uniform(stream, n) {
		if u > 0.2 {
			t[i] = 1
		}
	}
	return t
}

// ParamValue returns the values of the parameter or buffer with a state_dict name and shape, row-major. A
// rank that no rule covers (num_batches_tracked, say) is an error.
func ParamValue(name string, shape []int) ([]float32, error) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	scale, shift, err := paramRule(name, shape)
	if err != nil {
		return nil, err
	}
	values := make([]float32, n)
	for i, u := range Uniform(name, n) {
		values[i] = affine(u, scale, shift)
	}
	return values, nil
}

// paramRule returns scale and shift of a parameter's uniform values.
func paramRule(name string, shape []int) (scale, shift float64, err error) {
	fanIn := 1
	for i, d := range shape {
		if i > 0 {
			fanIn *= d
		}
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case strings.HasSuffix(last, "running_var"):
		return 0.5, 1, nil
	case strings.HasSuffix(last, "running_mean"):
		return 0.1, 0, nil
	case last == "cls_token" || last == "pos_embed":
		return 0.05, 0, nil
	case len(shape) == 1 && strings.HasSuffix(last, "weight"):
		return 0.1, 1, nil
	case len(shape) == 1:
		return 0.1, 0, nil
	case len(shape) == 5:
		return math.Sqrt(6 / float64(fanIn)), 0, nil
	case len(shape) == 2:
		return math.Sqrt(3 / float64(fanIn)), 0, nil
	}
	return 0, 0, fmt.Errorf("goldens: no rule gives values to %s of shape %v", name, shape)
}

// affine returns scale*u + shift in float64, each operation rounded (no fused multiply-add), then in float32.
func affine(u, scale, shift float64) float32 {
	return float32(float64(scale*u) + shift)
}
