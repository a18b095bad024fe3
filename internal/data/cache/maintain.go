package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/klauspost/compress/zstd"
)

// Status is what a cache holds.
type Status struct {
	Dir           string         `json:"dir"`
	Version       int            `json:"version"`
	Entries       int            `json:"entries"`
	Bytes         int64          `json:"bytes"`
	Encodings     map[string]int `json:"encodings"` // entries by how their values are stored
	Values        int64          `json:"values"`    // voxels of all entries
	Unreadable    int            `json:"unreadable"`
	LeastRecent   *time.Time     `json:"least_recent_use,omitempty"`
	MostRecent    *time.Time     `json:"most_recent_use,omitempty"`
	Leftovers     int            `json:"leftovers"` // temporary files of writers, at work or interrupted
	OtherVersions []string       `json:"other_versions"`
}

// Look describes the cache in a folder; of every entry only the front is read.
func Look(dir string) (*Status, error) {
	list, err := existing(dir)
	if err != nil {
		return nil, err
	}
	s := &Status{Dir: dir, Version: Version, Encodings: map[string]int{}, OtherVersions: otherVersions(dir)}
	for _, f := range list {
		s.Entries++
		s.Bytes += f.size
		if s.LeastRecent == nil || f.used.Before(*s.LeastRecent) {
			s.LeastRecent = &f.used
		}
		if s.MostRecent == nil || f.used.After(*s.MostRecent) {
			s.MostRecent = &f.used
		}
		h, err := frontOf(f.path)
		if err != nil {
			s.Unreadable++
			continue
		}
		s.Encodings[h.encoding.String()]++
		s.Values += int64(h.values)
	}
	temps, _ := os.ReadDir(filepath.Join(versionDir(dir, Version), tempDir))
	s.Leftovers = len(temps)
	return s, nil
}

func (e encoding) String() string {
	switch e {
	case steps16:
		return string(Int16)
	case half:
		return string(Float16)
	}
	return string(Float32)
}

func frontOf(path string) (head, error) {
	f, err := os.Open(path)
	if err != nil {
		return head{}, err
	}
	defer f.Close()
	b := make([]byte, headBytes)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return head{}, err
	}
	return readHead(b[:n])
}

// existing lists the entries of a cache, which must be one.
func existing(dir string) ([]file, error) {
	list, err := entries(versionDir(dir, Version))
	if errors.Is(err, fs.ErrNotExist) {
		if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() {
			return nil, fmt.Errorf("there is no cache %s", dir)
		}
		if others := otherVersions(dir); len(others) == 0 {
			return nil, fmt.Errorf("%s is no cache of ctclass", dir)
		}
		return nil, nil
	}
	return list, err
}

// Damage is an entry that cannot be used.
type Damage struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Verify reads every entry whole and returns those that are damaged, sorted by path, and the number of all. step is
// called after each entry, never twice at once.
func Verify(ctx context.Context, dir string, start func(total int), step func()) (damage []Damage, total int, err error) {
	list, err := existing(dir)
	if err != nil {
		return nil, 0, err
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0))
	if err != nil {
		return nil, 0, err
	}
	defer z.Close()
	start(len(list))
	var (
		group sync.WaitGroup
		lock  sync.Mutex
		jobs  = make(chan file)
		gone  int
	)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for f := range jobs {
				b, _, err := readFile(f.path)
				if err == nil {
					_, _, err = decode(z, f.key, b)
				}
				lock.Lock()
				switch {
				case errors.Is(err, fs.ErrNotExist): // removed by another process meanwhile
					gone++
				case err != nil:
					damage = append(damage, Damage{f.path, err.Error()})
				}
				step()
				lock.Unlock()
			}
		})
	}
	for _, f := range list {
		if ctx.Err() != nil {
			break
		}
		jobs <- f
	}
	close(jobs)
	group.Wait()
	slices.SortFunc(damage, func(a, b Damage) int { return cmp.Compare(a.Path, b.Path) })
	return damage, len(list) - gone, ctx.Err()
}

// PruneOptions say what to remove.
type PruneOptions struct {
	Limit         int64         // bytes that may stay; negative: no limit
	Unused        time.Duration // remove what was not used for so long; 0: whatever its age
	OtherVersions bool
}

// Pruned is what Prune removed.
type Pruned struct {
	Entries   int   `json:"entries"`
	Leftovers int   `json:"leftovers"`
	Versions  int   `json:"versions"`
	Left      int64 `json:"bytes_left"`
}

// Prune removes the entries that were used longest ago until the limit is met, those that were not used for long, and
// temporary files that are older than an hour. Only files that the cache has made are touched. It waits for another
// process that is making room.
func Prune(ctx context.Context, dir string, o PruneOptions) (Pruned, error) {
	var done Pruned
	if _, err := existing(dir); err != nil {
		return done, err
	}
	if o.OtherVersions {
		for _, name := range otherVersions(dir) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return done, err
			}
			done.Versions++
		}
	}
	in := versionDir(dir, Version)
	if _, err := os.Stat(in); errors.Is(err, fs.ErrNotExist) {
		return done, nil
	}
	lock := flock.New(filepath.Join(in, "lock"))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return done, err
	}
	defer lock.Unlock()
	temps, err := os.ReadDir(filepath.Join(in, tempDir))
	if err != nil {
		return done, err
	}
	for _, t := range temps {
		if info, err := t.Info(); err == nil && time.Since(info.ModTime()) > leftoverAge {
			if os.Remove(filepath.Join(in, tempDir, t.Name())) == nil {
				done.Leftovers++
			}
		}
	}
	now := time.Now()
	if o.Unused > 0 {
		if done.Entries, done.Left, err = prune(in, 0, now.Add(-o.Unused)); err != nil {
			return done, err
		}
	}
	limit := o.Limit
	if limit < 0 {
		limit = 1 << 62
	}
	removed, left, err := prune(in, limit, now.Add(time.Hour)) // clocks of other machines may be ahead
	done.Entries += removed
	done.Left = left
	return done, err
}
