package kernels

import (
	"time"
	"unsafe"
)

// Ceilings are what the machine can do at most on its threads: what a kernel's speed is to be measured against.
type Ceilings struct {
	GFLOPS float64 `json:"gflops"` // matrix products of operands in the first cache
	GBPS   float64 `json:"gbps"`   // reading memory
}

// MeasureCeilings takes a fraction of a second.
func (m *Machine) MeasureCeilings() Ceilings {
	const tries = 5
	var c Ceilings
	for range tries {
		c.GFLOPS = max(c.GFLOPS, m.measureProducts())
	}
	data := make([]float32, 32<<20)
	sums := make([]float32, m.Threads()*Block)
	for range tries {
		c.GBPS = max(c.GBPS, m.measureReading(data, sums))
	}
	return c
}

// measureProducts returns the GFLOP/s of the dense kernel on operands that stay in the first cache.
func (m *Machine) measureProducts() float64 {
	const blocks, calls = 4, 2000
	k := convKernelsFor(m.ISA)
	rows := k.tiles[0]
	per := (2*rows*blocks + panelWidth*blocks + 2*rows) * Block * 2
	all := make([]float32, m.Threads()*per)
	n := 4 * m.Threads()
	start := time.Now()
	m.Run(n, func(worker, _ int) {
		ws := all[worker*per:][:per]
		a := denseArgs{
			X: unsafe.Pointer(&ws[0]), W: unsafe.Pointer(&ws[rows*blocks*Block]), Y: unsafe.Pointer(&ws[per-2*rows*Block]),
			Blocks: blocks, XStep: rows * Block * 4, WStep: Block * panelWidth * 4, YBlock: rows * Block * 4, Next: uintptr(unsafe.Pointer(&ws[0])),
		}
		for range calls {
			k.dense(&a, rows, true)
		}
	})
	return 2 * float64(n*calls*rows*blocks*Block*panelWidth) / time.Since(start).Seconds() / 1e9
}

// measureReading returns the GB/s of summing data.
func (m *Machine) measureReading(data, sums []float32) float64 {
	const piece = 1 << 16
	k := m.ewTable()
	start := time.Now()
	m.Run(len(data)/piece, func(worker, i int) {
		var out [48]float32
		for at := i * piece; at < (i+1)*piece; at += ewChunk * Block {
			k.stats(data[at:at+ewChunk*Block], &out)
		}
		sums[worker*Block] += out[0]
	})
	return 4 * float64(len(data)) / time.Since(start).Seconds() / 1e9
}
