package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// reportGFLOPS reports useful operations (those that padding takes no part in are not counted) per second by the clock
// and, where the system tells, per second of the processor's time since start.
func reportGFLOPS(b *testing.B, flops float64, start time.Duration) {
	b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	if t := processTime() - start; t > 0 {
		b.ReportMetric(flops*float64(b.N)/t.Seconds()/1e9, "GFLOP/cpu-s")
	}
}

// convFlops counts two operations per product with an input inside the map.
func convFlops(s ConvSpec, n int) float64 {
	flops := 2 * float64(n*s.In.Count()*s.Out.Count())
	out := s.OutSize()
	for a := range 3 {
		inside := 0
		for o := range out[a] {
			for t := range s.Kernel[a] {
				if p := o*s.Stride[a] - s.Pad[a] + t; p >= 0 && p < s.Size[a] {
					inside++
				}
			}
		}
		flops *= float64(inside)
	}
	return flops
}

func BenchmarkConv(b *testing.B) {
	conv := func(in, out, size, kernel, stride int) ConvSpec {
		return ConvSpec{In: Channels{in}, Out: Channels{out}, Size: cube(size), Kernel: cube(kernel), Stride: cube(stride), Pad: cube(kernel / 2)}
	}
	stem := func(size int) ConvSpec {
		s := conv(1, 64, size, 7, 2)
		s.PlainIn = true
		return s
	}
	for _, bc := range []struct {
		name string
		spec ConvSpec
		n    int
	}{
		{"3_64x16", conv(64, 64, 16, 3, 1), 1},
		{"3_64x32", conv(64, 64, 32, 3, 1), 1},
		{"3_64x64", conv(64, 64, 64, 3, 1), 1},
		{"3_128x16", conv(128, 128, 16, 3, 1), 1},
		{"3_128x32", conv(128, 128, 32, 3, 1), 1},
		{"3_256x16", conv(256, 256, 16, 3, 1), 1},
		{"3_256x8", conv(256, 256, 8, 3, 1), 1},
		{"3_512x4", conv(512, 512, 4, 3, 1), 1},
		{"3_128to32x32", conv(128, 32, 32, 3, 1), 1},
		{"3_48to12x16", conv(48, 12, 16, 3, 1), 1},
		{"3_64x7n16", conv(64, 64, 7, 3, 1), 16},
		{"3_128x4n16", conv(128, 128, 4, 3, 1), 16},
		{"3_256x2n16", conv(256, 256, 2, 3, 1), 16},
		{"3_512x1n16", conv(512, 512, 1, 3, 1), 16},
		{"3_512x1n1", conv(512, 512, 1, 3, 1), 1},
		{"3s2_64to128x32", conv(64, 128, 32, 3, 2), 1},
		{"3s2_64to128x7n16", conv(64, 128, 7, 3, 2), 16},
		{"1_256to128x32", conv(256, 128, 32, 1, 1), 1},
		{"1_256to128x7n16", conv(256, 128, 7, 1, 1), 16},
		{"1s2_64to128x32", conv(64, 128, 32, 1, 2), 1},
		{"1s2_64to128x7n16", conv(64, 128, 7, 1, 2), 16},
		{"stem28n16", stem(28), 16},
		{"stem64", stem(64), 1},
		{"stem128", stem(128), 1},
	} {
		for _, isa := range Supported()[1:] {
			benchConv(b, fmt.Sprintf("%s/%v/default", bc.name, isa), bc.spec, bc.n, isa, DefaultChoice(bc.spec, isa))
			for a := Direct; a <= Winograd4 && (winogradFits(bc.spec) || stemFits(bc.spec)); a++ {
				benchConv(b, fmt.Sprintf("%s/%v/%v", bc.name, isa, a), bc.spec, bc.n, isa, ConvChoice{a, a, a})
			}
		}
	}
}

func benchConv(b *testing.B, name string, s ConvSpec, n int, isa ISA, choice ConvChoice) {
	m := NewMachine(benchThreads)
	m.ISA = isa
	defer m.Close()
	r := rand.New(rand.NewPCG(1, 1))
	c := NewConvWith(s, isa, choice)
	x := Map{N: n, CB: s.In.Blocks(), D: s.Size[0], H: s.Size[1], W: s.Size[2]}
	x.Stride = x.CB * volume3(s.Size) * Block
	if s.PlainIn {
		x.CB = s.In.Count()
		x.Stride = x.CB * volume3(s.Size)
	}
	dx := x
	x.Data, dx.Data = randomSlice(r, n*x.Stride), make([]float32, n*x.Stride)
	y := newMap(n, s.Out, s.OutSize(), 0, 1)
	w := randomSlice(r, c.WeightLen())
	ws := make([]float32, max(m.ConvForwardWorkspace(c, n), m.ConvBackwardDataWorkspace(c, n), m.ConvBackwardWeightsWorkspace(c, n)))
	flops := convFlops(s, n)
	pass := func(kind string, f func()) {
		b.Run(name+"/"+kind, func(b *testing.B) {
			start := processTime()
			for b.Loop() {
				f()
			}
			reportGFLOPS(b, flops, start)
		})
	}
	pass("forward", func() { m.ConvForward(c, x, w, y, ws) })
	if !s.PlainIn {
		pass("data", func() { m.ConvBackwardData(c, w, y, dx, ws) })
	}
	pass("weights", func() { m.ConvBackwardWeights(c, x, y, w, ws) })
}

// benchThreads is the number of threads of the benchmarks: one, so that processor time is what they tell.
const benchThreads = 1
