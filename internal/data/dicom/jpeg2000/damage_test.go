package jpeg2000

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// Segmentation symbols show damage that would otherwise be a wrong image.
func TestSegmentationSymbols(t *testing.T) {
	var v *vector
	for i := range partOne {
		if partOne[i].name == "style32.j2k" {
			v = &partOne[i]
		}
	}
	src, _ := v.read(t)
	rng := rand.New(rand.NewPCG(1, 2))
	found, trials := 0, 200
	for range trials {
		b := append([]byte(nil), src...)
		b[len(b)/2+rng.IntN(len(b)/2-2)] ^= 1 << rng.IntN(8)
		if _, err := Decode(b, 1<<16); err != nil && strings.Contains(err.Error(), "segmentation symbol") {
			found++
		}
	}
	if found < trials/2 {
		t.Errorf("%d of %d damages found", found, trials)
	}
}
