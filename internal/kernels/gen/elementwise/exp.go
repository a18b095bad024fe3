package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// constants lie in read-only memory; each is 16 equal floats, so that any register can be loaded.
var constants = map[uint32]Mem{}

// lit returns the address of 16 copies of a float32.
func lit(v float64) Mem { return litBits(math.Float32bits(float32(v))) }

func litBits(bits uint32) Mem {
	m, ok := constants[bits]
	if !ok {
		m = GLOBL("ewConst"+hex(bits), 8|16) // RODATA|NOPTR
		for i := range 16 {
			DATA(4*i, U32(bits))
		}
		constants[bits] = m
	}
	return m
}

// held are constants that the function at hand keeps in registers.
var held = map[uint32]reg.VecVirtual{}

// hold loads constants into registers for the rest of the function, where there are registers enough.
func (t target) hold(values []float64) {
	if !t.wide {
		return
	}
	for _, v := range values {
		r := t.reg()
		VMOVUPS(lit(v), r)
		held[math.Float32bits(float32(v))] = r
	}
}

// value returns a constant, in its register where it is held.
func value(v float64) Op {
	if r, ok := held[math.Float32bits(float32(v))]; ok {
		return r
	}
	return lit(v)
}

// load returns a register with a constant; it is not to be changed.
func (t target) load(v float64) reg.VecVirtual {
	if r, ok := held[math.Float32bits(float32(v))]; ok {
		return r
	}
	r := t.reg()
	VMOVUPS(lit(v), r)
	return r
}

func hex(v uint32) string {
	const digits = "0123456789abcdef"
	s := make([]byte, 8)
	for i := range s {
		s[i] = digits[v>>(28-4*i)&15]
	}
	return string(s)
}

// exp2Least is the least power that exp2 takes: its result is a normal number.
const exp2Least = -126

// exp2Terms are the coefficients, from r^6 down to r, of the polynomial 1 + ... of degree 6 whose largest relative error
// from 2^r for |r| <= 1/2 is least, 2.6e-9 (found with the algorithm of Remez).
func exp2Terms() []float64 {
	return []float64{0.000155946781613266, 0.00134066439023517, 0.00961769297299306, 0.0555031055101380, 0.240226527828877, 0.693147214968028}
}

// holdExp2 holds the constants of exp2.
func (t target) holdExp2() { t.hold(append(exp2Terms(), 1)) }

// exp2 replaces v, finite and at most 1, by 2^v, relative error below 2e-7. AVX2 takes what is below -126 for that.
func (t target) exp2(v reg.VecVirtual) {
	n, p := t.reg(), t.reg()
	if !t.wide {
		VMAXPS(v, t.load(exp2Least), v) // v last: a NaN stays
	}
	t.round(v, n)
	VSUBPS(n, v, v)
	terms := exp2Terms()
	VMOVUPS(value(terms[0]), p)
	for _, c := range append(terms[1:], 1) {
		VFMADD213PS(value(c), v, p)
	}
	t.scale2(n, p, v)
}

// round rounds to whole numbers.
func (t target) round(v, n reg.VecVirtual) {
	if t.wide {
		VRNDSCALEPS(U8(0), v, n)
	} else {
		VROUNDPS(U8(0), v, n)
	}
}

// scale2 sets v to p times 2^n for whole numbers n, which it may change.
func (t target) scale2(n, p, v reg.VecVirtual) {
	if t.wide {
		VSCALEFPS(n, p, v)
		return
	}
	VCVTPS2DQ(n, n)
	VPADDD(litBits(127), n, n)
	VPSLLD(U8(23), n, n)
	VMULPS(n, p, v)
}

const tailScale = 0.3275911 / math.Sqrt2

func tailTerms() []float64 {
	return []float64{0.5 * 1.061405429, 0.5 * -1.453152027, 0.5 * 1.421413741, 0.5 * -0.284496736, 0.5 * 0.254829592}
}

// powerOfSquare is what x*x is multiplied by for exp(-x*x/2) to be a power of 2.
const powerOfSquare = -0.5 * math.Log2E

// holdGaussian holds the constants of gaussian.
func (t target) holdGaussian() {
	t.holdExp2()
	t.hold(append(tailTerms(), tailScale, powerOfSquare, exp2Least))
}

// gaussian sets e to exp(-x*x/2) and cdf to the normal distribution function at x, by formula 7.1.26 of
// Abramowitz and Stegun for the error function (absolute error 1.5e-7).
func (t target) gaussian(x, e, cdf reg.VecVirtual) {
	z, p := t.reg(), t.reg()
	VMULPS(x, x, e)
	VMULPS(value(powerOfSquare), e, e)
	VMAXPS(e, t.load(exp2Least), e) // e last: a NaN stays
	t.exp2(e)
	if t.wide {
		VPANDD(litBits(0x7fffffff), x, z)
	} else {
		VANDPS(litBits(0x7fffffff), x, z)
	}
	VMOVUPS(value(1), p)
	VFMADD132PS(value(tailScale), p, z) // 1 + p |x| / sqrt 2
	VDIVPS(z, p, z)
	terms := tailTerms()
	VMOVUPS(value(terms[0]), p)
	for _, c := range terms[1:] {
		VFMADD213PS(value(c), z, p)
	}
	VMULPS(z, p, p)
	VMULPS(e, p, p) // the smaller tail
	VSUBPS(p, t.load(1), z)
	if t.wide {
		k := K()
		VPMOVD2M(x, k) // sign of x
		VBLENDMPS(p, z, k, cdf)
	} else {
		VBLENDVPS(x, p, z, cdf)
	}
}

func (t target) gelu() {
	t.text("ewGELU", "(y, x []float32)", "computes y = x times the normal distribution function of x.")
	y, x, n := ptr("y"), ptr("x"), bytes("y")
	t.holdGaussian()
	t.loop("loop", n, 1, func(i reg.Register, off, u, h int) {
		v, e, cdf := t.reg(), t.reg(), t.reg()
		VMOVUPS(at(x, i, off), v)
		t.gaussian(v, e, cdf)
		VMULPS(v, cdf, cdf)
		VMOVUPS(cdf, at(y, i, off))
	})
	t.end()

	t.text("ewGELUBack", "(dx, dy, x []float32)", "computes dx = dy times the derivative of GELU at x.")
	dx, dy, x, n := ptr("dx"), ptr("dy"), ptr("x"), bytes("dx")
	t.holdGaussian()
	t.loop("loop", n, 1, func(i reg.Register, off, u, h int) {
		v, e, cdf := t.reg(), t.reg(), t.reg()
		VMOVUPS(at(x, i, off), v)
		t.gaussian(v, e, cdf)
		VMULPS(lit(1/math.Sqrt(2*math.Pi)), e, e)
		VFMADD231PS(v, e, cdf)
		VMULPS(at(dy, i, off), cdf, cdf)
		VMOVUPS(cdf, at(dx, i, off))
	})
	t.end()
}
