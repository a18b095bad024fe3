package kernels

import (
	"runtime"
	"testing"
)

// BenchmarkTokens runs the kernels of a ViT-base block at 1177 tokens.
func BenchmarkTokens(b *testing.B) {
	const rows, e = 1177, 768
	x, y, dy := benchFloats(rows*4*e), make([]float32, rows*4*e), benchFloats(rows*4*e)
	gamma, beta, dgamma, dbeta := benchFloats(e), benchFloats(e), make([]float32, e), make([]float32, e)
	mean, invstd := make([]float32, rows), make([]float32, rows)
	size := 4 * rows * e
	for _, c := range []struct {
		name  string
		bytes int
		f     func(m *Machine)
	}{
		{"LayerNorm", 2 * size, func(m *Machine) { m.LayerNorm(Floats(x), rows, e, gamma, beta, 1e-5, Floats(y), mean, invstd) }},
		{"LayerNormBackward", 3 * size, func(m *Machine) {
			m.LayerNormBackward(Floats(x), Floats(dy), rows, e, gamma, mean, invstd, Floats(y), dgamma, dbeta)
		}},
		{"GELU", 8 * size, func(m *Machine) { m.GELU(Floats(x), Floats(y)) }},
		{"GELUBackward", 12 * size, func(m *Machine) { m.GELUBackward(Floats(x), Floats(dy), Floats(y)) }},
		{"ColumnSum", 4 * size, func(m *Machine) { m.ColumnSum(Floats(x), rows, 4*e, y) }},
	} {
		b.Run(c.name, func(b *testing.B) { benchMachines(b, c.bytes, c.f) })
	}
}

// BenchmarkAttention is one layer of ViT-base at 1177 tokens; GFLOP/s count the products that the algorithm
// makes, two forward and five backward.
func BenchmarkAttention(b *testing.B) {
	s := AttentionShape{1, 1177, 12, 64}
	qkv, dqkv := benchFloats(s.T*3*768), make([]float32, s.T*3*768)
	out, dout, lse := make([]float32, s.T*768), benchFloats(s.T*768), make([]float32, 12*s.T)
	work := make([]float32, runtime.GOMAXPROCS(0)*max(s.Workspace(), s.BackwardWorkspace()))
	product := 2 * float64(s.T) * float64(s.T) * 768
	for _, isa := range Supported()[1:] {
		m := NewMachine(runtime.GOMAXPROCS(0))
		m.ISA = isa
		b.Run("Forward/"+isa.String(), func(b *testing.B) {
			for b.Loop() {
				m.Attention(qkv, s, out, 768, lse, work)
			}
			b.ReportMetric(2*product*float64(b.N)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
		})
		b.Run("Backward/"+isa.String(), func(b *testing.B) {
			for b.Loop() {
				m.AttentionBackward(qkv, s, out, dout, 768, lse, dqkv, work)
			}
			b.ReportMetric(5*product*float64(b.N)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
		})
		m.Close()
	}
}
