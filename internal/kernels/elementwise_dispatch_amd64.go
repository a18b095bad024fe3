//go:build amd64 && !noasm

package kernels

import "unsafe"

// ewTables holds the inner loops by instruction set.
var ewTables = [...]ewTable{
	Generic: ewGenericTable(),
	AVX2: {
		stats: ewStatsAVX2, sum: ewSumAVX2, norm: ewNormAVX2, normAdd: ewNormAddAVX2,
		reduce: ewReduceAVX2, reduceMask: ewReduceMaskAVX2,
		bnBack: [8]func(dx, dy, mask, x, scale, kx, mean, dmean []float32, stream bool){
			0:                                ewBNBackAVX2,
			bnMasked:                         ewBNBackMaskedAVX2,
			bnFull:                           ewBNBackFullAVX2,
			bnFull | bnMasked:                ewBNBackFullMaskedAVX2,
			bnAccumulate:                     ewBNBackAddAVX2,
			bnMasked | bnAccumulate:          ewBNBackMaskedAddAVX2,
			bnFull | bnAccumulate:            ewBNBackFullAddAVX2,
			bnFull | bnMasked | bnAccumulate: ewBNBackFullMaskedAddAVX2,
		},
		relu: ewReLUAVX2, reluBack: ewReLUBackAVX2, add: ewAddAVX2, scale: ewScaleAVX2, axpy: ewAxpyAVX2,
		sumSq:  ewSumSqAVX2,
		maxRow: func(y, x []float32, w *poolWindow) { ewMaxRowAVX2(y, x, w.fields()) },
		maxRowBack: func(dx, x, dy []float32, w *poolWindow) {
			ewMaxRowBackAVX2(dx, x, dy, w.fields())
		},
		avgRow: func(y, x []float32, w *poolWindow, scale float32) { ewAvgRowAVX2(y, x, w.fields(), scale) },
		spread: ewSpreadAVX2,
		adamW:  func(w, g, mom, vel []float32, c *adamConstants) { ewAdamWAVX2(w, g, mom, vel, c.fields()) },
		sgd:    func(w, g, mom []float32, c *sgdConstants) { ewSGDAVX2(w, g, mom, c.fields()) },
		gelu:   ewGELUAVX2, geluBack: ewGELUBackAVX2, rowNorm: ewRowNormAVX2, rowSums: ewRowSumsAVX2,
		rowBack: func(dx, x, dy, gamma []float32, c *rowConstants) {
			ewRowBackAVX2(dx, x, dy, gamma, c.fields())
		},
		tileProduct: func(c, a, b []float32, g *tileProduct) { ewTileProductAVX2(c, a, b, g.fields()) },
		softmaxTile: ewSoftmaxTileAVX2, softmaxBack: ewSoftmaxBackAVX2,
		widen: ewWidenAVX2, narrow: ewNarrowAVX2,
	},
	AVX512: {
		stats: ewStatsAVX512, sum: ewSumAVX512, norm: ewNormAVX512, normAdd: ewNormAddAVX512,
		reduce: ewReduceAVX512, reduceMask: ewReduceMaskAVX512,
		bnBack: [8]func(dx, dy, mask, x, scale, kx, mean, dmean []float32, stream bool){
			0:                                ewBNBackAVX512,
			bnMasked:                         ewBNBackMaskedAVX512,
			bnFull:                           ewBNBackFullAVX512,
			bnFull | bnMasked:                ewBNBackFullMaskedAVX512,
			bnAccumulate:                     ewBNBackAddAVX512,
			bnMasked | bnAccumulate:          ewBNBackMaskedAddAVX512,
			bnFull | bnAccumulate:            ewBNBackFullAddAVX512,
			bnFull | bnMasked | bnAccumulate: ewBNBackFullMaskedAddAVX512,
		},
		relu: ewReLUAVX512, reluBack: ewReLUBackAVX512, add: ewAddAVX512, scale: ewScaleAVX512, axpy: ewAxpyAVX512,
		sumSq:  ewSumSqAVX512,
		maxRow: func(y, x []float32, w *poolWindow) { ewMaxRowAVX512(y, x, w.fields()) },
		maxRowBack: func(dx, x, dy []float32, w *poolWindow) {
			ewMaxRowBackAVX512(dx, x, dy, w.fields())
		},
		avgRow: func(y, x []float32, w *poolWindow, scale float32) { ewAvgRowAVX512(y, x, w.fields(), scale) },
		spread: ewSpreadAVX512,
		adamW:  func(w, g, mom, vel []float32, c *adamConstants) { ewAdamWAVX512(w, g, mom, vel, c.fields()) },
		sgd:    func(w, g, mom []float32, c *sgdConstants) { ewSGDAVX512(w, g, mom, c.fields()) },
		gelu:   ewGELUAVX512, geluBack: ewGELUBackAVX512, rowNorm: ewRowNormAVX512, rowSums: ewRowSumsAVX512,
		rowBack: func(dx, x, dy, gamma []float32, c *rowConstants) {
			ewRowBackAVX512(dx, x, dy, gamma, c.fields())
		},
		tileProduct: func(c, a, b []float32, g *tileProduct) { ewTileProductAVX512(c, a, b, g.fields()) },
		softmaxTile: ewSoftmaxTileAVX512, softmaxBack: ewSoftmaxBackAVX512,
		widen: ewWidenAVX512, narrow: ewNarrowAVX512,
	},
}

// The assembly sees the structs as arrays of their fields.

func (w *poolWindow) fields() *[9]int { return (*[9]int)(unsafe.Pointer(w)) }

func (c *adamConstants) fields() *[7]float32 { return (*[7]float32)(unsafe.Pointer(c)) }

func (c *sgdConstants) fields() *[3]float32 { return (*[3]float32)(unsafe.Pointer(c)) }

func (c *rowConstants) fields() *[4]float32 { return (*[4]float32)(unsafe.Pointer(c)) }

func (g *tileProduct) fields() *[8]int { return (*[8]int)(unsafe.Pointer(g)) }
