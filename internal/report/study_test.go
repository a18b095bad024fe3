package report

import (
	"math"
	"slices"
	"testing"
)

// Ticks are round numbers within the range, its ends included.
func TestTicks(t *testing.T) {
	for _, tt := range []struct {
		low, high float64
		want      []float64
	}{
		{0, 0.5, []float64{0, 0.1, 0.2, 0.3, 0.4, 0.5}},
		{-0.03, 1.04, []float64{0, 0.5, 1}},
		{3, 17, []float64{5, 10, 15}},
	} {
		got := ticks(tt.low, tt.high)
		if !slices.Equal(got, tt.want) || slices.ContainsFunc(got, func(x float64) bool { return x == 0 && math.Signbit(x) }) {
			t.Errorf("%v to %v: %v, want %v", tt.low, tt.high, got, tt.want)
		}
	}
	for _, tt := range []struct {
		low, high float64
		want      []float64
	}{
		{1e-4, 1e-1, []float64{1e-4, 1e-3, 1e-2, 1e-1}},
		{2e-4, 4e-3, []float64{2e-4, 5e-4, 1e-3, 2e-3}},
		{1e-9, 1, []float64{1e-9, 1e-7, 1e-5, 1e-3, 1e-1}},
		{1, 30, []float64{1, 2, 5, 10, 20}},
	} {
		var got []float64
		for _, x := range logTicks(tt.low, tt.high) {
			got = append(got, math.Pow(10, x))
		}
		if !slices.EqualFunc(got, tt.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9*b }) {
			t.Errorf("%v to %v: %v, want %v", tt.low, tt.high, got, tt.want)
		}
	}
}
