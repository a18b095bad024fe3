package jpeg2000

// zeroContexts gives the zero coding context (T.800, table D.1) for each band orientation and each pattern
// of the 3 x 3 significance around a coefficient, as flagAround has it.
var zeroContexts = func() (t [4][512]uint8) {
	for o := range t {
		for i := range t[o] {
			at := func(k int) int { return i >> k & 1 }
			h, v, d := at(3)+at(5), at(1)+at(7), at(0)+at(2)+at(6)+at(8)
			if o == 1 {
				h, v = v, h
			}
			if o == 3 {
				t[o][i] = diagonalContext(h+v, d)
			} else {
				t[o][i] = straightContext(h, v, d)
			}
		}
	}
	return t
}()

// straightContext is the zero coding context in the LL, LH and (h and v swapped) HL bands.
func straightContext(h, v, d int) uint8 {
	switch {
	case h == 2:
		return 8
	case h == 1 && v > 0:
		return 7
	case h == 1 && d > 0:
		return 6
	case h == 1:
		return 5
	case v > 0:
		return uint8(2 + v)
	}
	return uint8(min(d, 2))
}

// diagonalContext is the zero coding context in the HH band.
func diagonalContext(hv, d int) uint8 {
	switch {
	case d > 2:
		return 8
	case d == 2:
		return uint8(6 + min(hv, 1))
	case d == 1:
		return uint8(3 + min(hv, 2))
	}
	return uint8(min(hv, 2))
}

// signContexts gives the sign coding context and, in the top bit, the sign that a decoded 0 stands for
// (T.800, tables D.2 and D.3). The index has significances at the odd bits (1 above, 3 left, 5 right,
// 7 below) and signs at the even ones (0 above, 2 left, 4 right, 6 below).
var signContexts = func() (t [256]uint8) {
	for i := range t {
		contribution := func(significant, sign int) int {
			return i >> significant & 1 * (1 - i>>sign&1*2)
		}
		h := min(max(contribution(3, 2)+contribution(5, 4), -1), 1)
		v := min(max(contribution(1, 0)+contribution(7, 6), -1), 1)
		flip := uint8(0)
		if h < 0 || h == 0 && v < 0 {
			h, v, flip = -h, -v, 1<<7
		}
		if h == 0 {
			t[i] = uint8(ctxSign+v) | flip
		} else {
			t[i] = uint8(ctxSign+3+v) | flip
		}
	}
	return t
}()
