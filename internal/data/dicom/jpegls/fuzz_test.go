package jpegls

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

// FuzzDecode decodes any bytes. Nothing may panic or hang, memory stays near what the input backs.
func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, bits := range []int{2, 8, 12, 16} {
		for near := range 2 {
			e := encoder{width: 19, height: 6, bits: bits, near: near}
			stream, _ := e.encode(noise(rng, e.width, e.height, 1<<bits-1))
			f.Add(stream)
			e = encoder{width: 9, height: 6, bits: bits, near: near, restart: 2, restartBytes: 2, preset: preset{t1: 2, t2: 3, t3: 3, reset: 9}}
			stream, _ = e.encode(noise(rng, e.width, e.height, 1<<bits-1))
			f.Add(stream)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		const maxPixels = 1 << 24
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Decode(src, maxPixels)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > uint64(130*len(src)+16<<20) {
			t.Fatalf("%d bytes taken for %d", taken, len(src))
		}
		if err == nil && (len(m.Pix) != m.Width*m.Height || len(m.Pix) == 0 || len(m.Pix) > maxPixels) {
			t.Fatalf("%d samples for %d x %d", len(m.Pix), m.Width, m.Height)
		}
	})
}
