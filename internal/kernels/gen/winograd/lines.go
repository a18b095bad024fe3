package main

import . "github.com/mmcloughlin/avo/build"

// size is F(m, 3): m outputs of a filter of 3 from m+2 inputs.
type size struct {
	name                                            string
	input, output, weight, gradient, weightGradient line
}

func sizes() []size { return []size{two(), three(), four()} }

// three is what F(3,4) does not share with F(4,3), which has the same points: its output and its gradient. Filters
// of four taps are those of a phase of a 7³ convolution of stride 2; their transforms are rare and in Go.
func three() size {
	const a, b = 0.75, 1.5
	points := []float64{a * a, a, b, b * b}
	const a2, a1, b1, b2 = consts, consts + 1, consts + 2, consts + 3
	return size{
		name: "3",
		output: line{in: 6, out: 3, constants: points, apply: func() []int {
			add(1, 2, 6)
			sub(1, 2, 7)
			add(3, 4, 8)
			sub(3, 4, 9)
			add(0, 6, 0)
			add(0, 8, 0) // m0+(m1+m2)+(m3+m4)
			mul(7, a1, 1)
			fma(9, b1, 1) // a(m1-m2)+b(m3-m4)
			fma(6, a2, 5)
			fma(8, b2, 5) // a²(m1+m2)+b²(m3+m4)+m5
			return []int{0, 1, 5}
		}},
		gradient: line{in: 3, out: 6, constants: points, apply: func() []int {
			mov(0, 6)
			fma(2, a2, 6)
			mul(1, a1, 7)
			add(6, 7, 4)
			sub(6, 7, 5)
			mov(0, 6)
			fma(2, b2, 6)
			mul(1, b1, 7)
			add(6, 7, 8)
			sub(6, 7, 9)
			return []int{0, 4, 5, 8, 9, 2}
		}},
	}
}

// two is F(2,3) with the points 0, 1, -1 and infinity (Winograd 1980; Lavin and Gray 2016).
func two() size {
	half := []float64{0.5}
	const h = consts
	return size{
		name: "2",
		input: line{in: 4, out: 4, apply: func() []int {
			sub(0, 2, 6) // d0-d2
			add(1, 2, 7) // d1+d2
			sub(2, 1, 2) // d2-d1
			sub(1, 3, 3) // d1-d3
			return []int{6, 7, 2, 3}
		}},
		output: line{in: 4, out: 2, apply: func() []int {
			add(0, 1, 0) // m0+m1+m2
			add(0, 2, 0)
			sub(1, 2, 1) // m1-m2-m3
			sub(1, 3, 1)
			return []int{0, 1}
		}},
		weight: line{in: 3, out: 4, constants: half, apply: func() []int {
			add(0, 2, 3)
			mul(3, h, 3) // (g0+g2)/2
			mul(1, h, 1) // g1/2
			add(3, 1, 4) // sum
			sub(3, 1, 5) // difference
			return []int{0, 4, 5, 2}
		}},
		gradient: line{in: 2, out: 4, apply: func() []int {
			add(0, 1, 2)
			sub(0, 1, 3)
			VXORPS(file[4], file[4], file[4])
			sub(4, 1, 4)
			return []int{0, 2, 3, 4}
		}},
		weightGradient: line{in: 4, out: 3, constants: half, apply: func() []int {
			add(1, 2, 4)
			sub(1, 2, 5)
			mul(4, h, 4) // (u1+u2)/2
			mul(5, h, 5) // (u1-u2)/2
			add(0, 4, 0)
			add(3, 4, 3)
			return []int{0, 5, 3}
		}},
	}
}

