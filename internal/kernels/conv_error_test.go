package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// errorBound is what every kernel's largest error stays under, relative to the result's rms.
const errorBound = 5e-5

// TestConvErrors tables the largest errors of all algorithms against float64, relative to the result's rms; -v shows
// the table.
func TestConvErrors(t *testing.T) {
	t.Logf("%-12s %-8s %-10s %9s %9s %9s", "kernel", "isa", "algorithm", "y", "dx", "dw")
	for _, tc := range []struct {
		name string
		spec ConvSpec
	}{
		{"3³", ConvSpec{In: Channels{48}, Out: Channels{16}, Size: cube(9), Kernel: cube(3), Stride: cube(1), Pad: cube(1)}},
		{"3³ wide", ConvSpec{In: Channels{144}, Out: Channels{32}, Size: cube(8), Kernel: cube(3), Stride: cube(1), Pad: cube(1)}},
		{"3³ stride 2", ConvSpec{In: Channels{64}, Out: Channels{32}, Size: cube(9), Kernel: cube(3), Stride: cube(2), Pad: cube(1)}},
		{"1³", ConvSpec{In: Channels{400}, Out: Channels{48}, Size: cube(6), Kernel: cube(1), Stride: cube(1)}},
		{"stem 7³", ConvSpec{In: Channels{1}, Out: Channels{16}, PlainIn: true, Size: cube(21), Kernel: cube(7), Stride: cube(2), Pad: cube(3)}},
	} {
		c := newConvCase(rand.New(rand.NewPCG(21, 22)), tc.spec, 1)
		for _, isa := range Supported() {
			for a := Direct; a <= Winograd4; a++ {
				if a != Direct && !winogradFits(tc.spec) && !stemFits(tc.spec) || a == Winograd2 && stemFits(tc.spec) {
					continue // the same as another row
				}
				c.choice = &ConvChoice{a, a, a}
				got := c.run(t, testMachine(t, isa, 2), 1)
				e := [3]float64{relativeError(got.y, c.y), relativeError(got.dx, c.dx), relativeError(got.dw, c.dw)}
				t.Logf("%-12s %-8v %-10v %9.1e %9.1e %9.1e", tc.name, isa, a, e[0], e[1], e[2])
				if max(e[0], e[1], e[2]) > errorBound {
					t.Errorf("%s, %v, %v: an error exceeds %.0e of the rms", tc.name, isa, a, errorBound)
				}
			}
		}
	}
}

// relativeError is the largest error over the rms of what is wanted.
func relativeError(got []float32, want []float64) float64 {
	sum, worst := 0.0, 0.0
	for i, w := range want {
		sum += w * w
		worst = max(worst, math.Abs(float64(got[i])-w))
	}
	return worst / math.Sqrt(sum/float64(len(want)))
}
