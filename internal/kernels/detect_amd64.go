//go:build amd64 && !noasm

package kernels

import "golang.org/x/sys/cpu"

func detect() ISA {
	x := cpu.X86
	switch {
	case x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX2 && x.HasFMA:
		return AVX512
	case x.HasAVX2 && x.HasFMA:
		return AVX2
	}
	return Generic
}

// HasPairs reports whether the processor multiplies bfloat16 pairs.
func HasPairs() bool { return detect() == AVX512 && cpu.X86.HasAVX512BF16 }
