package kernels

import "testing"

func TestCeilings(t *testing.T) {
	for _, isa := range Supported()[len(Supported())-1:] {
		c := testMachine(t, isa, 1).MeasureCeilings()
		if c.GFLOPS <= 0 || c.GBPS <= 0 {
			t.Errorf("%v: %+v", isa, c)
		}
		t.Logf("%v: %+v", isa, c)
	}
}

func BenchmarkDense(b *testing.B) {
	m := testMachine(b, Supported()[len(Supported())-1], 1)
	start := processTime()
	var flops float64
	for b.Loop() {
		flops += 2 * 4 * 2000 * float64(convKernelsFor(m.ISA).tiles[0]) * 4 * Block * panelWidth
		m.measureProducts()
	}
	b.ReportMetric(flops/(processTime()-start).Seconds()/1e9, "GFLOP/cpu-s")
}
