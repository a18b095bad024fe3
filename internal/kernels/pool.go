package kernels

import (
	"sync"
	"sync/atomic"
)

// Pool runs independent tasks on a fixed set of worker goroutines that live as long as the pool.
// Tasks are handed out dynamically, so a kernel's result may depend on a task's index but never on the
// worker that runs it: that keeps results bit-identical for every thread count.
type Pool struct {
	threads int
	work    []chan *job
	stages  []stage    // by worker
	mu      sync.Mutex // one Run at a time
}

type job struct {
	next atomic.Int64
	n    int
	f    func(worker, i int)
	wg   sync.WaitGroup
}

// NewPool starts a pool of threads workers, the caller of Run included; threads < 1 means 1.
func NewPool(threads int) *Pool {
	p := &Pool{threads: max(1, threads), stages: make([]stage, max(1, threads))}
	for w := 1; w < p.threads; w++ {
		c := make(chan *job, 1)
		p.work = append(p.work, c)
		go func() {
			for j := range c {
				j.run(w)
				j.wg.Done()
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
	j := &job{n: n, f: f}
	helpers := min(p.threads, n) - 1
	j.wg.Add(helpers)
	for _, c := range p.work[:helpers] {
		c <- j
	}
	j.run(0)
	j.wg.Wait()
}

// Close stops the workers; the pool must not be used afterwards.
func (p *Pool) Close() {
	for _, c := range p.work {
		close(c)
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
