package engine

import (
	"errors"

	"golang.org/x/sys/unix"
)

// populate takes the memory from the system now, so that what is not there is missed before the first step
// and not in the middle of one. Kernels before 5.14 do not know how, and take it when it is first used.
func populate(b Buf) error {
	err := unix.Madvise(b, unix.MADV_POPULATE_WRITE)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
