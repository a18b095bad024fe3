package cache

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctclass/ctclass/internal/rng"
)

// noise is n values between lo and hi.
func noise(n int, lo, hi float64, seed uint64) []float32 {
	s := rng.New(rng.Key(seed, "noise"))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(lo + (hi-lo)*s.Float64())
	}
	return x
}

func key(i int) Key { return sha256.Sum256([]byte(fmt.Sprint("sample ", i))) }

// open opens a cache and returns it with the warnings it gives.
func open(t *testing.T, s Settings) (*Store, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var said []string
	s.Warn = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, text)
	}
	c, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	return c, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(said)
	}
}

// sameBits reports whether two lists of values are equal to the bit.
func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// The rounding of each storage keeps to its documented error.
func TestStorages(t *testing.T) {
	scaled, hu := noise(5000, 0, 1, 1), noise(5000, -1024, 3071, 2)
	whole := make([]float32, 5000)
	for i, v := range hu {
		whole[i] = float32(math.Round(float64(v)))
	}
	for _, tt := range []struct {
		name    string
		x       []float32
		storage Storage
		within  func(x float32) float64 // allowed error
	}{
		{"int16 of a window", scaled, Int16, func(float32) float64 { return 1.0/131070 + 1e-7 }},
		{"int16 of HU", hu, Int16, func(float32) float64 { return 4095.0/131070 + 1e-4 }},
		{"int16 of whole HU", whole, Int16, func(float32) float64 { return 0 }},
		{"int16 of one value", slices.Repeat([]float32{0.1}, 9), Int16, func(float32) float64 { return 0 }},
		{"int16 of an infinity", []float32{1, 2.5, float32(math.Inf(1))}, Int16, func(float32) float64 { return 0 }},
		{"int16 of nothing", nil, Int16, nil},
		{"float16 of a window", scaled, Float16, func(x float32) float64 { return float64(x)/2048 + 3e-8 }},
		{"float16 of large values", []float32{1e5, 0.1, -3}, Float16, func(float32) float64 { return 0 }},
		{"float32", hu, Float32, func(float32) float64 { return 0 }},
		{"float32 of everything", []float32{float32(math.NaN()), float32(math.Inf(-1)), float32(math.Copysign(0, -1))}, Float32, func(float32) float64 { return 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make([]float32, len(tt.x))
			p := pack(tt.x, tt.storage)
			p.unpack(got)
			for i, x := range tt.x {
				if math.Float32bits(x) == math.Float32bits(got[i]) {
					continue
				}
				if d := math.Abs(float64(x) - float64(got[i])); !(d <= tt.within(x)) {
					t.Fatalf("value %d: %v became %v, off by %g", i, x, got[i], d)
				}
			}
			// What is rounded already is not changed again.
			again := make([]float32, len(got))
			q := pack(got, tt.storage)
			if q.unpack(again); !sameBits(got, again) {
				t.Error("rounding twice is not rounding once")
			}
		})
	}
	// A few halves by hand (IEEE 754-2008, 3.6): 1/3 is 0x3555, 65504 is the largest.
	x := []float32{1.0 / 3, 65504, -2}
	p := pack(x, Float16)
	if q := join16(p.planes); !slices.Equal(q, []uint16{0x3555, 0x7BFF, 0xC000}) {
		t.Errorf("halves %#x", q)
	}
}

