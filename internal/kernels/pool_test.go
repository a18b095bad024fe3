package kernels

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestWorkers: every task runs once, whether workers spin or sleep between jobs, and with more of them than processors.
func TestWorkers(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 2 * runtime.GOMAXPROCS(0)} {
		p := NewPool(threads)
		for round := range 300 {
			var calls [40]atomic.Int32
			n := round % (len(calls) + 1)
			p.Run(n, func(worker, i int) {
				if worker < 0 || worker >= threads {
					t.Errorf("worker %d of %d", worker, threads)
				}
				calls[i].Add(1)
			})
			for i := range calls {
				want := int32(0)
				if i < n {
					want = 1
				}
				if got := calls[i].Load(); got != want {
					t.Fatalf("%d threads, %d tasks: task %d ran %d times", threads, n, i, got)
				}
			}
			switch round % 50 {
			case 7:
				time.Sleep(2 * spinTime) // they sleep
			case 8:
				time.Sleep(spinTime) // about now
			}
		}
		p.Close()
	}
}

// TestLateCall: a worker that is woken for a job it has already taken waits for the next one. That happens where Run is
// held up between giving a job and calling the worker.
func TestLateCall(t *testing.T) {
	for _, spin := range []bool{false, true} {
		w := &worker{wake: make(chan struct{}, 1)}
		taken := make(chan *job)
		go func() { taken <- w.take(spin) }()
		for range 3 { // calls without a job
			for !w.asleep.CompareAndSwap(true, false) {
				select {
				case got := <-taken:
					t.Fatalf("spin %v: the worker took %v without being given a job", spin, got)
				default:
					runtime.Gosched()
				}
			}
			w.wake <- struct{}{}
		}
		want := &job{n: 1}
		w.give(want)
		if got := <-taken; got != want {
			t.Fatalf("spin %v: the worker took %v", spin, got)
		}
	}
}

// BenchmarkRun is the time of a job of two tasks of 20 µs.
func BenchmarkRun(b *testing.B) {
	p := NewPool(2)
	defer p.Close()
	for b.Loop() {
		p.Run(2, func(_, _ int) {
			for start := time.Now(); time.Since(start) < 20*time.Microsecond; {
			}
		})
	}
}
