package scan

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Identity follows the content and not the place.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	long := make([]byte, 1<<20) // of which blocks are looked at
	for i := range long {
		long[i] = byte(i * 7)
	}
	when := time.Now().Add(-time.Hour)
	put := func(path string, content []byte) string {
		t.Helper()
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
		return path
	}
	id := func(path string) [32]byte {
		t.Helper()
		x, err := Identity(path)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	series := func(name string, change int) string {
		for i := range 20 {
			content := []byte{byte(i), 1, 2}
			if i == change {
				content[1]++
			}
			put(name+"/s/IM"+string(rune('A'+i)), content)
		}
		return filepath.Join(dir, name)
	}
	file := put("a.nii", long)
	if id(file) != id(put("elsewhere/b.nii", long)) {
		t.Error("a file that was moved and renamed became another scan")
	}
	folder := series("p1", -1)
	if id(folder) != id(series("deep/p2", -1)) {
		t.Error("a folder that was moved became another scan")
	}

	changed := append([]byte(nil), long...)
	changed[0]++
	for name, other := range map[string]string{
		"another first byte":   put("c1.nii", changed),
		"one byte less":        put("c2.nii", long[1:]),
		"one byte of a slice":  series("p3", 0),
		"a file that is small": put("c3.nii", long[:1000]),
		"another small file":   put("c4.nii", changed[:1000]),
	} {
		if x := id(other); x == id(file) || x == id(folder) || x == id(put("c5.nii", long[:1001])) {
			t.Errorf("%s: the same identity", name)
		}
	}
	if id(put("c3.nii", long[:1000])) == id(put("c4.nii", changed[:1000])) {
		t.Error("two small files have the same identity")
	}
	before := id(folder)
	later := when.Add(time.Millisecond)
	if err := os.Chtimes(filepath.Join(folder, "s", "IMC"), later, later); err != nil {
		t.Fatal(err)
	}
	if id(folder) == before {
		t.Error("a slice that was changed later does not show")
	}
	pair := put("pair.hdr", long[:348])
	alone := id(pair)
	put("pair.img", long)
	both := id(pair)
	put("pair.img", changed)
	if alone == both || id(pair) == both {
		t.Error("the image of a pair does not show")
	}
	if _, err := Identity(filepath.Join(dir, "absent")); err == nil {
		t.Error("an absent path has an identity")
	}
}
