package data

import (
	"math"
	"sync"
)

// pixels is the voxels of a preprocessed sample, as bytes where all of them are whole numbers
// from 0 to 255. They are shared with the cache and never changed.
type pixels struct {
	bytes  []byte
	floats []float32
}

// copyTo writes the voxels into x.
func (p pixels) copyTo(x []float32) {
	if p.bytes == nil {
		copy(x, p.floats)
		return
	}
	for i, b := range p.bytes {
		x[i] = float32(b)
	}
}

// memoryCache keeps preprocessed samples in memory: the first ones, until its bytes are used up. They
// are never evicted, because an epoch uses every sample equally often.
type memoryCache struct {
	mu      sync.Mutex
	left    int64
	entries map[uint64]pixels
}

func newMemoryCache(bytes int64) *memoryCache {
	return &memoryCache{left: bytes, entries: map[uint64]pixels{}}
}

func (c *memoryCache) get(id uint64) (pixels, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.entries[id]
	return p, ok
}

// put takes over the voxels x of a sample, keeps them when they fit, and returns them.
func (c *memoryCache) put(id uint64, x []float32) pixels {
	p := pixels{floats: x}
	if !c.reserve(int64(len(x))) { // not even as bytes
		return p
	}
	size := int64(len(x))
	if b := toBytes(x); b != nil {
		p = pixels{bytes: b}
	} else if c.reserve(3 * size) {
		size *= 4
	} else {
		c.reserve(-size)
		return p
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[id]; ok { // the sample is listed twice
		c.left += size
	} else {
		c.entries[id] = p
	}
	return p
}

// reserve takes bytes from the budget and reports whether it had them.
func (c *memoryCache) reserve(bytes int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bytes > c.left {
		return false
	}
	c.left -= bytes
	return true
}

// toBytes returns x as bytes, or nil when a value is not a whole number from 0 to 255.
func toBytes(x []float32) []byte {
	for _, v := range x {
		if !(v >= 0 && v <= 255) || v != float32(byte(v)) || (v == 0 && math.Signbit(float64(v))) {
			return nil
		}
	}
	b := make([]byte, len(x))
	for i, v := range x {
		b[i] = byte(v)
	}
	return b
}
