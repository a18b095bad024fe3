//go:build !amd64 || noasm

package kernels

func detect() ISA { return Generic }

func detectPairs() bool { return false }
