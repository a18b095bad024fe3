// Package cache keeps preprocessed scans on disk, for the next epoch, the next run and other processes.
//
// Entries are named by their content: a [Key] is the digest of what a sample is made from, the scan's files and every
// setting of preprocessing, so that no entry can be out of date; keys tell nothing about patients. An entry is
// written to a temporary file and then renamed, so that every process sees all of it or nothing, and carries a
// checksum: one that is damaged is made again. No lock is held to read or write; two processes that make the same
// entry write the same bytes. Only making room takes a lock.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Version is raised when the form of an entry, or what reading or preprocessing makes of a scan, changes. Entries of
// other versions are not looked at.
const Version = 2

// touchAfter is how old the noted last use of an entry gets before a use is noted again.
const touchAfter = time.Hour

// Key names what a sample is made from.
type Key [sha256.Size]byte

// KeyOf returns the key of a sample: source names the content of its scan, settings is everything else that decides
// its voxels, in a form that encoding/json writes without loss.
func KeyOf(source [sha256.Size]byte, settings any) (Key, error) {
	text, err := json.Marshal(settings)
	if err != nil {
		return Key{}, fmt.Errorf("naming a sample in the cache: %w", err)
	}
	h := sha256.New()
	h.Write(source[:])
	h.Write(text)
	return Key(h.Sum(nil)), nil
}

// Settings say where a cache lies and what it may take.
type Settings struct {
	Dir     string
	Limit   int64 // bytes; 0: no limit
	Storage Storage
	// Warn receives what the user should know: entries that were damaged, that nothing more can be stored. It is
	// called by several goroutines. Nil: nothing is said.
	Warn func(text string)
}

// Store is an open cache. Several goroutines may use it at once, and several processes one folder.
type Store struct {
	settings Settings
	dir      string    // of the entries of this version
	opened   time.Time // entries used since then are not removed to make room
	enc      *zstd.Encoder
	dec      *zstd.Decoder

	hits, misses, healed atomic.Int64
	off                  atomic.Bool // nothing more is stored
	once                 sync.Once   // the warning about it

	mu     sync.Mutex // of the bytes
	used   int64      // bytes of all entries, as far as known; -1: not counted yet
	recent int64      // of them stored since they were counted
}

// Open opens the cache in a folder, which is made where it is missing.
func Open(s Settings) (*Store, error) {
	if s.Warn == nil {
		s.Warn = func(string) {}
	}
	if s.Storage == "" {
		s.Storage = Int16
	}
	c := &Store{settings: s, dir: versionDir(s.Dir, Version), opened: time.Now(), used: -1}
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	var err error
	if c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0))); err != nil {
		return nil, err
	}
	if c.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0)); err != nil {
		return nil, err
	}
	if others := otherVersions(s.Dir); len(others) > 0 {
		s.Warn(fmt.Sprintf("the cache %s also holds entries of another version (%s), which are not used; `ctclass cache prune --other-versions` removes them",
			s.Dir, strings.Join(others, ", ")))
	}
	return c, nil
}

// makeDir makes the cache's folder. One that cannot be written can still be read.
func (c *Store) makeDir() error {
	err := os.MkdirAll(filepath.Join(c.dir, tempDir), 0o777)
	if err == nil {
		tag := filepath.Join(c.settings.Dir, "CACHEDIR.TAG") // backup programs leave such folders out
		if _, statErr := os.Stat(tag); errors.Is(statErr, fs.ErrNotExist) {
			_ = os.WriteFile(tag, []byte("Signature: 8a477f597d28d172789f06886806bc55\n# Preprocessed scans of ctclass.\n"), 0o666)
		}
		return nil
	}
	if info, statErr := os.Stat(c.settings.Dir); statErr != nil || !info.IsDir() {
		return fmt.Errorf("data.cache.dir %s cannot be made: %w", c.settings.Dir, err)
	}
	c.stop("cannot be written", err)
	return nil
}

const tempDir = "tmp"