// A sample has the same bits whether it was just made, comes from the cache, or from a cache opened anew.
func TestFreshAndStoredAreEqual(t *testing.T) {
	for _, storage := range []Storage{Int16, Float16, Float32} {
		dir := t.TempDir()
		c, said := open(t, Settings{Dir: dir, Storage: storage})
		x := noise(4000, -1000, 400, 3)
		calls := 0
		make1 := func() (Sample, error) {
			calls++
			return Sample{slices.Clone(x), []string{"a gap"}}, nil
		}
		fresh, err := c.Prepare(key(1), len(x), make1)
		if err != nil {
			t.Fatal(err)
		}
		if (storage == Float32) != sameBits(x, fresh.Voxels) {
			t.Errorf("%s: a fresh sample was not rounded as a stored one", storage)
		}
		other, _ := open(t, Settings{Dir: dir, Storage: storage})
		for _, c := range []*Store{c, other} {
			stored, err := c.Prepare(key(1), len(x), make1)
			if err != nil || !sameBits(stored.Voxels, fresh.Voxels) || !slices.Equal(stored.Warnings, fresh.Warnings) {
				t.Errorf("%s: the stored sample differs: %v", storage, err)
			}
		}
		if calls != 1 || len(said()) > 0 {
			t.Errorf("%s: made %d times; %q", storage, calls, said())
		}
	}
	c, _ := open(t, Settings{Dir: t.TempDir()})
	broken := errors.New("broken scan")
	if _, err := c.Prepare(key(2), 5, func() (Sample, error) { return Sample{}, broken }); !errors.Is(err, broken) || c.Has(key(2)) {
		t.Errorf("a scan that cannot be read: %v", err)
	}
}

// Every single flipped bit of an entry, and every cut, is found, said and healed.
func TestDamageIsHealed(t *testing.T) {
	dir := t.TempDir()
	c, said := open(t, Settings{Dir: dir})
	x := noise(40, 0, 1, 4)
	fresh := func() (Sample, error) { return Sample{slices.Clone(x), []string{"w"}}, nil }
	want, err := c.Prepare(key(1), len(x), fresh)
	if err != nil {
		t.Fatal(err)
	}
	path := c.path(key(1))
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if damage, _, err := Verify(t.Context(), dir, func(int) {}, func() {}); err != nil || len(damage) > 0 {
		t.Fatalf("a sound entry: %v, %v", damage, err)
	}
	damages := 0
	try := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		damage, total, err := Verify(t.Context(), dir, func(int) {}, func() {})
		if err != nil || total > 2 || len(damage) != 1 || damage[0].Path != path {
			t.Fatalf("%s: verify says %v, %d entries, %v", what, damage, total, err)
		}
		got, err := c.Prepare(key(1), len(x), fresh)
		if err != nil || !sameBits(got.Voxels, want.Voxels) {
			t.Fatalf("%s: %v", what, err)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, sound) {
			t.Fatalf("%s: not healed", what)
		}
		damages++
	}
	for i := range sound {
		if i%3 > 0 && i > headBytes { // the values are all alike
			continue
		}
		b := slices.Clone(sound)
		b[i] ^= 1 << (i % 8)
		try(fmt.Sprint("bit of byte ", i), b)
	}
	for _, n := range []int{0, 7, headBytes, len(sound) - 1} {
		try(fmt.Sprint("cut at ", n), sound[:n])
	}
	if got := said(); len(got) != damages || !strings.Contains(got[0], path) {
		t.Errorf("%d warnings for %d damages, the first: %s", len(got), damages, got[0])
	}
	if _, _, healed := c.Counts(); healed != int64(damages) {
		t.Errorf("%d healed of %d", healed, damages)
	}
	// The entry of another key under this name.
	if _, err := c.Prepare(key(2), len(x), fresh); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(c.path(key(2))); err != nil {
		t.Fatal(err)
	} else {
		try("another entry", b)
	}
}

// A folder that cannot be written stops the storing, is said once, and samples go on.
func TestDiskFails(t *testing.T) {
	dir := t.TempDir()
	c, said := open(t, Settings{Dir: dir})
	if err := os.RemoveAll(filepath.Join(c.dir, tempDir)); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		got, err := c.Prepare(key(i), 3, func() (Sample, error) { return Sample{[]float32{1, 2, 3}, nil}, nil })
		if err != nil || len(got.Voxels) != 3 {
			t.Fatal(err)
		}
	}
	if got := said(); len(got) != 1 || !strings.Contains(got[0], "cannot be written") || !c.Stopped() {
		t.Errorf("warnings %q", got)
	}
	if _, err := Open(Settings{Dir: filepath.Join(dir, "CACHEDIR.TAG")}); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// Old entries make room for new ones; those that the run uses stay, and then nothing more is stored.
