package onnx

import (
	"math"
	"testing"
)

// halfValue is the value of a finite binary16 number, straight from its definition.
func halfValue(h uint16) float64 {
	sign, exp, frac := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	if exp == 0 {
		return sign * frac * math.Ldexp(1, -24)
	}
	return sign * math.Ldexp(1+frac/1024, exp-15)
}

// TestHalfBits: every finite number keeps its bits, and what lies between two goes to the nearer one, half way
// to the even one.
func TestHalfBits(t *testing.T) {
	for h := range uint16(0x7c00) {
		v := halfValue(h)
		for sign := range uint16(2) {
			x := float32(v * (1 - 2*float64(sign)))
			if x == 0 && sign == 1 {
				x = float32(math.Copysign(0, -1))
			}
			if got := halfBits(x); got != h|sign<<15 {
				t.Fatalf("%v: got %#04x, want %#04x", x, got, h|sign<<15)
			}
		}
		if h == 0x7bff {
			break
		}
		middle := float32((v + halfValue(h+1)) / 2)
		even := h + h&1
		for x, want := range map[float32]uint16{middle: even, math.Nextafter32(middle, 0): h, math.Nextafter32(middle, 1e9): h + 1} {
			if got := halfBits(x); got != want {
				t.Fatalf("%v: got %#04x, want %#04x", x, got, want)
			}
		}
	}
	inf := float32(math.Inf(1))
	for x, want := range map[float32]uint16{inf: 0x7c00, -inf: 0xfc00, 65519: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, 1e-30: 0} {
		if got := halfBits(x); got != want {
			t.Errorf("%v: got %#04x, want %#04x", x, got, want)
		}
	}
	if got := halfBits(float32(math.NaN())); got&0x7c00 != 0x7c00 || got&0x3ff == 0 {
		t.Errorf("NaN becomes %#04x", got)
	}
}
