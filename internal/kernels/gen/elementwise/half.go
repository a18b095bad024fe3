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