func TestLimit(t *testing.T) {
	dir := t.TempDir()
	fill := func(c *Store, from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if _, err := c.Prepare(key(i), 1000, func() (Sample, error) { return Sample{noise(1000, 0, 1, uint64(i)), nil}, nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	c, _ := open(t, Settings{Dir: dir})
	fill(c, 0, 10)
	st, err := Look(dir)
	if err != nil || st.Entries != 10 {
		t.Fatal(st, err)
	}
	one := st.Bytes / 10
	for i := range 10 { // used one after the other, yesterday
		at := time.Now().Add(time.Duration(i)*time.Minute - 24*time.Hour)
		if err := os.Chtimes(c.path(key(i)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	c, said := open(t, Settings{Dir: dir, Limit: 10*one + one/2})
	fill(c, 0, 2)   // used again: they stay
	fill(c, 10, 12) // new
	if !c.Has(key(0)) || !c.Has(key(1)) || !c.Has(key(11)) || c.Has(key(2)) || !c.Has(key(9)) {
		t.Error("the wrong entries made room")
	}
	fill(c, 12, 40)
	st, err = Look(dir)
	if err != nil || st.Bytes > 10*one+one/2 || st.Entries < 9 {
		t.Errorf("%d entries, %d bytes of %d: %v", st.Entries, st.Bytes, 10*one+one/2, err)
	}
	if !c.Has(key(0)) || !c.Has(key(11)) || c.Has(key(39)) {
		t.Error("entries of this run made room for others of it")
	}
	if got := said(); len(got) != 1 || !strings.Contains(got[0], "is full") {
		t.Errorf("warnings %q", got)
	}
}

func TestPruneAndVersions(t *testing.T) {
	dir := t.TempDir()
	c, _ := open(t, Settings{Dir: dir})
	for i := range 4 {
		if _, err := c.Prepare(key(i), 100, func() (Sample, error) { return Sample{noise(100, 0, 1, uint64(i)), nil}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(c.path(key(3)), old, old); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(c.dir, "00", "notes.txt") // not the cache's
	for _, path := range []string{mine, filepath.Join(dir, "v99", "00", "x"), filepath.Join(c.dir, tempDir, "new"), filepath.Join(c.dir, tempDir, "old")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(filepath.Join(c.dir, tempDir, "old"), old, old); err != nil {
		t.Fatal(err)
	}
	_, said := open(t, Settings{Dir: dir})
	if got := said(); len(got) != 1 || !strings.Contains(got[0], "another version (v99)") {
		t.Errorf("warnings %q", got)
	}
	got, err := Prune(t.Context(), dir, PruneOptions{Limit: -1, Unused: 24 * time.Hour})
	if err != nil || got.Entries != 1 || got.Leftovers != 1 || got.Versions != 0 || c.Has(key(3)) || !c.Has(key(2)) {
		t.Errorf("by age: %+v, %v", got, err)
	}
	got, err = Prune(t.Context(), dir, PruneOptions{Limit: 0, OtherVersions: true})
	if err != nil || got.Entries != 3 || got.Versions != 1 || got.Left != 0 {
		t.Errorf("all: %+v, %v", got, err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error("a file that is not the cache's was removed")
	}
	if _, err := Prune(t.Context(), t.TempDir(), PruneOptions{}); err == nil || !strings.Contains(err.Error(), "is no cache") {
		t.Errorf("a folder that is no cache: %v", err)
	}
	if _, err := Look(filepath.Join(dir, "absent")); err == nil || !strings.Contains(err.Error(), "there is no cache") {
		t.Errorf("an absent folder: %v", err)
	}
}

// FuzzDecode reads any bytes as an entry: no panic, no more values than the bytes can hold.
func FuzzDecode(f *testing.F) {
	c, err := Open(Settings{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []Storage{Int16, Float16, Float32} {
		b, err := encode(c.enc, key(1), pack(noise(30, 0, 1, 1), s), []string{"w"})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, _, err := decode(c.dec, key(1), b); err == nil {
			p.unpack(make([]float32, p.n))
		}
	})
}
