package data

import (
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/cache"
	"github.com/ctclass/ctclass/internal/data/scan"
)

// OpenCache opens the cache on disk that c describes, if it names one, for the samples of d. warn receives what the
// user should know about it; it may be called by several goroutines.
func (d *Dataset) OpenCache(c config.Cache, warn func(text string)) error {
	if c.Dir == "" {
		return nil
	}
	s := cache.Settings{Dir: c.Dir, Warn: warn}
	var err error
	if s.Storage, err = cache.ParseStorage(c.Storage); err != nil {
		return err
	}
	if c.Size != "" {
		if s.Limit, err = config.ParseBytes(c.Size); err != nil {
			return fmt.Errorf("data.cache.size: %w", err)
		}
	}
	d.store, err = cache.Open(s)
	return err
}

// CacheCounts returns how many samples came from the cache on disk, how many were made, and how many of these because
// their entry was damaged.
func (d *Dataset) CacheCounts() (hits, misses, healed int64) {
	if d.store == nil {
		return 0, 0, 0
	}
	return d.store.Counts()
}

// Stored is the samples of a data set, preprocessed in one way, in its cache on disk.
type Stored struct {
	ds *Dataset
	p  config.Preprocess

	mu     sync.Mutex
	keys   map[uint64]cache.Key // by sample ID: a scan that changes while a run reads it makes no difference to the run
	npz    [sha256.Size]byte    // of a MedMNIST archive
	npzErr error
	once   sync.Once
}

// Stored returns the samples of d, preprocessed by p, in the cache that OpenCache has opened; nil without one.
func (d *Dataset) Stored(p config.Preprocess) *Stored {
	if d.store == nil {
		return nil
	}
	return &Stored{ds: d, p: p, keys: map[uint64]cache.Key{}}
}

// recipe is all that decides the voxels of a preprocessed sample but the content of its scan. It holds nothing about
// the patient.
type recipe struct {
	Preprocess config.Preprocess
	Storage    string   // of the cache: the voxels are rounded to it
	Series     string   // which series of the path
	Array      string   // of a MedMNIST archive
	Index      int      // in the array
	Metadata   *rescale // from data.metadata
}

// rescale is facts in a form that can be written.
type rescale struct {
	Slope, Intercept float64
	Spacing          [3]float64
}

// Key returns the key of a sample. The error is that of a scan that cannot be looked at.
func (st *Stored) Key(s Sample) (cache.Key, error) {
	st.mu.Lock()
	key, ok := st.keys[s.ID]
	st.mu.Unlock()
	if ok {
		return key, nil
	}
	o := recipe{Preprocess: st.p, Storage: string(st.ds.store.Storage()), Series: s.Series, Array: s.array, Index: s.Index}
	var source [sha256.Size]byte
	var err error
	if st.ds.images != nil {
		st.once.Do(func() { st.npz, st.npzErr = scan.Identity(s.Path) })
		source, err = st.npz, st.npzErr
	} else {
		source, err = scan.Identity(s.Path)
	}
	if err != nil {
		return key, err
	}
	if f, ok := st.ds.metadata[s.ID]; ok {
		o.Metadata = &rescale{f.slope, f.intercept, f.spacing}
	}
	if key, err = cache.KeyOf(source, o); err != nil {
		return key, err
	}
	st.mu.Lock()
	st.keys[s.ID] = key
	st.mu.Unlock()
	return key, nil
}

// Prepare returns the voxels of a sample, n of them, and the warnings about it: the stored ones, or what fresh makes,
// which is then stored.
func (st *Stored) Prepare(s Sample, n int, fresh func() ([]float32, []string, error)) ([]float32, []string, error) {
	key, err := st.Key(s)
	if err != nil { // the reader says better what is wrong with the scan
		return fresh()
	}
	kept, err := st.ds.store.Prepare(key, n, func() (cache.Sample, error) {
		x, warnings, err := fresh()
		return cache.Sample{Voxels: x, Warnings: warnings}, err
	})
	return kept.Voxels, kept.Warnings, err
}

// Has reports whether a sample is stored.
func (st *Stored) Has(s Sample) bool {
	key, err := st.Key(s)
	return err == nil && st.ds.store.Has(key)
}
