package cache

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/gofrs/flock"
)

const (
	recountShare = 0.05 // of the limit: after storing so much the entries are counted again, as others store too
	roomShare    = 0.1  // of the limit: so much is freed at once
	leftoverAge  = time.Hour
)

// file is an entry as it lies on disk.
type file struct {
	key  Key
	path string
	size int64
	used time.Time // last use
}

// entries lists the entries below the folder of a version.
func entries(dir string) ([]file, error) {
	var list []file
	shards, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, shard := range shards {
		if len(shard.Name()) != 2 || !shard.IsDir() {
			continue
		}
		in := filepath.Join(dir, shard.Name())
		names, err := os.ReadDir(in)
		if err != nil {
			return nil, err
		}
		for _, e := range names {
			f := file{path: filepath.Join(in, e.Name())}
			if n, err := hex.Decode(f.key[:], []byte(e.Name()[:min(len(e.Name()), 2*len(f.key))])); err != nil || n != len(f.key) {
				continue // not ours
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // another process has just removed it
			}
			if err != nil {
				return nil, err
			}
			f.size, f.used = info.Size(), info.ModTime()
			list = append(list, f)
		}
	}
	return list, nil
}

// reserve makes room for an entry of so many bytes, and reports whether there is.
func (c *Store) reserve(size int64) bool {
	limit := c.settings.Limit
	if limit == 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used < 0 || c.recent > int64(recountShare*float64(limit)) {
		if err := c.count(); err != nil {
			c.stop("cannot be read", err)
			return false
		}
	}
	if c.used+size > limit {
		if !c.makeRoom(limit - size) {
			return false
		}
	}
	c.used += size
	c.recent += size
	return true
}

// count counts the bytes of all entries; c.mu is locked.
func (c *Store) count() error {
	list, err := entries(c.dir)
	if err != nil {
		return err
	}
	c.used, c.recent = 0, 0
	for _, f := range list {
		c.used += f.size
	}
	return nil
}

// makeRoom removes entries until no more than so many bytes are left, or a tenth of the limit less; c.mu is locked.
// Entries that were used since this process opened the cache stay: an epoch uses every sample once, and removing
// the one that was used longest ago would remove each just before its next use. When nothing else is left the cache
// is full for this process.
func (c *Store) makeRoom(bytes int64) bool {
	lock := flock.New(filepath.Join(c.dir, "lock"))
	ok, err := lock.TryLock()
	if err != nil {
		c.stop("cannot be locked", err)
		return false
	}
	if !ok {
		return false // another process is making room
	}
	defer lock.Unlock()
	_, left, err := prune(c.dir, min(bytes, int64((1-roomShare)*float64(c.settings.Limit))), c.opened)
	if err != nil {
		c.stop("cannot be pruned", err)
		return false
	}
	c.used, c.recent = left, 0
	if left > bytes {
		c.stop("is full", fmt.Errorf("%d MB of scans that this run uses, data.cache.size allows %d MB", left/1e6, c.settings.Limit/1e6))
		return false
	}
	return true
}

// prune removes the entries that were used longest ago, none that was used after keep, until the others take no more
// than limit bytes. It returns how many it removed and the bytes that are left.
func prune(dir string, limit int64, keep time.Time) (removed int, left int64, err error) {
	list, err := entries(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, f := range list {
		left += f.size
	}
	slices.SortFunc(list, func(a, b file) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.path, b.path)) })
	for _, f := range list {
		if left <= limit || !f.used.Before(keep) {
			break
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, left, err
		}
		removed++
		left -= f.size
	}
	return removed, left, nil
}

// otherVersions lists the folders of other versions.
func otherVersions(dir string) []string {
	var names []string
	list, _ := os.ReadDir(dir) // a folder that cannot be listed shows none
	for _, e := range list {
		if e.IsDir() && regexp.MustCompile(`^v\d+$`).MatchString(e.Name()) && e.Name() != filepath.Base(versionDir(dir, Version)) {
			names = append(names, e.Name())
		}
	}
	return names
}
