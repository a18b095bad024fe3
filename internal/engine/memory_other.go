//go:build !unix

package engine

import "unsafe"

// allocate returns zeroed, 64-byte aligned memory from the Go heap.
func allocate(bytes int64) (Buf, error) {
	if bytes == 0 {
		return nil, nil
	}
	b := make([]byte, bytes+alignment)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (alignment - 1)
	return b[skip : skip+int(bytes)], nil
}

func release(Buf) {}
