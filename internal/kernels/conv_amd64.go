//go:build amd64 && !noasm

package kernels

import "unsafe"

// gather runs the gather kernel for one of the row counts in tiles.
func (k *convKernels) gather(a *gatherArgs, rows int, wide bool) {
	switch k.isa {
	case AVX512:
		gatherAVX512(a, rows, wide)
	case AVX2:
		gatherAVX2(a, rows, wide)
		if wide { // the second 16 channels
			second := *a
			second.W, second.Y = unsafe.Add(a.W, Block*4), unsafe.Add(a.Y, a.YBlock)
			if a.From != nil {
				second.From = unsafe.Add(a.From, a.YBlock)
			}
			if a.Bias != nil {
				second.Bias = unsafe.Add(a.Bias, Block*4)
			}
			if a.Next != 0 {
				second.Next += uintptr(a.nextBytes())
			}
			gatherAVX2(&second, rows, wide)
		}
	default:
		gatherGeneric(a, rows, wide)
	}
}

// dense runs the dense kernel for one of the row counts in denseTiles.
func (k *convKernels) dense(a *denseArgs, rows int, wide bool) {
	switch k.isa {
	case AVX512:
		denseAVX512(a, rows, wide)
	case AVX2:
		denseAVX2(a, rows, wide)
		if wide {
			second := *a
			second.W, second.Y, second.Next = unsafe.Add(a.W, Block*4), unsafe.Add(a.Y, a.YBlock), a.Next+Block*4
			denseAVX2(&second, rows, wide)
		}
	default:
		denseGeneric(a, rows, wide)
	}
}

// phases runs the phases kernel. Machines with AVX-512 take the AVX2 code too: so short a sum waits for memory.
func (k *convKernels) phases(a *phaseArgs) {
	if k.isa == Generic {
		phasesGeneric(a)
		return
	}
	phasesAVX2Narrow6((*byte)(unsafe.Pointer(a)))
}

// plain runs the plain kernel for one of the row counts in tiles.
func (k *convKernels) plain(a *plainArgs, rows int, wide bool) {
	switch k.isa {
	case AVX512:
		plainAVX512(a, rows, wide)
	case AVX2:
		plainAVX2(a, rows, wide)
		if wide {
			second := *a
			second.W, second.Y = unsafe.Add(a.W, Block*4), unsafe.Add(a.Y, a.YBlock)
			plainAVX2(&second, rows, wide)
		}
	default:
		plainGeneric(a, rows, wide)
	}
}

// outer runs the outer kernel for r rows, at most outerRows.
func (k *convKernels) outer(a *outerArgs, r int, wide bool) {
	switch k.isa {
	case AVX512:
		outerAVX512(a, r, wide)
	case AVX2:
		outerAVX2(a, r)
		if wide {
			second := *a
			second.DY, second.DW = unsafe.Add(a.DY, a.DYBlock), unsafe.Add(a.DW, Block*4)
			outerAVX2(&second, r)
		}
	default:
		outerGeneric(a, r, wide)
	}
}

// transpose writes a 16x16 block transposed; strides are in floats.
func (k *convKernels) transpose(dst, src *float32, dstStride, srcStride int) {
	if k.isa == Generic {
		transposeGeneric(dst, src, dstStride, srcStride)
		return
	}
	transposeAVX2(dst, src, dstStride, srcStride)
}

func gatherAVX512(a *gatherArgs, rows int, wide bool) {
	p := (*byte)(unsafe.Pointer(a))
	if wide {
		switch rows {
		case 12:
			gatherAVX512Wide12(p)
		case 8:
			gatherAVX512Wide8(p)
		case 4:
			gatherAVX512Wide4(p)
		case 2:
			gatherAVX512Wide2(p)
		case 1:
			gatherAVX512Wide1(p)
		}
		return
	}
	switch rows {
	case 12:
		gatherAVX512Narrow12(p)
	case 8:
		gatherAVX512Narrow8(p)
	case 4:
		gatherAVX512Narrow4(p)
	case 2:
		gatherAVX512Narrow2(p)
	case 1:
		gatherAVX512Narrow1(p)
	}
}

func plainAVX512(a *plainArgs, rows int, wide bool) {
	p := (*byte)(unsafe.Pointer(a))
	if wide {
		switch rows {
		case 12:
			plainAVX512Wide12(p)
		case 8:
			plainAVX512Wide8(p)
		case 4:
			plainAVX512Wide4(p)
		case 2:
			plainAVX512Wide2(p)
		case 1:
			plainAVX512Wide1(p)
		}
		return
	}
	switch rows {
	case 12:
		plainAVX512Narrow12(p)
	case 8:
		plainAVX512Narrow8(p)
	case 4:
		plainAVX512Narrow4(p)
	case 2:
		plainAVX512Narrow2(p)
	case 1:
		plainAVX512Narrow1(p)
	}
}

func gatherAVX2(a *gatherArgs, rows int, wide bool) {
	p := (*byte)(unsafe.Pointer(a))
	if wide {
		switch rows {
		case 6:
			gatherAVX2Wide6(p)
		case 4:
			gatherAVX2Wide4(p)
		case 2:
			gatherAVX2Wide2(p)
		case 1:
			gatherAVX2Wide1(p)
		}
		return
	}
	switch rows {
	case 6:
		gatherAVX2Narrow6(p)
	case 4:
		gatherAVX2Narrow4(p)
	case 2:
		gatherAVX2Narrow2(p)
	case 1:
		gatherAVX2Narrow1(p)
	}
}

