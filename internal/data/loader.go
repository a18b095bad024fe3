package data

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/augment"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/volume"
)

// Options sets a [Loader].
type Options struct {
	BatchSize int
	Shuffle   bool    // a new order each epoch; otherwise the order of the samples
	Sampler   Sampler // which samples an epoch draws; all but Each shuffle
	Task      string  // of the targets, for the samplers that go by class
	DropLast  bool    // leave out a last batch of fewer than BatchSize samples
	Seed      uint64  // of the order and the changes
	Workers   int     // goroutines that read and preprocess; 0: one a processor
	Prefetch  int     // batches made ahead of the one in use; 0: 2

	// Preprocess turns a volume into the network's input; its ShapeDHW is the shape of a sample.
	Preprocess config.Preprocess
	// Augment changes the samples at random, each time anew.
	Augment config.Augment
	// OpenVolume reads the scan of a sample and returns warnings about it; [Dataset.OpenVolume]
	// is one. It is called by several workers at once.
	OpenVolume func(Sample) (*volume.Volume, []string, error)
	// Apply preprocesses a volume to the voxels [c][d][h][w] of a sample. It is called by several
	// workers at once. Nil: [preprocess.Apply].
	Apply func(*volume.Volume, config.Preprocess) (voxels []float32, warnings []string, err error)

	// Strict makes a scan with warnings one that cannot be used.
	Strict bool
	// SkipErrors leaves a scan that cannot be used out of the batches, with a warning; otherwise
	// it ends the epoch with an error.
	SkipErrors bool
	// Warn receives each reason for leaving a sample out, once, and of warnings that differ only in their
	// numbers the first, and at the end of an epoch how many other samples had it. It is called in the order
	// of the samples, by one background goroutine. Nil: warnings are dropped.
	Warn func(s Sample, warning string)
	// Stored keeps preprocessed samples on disk. Nil: every sample is made from its scan.
	Stored *Stored
	// CacheBytes bounds the preprocessed samples that are kept in memory for the next epochs; 0: none.
	CacheBytes int64
}

// DefaultCacheBytes is a cache size that holds small data sets whole.
const DefaultCacheBytes = 1 << 30

// Batch is some samples of an epoch, ready for the network. X and Y are valid until the body of
// the loop over the epoch ends, or until Release.
type Batch struct {
	Samples []Sample
	IDs     []uint64  // name the draws in random streams: the samples' IDs, where a sample is drawn once
	X       []float32 // [B][C][D][H][W], B = len(Samples), C windows
	Y       []float32 // [B][C], C values a target; NaN where one is missing
	// Next is the position in the epoch's order behind the last sample of the batch: an epoch
	// started there goes on with the next batch.
	Next int

	release func()
}

// Release lets the workers refill the batch before the loop body ends; it takes X and Y away.
func (b *Batch) Release() {
	if b.release != nil {
		b.release()
		b.release, b.X, b.Y = nil, nil, nil
	}
}

// buffer is the memory of one batch, allocated on first use and used again and again.
type buffer struct{ x, y []float32 }

// Loader makes the batches of a list of samples. The bytes of every batch depend on the samples,
// the options and the epoch only, not on the number of workers, the cache or the batches before.
type Loader struct {
	samples []Sample
	o       Options
	voxels  int // values of a sample: channels times voxels
	classes int // values of a target
	cache   *memoryCache
	byClass [][]int            // indices of the samples, for the samplers that go by class
	augment *augment.Augmenter // nil: samples stay as they are
	changed chan []float32     // memory of changed samples, to use again

	running atomic.Bool
	free    chan *buffer // the batch buffers not in use
	waited  atomic.Int64

	// What was passed on to Warn; the running epoch's.
	warned map[uint64]bool    // samples, by ID
	kinds  map[string]*warned // by WarningKind
	order  []string           // kinds as they came

	mu      sync.Mutex
	bad     map[uint64]bool // samples that cannot be used, by ID
	skipped []Skipped
}

// Skipped is a sample that cannot be used.
type Skipped struct {
	Sample Sample
	Reason error
}

