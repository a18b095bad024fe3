package jpegll

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

// FuzzDecode decodes any bytes. Nothing may panic or hang, memory stays near what the input backs.
func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	for predictor := 1; predictor <= 7; predictor++ {
		for _, bits := range []int{2, 8, 12, 16} {
			e := encoder{width: 9, height: 6, bits: bits, predictor: predictor, restart: predictor % 3, longCodes: bits == 8}
			f.Add(e.encode(noise(rng, e.width, e.height, bits)))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		const maxPixels = 1 << 24
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Decode(src, maxPixels)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > uint64(20*len(src)+1<<20) {
			t.Fatalf("%d bytes taken for %d", taken, len(src))
		}
		if err == nil && (len(m.Pix) != m.Width*m.Height || len(m.Pix) == 0 || len(m.Pix) > maxPixels) {
			t.Fatalf("%d samples for %d x %d", len(m.Pix), m.Width, m.Height)
		}
	})
}