func plainAVX2(a *plainArgs, rows int, wide bool) {
	p := (*byte)(unsafe.Pointer(a))
	if wide {
		switch rows {
		case 6:
			plainAVX2Wide6(p)
		case 4:
			plainAVX2Wide4(p)
		case 2:
			plainAVX2Wide2(p)
		case 1:
			plainAVX2Wide1(p)
		}
		return
	}
	switch rows {
	case 6:
		plainAVX2Narrow6(p)
	case 4:
		plainAVX2Narrow4(p)
	case 2:
		plainAVX2Narrow2(p)
	case 1:
		plainAVX2Narrow1(p)
	}
}

func outerAVX512(a *outerArgs, r int, wide bool) {
	p := (*byte)(unsafe.Pointer(a))
	if wide {
		switch r {
		case 8:
			outerAVX512Wide8(p)
		case 7:
			outerAVX512Wide7(p)
		case 6:
			outerAVX512Wide6(p)
		case 5:
			outerAVX512Wide5(p)
		case 4:
			outerAVX512Wide4(p)
		case 3:
			outerAVX512Wide3(p)
		case 2:
			outerAVX512Wide2(p)
		case 1:
			outerAVX512Wide1(p)
		}
		return
	}
	switch r {
	case 8:
		outerAVX512Narrow8(p)
	case 7:
		outerAVX512Narrow7(p)
	case 6:
		outerAVX512Narrow6(p)
	case 5:
		outerAVX512Narrow5(p)
	case 4:
		outerAVX512Narrow4(p)
	case 3:
		outerAVX512Narrow3(p)
	case 2:
		outerAVX512Narrow2(p)
	case 1:
		outerAVX512Narrow1(p)
	}
}

func outerAVX2(a *outerArgs, r int) {
	p := (*byte)(unsafe.Pointer(a))
	switch r {
	case 6:
		outerAVX2Narrow6(p)
	case 5:
		outerAVX2Narrow5(p)
	case 4:
		outerAVX2Narrow4(p)
	case 3:
		outerAVX2Narrow3(p)
	case 2:
		outerAVX2Narrow2(p)
	case 1:
		outerAVX2Narrow1(p)
	}
}

func denseAVX512(a *denseArgs, rows int, wide bool) {
	p := (*byte)(unsafe.Pointer(a))
	if wide {
		switch rows {
		case 12:
			denseAVX512Wide12(p)
		case 8:
			denseAVX512Wide8(p)
		case 4:
			denseAVX512Wide4(p)
		case 2:
			denseAVX512Wide2(p)
		case 1:
			denseAVX512Wide1(p)
		}
		return
	}
	switch rows {
	case 12:
		denseAVX512Narrow12(p)
	case 8:
		denseAVX512Narrow8(p)
	case 4:
		denseAVX512Narrow4(p)
	case 2:
		denseAVX512Narrow2(p)
	case 1:
		denseAVX512Narrow1(p)
	}
}

func denseAVX2(a *denseArgs, rows int, wide bool) {
	p := (*byte)(unsafe.Pointer(a))
	if wide {
		switch rows {
		case 6:
			denseAVX2Wide6(p)
		case 5:
			denseAVX2Wide5(p)
		case 4:
			denseAVX2Wide4(p)
		case 3:
			denseAVX2Wide3(p)
		case 2:
			denseAVX2Wide2(p)
		case 1:
			denseAVX2Wide1(p)
		}
		return
	}
	switch rows {
	case 6:
		denseAVX2Narrow6(p)
	case 5:
		denseAVX2Narrow5(p)
	case 4:
		denseAVX2Narrow4(p)
	case 3:
		denseAVX2Narrow3(p)
	case 2:
		denseAVX2Narrow2(p)
	case 1:
		denseAVX2Narrow1(p)
	}
}

// pairs runs the pairs kernel for one of the row counts in pairRows.
func (k *convKernels) pairs(a *pairArgs, rows int) {
	if k.isa != AVX512 {
		pairsGeneric(a, rows)
		return
	}
	p := (*byte)(unsafe.Pointer(a))
	switch rows {
	case 12:
		pairsAVX512Wide12(p)
	case 6:
		pairsAVX512Wide6(p)
	case 3:
		pairsAVX512Wide3(p)
	case 2:
		pairsAVX512Wide2(p)
	case 1:
		pairsAVX512Wide1(p)
	}
}

// packPairs packs n pairs of rows.
func (k *convKernels) packPairs(dst []float32, step int, src Vec, at, n, stride int) {
	switch {
	case k.isa != AVX512:
		packPairsGeneric(dst, step, src, at, n, stride)
	case src.Half != nil:
		packPairHalvesAVX512((*byte)(unsafe.Pointer(&dst[0])), (*byte)(unsafe.Pointer(&src.Half[at])), n, 4*step, 2*stride)
	default:
		packPairsAVX512((*byte)(unsafe.Pointer(&dst[0])), (*byte)(unsafe.Pointer(&src.F32[at])), n, 4*step, 4*stride)
	}
}
