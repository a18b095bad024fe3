//go:build !amd64 || noasm

package kernels

func resampleTables(ISA) resampleTable { return resampleGeneric() }
