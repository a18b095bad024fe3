// Package procmem asks the system how much memory the process has used and how much is left.
package procmem

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Peak returns the largest resident size that the process has had, in bytes; ok is false where the system
// does not tell.
func Peak() (bytes int64, ok bool) { return peak() }

// Available returns the memory that can be taken without swapping, in bytes: the least of what the system
// and the process's control group have left.
func Available() (bytes int64, ok bool) {
	bytes, ok = field("/proc/meminfo", "MemAvailable")
	if limit, used, limited := controlGroup(); limited && (!ok || limit-used < bytes) {
		return max(0, limit-used), true
	}
	return bytes, ok
}

// field reads a line "Name: 123 kB" of a file of the proc file system.
func field(path, name string) (int64, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		rest, found := strings.CutPrefix(lines.Text(), name+":")
		if !found {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		return kb << 10, err == nil
	}
	return 0, false
}

// controlGroup reads the memory limit and use of the process's own control group (version 2).
func controlGroup() (limit, used int64, ok bool) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0, 0, false
	}
	var group string
	for line := range strings.Lines(string(raw)) {
		if g, found := strings.CutPrefix(line, "0::"); found {
			group = strings.TrimSpace(g)
		}
	}
	number := func(name string) (int64, bool) {
		raw, err := os.ReadFile(fmt.Sprintf("/sys/fs/cgroup%s/%s", group, name))
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
		return n, err == nil // "max" is no number: there is no limit
	}
	limit, ok = number("memory.max")
	used, okUsed := number("memory.current")
	return limit, used, ok && okUsed
}