// four is F(4,3) with the points 0, ±a, ±b and infinity. With a = 3/4 and b = 3/2 its rounding error is a tenth
// of that of the textbook's 1 and 2.
func four() size {
	const a, b = 0.75, 1.5
	const ca, cb = 1 / (2 * a * a * (a*a - b*b)), 1 / (2 * b * b * (b*b - a*a))
	points := []float64{a * a, a, b, b * b, a * a * a, b * b * b}
	const a2, a1, b1, b2, a3, b3 = consts, consts + 1, consts + 2, consts + 3, consts + 4, consts + 5
	filter := []float64{1 / (a * a * b * b), ca, ca * a * a, ca * a, cb, cb * b}
	const f0, fa, fk, faa, fb, fbb = consts, consts + 1, consts + 2, consts + 3, consts + 4, consts + 5
	return size{
		name: "4",
		input: line{in: 6, out: 6, constants: []float64{a * a, a, b, b * b, a * a * b * b, a*a + b*b}, apply: func() []int {
			const ab, s = consts + 4, consts + 5
			mov(4, 6)
			nfma(2, b2, 6) // d4-b²d2
			mov(3, 7)
			nfma(1, b2, 7) // d3-b²d1
			mov(4, 8)
			nfma(2, a2, 8) // d4-a²d2
			mov(3, 9)
			nfma(1, a2, 9) // d3-a²d1
			nfma(2, s, 4)
			fma(0, ab, 4) // a²b²d0-(a²+b²)d2+d4
			nfma(3, s, 5)
			fma(1, ab, 5) // a²b²d1-(a²+b²)d3+d5
			mov(6, 0)
			fma(7, a1, 0)
			nfma(7, a1, 6)
			mov(8, 1)
			fma(9, b1, 1)
			nfma(9, b1, 8)
			return []int{4, 0, 6, 1, 8, 5}
		}},
		output: line{in: 6, out: 4, constants: points, apply: func() []int {
			add(1, 2, 6)
			sub(1, 2, 7)
			add(3, 4, 8)
			sub(3, 4, 9)
			add(0, 6, 0)
			add(0, 8, 0) // m0+(m1+m2)+(m3+m4)
			mul(7, a1, 1)
			fma(9, b1, 1) // a(m1-m2)+b(m3-m4)
			mul(6, a2, 2)
			fma(8, b2, 2) // a²(m1+m2)+b²(m3+m4)
			fma(7, a3, 5)
			fma(9, b3, 5) // a³(m1-m2)+b³(m3-m4)+m5
			return []int{0, 1, 2, 5}
		}},
		weight: line{in: 3, out: 6, constants: filter, apply: func() []int {
			mul(1, faa, 6)
			mul(0, fa, 7)
			fma(2, fk, 7)
			add(7, 6, 3)
			sub(7, 6, 4)
			mul(1, fbb, 6)
			mul(0, fb, 7)
			nfma(2, fk, 7) // cb·b² = -ca·a²
			add(7, 6, 5)
			sub(7, 6, 8)
			mul(0, f0, 0)
			return []int{0, 3, 4, 5, 8, 2}
		}},
		gradient: line{in: 4, out: 6, constants: points, apply: func() []int {
			mov(0, 6)
			fma(2, a2, 6)
			mul(1, a1, 7)
			fma(3, a3, 7)
			add(6, 7, 4)
			sub(6, 7, 5)
			mov(0, 6)
			fma(2, b2, 6)
			mul(1, b1, 7)
			fma(3, b3, 7)
			add(6, 7, 8)
			sub(6, 7, 9)
			return []int{0, 4, 5, 8, 9, 3}
		}},
		weightGradient: line{in: 6, out: 3, constants: filter, apply: func() []int {
			add(1, 2, 6)
			sub(1, 2, 7)
			add(3, 4, 8)
			sub(3, 4, 9)
			mul(0, f0, 0)
			fma(6, fa, 0)
			fma(8, fb, 0)
			mul(7, faa, 1)
			fma(9, fbb, 1)
			fma(6, fk, 5)
			nfma(8, fk, 5)
			return []int{0, 1, 5}
		}},
	}
}

func add(a, b, to int)  { VADDPS(file[b], file[a], file[to]) }
func sub(a, b, to int)  { VSUBPS(file[b], file[a], file[to]) }
func mul(a, b, to int)  { VMULPS(file[b], file[a], file[to]) }
func mov(a, to int)     { VMOVAPS(file[a], file[to]) }
func fma(a, b, to int)  { VFMADD231PS(file[b], file[a], file[to]) }
func nfma(a, b, to int) { VFNMADD231PS(file[b], file[a], file[to]) }