// NewLoader returns a loader of the samples.
func NewLoader(samples []Sample, o Options) (*Loader, error) {
	if len(samples) == 0 {
		return nil, errors.New("loader: there are no samples")
	}
	if o.BatchSize < 1 {
		return nil, fmt.Errorf("loader: the batch size is %d, want at least 1", o.BatchSize)
	}
	if o.OpenVolume == nil {
		return nil, errors.New("loader: OpenVolume is nil")
	}
	if o.Apply == nil {
		o.Apply = applyPreprocess
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Prefetch <= 0 {
		o.Prefetch = 2
	}
	voxels, err := voxelCount(o.Preprocess.ShapeDHW)
	if err != nil {
		return nil, fmt.Errorf("loader: %w", err)
	}
	voxels *= len(o.Preprocess.Windows())
	if o.BatchSize > 1<<40/voxels {
		return nil, fmt.Errorf("loader: a batch of %d samples of shape %v is larger than any memory", o.BatchSize, o.Preprocess.ShapeDHW)
	}
	classes := len(samples[0].Target)
	for _, s := range samples {
		if len(s.Target) != classes {
			return nil, fmt.Errorf("loader: %s has %d target values, %s has %d", s.Name, len(s.Target), samples[0].Name, classes)
		}
	}
	l := &Loader{
		samples: samples, o: o, voxels: voxels, classes: classes, cache: newMemoryCache(o.CacheBytes),
		free: make(chan *buffer, o.Prefetch+1), bad: map[uint64]bool{}, warned: map[uint64]bool{}, kinds: map[string]*warned{},
	}
	for range cap(l.free) {
		l.free <- &buffer{}
	}
	if o.Sampler != Each {
		if l.byClass = classesOf(samples, o.Task); len(l.byClass) == 0 {
			return nil, fmt.Errorf("loader: none of the %d samples has a known label to balance by", len(samples))
		}
	}
	if o.Augment.On() {
		if l.augment, err = augment.New(o.Augment, augment.For(o.Preprocess, o.Seed)); err != nil {
			return nil, fmt.Errorf("loader: %w", err)
		}
		l.changed = make(chan []float32, o.lookahead())
	}
	return l, nil
}

// voxelCount returns the number of voxels of a shape in D, H, W.
func voxelCount(shape [3]int) (int, error) {
	n := 1
	for _, s := range shape {
		if s < 1 || s > 1<<16 || n > 1<<40/s {
			return 0, fmt.Errorf("the sample shape is %v, want three sizes of at least 1 voxel", shape)
		}
		n *= s
	}
	return n, nil
}

// Batches returns the number of batches of a whole epoch, less those lost to samples that are
// known to be unusable.
func (l *Loader) Batches() int {
	n := len(l.samples) - l.Skipped()
	if l.o.DropLast {
		return n / l.o.BatchSize
	}
	return (n + l.o.BatchSize - 1) / l.o.BatchSize
}

// Skipped returns the number of samples found unusable so far.
func (l *Loader) Skipped() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.bad)
}

// SkippedSamples returns the samples found unusable so far, in the order in which they were found.
func (l *Loader) SkippedSamples() []Skipped {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.skipped)
}

// WaitTime returns the time that the consumer has waited for batches since the loader was made.
func (l *Loader) WaitTime() time.Duration { return time.Duration(l.waited.Load()) }

// applyPreprocess calls [preprocess.Apply].
func applyPreprocess(v *volume.Volume, p config.Preprocess) (voxels []float32, warnings []string, err error) {
	r, warnings, err := preprocess.Apply(v, p)
	return r.Data, warnings, err
}

// LimitCache replaces Options.CacheBytes. It must be called before the first epoch.
func (l *Loader) LimitCache(bytes int64) {
	l.o.CacheBytes = bytes
	l.cache = newMemoryCache(bytes)
}

// Bounds are the most bytes that the parts of a loader take.
type Bounds struct {
	Batches int64 // made ahead and in use
	Samples int64 // in flight, and in the hands of the workers that preprocess and change them
	Scans   int64 // that the workers are reading
	Cache   int64
}

// Total is all of them.
func (b Bounds) Total() int64 { return b.Batches + b.Samples + b.Scans + b.Cache }

// Bounds returns what the loader takes at most when no scan has more than maxVoxels voxels. What reading a file
// takes besides the volume does not enter, nor the few planes that preprocessing holds, nor what the garbage
// collector has not freed yet.
func (l *Loader) Bounds(maxVoxels int64) Bounds {
	sample, workers := 4*int64(l.voxels), int64(l.o.Workers)
	b := Bounds{
		Batches: int64(cap(l.free)) * int64(l.o.BatchSize) * (sample + 4*int64(l.classes)),
		Samples: (int64(l.o.lookahead()) + workers) * sample,
		Scans:   workers * 4 * maxVoxels,
		Cache:   l.CacheBound(),
	}
	if l.o.Stored != nil {
		b.Samples += workers * 3 * sample // a sample is packed, compressed and written at a time
	}
	if l.augment != nil { // a worker holds the sample as it was, spread out, beside the changed one
		b.Samples += workers * (2*sample + l.augment.WorkspaceBytes())
	}
	return b
}

// CacheBound returns the most bytes that the cache takes.
func (l *Loader) CacheBound() int64 {
	return min(max(l.o.CacheBytes, 0), int64(len(l.samples))*4*int64(l.voxels))
}

// lookahead is the number of samples that may be in the workers' hands or wait for their place in
// a batch: one more than there are workers, so that a worker need not idle while its last sample waits.
func (o *Options) lookahead() int { return o.Workers + 1 }

// Epoch returns the batches of an epoch from position start of its order: 0 for a whole epoch,
// Batch.Next to go on behind a batch (k*BatchSize behind k batches, when no sample was skipped).
//
// Batches are made in the background while the loop body runs, at most Prefetch ahead. A sample
// that cannot be used ends the epoch with an error that names it, or with SkipErrors is passed
// over, and the batch is filled with the samples that follow. When ctx is cancelled the epoch ends with its error.
// Whichever way the loop ends, the workers are gone when it has ended. A loader runs one epoch at a time.
func (l *Loader) Epoch(ctx context.Context, epoch, start int) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		if start < 0 || start > len(l.samples) {
			yield(nil, fmt.Errorf("loader: an epoch of %d samples has no position %d", len(l.samples), start))
			return
		}
		if !l.running.CompareAndSwap(false, true) {
			yield(nil, errors.New("loader: an epoch is already running"))
			return
		}
		defer l.running.Store(false)
		p := l.startPipeline(ctx, epoch, start)
		defer p.stop()
		for {
			begin := time.Now()
			b, err := p.next(ctx)
			l.waited.Add(int64(time.Since(begin)))
			if err != nil {
				yield(nil, err)
				return
			}
			if b == nil {
				return
			}
			ok := yield(b, nil)
			b.Release()
			if !ok {
				return
			}
		}
	}
}
