package session

import (
	"runtime"
	"testing"
)

// TestHeapStaysSmall: a step works in the arenas. What it leaves on the Go heap is small beside them, and
// nothing of it stays.
func TestHeapStaysSmall(t *testing.T) {
	dev := cpuDevice(t)
	s := training(t, dev, false, plainAdamW())
	one := func(number int) { step(t, s, number, 1e-3, false, micro(1, 1, 0, 1, 0)) }
	one(1) // what is made once
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const steps = 4
	for i := range steps {
		one(2 + i)
	}
	runtime.ReadMemStats(&after)
	each := int64(after.TotalAlloc-before.TotalAlloc) / steps
	runtime.GC()
	runtime.ReadMemStats(&after)
	stays := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d KiB a step, %d KiB stay; the session holds %d KiB", each>>10, stays>>10, s.Bytes()>>10)
	if each > s.Bytes()/16 {
		t.Errorf("a step takes %d bytes of the Go heap, the session holds %d", each, s.Bytes())
	}
	if stays > 64<<10 {
		t.Errorf("%d bytes stay on the Go heap after %d steps", stays, steps)
	}
}
