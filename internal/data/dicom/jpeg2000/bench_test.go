package jpeg2000

import (
	"os"
	"testing"
)

// BenchmarkSlice decodes the codestream in the file $J2K_BENCH, for example one of a 512 x 512 CT slice.
func BenchmarkSlice(b *testing.B) {
	path := os.Getenv("J2K_BENCH")
	if path == "" {
		b.Skip("J2K_BENCH names no file")
	}
	src, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		img, err := Decode(src, 1<<26)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(2 * img.Width * img.Height * len(img.Components)))
	}
}
