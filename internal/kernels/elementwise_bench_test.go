package kernels

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

// benchMachines runs f on every instruction set with all processors; f says how many bytes a call moves.
func benchMachines(b *testing.B, bytes int, f func(m *Machine)) {
	for _, isa := range Supported() {
		b.Run(isa.String(), func(b *testing.B) {
			m := NewMachine(runtime.GOMAXPROCS(0))
			m.ISA = isa
			defer m.Close()
			f(m)
			b.SetBytes(int64(bytes))
			for b.Loop() {
				f(m)
			}
		})
	}
}

// benchMap returns a map of 64 channels, 64 MiB: what follows the stem of a ResNet, halved.
func benchMap() Map {
	x := Map{N: 1, CB: 4, D: 16, H: 128, W: 128, Stride: 4 * 16 * 128 * 128 * Block}
	x.Data = benchFloats(x.Stride)
	return x
}

func benchFloats(n int) []float32 {
	r := rand.New(rand.NewPCG(1, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = r.Float32() - 0.5
	}
	return x
}

func BenchmarkMaps(b *testing.B) {
	x, y, z := benchMap(), benchMap(), benchMap()
	size := 4 * len(x.Data)
	ch := Channels{64}
	v := benchFloats(64)
	out := make([]float32, 128)
	kernel, stride, pad := [3]int{3, 3, 3}, [3]int{2, 2, 2}, [3]int{1, 1, 1}
	two := [3]int{2, 2, 2}
	half := Map{N: 1, CB: 4, D: 8, H: 64, W: 64, Stride: len(x.Data) / 8, Data: benchFloats(len(x.Data) / 8)}
	for _, c := range []struct {
		name  string
		bytes int
		f     func(m *Machine)
	}{
		{"Copy", 2 * size, func(m *Machine) { m.Sum(y, x) }},
		{"BNStats", size, func(m *Machine) { m.BNStats(x, ch, out[:64], out[64:]) }},
		{"BNNormReLU", 2 * size, func(m *Machine) { m.BNNorm(x, v, v, nil, true, y) }},
		{"BNNormInPlace", 2 * size, func(m *Machine) { m.BNNorm(z, v, v, nil, true, z) }},
		{"BNNormAddReLU", 3 * size, func(m *Machine) { m.BNNorm(x, v, v, &z, true, y) }},
		{"BNReduceMask", 3 * size, func(m *Machine) { m.BNReduce(x, y, &z, ch, v, v, out[:64], out[64:]) }},
		{"BNBackwardMask", 4 * size, func(m *Machine) { m.BNBackward(x, y, &z, v, v, v, v, y, false) }},
		{"ReLU", 2 * size, func(m *Machine) { m.ReLU(x, y) }},
		{"Add", 3 * size, func(m *Machine) { m.Add(x, z, y, false) }},
		{"MaxPool", size + size/8, func(m *Machine) { m.MaxPool(x, half, kernel, stride, pad) }},
		{"MaxPoolBackward", 2*size + size/8, func(m *Machine) { m.MaxPoolBackward(x, half, y, kernel, stride, pad) }},
		{"AvgPool", size + size/8, func(m *Machine) { m.AvgPool(x, half, two, two) }},
		{"AvgPoolBackward", size + size/8, func(m *Machine) { m.AvgPoolBackward(half, y, two, two) }},
		{"GlobalAvgPool", size, func(m *Machine) { m.GlobalAvgPool(x, ch, out[:64]) }},
		{"FromPlain", 2 * size, func(m *Machine) { m.FromPlain(x.Data, ch, y) }},
		{"ToPlain", 2 * size, func(m *Machine) { m.ToPlain(x, ch, y.Data) }},
		{"AdamW", 7 * size / 4, func(m *Machine) {
			q := len(x.Data) / 4
			m.AdamW(y.Data[:q], x.Data[:q], y.Data[q:2*q], z.Data[2*q:3*q], 1e-3, .9, .999, 1e-8, 1e-2, 1)
		}},
	} {
		b.Run(c.name, func(b *testing.B) { benchMachines(b, c.bytes, c.f) })
	}
}
