package procmem

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestGroups reads the files of both versions of control groups as kernels show them.
func TestGroups(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  []group
	}{
		{"version 2, limited by itself and by its parent", map[string]string{
			"proc/self/cgroup": "0::/user.slice/job.scope\n",
			"sys/fs/cgroup/user.slice/job.scope/memory.max":     "1073741824\n",
			"sys/fs/cgroup/user.slice/job.scope/memory.current": "536870912\n",
			"sys/fs/cgroup/user.slice/job.scope/memory.stat":    "anon 1000\ninactive_file 268435456\nactive_file 5\n",
			"sys/fs/cgroup/user.slice/memory.max":               "2147483648\n",
			"sys/fs/cgroup/user.slice/memory.current":           "100\n",
		}, []group{{1 << 30, 1 << 28}, {2 << 30, 100}}},
		{"version 2 without limit", map[string]string{
			"proc/self/cgroup":          "0::/\n",
			"sys/fs/cgroup/memory.max":  "max\n",
			"sys/fs/cgroup/memory.stat": "inactive_file 1\n",
		}, nil},
		{"version 1 in a container that shows the host's path", map[string]string{
			"proc/self/cgroup":                           "12:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000000\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "2000000000\n",
			"sys/fs/cgroup/memory/memory.stat":           "inactive_file 7\ntotal_inactive_file 500000000\n",
		}, []group{{3000000000, 1500000000}}},
		{"version 1 without limit", map[string]string{
			"proc/self/cgroup":                           "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
		}, nil},
		{"another system", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range test.files {
				file := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := groups(root); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
