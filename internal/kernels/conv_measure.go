package kernels

import (
	"math"
	"slices"
	"time"
)

// ConvTimes are the measured times of a pass, by its candidates in their order.
type ConvTimes struct {
	Candidates []Algorithm
	Took       []time.Duration // the least of the rounds
}

// Best returns the fastest candidate, or the usual one where that is slower by less than a twentieth: noise of the
// clock should not decide.
func (t ConvTimes) Best(usual Algorithm) Algorithm {
	fastest := slices.Index(t.Took, slices.Min(t.Took))
	if i := slices.Index(t.Candidates, usual); i >= 0 && float64(t.Took[i]) < 1.05*float64(t.Took[fastest]) {
		return usual
	}
	return t.Candidates[fastest]
}

// MeasureConv times the candidates of a pass of a convolution of n samples: each in turn in every round, after a run
// that does not count.
func (m *Machine) MeasureConv(s ConvSpec, n, pass, rounds int) ConvTimes {
	t := ConvTimes{Candidates: Candidates(s, pass)}
	workspace := [...]func(*Conv, int) int{m.ConvForwardWorkspace, m.ConvBackwardDataWorkspace, m.ConvBackwardWeightsWorkspace}[pass]
	var convs []*Conv
	need := 0
	for _, a := range t.Candidates {
		c := NewConvWith(s, m.ISA, ConvChoice{a, a, a})
		convs = append(convs, c)
		need = max(need, workspace(c, n))
	}
	x, y := s.measuredMap(n, true), s.measuredMap(n, false)
	w, ws := make([]float32, convs[0].WeightLen()), make([]float32, need)
	fillNoise(w)
	var runs []func()
	for _, c := range convs {
		runs = append(runs, [...]func(){
			func() { m.ConvForward(c, x, w, y, ws) },
			func() { m.ConvBackwardData(c, w, y, x, ws) },
			func() { m.ConvBackwardWeights(c, x, y, w, ws) },
		}[pass])
	}
	t.Took = slices.Repeat([]time.Duration{math.MaxInt64}, len(runs))
	repeats := make([]int, len(runs))
	for i, run := range runs {
		run()
		repeats[i] = 1 + int(measuredSpan/max(1, timeOf(1, run)))
	}
	for range rounds {
		for i, run := range runs {
			t.Took[i] = min(t.Took[i], timeOf(repeats[i], run))
		}
	}
	return t
}

// measuredSpan is about how long a run is repeated for a measurement: short ones drown in the clock's noise.
const measuredSpan = 2 * time.Millisecond

// timeOf is the time of one of n runs.
func timeOf(n int, run func()) time.Duration {
	start := time.Now()
	for range n {
		run()
	}
	return time.Since(start) / time.Duration(n)
}

// MapBytes returns the bytes of n samples of the convolution's input and output.
func (s ConvSpec) MapBytes(n int) int {
	return 4 * n * (volume3(s.Size)*s.In.Blocks() + volume3(s.OutSize())*s.Out.Blocks()) * Block
}

// measuredMap returns n samples of the convolution's input or output, with noise in them.
func (s ConvSpec) measuredMap(n int, input bool) Map {
	size, blocks, lanes := s.OutSize(), s.Out.Blocks(), Block
	if input {
		size, blocks = s.Size, s.In.Blocks()
		if s.PlainIn {
			blocks, lanes = s.In.Count(), 1
		}
	}
	m := Map{N: n, CB: blocks, D: size[0], H: size[1], W: size[2], Stride: blocks * lanes * volume3(size)}
	m.Data = make([]float32, n*m.Stride)
	fillNoise(m.Data)
	return m
}

// fillNoise fills x with numbers between -1 and 1 that repeat after a prime number of them.
func fillNoise(x []float32) {
	const period = 4093
	state := uint32(1)
	for i := range x[:min(period, len(x))] {
		state = state*1664525 + 1013904223
		x[i] = float32(int32(state)) / (1 << 31)
	}
	for i := period; i < len(x); i *= 2 {
		copy(x[i:], x[:i])
	}
}
