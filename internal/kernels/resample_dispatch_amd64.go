//go:build amd64 && !noasm

package kernels

// resampleTables returns the loops for an instruction set; those for AVX2 serve AVX-512 as well.
func resampleTables(isa ISA) resampleTable {
	if isa == Generic {
		return resampleGeneric()
	}
	return resampleTable{weightedSumAVX2, windowScaleAVX2, row16AVX2, row32AVX2, trilinearAVX2}
}
