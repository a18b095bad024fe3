//go:build amd64 && !noasm

package kernels

import "unsafe"

// transform runs a transform.
func (k *winoKernels) transform(kind winoKind, a *winoArgs) {
	p := (*byte)(unsafe.Pointer(a))
	switch {
	case k.isa == Generic || k.m == 3 && (kind == winoWeight || kind == winoWeightGradient):
		k.winoGeneric(kind, a)
	case k.m == 3 && k.isa == AVX512 && a.Count == Block/8 && winoThreeWide(kind, p):
	case k.m == 3:
		winoThree(kind, p)
	case k.m == 2:
		winoTwo(kind, p)
	default:
		winoFour(kind, p)
	}
}

// winoThreeWide does the transforms that AVX-512 does faster, 16 channels at once. The others wait for memory.
func winoThreeWide(kind winoKind, p *byte) bool {
	switch kind {
	case winoOutput:
		wino3OutputWide(p)
	case winoOutput + winoHalf:
		wino3OutputHalfWide(p)
	case winoOutputNorm:
		wino3OutputNormWide(p)
	case winoOutputNorm + winoHalf:
		wino3OutputNormHalfWide(p)
	case winoOutputNormAdd:
		wino3OutputNormAddWide(p)
	case winoOutputNormAdd + winoHalf:
		wino3OutputNormAddHalfWide(p)
	default:
		return false
	}
	return true
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