func versionDir(dir string, version int) string {
	return filepath.Join(dir, fmt.Sprintf("v%d", version))
}

// path is where the entry of a key lies.
func (c *Store) path(key Key) string {
	name := hex.EncodeToString(key[:])
	return filepath.Join(c.dir, name[:2], name)
}

// Prepare returns the sample of n values that key names: the stored one, or what fresh makes, which is then stored.
// Either way the voxels are those of the cache's storage, to the bit. The error is fresh's: a cache that cannot be
// read or written is no reason to fail.
func (c *Store) Prepare(key Key, n int, fresh func() (Sample, error)) (Sample, error) {
	s, err := c.get(key, n)
	if err == nil {
		c.hits.Add(1)
		return s, nil
	}
	damaged := errors.Is(err, errDamaged)
	if damaged {
		c.settings.Warn(fmt.Sprintf("the cache entry %s is %v; it is made again", c.path(key), err))
	}
	if s, err = fresh(); err != nil {
		return s, err
	}
	c.misses.Add(1)
	p := pack(s.Voxels, c.settings.Storage)
	if c.put(key, p, s.Warnings) && damaged {
		c.healed.Add(1)
	}
	p.unpack(s.Voxels)
	return s, nil
}

// Has reports whether there is an entry of the key, without looking into it.
func (c *Store) Has(key Key) bool {
	_, err := os.Stat(c.path(key))
	return err == nil
}

// Storage returns how voxels are stored.
func (c *Store) Storage() Storage { return c.settings.Storage }

// Stopped reports whether nothing more is stored: the cache is full or cannot be written.
func (c *Store) Stopped() bool { return c.off.Load() }

// Counts returns how many samples came from the cache, how many were made, and how many of these because their entry
// was damaged.
func (c *Store) Counts() (hits, misses, healed int64) {
	return c.hits.Load(), c.misses.Load(), c.healed.Load()
}

// get reads the entry of a key.
func (c *Store) get(key Key, n int) (Sample, error) {
	path := c.path(key)
	b, used, err := readFile(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			err = damagedf("it cannot be read: %v", err)
		}
		return Sample{}, err
	}
	p, warnings, err := decode(c.dec, key, b)
	if err != nil {
		return Sample{}, err
	}
	if p.n != n {
		return Sample{}, damagedf("it holds %d values, not %d", p.n, n)
	}
	if now := time.Now(); now.Sub(used) > touchAfter || used.Before(c.opened) {
		_ = os.Chtimes(path, now, now) // a folder that cannot be written keeps its times
	}
	s := Sample{make([]float32, n), warnings}
	p.unpack(s.Voxels)
	return s, nil
}

// readFile reads a file and the time it was last changed or, in this cache, used.
func readFile(path string) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	b := make([]byte, info.Size())
	_, err = io.ReadFull(f, b)
	return b, info.ModTime(), err
}

// put stores an entry, if there is room, and reports whether it did.
func (c *Store) put(key Key, p packed, warnings []string) bool {
	if c.off.Load() {
		return false
	}
	b, err := encode(c.enc, key, p, warnings)
	if err == nil {
		if !c.reserve(int64(len(b))) {
			return false
		}
		err = c.write(c.path(key), b)
	}
	if err != nil {
		c.stop("cannot be written", err)
	}
	return err == nil
}

// write makes the file at path in one step. It is not forced to the disk: an entry that a crash of the machine cuts
// short has a wrong checksum.
func (c *Store) write(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Join(c.dir, tempDir), "*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err = f.Close(); err != nil { // some file systems say only now that they are full
		return err
	}
	if err = os.Mkdir(filepath.Dir(path), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(f.Name(), path)
}

// stop ends the storing and says so once.
func (c *Store) stop(what string, err error) {
	c.off.Store(true)
	c.once.Do(func() {
		c.settings.Warn(fmt.Sprintf("the cache %s %s (%v): it goes on without storing more", c.settings.Dir, what, err))
	})
}
