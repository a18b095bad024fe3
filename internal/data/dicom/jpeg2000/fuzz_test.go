package jpeg2000

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// FuzzDecode decodes any bytes: nothing may panic or hang, and memory is bounded by the input and the limit
// of samples.
func FuzzDecode(f *testing.F) {
	names, err := filepath.Glob(filepath.Join("testdata", "*.j*2*"))
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	const maxSamples = 1 << 16
	f.Fuzz(func(t *testing.T, src []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		img, err := Decode(src, maxSamples)
		if d := time.Since(start); d > 10*time.Second {
			t.Fatalf("decoding took %v", d)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 4*uint64(len(src))+64<<20 {
			t.Fatalf("%d bytes allocated for an input of %d", n, len(src))
		}
		if err != nil {
			return
		}
		if len(img.Components)*img.Width*img.Height > maxSamples {
			t.Fatalf("%d x %d, %d components", img.Width, img.Height, len(img.Components))
		}
		for _, c := range img.Components {
			low, high := int32(0), int32(1)<<c.Bits-1
			if c.Signed {
				low, high = -1<<(c.Bits-1), 1<<(c.Bits-1)-1
			}
			for _, v := range c.Samples {
				if v < low || v > high {
					t.Fatalf("sample %d of %d bits", v, c.Bits)
				}
			}
		}
	})
}
