//go:build !amd64 || noasm

package kernels

func detect() ISA { return Generic }

// HasPairs reports whether the processor multiplies bfloat16 pairs.
func HasPairs() bool { return false }
