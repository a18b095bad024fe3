//go:build !amd64 || noasm

package kernels

func (k *convKernels) gather(a *gatherArgs, rows int, wide bool) { gatherGeneric(a, rows, wide) }

func (k *convKernels) dense(a *denseArgs, rows int, wide bool) { denseGeneric(a, rows, wide) }

func (k *convKernels) phases(a *phaseArgs) { phasesGeneric(a) }

func (k *convKernels) plain(a *plainArgs, rows int, wide bool) { plainGeneric(a, rows, wide) }

func (k *convKernels) outer(a *outerArgs, r int, wide bool) { outerGeneric(a, r, wide) }

func (k *convKernels) transpose(dst, src *float32, dstStride, srcStride int) {
	transposeGeneric(dst, src, dstStride, srcStride)
}

func (k *convKernels) pairs(a *pairArgs, rows int) { pairsGeneric(a, rows) }

func (k *convKernels) packPairs(dst []float32, step int, src Vec, at, n, stride int) {
	packPairsGeneric(dst, step, src, at, n, stride)
}
