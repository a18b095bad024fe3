//go:build unix

package engine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ctclass/ctclass/internal/procmem"
)

// allocate returns zeroed memory outside the Go heap, in huge pages where the system offers them.
func allocate(bytes int64) (Buf, error) {
	if bytes == 0 {
		return nil, nil
	}
	b, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("cannot get %d MiB of memory: %w", bytes>>20, err)
	}
	procmem.AdviseHugePages(b)
	if err := populate(b); err != nil {
		release(b)
		return nil, fmt.Errorf("cannot get %d MiB of memory: %w", bytes>>20, err)
	}
	return b, nil
}

func release(b Buf) {
	if b != nil {
		// Unmapping what Mmap returned cannot fail.
		_ = unix.Munmap(b)
	}
}
