package procmem

import (
	"runtime"
	"testing"
)

func TestPeakGrowsWithUse(t *testing.T) {
	before, ok := Peak()
	if !ok {
		t.Skip("this system does not tell a process's peak memory")
	}
	const more = 64 << 20
	b := make([]byte, more)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	after, _ := Peak()
	runtime.KeepAlive(b)
	if after < before || after < more {
		t.Errorf("peak %d after touching %d bytes, before it was %d", after, more, before)
	}
}

func TestAvailableIsPlausible(t *testing.T) {
	n, ok := Available()
	if !ok {
		t.Skip("this system does not tell the memory that is left")
	}
	if n < 1<<20 || n > 1<<50 {
		t.Errorf("%d bytes available", n)
	}
}
