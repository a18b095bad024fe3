package procmem

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// group is a control group with a limit, in bytes; used is without the file cache that can be dropped.
type group struct{ limit, used int64 }

// version is how one of the two kinds of control groups shows memory.
type version struct {
	mounts             []string // where the hierarchy usually is
	limit, used, cache string   // files, and the line of memory.stat
}

// unlimited is the size from which a limit means that there is none: version 1 shows the largest number of pages.
const unlimited = 1 << 60

// groups lists the control groups that limit the process, its own and those around it, with root standing
// for the root of the file system.
func groups(root string) []group {
	raw, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil
	}
	var out []group
	for line := range strings.Lines(string(raw)) { // number:controllers:path
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		v := version{[]string{"sys/fs/cgroup/memory"}, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}
		switch {
		case f[1] == "":
			v = version{[]string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}, "memory.max", "memory.current", "inactive_file"}
		case !hasController(f[1], "memory"):
			continue
		}
		for _, mount := range v.mounts {
			out = append(out, v.chain(filepath.Join(root, mount), f[2])...)
		}
	}
	return out
}

func hasController(list, name string) bool {
	for c := range strings.SplitSeq(list, ",") {
		if c == name {
			return true
		}
	}
	return false
}

// chain reads the group at dir below the mount and those around it. Inside a container the path may be that of
// the host, and only the mount itself be there.
func (v version) chain(mount, dir string) []group {
	var out []group
	for dir = path.Clean("/" + dir); ; dir = path.Dir(dir) {
		at := filepath.Join(mount, dir)
		limit, ok := number(filepath.Join(at, v.limit)) // "max" is no number: there is no limit
		used, okUsed := number(filepath.Join(at, v.used))
		if ok && okUsed && limit < unlimited {
			cache, _ := stat(filepath.Join(at, "memory.stat"), v.cache)
			out = append(out, group{limit, max(0, used-cache)})
		}
		if dir == "/" {
			return out
		}
	}
}

func number(file string) (int64, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil
}

// stat reads a line "name 123" of a file.
func stat(file, name string) (int64, bool) { return line(file, name+" ", "") }

// field reads a line "Name: 123 kB" of a file of the proc file system, in bytes.
func field(file, name string) (int64, bool) {
	kb, ok := line(file, name+":", " kB")
	return kb << 10, ok
}

// line reads the number between a prefix and a suffix from the first line of a file that begins with the prefix.
func line(file, prefix, suffix string) (int64, bool) {
	f, err := os.Open(file)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, found := strings.CutPrefix(lines.Text(), prefix); found {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, suffix)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
