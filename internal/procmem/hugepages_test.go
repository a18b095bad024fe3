package procmem

import "testing"

// TestAdviseHugePages leaves memory of any size and place as it was.
func TestAdviseHugePages(t *testing.T) {
	whole := make([]byte, 9<<20)
	for i := range whole {
		whole[i] = byte(i % 251)
	}
	for _, b := range [][]byte{nil, {}, whole[:0], whole[1:100], whole[5:], whole[:hugePages], whole[3 : 3+2*hugePages]} {
		AdviseHugePages(b)
	}
	for i, v := range whole {
		if v != byte(i%251) {
			t.Fatalf("byte %d became %d", i, v)
		}
	}
}

const hugePages = 2 << 20
