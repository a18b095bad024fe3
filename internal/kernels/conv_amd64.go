//go:build amd64 && !noasm

package kernels

func convKernelsFor(ISA) *convKernels { return genericConvKernels() }
