package jpegdct

// The cosines of the transform as integers, times 1<<fixBits: c(k) stands for cos(k*pi/16)*sqrt(2).
const (
	fixBits = 13

	fix0298 = 2446  // -c1+c3+c5-c7
	fix0390 = 3196  // c3-c5
	fix0541 = 4433  // c6
	fix0765 = 6270  // c2-c6
	fix0899 = 7373  // c3-c7
	fix1175 = 9633  // c3
	fix1501 = 12299 // c1+c3-c5-c7
	fix1847 = 15137 // c2+c6
	fix1961 = 16069 // c3+c5
	fix2053 = 16819 // c1+c3-c5+c7
	fix2562 = 20995 // c1+c3
	fix3072 = 25172 // c1+c3+c5-c7
)

// transform computes inverse cosine transforms of 8 x 8 blocks in fixed point, by the factorisation of
// Loeffler, Ligtenberg and Moschytz ("Practical fast 1-D DCT algorithms with 11 multiplications", 1989).
// Constants of 13 bits and 2 more bits (1 for samples of 12 bits) between the two passes make the results
// those of the "islow" method of the IJG library, to the last bit.
type transform struct {
	block   [64]int32  // in: dequantised coefficients, row by row
	samples [64]uint16 // out

	extra   int // bits kept between the passes
	middle  int // the sample value of zero
	highest int
	columns [64]int
}

func newTransform(precision int) *transform {
	t := &transform{extra: 2, middle: 1 << (precision - 1), highest: 1<<precision - 1}
	if precision > 8 {
		t.extra = 1
	}
	return t
}

func (t *transform) inverse() {
	down := fixBits - t.extra
	half := 1 << (down - 1)
	for x := range 8 {
		in := t.block[x:]
		_ = in[56]
		out := t.columns[x:]
		_ = out[56]
		if in[8]|in[16]|in[24]|in[32]|in[40]|in[48]|in[56] == 0 {
			v := int(in[0]) << t.extra
			out[0], out[8], out[16], out[24], out[32], out[40], out[48], out[56] = v, v, v, v, v, v, v, v
			continue
		}
		e0, e1, e2, e3 := even(int(in[0]), int(in[16]), int(in[32]), int(in[48]))
		o0, o1, o2, o3 := odd(int(in[8]), int(in[24]), int(in[40]), int(in[56]))
		out[0], out[56] = (e0+o0+half)>>down, (e0-o0+half)>>down
		out[8], out[48] = (e1+o1+half)>>down, (e1-o1+half)>>down
		out[16], out[40] = (e2+o2+half)>>down, (e2-o2+half)>>down
		out[24], out[32] = (e3+o3+half)>>down, (e3-o3+half)>>down
	}
	down = fixBits + t.extra + 3
	half = 1<<(down-1) + t.middle<<down
	for y := range 8 {
		in := t.columns[8*y : 8*y+8 : 8*y+8]
		out := t.samples[8*y : 8*y+8 : 8*y+8]
		e0, e1, e2, e3 := even(in[0], in[2], in[4], in[6])
		o0, o1, o2, o3 := odd(in[1], in[3], in[5], in[7])
		out[0], out[7] = t.clamp((e0+o0+half)>>down), t.clamp((e0-o0+half)>>down)
		out[1], out[6] = t.clamp((e1+o1+half)>>down), t.clamp((e1-o1+half)>>down)
		out[2], out[5] = t.clamp((e2+o2+half)>>down), t.clamp((e2-o2+half)>>down)
		out[3], out[4] = t.clamp((e3+o3+half)>>down), t.clamp((e3-o3+half)>>down)
	}
}

func (t *transform) clamp(v int) uint16 { return uint16(min(max(v, 0), t.highest)) }

// even is the part of the coefficients 0, 2, 4, 6 in the outputs 0 to 3, times 1<<fixBits.
func even(a, c, e, g int) (e0, e1, e2, e3 int) {
	z := (c + g) * fix0541
	low, high := z+c*fix0765, z-g*fix1847
	sum, difference := (a+e)<<fixBits, (a-e)<<fixBits
	return sum + low, difference + high, difference - high, sum - low
}

// odd is the part of the coefficients 1, 3, 5, 7 in the outputs 0 to 3, times 1<<fixBits.
func odd(b, d, f, h int) (o0, o1, o2, o3 int) {
	z := (b + d + f + h) * fix1175
	z1, z2 := (b+h)*-fix0899, (d+f)*-fix2562
	z3, z4 := z-(d+h)*fix1961, z-(b+f)*fix0390
	return b*fix1501 + z1 + z4, d*fix3072 + z2 + z3, f*fix2053 + z2 + z4, h*fix0298 + z1 + z3
}
