//go:build !amd64 || noasm

package kernels

// ewTables holds the inner loops by instruction set.
var ewTables = [...]ewTable{Generic: ewGenericTable()}
