package procmem

import "testing"

// TestAdviseHugePages leaves memory of any size and place as it was.
func TestAdviseHugePages(t *testing.T) {
	const page = 2 << 20
	whole := make([]byte, 9<<20)
	for i := range whole {
		whole[i] = byte(i % 251)
	}
	for _, b := range [][]byte{nil, {}, whole[:0], whole[1:100], whole[5:], whole[:page], whole[3 : 3+2*page]} {
		AdviseHugePages(b)
	}
	for i, v := range whole {
		if v != byte(i%251) {
			t.Fatalf("byte %d became %d", i, v)
		}
	}
}
