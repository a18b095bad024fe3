package engine

import "golang.org/x/sys/unix"

func adviseHugePages(b Buf) {
	// Advice only: a kernel without huge pages runs on.
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
}
