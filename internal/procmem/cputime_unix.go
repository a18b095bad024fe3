//go:build unix

package procmem

import (
	"syscall"
	"time"
)

// ProcessorTime returns the processor time that the process has taken: what is left of a timing on a busy machine.
func ProcessorTime() (time.Duration, bool) {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0, false
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), true
}
