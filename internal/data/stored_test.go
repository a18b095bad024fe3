package data

import (
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/cache"
)

// Whatever field of preprocessing changes, the key does, and so it does with the metadata and the row of an archive.
func TestKeysCover(t *testing.T) {
	d := &Dataset{images: nil}
	dir, file := folder(t, "path,x\na.nii,1\n", "a.nii")
	if err := d.OpenCache(config.Cache{Dir: filepath.Join(dir, "kept"), Storage: "int16"}, nil); err != nil {
		t.Fatal(err)
	}
	s := Sample{ID: 1, Name: "a", Path: filepath.Join(filepath.Dir(file), "a.nii")}
	base := config.Default().Preprocess
	seen := map[cache.Key]string{}
	note := func(what string, d *Dataset, s Sample, p config.Preprocess) {
		t.Helper()
		key, err := d.Stored(p).Key(s)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%s has the key of %s", what, other)
		}
		seen[key] = what
	}
	note("the default", d, s, base)
	v := reflect.ValueOf(base)
	for i := range v.NumField() {
		p := base
		f := reflect.ValueOf(&p).Elem().Field(i)
		switch f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Float64:
			f.SetFloat(f.Float() + 1)
		case reflect.Int:
			f.SetInt(f.Int() + 1)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Array:
			e := f.Index(0)
			if e.CanInt() {
				e.SetInt(e.Int() + 1)
			} else {
				e.SetFloat(e.Float() + 1)
			}
		default:
			if f.Type() != reflect.TypeFor[config.Spacing]() {
				t.Fatalf("do not know how to change %s", v.Type().Field(i).Name)
			}
			p.SpacingMM = config.Spacing{MM: [3]float64{1, 2, 3}}
		}
		note(v.Type().Field(i).Name, d, s, p)
	}
	row := s
	row.Index = 4
	note("another row", d, row, base)
	row.array = Val
	note("another array", d, row, base)
	with := *d
	with.metadata = map[uint64]facts{1: {slope: 1, spacing: [3]float64{1, 1, 1}}}
	note("metadata", &with, s, base)
	with.metadata = map[uint64]facts{1: {slope: 1, intercept: -1024, spacing: [3]float64{1, 1, 1}}}
	note("other metadata", &with, s, base)
	half := *d
	if err := half.OpenCache(config.Cache{Dir: filepath.Join(dir, "kept"), Storage: "float16"}, nil); err != nil {
		t.Fatal(err)
	}
	note("another storage", &half, s, base)
}

// Batches are the same bytes from scans, from a cache that is being filled and from a full one, and the cache spares
// the reading. The warnings of a stored scan count as those of one that was read.
func TestLoaderWithCache(t *testing.T) {
	npz := archive(t, func(i int) uint8 { return uint8(i % 2) })
	d, err := Open(config.Data{Table: npz, Task: Binary}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.OpenCache(config.Cache{Dir: t.TempDir(), Storage: "int16"}, func(text string) { t.Error(text) }); err != nil {
		t.Fatal(err)
	}
	p := config.Default().Preprocess
	p.ShapeDHW, p.HUWindow = [3]int{3, 4, 5}, [2]float64{0, 255}
	read := func(stored *Stored) []float32 {
		t.Helper()
		l, err := NewLoader(d.Samples, Options{BatchSize: 3, Shuffle: true, Seed: 1, Augment: flips(true, false, true), Preprocess: p, OpenVolume: d.OpenVolume, Stored: stored})
		if err != nil {
			t.Fatal(err)
		}
		var all []float32
		for b, err := range l.Epoch(t.Context(), 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b.X...)
		}
		return all
	}
	plain := read(nil)
	filling, full := read(d.Stored(p)), read(d.Stored(p))
	if hits, misses, _ := d.CacheCounts(); hits != 10 || misses != 10 {
		t.Errorf("%d from the cache, %d made; want 10 each", hits, misses)
	}
	if !slices.Equal(filling, full) {
		t.Error("a stored sample differs from a fresh one")
	}
	for i := range plain {
		if math.Abs(float64(plain[i]-full[i])) > 1.0/131070+1e-7 {
			t.Fatalf("voxel %d: %v became %v", i, plain[i], full[i])
		}
	}
}

func TestWarm(t *testing.T) {
	npz := archive(t, func(i int) uint8 { return uint8(i % 2) })
	d, err := Open(config.Data{Table: npz, Task: Binary}, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := config.Default().Preprocess
	p.ShapeDHW = [3]int{2, 2, 2}
	d.Samples[4].Index = 99 // a scan that cannot be read
	dir := t.TempDir()
	warm := func() (made, was, failed int) {
		t.Helper()
		if err := d.OpenCache(config.Cache{Dir: dir, Storage: "int16"}, nil); err != nil {
			t.Fatal(err)
		}
		l, err := NewLoader(d.Samples, Options{BatchSize: 1, Workers: 3, Preprocess: p, OpenVolume: d.OpenVolume, Stored: d.Stored(p)})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Warm(t.Context(), 7, func(w Warmed) {
			switch {
			case w.Err != nil:
				failed++
			case w.Was:
				was++
			default:
				made++
			}
		}); err != nil {
			t.Fatal(err)
		}
		return made, was, failed
	}
	if made, was, failed := warm(); made != 9 || was != 0 || failed != 1 {
		t.Errorf("made %d, were there %d, failed %d", made, was, failed)
	}
	if made, was, failed := warm(); made != 0 || was != 9 || failed != 1 {
		t.Errorf("again: made %d, were there %d, failed %d", made, was, failed)
	}
}
