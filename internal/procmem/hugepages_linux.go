package procmem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of the larger pages of most processors.
const hugePage = 2 << 20

// AdviseHugePages asks the system for large pages under b, as far as it spans whole ones: memory that is used from end
// to end is then had at a fraction of the page faults. It is advice; without such pages nothing changes.
func AdviseHugePages(b []byte) {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	skip := int((hugePage - start%hugePage) % hugePage)
	if len(b) < skip+hugePage {
		return
	}
	_ = unix.Madvise(b[skip:skip+(len(b)-skip)&^(hugePage-1)], unix.MADV_HUGEPAGE)
}
