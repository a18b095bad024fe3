//go:build amd64 && !noasm

package kernels

import "unsafe"

// transform runs a transform. Machines with AVX-512 take the AVX2 code too: the transforms wait for memory.
func (k *winoKernels) transform(kind winoKind, a *winoArgs) {
	p := (*byte)(unsafe.Pointer(a))
	switch {
	case k.isa == Generic || k.m == 3 && (kind == winoWeight || kind == winoWeightGradient):
		k.winoGeneric(kind, a)
	case k.m == 3:
		winoThree(kind, p)
	case k.m == 2:
		winoTwo(kind, p)
	default:
		winoFour(kind, p)
	}
}

func winoTwo(kind winoKind, p *byte) {
	switch kind {
	case winoInput:
		wino2Input(p)
	case winoInput + winoHalf:
		wino2InputHalf(p)
	case winoOutput:
		wino2Output(p)
	case winoOutput + winoHalf:
		wino2OutputHalf(p)
	case winoOutputNorm:
		wino2OutputNorm(p)
	case winoOutputNorm + winoHalf:
		wino2OutputNormHalf(p)
	case winoOutputNormAdd:
		wino2OutputNormAdd(p)
	case winoOutputNormAdd + winoHalf:
		wino2OutputNormAddHalf(p)
	case winoWeight:
		wino2Weight(p)
	case winoGradient:
		wino2Gradient(p)
	case winoGradient + winoHalf:
		wino2GradientHalf(p)
	case winoWeightGradient:
		wino2WeightGradient(p)
	}
}

// winoThree has the same input as winoFour.
func winoThree(kind winoKind, p *byte) {
	switch kind {
	case winoInput:
		wino4Input(p)
	case winoInput + winoHalf:
		wino4InputHalf(p)
	case winoOutput:
		wino3Output(p)
	case winoOutput + winoHalf:
		wino3OutputHalf(p)
	case winoOutputNorm:
		wino3OutputNorm(p)
	case winoOutputNorm + winoHalf:
		wino3OutputNormHalf(p)
	case winoOutputNormAdd:
		wino3OutputNormAdd(p)
	case winoOutputNormAdd + winoHalf:
		wino3OutputNormAddHalf(p)
	case winoGradient:
		wino3Gradient(p)
	case winoGradient + winoHalf:
		wino3GradientHalf(p)
	}
}

func winoFour(kind winoKind, p *byte) {
	switch kind {
	case winoInput:
		wino4Input(p)
	case winoInput + winoHalf:
		wino4InputHalf(p)
	case winoOutput:
		wino4Output(p)
	case winoOutput + winoHalf:
		wino4OutputHalf(p)
	case winoOutputNorm:
		wino4OutputNorm(p)
	case winoOutputNorm + winoHalf:
		wino4OutputNormHalf(p)
	case winoOutputNormAdd:
		wino4OutputNormAdd(p)
	case winoOutputNormAdd + winoHalf:
		wino4OutputNormAddHalf(p)
	case winoWeight:
		wino4Weight(p)
	case winoGradient:
		wino4Gradient(p)
	case winoGradient + winoHalf:
		wino4GradientHalf(p)
	case winoWeightGradient:
		wino4WeightGradient(p)
	}
}
