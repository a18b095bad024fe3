package kernels

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBestCandidate(t *testing.T) {
	times := ConvTimes{[]Algorithm{Direct, Winograd2, Winograd4}, []time.Duration{100, 96, 90}}
	for usual, want := range map[Algorithm]Algorithm{Direct: Winograd4, Winograd2: Winograd4, Winograd4: Winograd4} {
		if got := times.Best(usual); got != want {
			t.Errorf("usual %v: chose %v, want %v", usual, got, want)
		}
	}
	times.Took = []time.Duration{104, 100, 101}
	for usual := Direct; usual <= Winograd4; usual++ {
		if got := times.Best(usual); got != usual {
			t.Errorf("noise makes %v of %v", got, usual)
		}
	}
}

// TestTuningChoice: a table decides for the shapes that it names, with candidates only, and survives its file's form.
func TestTuningChoice(t *testing.T) {
	wide := ConvSpec{In: Channels{64}, Out: Channels{64}, Size: cube(16), Kernel: cube(3), Stride: cube(1), Pad: cube(1)}
	slim := wide
	slim.Out = Channels{16}
	strided := wide
	strided.Stride = cube(2)
	other := wide
	other.Pad = cube(0)
	table := Tuning{
		wide.Key():    {Direct, Winograd2, Winograd4},
		slim.Key():    {Winograd4, Direct, Winograd4}, // its rounding would be too coarse
		strided.Key(): {Winograd2, Winograd2, Winograd2},
	}
	raw, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	var read Tuning
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	usual := DefaultChoice(slim, AVX2)
	for _, tc := range []struct {
		spec ConvSpec
		want ConvChoice
	}{
		{wide, ConvChoice{Direct, Winograd2, Winograd4}},
		{slim, ConvChoice{usual[Forward], Direct, usual[BackwardWeights]}},
		{strided, ConvChoice{}},
		{other, DefaultChoice(other, AVX2)},
	} {
		if got := read.Choice(tc.spec, AVX2); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.spec.Key(), got, tc.want)
		}
		if got := Tuning(nil).Choice(tc.spec, AVX2); got != DefaultChoice(tc.spec, AVX2) {
			t.Errorf("%s without a table: %v", tc.spec.Key(), got)
		}
	}
	segments := wide
	segments.In = Channels{24, 32}
	if segments.Key() != wide.Key() {
		t.Errorf("channels in segments: %q, want %q", segments.Key(), wide.Key())
	}
}

// TestUsualChoicesAreCandidates over random shapes: what is measured holds what would be taken without.
func TestUsualChoicesAreCandidates(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	for range 500 {
		k := []int{1, 3, 3, 3, 7}[r.IntN(5)]
		s := ConvSpec{
			In: Channels{1 + r.IntN(300)}, Out: Channels{1 + r.IntN(300)}, Size: [3]int{k + r.IntN(90), k + r.IntN(90), k + r.IntN(90)},
			Kernel: cube(k), Stride: cube(1 + r.IntN(2)), Pad: cube(k / 2),
		}
		if k == 7 {
			s.In, s.PlainIn = Channels{1}, true
		}
		for pass, a := range DefaultChoice(s, AVX2) {
			if !slices.Contains(Candidates(s, pass), a) {
				t.Errorf("%s %s: %v of %v", s.Key(), PassName(pass), a, Candidates(s, pass))
			}
		}
	}
}

func TestMeasureConv(t *testing.T) {
	m := testMachine(t, Best(), 2)
	for _, s := range []ConvSpec{
		{In: Channels{32}, Out: Channels{48}, Size: [3]int{3, 7, 5}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)},
		{In: Channels{1}, Out: Channels{16}, PlainIn: true, Size: cube(9), Kernel: cube(7), Stride: cube(2), Pad: cube(3)},
	} {
		for pass := range 3 {
			got := m.MeasureConv(s, 2, pass, 1)
			if !slices.Equal(got.Candidates, Candidates(s, pass)) || len(got.Took) != len(got.Candidates) || slices.Min(got.Took) <= 0 || slices.Max(got.Took) > time.Minute {
				t.Errorf("%s %s: %+v", s.Key(), PassName(pass), got)
			}
		}
	}
}
