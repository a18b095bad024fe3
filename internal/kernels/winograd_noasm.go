//go:build !amd64 || noasm

package kernels

func (k *winoKernels) transform(kind winoKind, a *winoArgs) { k.winoGeneric(kind, a) }
