package data

import (
	"context"
	"errors"
	"sync"
)

// Warmed says what became of a sample.
type Warmed struct {
	Sample Sample
	Was    bool  // it was in the cache already
	Err    error // it cannot be used
}

// Warm brings every sample into the cache on disk and calls done after each, one call at a time, in no particular
// order. It begins at sample start and goes round, so that processes that begin at different ones share the work. It
// ends early when the cache takes no more; the samples that done was not called for are then not in it.
func (l *Loader) Warm(ctx context.Context, start int, done func(Warmed)) error {
	if l.o.Stored == nil {
		return errors.New("there is no cache to warm: name its folder in data.cache.dir")
	}
	var (
		group sync.WaitGroup
		lock  sync.Mutex
		jobs  = make(chan Sample)
	)
	for range l.o.Workers {
		group.Go(func() {
			for s := range jobs {
				w := Warmed{Sample: s, Was: l.o.Stored.Has(s)}
				if !w.Was {
					w.Err = l.prepare(s).err
					if w.Err == nil && !l.o.Stored.Has(s) {
						continue // it was not taken
					}
				}
				lock.Lock()
				done(w)
				lock.Unlock()
			}
		})
	}
	for i := range l.samples {
		if ctx.Err() != nil || l.o.Stored.ds.store.Stopped() {
			break
		}
		jobs <- l.samples[(start+i)%len(l.samples)]
	}
	close(jobs)
	group.Wait()
	return ctx.Err()
}
