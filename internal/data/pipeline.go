package data

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/ctclass/ctclass/internal/data/augment"
	"github.com/ctclass/ctclass/internal/data/scan"
)

// pipeline makes the batches of one epoch: workers prepare samples side by side, the assembler
// puts them into batches in order.
type pipeline struct {
	l      *Loader
	order  []int    // positions of the epoch still to come, indices into the samples
	draws  []uint64 // their names in random streams
	cancel context.CancelFunc
	group  sync.WaitGroup
	jobs   chan job
	out    chan *Batch
	err    error // why the assembler ended; read after out is closed
}

// job is one sample on its way.
type job struct {
	sample Sample
	draw   uint64 // names it in random streams
	done   chan<- prepared
}

// prepared is what a worker made of a sample.
type prepared struct {
	pixels   pixels
	warnings []string
	err      error
}

func (l *Loader) startPipeline(ctx context.Context, epoch, start int) *pipeline {
	ctx, cancel := context.WithCancel(ctx)
	order := l.Order(epoch)
	p := &pipeline{
		l: l, order: order[start:], draws: l.draws(order)[start:], cancel: cancel,
		jobs: make(chan job, l.o.lookahead()), out: make(chan *Batch, cap(l.free)),
	}
	for range l.o.Workers {
		p.group.Go(func() {
			var w worker
			for j := range p.jobs {
				if ctx.Err() != nil {
					return
				}
				j.done <- l.change(l.prepare(j.sample), epoch, j.draw, &w) // has room for the one answer
			}
		})
	}
	p.group.Go(func() {
		defer close(p.out)
		defer close(p.jobs)
		p.err = p.assemble(ctx, start)
	})
	return p
}

