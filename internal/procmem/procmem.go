// Package procmem asks the system how much memory the process has used and how much is left.
package procmem

// Peak returns the largest resident size that the process has had, in bytes; ok is false where the system
// does not tell.
func Peak() (bytes int64, ok bool) { return peak() }

// Resident returns the resident size of the process, in bytes.
func Resident() (bytes int64, ok bool) { return field("/proc/self/status", "VmRSS") }

// Physical returns the memory that the process could use if nothing else ran: the least of what the system
// has and what the process's control groups allow, in bytes.
func Physical() (bytes int64, ok bool) {
	bytes, ok = field("/proc/meminfo", "MemTotal")
	for _, g := range groups("/") {
		if !ok || g.limit < bytes {
			bytes, ok = g.limit, true
		}
	}
	return bytes, ok
}

// Available returns the memory that can still be taken without swapping, in bytes: the least of what the
// system and the process's control groups have left. Caches that can be dropped count as free.
func Available() (bytes int64, ok bool) {
	bytes, ok = field("/proc/meminfo", "MemAvailable")
	for _, g := range groups("/") {
		if left := max(0, g.limit-g.used); !ok || left < bytes {
			bytes, ok = left, true
		}
	}
	return bytes, ok
}
