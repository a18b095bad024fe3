package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// half converts between float32 and bfloat16, the upper half of a float32.
func (t target) half() {
	t.text("ewWiden", "(y []float32, x []uint16)", "sets y to the bfloat16 values x.")
	y, x := ptr("y"), ptr("x")
	halfLoop("y", func(i reg.Register) {
		for h := range t.parts {
			v := t.reg()
			t.widened(Mem{Base: x, Index: i, Scale: 1, Disp: h * t.width / 2}, v)
			VMOVUPS(v, Mem{Base: y, Index: i, Scale: 2, Disp: h * t.width})
		}
	})
	t.end()

	t.text("ewNarrow", "(y []uint16, x []float32)", "rounds x to bfloat16, to the nearest, a tie to even.")
	y, x = ptr("y"), ptr("x")
	halfLoop("y", func(i reg.Register) {
		v := t.regs(t.parts)
		for h := range v {
			VMOVUPS(Mem{Base: x, Index: i, Scale: 2, Disp: h * t.width}, v[h])
			t.rounded(v[h])
			VPSRLD(U8(16), v[h], v[h])
		}
		to := Mem{Base: y, Index: i, Scale: 1}
		if t.wide {
			VPMOVDW(v[0], to)
			return
		}
		VPACKUSDW(v[1], v[0], v[0]) // within each half of the register
		VPERMQ(U8(0b11011000), v[0], v[0])
		VMOVUPS(v[0], to)
	})
	t.end()

	if !t.wide {
		return // what follows serves products of bfloat16 pairs
	}
	t.text("ewPair", "(y, a, b []float32)", "sets the lower half of y to a and the upper to b, rounded to bfloat16.")
	y, a, b := ptr("y"), ptr("a"), ptr("b")
	n, uppers := bytes("y"), upperWords()
	t.loop("loop", n, 2, func(i reg.Register, off, u, h int) {
		lower, upper := t.reg(), t.reg()
		VMOVUPS(at(a, i, off), lower)
		VMOVUPS(at(b, i, off), upper)
		t.rounded(lower)
		t.rounded(upper)
		VPSRLD(U8(16), lower, lower)
		VPBLENDMW(upper, lower, uppers, lower)
		VMOVUPS(lower, at(y, i, off))
	})
	t.end()

	t.text("ewPairHalves", "(y []float32, a, b []uint16)", "sets the lower half of y to a and the upper to b.")
	y, a, b = ptr("y"), ptr("a"), ptr("b")
	halfLoop("y", func(i reg.Register) {
		lower, upper := t.reg(), t.reg()
		VPMOVZXWD(Mem{Base: a, Index: i, Scale: 1}, lower)
		t.widened(Mem{Base: b, Index: i, Scale: 1}, upper)
		VPORD(lower, upper, upper)
		VMOVUPS(upper, Mem{Base: y, Index: i, Scale: 2})
	})
	t.end()
}

// upperWords is the mask of the upper halves of 16 floats.
func upperWords() reg.OpmaskVirtual {
	k, bits := K(), GP32()
	MOVL(U32(0xaaaaaaaa), bits)
	KMOVD(bits, k)
	return k
}

// halfLoop walks over as many values as the slice has, 16 at a time; i counts bytes of bfloat16.
func halfLoop(slice string, body func(i reg.Register)) {
	i, n := GP64(), Load(Param(slice).Len(), GP64()).(reg.GPVirtual)
	SHLQ(U8(1), n)
	XORQ(i, i)
	Label("loop")
	CMPQ(i, n)
	JGE(LabelRef("done"))
	body(i)
	ADDQ(U8(voxel/2), i)
	JMP(LabelRef("loop"))
	Label("done")
}

// widened loads bfloat16 values.
func (t target) widened(from Mem, v reg.VecVirtual) {
	VPMOVZXWD(from, v)
	VPSLLD(U8(16), v, v)
}

// rounded rounds v to bfloat16 in its upper half; what the lower half then holds means nothing. A NaN stays one.
func (t target) rounded(v reg.VecVirtual) {
	odd := t.reg()
	VPSRLD(U8(16), v, odd)
	if t.wide {
		k := K()
		VCMPPS(U8(unordered), v, v, k)
		VPANDD(litBits(1), odd, odd)
		VPADDD(litBits(0x7fff), odd, odd)
		quiet := t.reg()
		VPORD(litBits(quietBit), v, quiet)
		VPADDD(odd, v, v)
		VMOVDQA32(quiet, k, v)
		return
	}
	mask, quiet := t.reg(), t.reg()
	VCMPPS(U8(unordered), v, v, mask)
	VPAND(litBits(1), odd, odd)
	VPADDD(litBits(0x7fff), odd, odd)
	VPOR(litBits(quietBit), v, quiet)
	VPADDD(odd, v, v)
	VBLENDVPS(mask, quiet, v, v)
}

const (
	unordered = 3          // the comparison that NaN fulfils
	quietBit  = 0x00400000 // of a quiet NaN
)
