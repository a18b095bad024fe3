// Package rng draws reproducible random numbers from counter-based streams.
//
// A stream is named by a 64-bit key, and its i-th number is a pure function of (key, i): nothing
// depends on which worker draws first, on how many workers there are, or on where a run was
// resumed. Keys are derived with [Key] from the run's seed, a purpose ("init", "augment",
// "dropout") and whatever else tells one use from another (epoch, sample, layer).
//
// The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014): number i of a stream is its finalizer applied to key + (i+1)*gamma.
// It passes BigCrush and is not for cryptography. Integers and uniforms are the same on every
// machine; normals pass through math.Log and math.Cos and may differ in the last bit between
// processor architectures.
package rng

import (
	"math"
	"math/bits"
)

// gamma is SplitMix64's increment, 2^64 divided by the golden ratio, made odd.
const gamma = 0x9e3779b97f4a7c15

// mix is SplitMix64's finalizer, a bijection of 64-bit words in which every input bit reaches
// every output bit.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Key derives the key of a stream from the run's seed, the purpose of the stream and any further
// numbers that name it; order and number of the further arguments matter.
func Key(seed uint64, purpose string, more ...uint64) uint64 {
	k := absorb(seed, Hash(purpose))
	for _, m := range more {
		k = absorb(k, m)
	}
	return k
}

// absorb takes the word x into the key k; for either argument held fixed it is a bijection of the other.
func absorb(k, x uint64) uint64 { return mix(mix(k+gamma) ^ x) }

// Hash returns the 64-bit FNV-1a hash of s, finalized: a stable number for a name.
func Hash(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// At returns number i (from 0) of the stream with the given key; [Stream.Uint64] walks the same numbers.
func At(key, i uint64) uint64 { return mix(key + (i+1)*gamma) }

// Unit maps a random word to a float64 uniform in [0, 1), a multiple of 2^-53.
func Unit(x uint64) float64 { return float64(x>>11) * 0x1p-53 }

// Stream walks the numbers of one key in order. It is a small value: copying it copies the
// position. A Stream is not safe for concurrent use; give each goroutine its own.
type Stream struct {
	state uint64 // key + i*gamma
}

// New returns the stream with the given key, at its first number.
func New(key uint64) Stream { return Stream{state: key} }

// Uint64 returns the next number of the stream.
func (s *Stream) Uint64() uint64 {
	s.state += gamma
	return mix(s.state)
}

// Float64 returns a number uniform in [0, 1); it uses one number of the stream.
func (s *Stream) Float64() float64 { return Unit(s.Uint64()) }

// Normal returns a number from the normal distribution with mean 0 and variance 1 (Box and
// Muller's transform); it always uses two numbers of the stream.
func (s *Stream) Normal() float64 {
	u := 1 - s.Float64() // in (0, 1]: its logarithm is finite
	v := s.Float64()
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
}

// Intn returns an integer uniform in [0, n) without bias (Lemire's multiplication with
// rejection); it panics unless n is positive.
func (s *Stream) Intn(n int) int {
	if n <= 0 {
		panic("rng: Intn of a number that is not positive")
	}
	m := uint64(n)
	hi, lo := bits.Mul64(s.Uint64(), m)
	if lo < m {
		for reject := -m % m; lo < reject; {
			hi, lo = bits.Mul64(s.Uint64(), m)
		}
	}
	return int(hi)
}

// Perm returns a uniformly random permutation of 0..n-1 (Fisher and Yates' shuffle).
func (s *Stream) Perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := s.Intn(i + 1)
		p[i], p[j] = p[j], p[i]
	}
	return p
}