// next waits for the next batch; it is nil at the end of the epoch.
func (p *pipeline) next(ctx context.Context) (*Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case b, ok := <-p.out:
		if !ok {
			return nil, p.err
		}
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stop ends the workers, waits for them, and takes back the batches that nobody read.
func (p *pipeline) stop() {
	p.cancel()
	p.group.Wait()
	for b := range p.out {
		b.Release()
	}
}

// prepare takes a sample from the cache in memory, from the one on disk, or from its scan.
func (l *Loader) prepare(s Sample) prepared {
	if px, ok := l.cache.get(s.ID); ok {
		return prepared{pixels: px}
	}
	fresh := func() ([]float32, []string, error) { return l.fresh(s) }
	var x []float32
	var warnings []string
	var err error
	if l.o.Stored != nil {
		x, warnings, err = l.o.Stored.Prepare(s, l.voxels, fresh)
	} else {
		x, warnings, err = fresh()
	}
	if err != nil {
		return prepared{err: err}
	}
	if len(warnings) > 0 && l.o.Strict {
		return prepared{err: fmt.Errorf("it has warnings, and data.strict is on: %s", strings.Join(warnings, "; "))}
	}
	return prepared{pixels: l.cache.put(s.ID, x), warnings: warnings}
}

// worker is what a worker uses again and again.
type worker struct {
	space augment.Workspace
	plain []float32 // a sample that is kept as bytes
}

// change makes of a prepared sample what it is in an epoch; draw names it in random streams.
func (l *Loader) change(got prepared, epoch int, draw uint64, w *worker) prepared {
	if l.augment == nil || got.err != nil {
		return got
	}
	src := got.pixels.floats
	if src == nil {
		if w.plain == nil {
			w.plain = make([]float32, l.voxels)
		}
		src = w.plain
		got.pixels.copyTo(src)
	}
	var dst []float32
	select {
	case dst = <-l.changed:
	default:
		dst = make([]float32, l.voxels)
	}
	l.augment.Apply(dst, src, epoch, draw, &w.space)
	got.pixels = pixels{floats: dst}
	return got
}

// fresh reads and preprocesses a scan.
func (l *Loader) fresh(s Sample) ([]float32, []string, error) {
	v, warnings, err := l.o.OpenVolume(s)
	if err != nil {
		return nil, nil, err
	}
	if scan.ExpectsHU(l.o.Preprocess) {
		warnings = append(warnings, scan.CheckHU(v)...)
	}
	x, more, err := l.o.Apply(v, l.o.Preprocess)
	if err != nil {
		return nil, nil, err
	}
	if len(x) != l.voxels {
		return nil, nil, fmt.Errorf("preprocessing made %d values, not %d channels of preprocess.shape_dhw %v", len(x), len(l.o.Preprocess.Windows()), l.o.Preprocess.ShapeDHW)
	}
	return x, append(warnings, more...), nil
}

// assemble sends the batches of the epoch; p.order begins at position start.
func (p *pipeline) assemble(ctx context.Context, start int) error {
	type pending struct {
		sample Sample
		draw   uint64
		next   int // position behind the sample
		done   <-chan prepared
	}
	l := p.l
	defer l.warnOfMore()
	var queue []pending // in order
	var batch *Batch    // being filled
	defer func() {
		if batch != nil {
			batch.Release()
		}
	}()
	usable := false
	for position := start; ; {
		for len(queue) < l.o.lookahead() && len(p.order) > 0 {
			s, draw := l.samples[p.order[0]], p.draws[0]
			p.order, p.draws = p.order[1:], p.draws[1:]
			position++
			if l.isBad(s) {
				continue
			}
			done := make(chan prepared, 1)
			p.jobs <- job{s, draw, done} // has room for all that is looked ahead
			queue = append(queue, pending{s, draw, position, done})
		}
		if len(queue) == 0 {
			break
		}
		head := queue[0]
		queue = queue[1:]
		var got prepared
		select {
		case got = <-head.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if got.err != nil {
			if !l.o.SkipErrors {
				return fmt.Errorf("sample %s: %w", head.sample.Name, got.err)
			}
			l.skip(head.sample, got.err)
			continue
		}
		usable = true
		l.warn(head.sample, got.warnings)
		if batch == nil {
			select {
			case buf := <-l.free:
				batch = l.newBatch(buf)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		l.add(batch, head.sample, head.draw, got.pixels, head.next)
		if len(batch.Samples) == l.o.BatchSize {
			p.out <- batch // has room for every batch there is
			batch = nil
		}
	}
	if !usable && start == 0 {
		return fmt.Errorf("none of the %d samples can be used", len(l.samples))
	}
	if batch != nil && !l.o.DropLast {
		p.out <- batch
		batch = nil
	}
	return nil
}

// newBatch returns an empty batch over a free buffer.
func (l *Loader) newBatch(buf *buffer) *Batch {
	if buf.x == nil {
		buf.x = make([]float32, l.o.BatchSize*l.voxels)
		buf.y = make([]float32, l.o.BatchSize*l.classes)
	}
	return &Batch{X: buf.x[:0], Y: buf.y[:0], release: func() { l.free <- buf }}
}

// add puts a sample into the next place of a batch; draw names it in random streams.
func (l *Loader) add(b *Batch, s Sample, draw uint64, px pixels, next int) {
	i := len(b.Samples)
	b.Samples = append(b.Samples, s)
	b.IDs = append(b.IDs, draw)
	b.X = b.X[:(i+1)*l.voxels]
	b.Y = b.Y[:(i+1)*l.classes]
	b.Next = next
	x := b.X[i*l.voxels:]
	px.copyTo(x)
	if l.augment != nil {
		select {
		case l.changed <- px.floats:
		default:
		}
	}
	for k, t := range s.Target {
		b.Y[i*l.classes+k] = float32(t)
	}
}

func (l *Loader) isBad(s Sample) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bad[s.ID]
}

// skip notes that a sample cannot be used.
func (l *Loader) skip(s Sample, reason error) {
	l.mu.Lock()
	known := l.bad[s.ID]
	l.bad[s.ID] = true
	if !known {
		l.skipped = append(l.skipped, Skipped{s, reason})
	}
	l.mu.Unlock()
	if !known && l.o.Warn != nil {
		l.o.Warn(s, fmt.Sprintf("left out: %v", reason))
	}
}

// warn passes on the warnings about a sample the first time: the first of each kind at once, the others as a
// number at the end of the epoch.
func (l *Loader) warn(s Sample, warnings []string) {
	if len(warnings) == 0 || l.o.Warn == nil || l.warned[s.ID] {
		return
	}
	l.warned[s.ID] = true
	for _, w := range warnings {
		kind := WarningKind(w)
		k, ok := l.kinds[kind]
		if !ok {
			l.kinds[kind] = &warned{first: s, text: w}
			l.order = append(l.order, kind)
			l.o.Warn(s, w)
			continue
		}
		k.more++
	}
}

// warned counts the warnings of one kind.
type warned struct {
	first Sample
	text  string
	more  int // samples besides the first since the last count was passed on
}

// WarningKind is what warnings that differ only in numbers have in common.
func WarningKind(text string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("+-.0123456789", r) {
			return -1
		}
		return r
	}, text)
}

// warnOfMore passes on how many more samples have a warning that was passed on before.
func (l *Loader) warnOfMore() {
	for _, kind := range l.order {
		if k := l.kinds[kind]; k.more > 0 {
			l.o.Warn(k.first, fmt.Sprintf("%s (and so for %d other scans)", k.text, k.more))
			k.more = 0
		}
	}
}
