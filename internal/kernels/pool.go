package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Pool runs independent tasks on a fixed set of worker goroutines that live as long as the pool.
// Tasks are handed out dynamically, so a kernel's result may depend on a task's index but never on the
// worker that runs it: that keeps results bit-identical for every thread count.
type Pool struct {
	threads int
	workers []*worker  // but for the caller of Run
	stages  []stage    // by worker
	mu      sync.Mutex // one Run at a time
	spin    bool
}

// worker is one of the goroutines. To wake a sleeping one takes longer than many a kernel runs, so for a while it looks
// for its next job before it sleeps.
type worker struct {
	job    atomic.Pointer[job] // the next one
	asleep atomic.Bool
	wake   chan struct{}
}

type job struct {
	next atomic.Int64
	n    int
	f    func(worker, i int)
	left atomic.Int64 // helpers that are not done
	done chan struct{}
}

// spinTime is how long who waits looks before it sleeps: longer than what usually lies between two kernels of a step.
const spinTime = 200 * time.Microsecond

// NewPool starts a pool of threads workers, the caller of Run included; threads < 1 means 1.
func NewPool(threads int) *Pool {
	p := &Pool{threads: max(1, threads), stages: make([]stage, max(1, threads))}
	p.spin = p.threads <= runtime.GOMAXPROCS(0) // more would keep others from the processors
	for i := 1; i < p.threads; i++ {
		w := &worker{wake: make(chan struct{}, 1)}
		p.workers = append(p.workers, w)
		go func() {
			for {
				j := w.take(p.spin)
				if j.f == nil {
					return
				}
				j.run(i)
				j.leave()
			}
		}()
	}
	return p
}

// Threads returns the number of workers; worker numbers passed to tasks are below it.
func (p *Pool) Threads() int { return p.threads }

// Run calls f(worker, i) for every i in [0, n) and returns when all calls have returned. f must not call Run.
func (p *Pool) Run(n int, f func(worker, i int)) {
	if n <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.threads == 1 || n == 1 {
		for i := range n {
			f(0, i)
		}
		return
	}
	j := &job{n: n, f: f, done: make(chan struct{})}
	helpers := p.workers[:min(p.threads, n)-1]
	j.left.Store(int64(len(helpers)))
	for _, w := range helpers {
		w.give(j)
	}
	j.run(0)
	if !p.spin || !spinUntil(func() bool { return j.left.Load() == 0 }) {
		<-j.done
	}
}

// Close stops the workers; the pool must not be used afterwards.
func (p *Pool) Close() {
	for _, w := range p.workers {
		w.give(&job{})
	}
}

func (j *job) run(worker int) {
	for {
		i := int(j.next.Add(1)) - 1
		if i >= j.n {
			return
		}
		j.f(worker, i)
	}
}

// leave says that a helper is done.
func (j *job) leave() {
	if j.left.Add(-1) == 0 {
		close(j.done)
	}
}

// give hands a job to a worker that has none.
func (w *worker) give(j *job) {
	w.job.Store(j)
	if w.asleep.CompareAndSwap(true, false) {
		w.wake <- struct{}{}
	}
}

// take waits for the next job.
func (w *worker) take(spin bool) *job {
	for {
		if spin && spinUntil(func() bool { return w.job.Load() != nil }) {
			return w.job.Swap(nil)
		}
		w.asleep.Store(true)
		if w.job.Load() == nil || !w.asleep.CompareAndSwap(true, false) { // nothing came meanwhile, or it came with a call
			<-w.wake
		}
		if j := w.job.Swap(nil); j != nil {
			return j
		}
		// The call was late: who gave the last job, taken and done long since, was held up before it.
	}
}

// spinUntil looks for a while whether something has come, and lets others run in between.
func spinUntil(come func() bool) bool {
	for start := time.Now(); ; {
		for range 32 {
			if come() {
				return true
			}
		}
		if time.Since(start) > spinTime {
			return false
		}
		runtime.Gosched()
	}
}
