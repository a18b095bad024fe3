package rng

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The published outputs of SplitMix64 for the seed 1234567.
func TestStreamIsSplitMix64(t *testing.T) {
	want := []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821}
	s := New(1234567)
	for i, w := range want {
		if got := s.Uint64(); got != w {
			t.Errorf("number %d: got %d, want %d", i, got, w)
		}
		if got := At(1234567, uint64(i)); got != w {
			t.Errorf("At(%d): got %d, want %d", i, got, w)
		}
	}
}

// Values from an independent implementation with big integers.
func TestKnownAnswers(t *testing.T) {
	keys := []struct {
		seed    uint64
		purpose string
		more    []uint64
		want    uint64
	}{
		{0, "init", nil, 0xa71034eafa68cbd8},
		{1, "augment", []uint64{0, 7}, 0xa6e94d1c5d1c8583},
		{1, "augment", []uint64{7, 0}, 0xb06c440e36716f5c},
		{42, "dropout", []uint64{3}, 0xd43388bd35eb64d9},
	}
	for _, k := range keys {
		if got := Key(k.seed, k.purpose, k.more...); got != k.want {
			t.Errorf("Key(%d, %q, %v) = %#x, want %#x", k.seed, k.purpose, k.more, got, k.want)
		}
	}
	if got := Hash("foobar"); got != 0x404da9e3b74078c2 {
		t.Errorf("Hash(foobar) = %#x", got)
	}
	s := New(Key(1, "augment", 0, 7))
	for i, want := range []float64{0.6682816574624533, 0.9999781836121416, 0.5442516947448021} {
		if got := s.Float64(); got != want {
			t.Errorf("uniform %d: got %v, want %v", i, got, want)
		}
	}
	s = New(Key(0, "init"))
	for i, want := range []float64{-1.3932048952055918, -0.8705283294505433, 0.05474903859596411} {
		if got := s.Normal(); math.Abs(got-want) > 1e-14 {
			t.Errorf("normal %d: got %v, want %v", i, got, want)
		}
	}
	s = New(Key(5, "shuffle", 2))
	if got, want := s.Perm(10), []int{0, 5, 8, 7, 2, 1, 6, 4, 3, 9}; !slices.Equal(got, want) {
		t.Errorf("permutation: got %v, want %v", got, want)
	}
}

func TestKeysDiffer(t *testing.T) {
	seen := map[uint64]string{}
	add := func(name string, key uint64) {
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have the same key", name, other)
		}
		seen[key] = name
	}
	add("no seed, no purpose", Key(0, ""))
	add("one zero", Key(0, "", 0))
	add("two zeros", Key(0, "", 0, 0))
	add("seed 1", Key(1, ""))
	add("a", Key(0, "a"))
	add("a 1 2", Key(0, "a", 1, 2))
	add("a 2 1", Key(0, "a", 2, 1))
	add("seed 1, a 2", Key(1, "a", 2))
	add("seed 2, a 1", Key(2, "a", 1))
}

// Moments of 200 000 draws against the distributions' own, within five standard errors.
func TestMoments(t *testing.T) {
	const n = 200000
	s := New(Key(3, "moments"))
	var sum, sq float64
	for range n {
		u := s.Float64()
		if u < 0 || u >= 1 {
			t.Fatalf("uniform %v outside [0, 1)", u)
		}
		sum += u
		sq += (u - 0.5) * (u - 0.5)
	}
	if mean := sum / n; math.Abs(mean-0.5) > 5*math.Sqrt(1.0/12/n) {
		t.Errorf("mean of uniforms %v", mean)
	}
	if v := sq / n; math.Abs(v-1.0/12) > 5*math.Sqrt(1.0/180/n) {
		t.Errorf("variance of uniforms %v", v)
	}
	sum, sq = 0, 0
	var beyond int
	for range n {
		x := s.Normal()
		sum += x
		sq += x * x
		if math.Abs(x) > 1.959963985 {
			beyond++
		}
	}
	if mean := sum / n; math.Abs(mean) > 5/math.Sqrt(n) {
		t.Errorf("mean of normals %v", mean)
	}
	if v := sq / n; math.Abs(v-1) > 5*math.Sqrt(2.0/n) {
		t.Errorf("variance of normals %v", v)
	}
	if share := float64(beyond) / n; math.Abs(share-0.05) > 5*math.Sqrt(0.05*0.95/n) {
		t.Errorf("share of normals beyond 1.96: %v, want 0.05", share)
	}
}

// Each of the 24 orders of four things comes up about equally often (chi-square, 23 degrees of
// freedom: 58 has probability below 1e-4).
func TestPermIsUniform(t *testing.T) {
	const n = 24000
	counts := map[[4]int]int{}
	s := New(Key(9, "perm"))
	for range n {
		counts[[4]int(s.Perm(4))]++
	}
	if len(counts) != 24 {
		t.Fatalf("%d orders of 4 things, want 24", len(counts))
	}
	var chi float64
	for _, c := range counts {
		d := float64(c) - n/24
		chi += d * d / (n / 24)
	}
	if chi > 58 {
		t.Errorf("chi-square %v over the orders", chi)
	}
}

func TestPermIsPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		s := New(rapid.Uint64().Draw(t, "key"))
		p := s.Perm(n)
		slices.Sort(p)
		for i, v := range p {
			if i != v {
				t.Fatalf("not a permutation of 0..%d: %v", n-1, p)
			}
		}
		if v := s.Intn(n + 1); v < 0 || v > n {
			t.Fatalf("Intn(%d) = %d", n+1, v)
		}
	})
}
