package files

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// noise is content that deflate cannot shorten much.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func contents() map[string][]byte {
	return map[string][]byte{
		"a.dcm": []byte("first"), "deep/er/b": noise(100_000), "empty": {}, "zeros": make([]byte, 70_000), "large": bytes.Repeat(noise(1<<20), 18),
	}
}

func put(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range files {
		method := zip.Deflate
		if name == "a.dcm" || name == "empty" {
			method = zip.Store
		}
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		f.Write(content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t testing.TB, format tar.Format, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "deep/", Typeflag: tar.TypeDir, Mode: 0o755, Format: format})
	w.WriteHeader(&tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", Format: format})
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o600, Format: format}); err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(content []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(content)
	w.Close()
	return b.Bytes()
}

func TestArchives(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("TMP", tmp)
	long := strings.Repeat("folder/", 30) + "file"
	want := contents()
	want[long] = []byte("behind a long name")
	for name, content := range map[string][]byte{
		"s.zip": zipped(t, want), "s.tar": tarred(t, tar.FormatPAX, want), "s.gnu": tarred(t, tar.FormatGNU, want),
		"s.tgz": gzipped(tarred(t, tar.FormatPAX, want)),
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, name, content)
			a, err := OpenArchive(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Paths()) != len(want) || len(a.Left()) != 0 || !slices.IsSorted(a.Paths()) {
				t.Fatalf("members %q, left %v", a.Paths(), a.Left())
			}
			for member, data := range want {
				checkFile(t, a, filepath.Join(path, filepath.FromSlash(member)), data)
			}
			if _, err := a.Open(filepath.Join(path, "absent")); !errors.Is(err, fs.ErrNotExist) || a.Has(filepath.Join(path, "absent")) {
				t.Errorf("a member that is not there: %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "ctclass-*")); runtime.GOOS != "windows" && len(left) > 0 {
				t.Errorf("temporary files have a name while they are used: %v", left)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "ctclass-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// checkFile reads a file forward, at places, and by seeking.
func checkFile(t *testing.T, in Files, path string, want []byte) {
	t.Helper()
	f, err := in.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Size() != int64(len(want)) || !in.Has(path) {
		t.Errorf("%s: size %d, want %d", path, f.Size(), len(want))
	}
	head := make([]byte, len(want)/3)
	if _, err := io.ReadFull(f, head); err != nil || !bytes.Equal(head, want[:len(head)]) {
		t.Errorf("%s: reading its first third: %v", path, err)
	}
	middle := int64(len(want) / 2)
	if at, err := f.Seek(middle, io.SeekStart); err != nil || at != middle {
		t.Errorf("%s: seeking forward: %d %v", path, at, err)
	}
	if rest, err := io.ReadAll(f); err != nil || !bytes.Equal(rest, want[middle:]) {
		t.Errorf("%s: reading on: %v", path, err)
	}
	if len(want) > 3 {
		b := make([]byte, 2)
		if _, err := f.ReadAt(b, 1); err != nil || !bytes.Equal(b, want[1:3]) {
			t.Errorf("%s: reading at 1: %v", path, err)
		}
		if at, err := f.Seek(-2, io.SeekEnd); err != nil || at != int64(len(want)-2) {
			t.Errorf("%s: seeking from the end: %d %v", path, at, err)
		}
		if _, err := io.ReadFull(f, b); err != nil || !bytes.Equal(b, want[len(want)-2:]) {
			t.Errorf("%s: reading the end: %v", path, err)
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Error(err)
	}
	if all, err := io.ReadAll(f); err != nil || !bytes.Equal(all, want) {
		t.Errorf("%s: reading again: %v", path, err)
	}
}

// Names that lead out of the archive stay in it; nothing is written by name anyway.
func TestNamesStayInside(t *testing.T) {
	for name, want := range map[string]string{
		"../../etc/passwd": "etc/passwd", "/abs/x": "abs/x", "a/../../b": "b", `win\dir\f.dcm`: "win/dir/f.dcm", "./c": "c",
	} {
		path := put(t, "x.zip", zipped(t, map[string][]byte{name: []byte("content")}))
		a, err := OpenArchive(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Paths(); len(got) != 1 || got[0] != filepath.Join(path, filepath.FromSlash(want)) {
			t.Errorf("%s became %q", name, got)
		}
		a.Close()
	}
}

// claim changes sizes in a zip's directory and local headers.
func claim(t *testing.T, member string, size uint32) []byte {
	b := zipped(t, map[string][]byte{member: make([]byte, 1000)})
	directory := bytes.Index(b, []byte("PK\x01\x02"))
	for i := range 4 {
		b[directory+24+i] = byte(size >> (8 * i))
	}
	return b
}

func TestHostileArchives(t *testing.T) {
	bomb := bytes.NewBuffer(nil)
	z := gzip.NewWriter(bomb)
	w := tar.NewWriter(z)
	w.WriteHeader(&tar.Header{Name: "zeros", Size: freeBytes + 1})
	io.CopyN(w, zeros{}, freeBytes+1)
	w.Close()
	z.Close()

	good := tarred(t, tar.FormatPAX, map[string][]byte{"a": noise(2000), "b": noise(2000)})
	whole := zipped(t, contents())
	overlap := zipped(t, map[string][]byte{"a": noise(2000)})
	directory := bytes.Index(overlap, []byte("PK\x01\x02"))
	copy(overlap[directory+20:], "\xff\xff\xff") // the packed size
	tests := []struct {
		name    string
		content []byte
		want    string // in the error; "" when it opens
		left    string // reason of a member that was left
	}{
		{"empty", nil, ErrNotArchive.Error(), ""},
		{"text", []byte("hello"), ErrNotArchive.Error(), ""},
		{"gzip of text", gzipped([]byte("hello")), ErrNotArchive.Error(), ""},
		{"cut zip", whole[:len(whole)/2], "damaged or cut", ""},
		{"overlapping", overlap, "overlap or reach beyond", ""},
		{"4 GB declared", claim(t, "x", 0xFFFFFFF0), "unpack to more than", ""},
		{"more than deflate can hold", claim(t, "x", 1<<20), "", "more bytes for it than its data can hold"},
		{"cut tar", good[:3200], "", "cut"},
		{"cut tgz", gzipped(good)[:1200], "unpacking the archive", ""},
	}
	if !testing.Short() {
		tests = append(tests, struct {
			name    string
			content []byte
			want    string
			left    string
		}{"much of nothing", bomb.Bytes(), "unpacks to more than 256 MiB", ""})
	}
	for _, tt := range tests {
		path := put(t, "x", tt.content)
		a, err := OpenArchive(path)
		if tt.want != "" {
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if l := a.Left(); len(l) != 1 || !strings.Contains(l[0].Reason, tt.left) {
			t.Errorf("%s: left %v, want %q", tt.name, l, tt.left)
		}
		a.Close()
	}
}

// A member whose data give less than the directory says, and one whose checksum is wrong, give errors.
func TestDamagedMembers(t *testing.T) {
	short := claim(t, "x", 1500)
	wrong := zipped(t, map[string][]byte{"x": make([]byte, 1000)})
	wrong[bytes.Index(wrong, []byte("PK\x01\x02"))+16] ^= 1
	for name, content := range map[string][]byte{"short": short, "checksum": wrong} {
		path := put(t, "x.zip", content)
		a, err := OpenArchive(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, how := range []string{"forward", "at"} {
			f, err := a.Open(a.Paths()[0])
			if err != nil {
				t.Fatal(err)
			}
			if how == "forward" {
				_, err = io.ReadAll(f)
			} else {
				_, err = f.ReadAt(make([]byte, f.Size()), 0)
			}
			if err == nil {
				t.Errorf("%s: no error reading %s", name, how)
			}
			f.Close()
		}
		a.Close()
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestDisk(t *testing.T) {
	want := noise(5000)
	checkFile(t, Disk{}, put(t, "f", want), want)
	dir := t.TempDir()
	if _, err := (Disk{}).Open(dir); !errors.Is(err, errIrregular) || (Disk{}).Has(dir) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := (Disk{}).Open(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

// FuzzArchive opens any bytes as an archive and reads what it lists: no panic, no more than is there.
func FuzzArchive(f *testing.F) {
	small := map[string][]byte{"a.dcm": []byte("first"), "deep/b": noise(300)}
	f.Add(zipped(f, small))
	f.Add(tarred(f, tar.FormatPAX, small))
	f.Add(gzipped(tarred(f, tar.FormatGNU, small)))
	f.Add([]byte(fmt.Sprintf("PK\x03\x04%d", crc32.ChecksumIEEE(nil))))
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := OpenArchive(put(t, "x", content))
		if err != nil {
			return
		}
		defer a.Close()
		for _, p := range a.Paths() {
			file, err := a.Open(p)
			if err != nil {
				continue
			}
			n, err := io.Copy(io.Discard, file)
			if n > file.Size() || err == nil && n != file.Size() || n > 1100*int64(len(content)) {
				t.Fatalf("%d bytes of a member of %d, in an archive of %d: %v", n, file.Size(), len(content), err)
			}
			if _, err := file.Seek(0, io.SeekStart); err == nil {
				io.Copy(io.Discard, file)
			}
			file.Close()
		}
	})
}
