//go:build unix

package kernels

import (
	"syscall"
	"time"
)

// processTime is the processor time that the process has taken: what is left of a timing on a busy machine.
func processTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
