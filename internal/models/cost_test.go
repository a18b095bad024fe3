package models

import (
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
)

// The parameters follow from the layers' shapes: stem 343·64 + 128; two blocks of stage 1: 4 convolutions
// 27·64² and 4 norms; and so on; head 512·256 + 256 and 256·18 + 18.
func TestCost(t *testing.T) {
	net, err := New(config.Model{Name: "resnet18_3d"}, 18)
	if err != nil {
		t.Fatal(err)
	}
	want := int64(343*64 + 2*64)
	for _, s := range []struct{ in, out int64 }{{64, 64}, {64, 128}, {128, 256}, {256, 512}} {
		want += 27*s.in*s.out + 3*27*s.out*s.out + 4*2*s.out
		if s.in != s.out {
			want += s.in*s.out + 2*s.out
		}
	}
	want += 512*256 + 256 + 256*18 + 18
	c, err := net.Cost([3]int{32, 64, 64})
	if err != nil {
		t.Fatal(err)
	}
	if c.Parameters != want {
		t.Errorf("%d parameters, want %d", c.Parameters, want)
	}
	// The stem alone: 64 channels × 16·32·32 places × 343 products; stage 1: 4 × 64 × 8·16·16 × 27·64.
	// Each later stage has an eighth of the places and, but for its first two convolutions, four times the products.
	flop := int64(64*16*32*32*343) + 4*64*8*16*16*27*64
	places, width := int64(8*16*16), int64(64)
	for range 3 {
		places, width = places/8, 2*width
		flop += places * width * (27*width/2 + width/2 + 3*27*width)
	}
	flop += 512*256 + 256*18
	if c.FLOP != 2*flop {
		t.Errorf("%d FLOP, want %d", c.FLOP, 2*flop)
	}
	two, err := New(config.Model{Name: "resnet18_3d", Options: map[string]any{"stem": "small"}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Cost([3]int{0, 8, 8}); err == nil || !strings.Contains(err.Error(), "resnet18_3d cannot take volumes of 0×8×8") {
		t.Errorf("an empty volume: %v", err)
	}
}
