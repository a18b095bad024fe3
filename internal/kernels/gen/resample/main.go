// Command resample generates the AVX2 loops that bring scans to the network's input. Each function computes,
// to the last bit, what the plain Go function of the same name computes: no fused multiplication.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	lanes = 8  // float32 in a register
	slice = 24 // bytes of a slice header
)

func main() {
	ConstraintExpr("!noasm")
	weightedSum()
	row(16)
	row(32)
	windowScale()
	Generate()
}

// weightedSum keeps 4 registers of sums and walks over the rows for each 32 columns, then for each 8.
func weightedSum() {
	TEXT("weightedSumAVX2", NOSPLIT, "func(dst []float32, rows [][]float32, weight []float32)")
	Doc("weightedSumAVX2 computes dst[j] = Σ weight[k]·rows[k][j] in the order of k; len(dst) is a multiple of 8.")
	dst := Load(Param("dst").Base(), GP64())
	n := Load(Param("dst").Len(), GP64()).(reg.GPVirtual)
	rows := Load(Param("rows").Base(), GP64())
	count := Load(Param("rows").Len(), GP64())
	weight := Load(Param("weight").Base(), GP64())
	SHLQ(U8(2), n)
	j, whole := GP64(), GP64()
	XORQ(j, j)
	MOVQ(n, whole)
	ANDQ(I32(-4*4*lanes), whole)
	columns := func(label string, registers int, end reg.Register) {
		Label(label)
		CMPQ(j, end)
		JGE(LabelRef(label + "Done"))
		sum := make([]reg.VecVirtual, registers)
		for i := range sum {
			sum[i] = YMM()
		}
		w, product := YMM(), YMM()
		k, header, row := GP64(), GP64(), GP64()
		MOVQ(rows, header)
		MOVQ(Mem{Base: header}, row)
		VBROADCASTSS(Mem{Base: weight}, w)
		for i := range sum {
			VMULPS(Mem{Base: row, Index: j, Scale: 1, Disp: 4 * lanes * i}, w, sum[i])
		}
		MOVQ(U32(1), k)
		Label(label + "Row")
		CMPQ(k, count)
		JGE(LabelRef(label + "Store"))
		ADDQ(U8(slice), header)
		MOVQ(Mem{Base: header}, row)
		VBROADCASTSS(Mem{Base: weight, Index: k, Scale: 4}, w)
		for i := range sum {
			VMULPS(Mem{Base: row, Index: j, Scale: 1, Disp: 4 * lanes * i}, w, product)
			VADDPS(product, sum[i], sum[i])
		}
		INCQ(k)
		JMP(LabelRef(label + "Row"))
		Label(label + "Store")
		for i := range sum {
			VMOVUPS(sum[i], Mem{Base: dst, Index: j, Scale: 1, Disp: 4 * lanes * i})
		}
		ADDQ(U32(4*lanes*registers), j)
		JMP(LabelRef(label))
		Label(label + "Done")
	}
	columns("four", 4, whole)
	columns("one", 1, n)
	VZEROUPPER()
	RET()
}

// row picks the 8 values of a tap out of the registers of a window by permutations, whose selection the bits of the
// lanes above the lowest three decide.
func row(window int) {
	name := fmt.Sprintf("row%dAVX2", window)
	TEXT(name, NOSPLIT, "func(dst, src []float32, taps int, base, lane []int32, weight []float32)")
	Doc(fmt.Sprintf("%s computes a part of a Row with windows of %d values; len(dst) is a multiple of 8.", name, window))
	dst := Load(Param("dst").Base(), GP64())
	n := Load(Param("dst").Len(), GP64()).(reg.GPVirtual)
	src := Load(Param("src").Base(), GP64())
	taps := Load(Param("taps"), GP64())
	base := Load(Param("base").Base(), GP64())
	lane := Load(Param("lane").Base(), GP64())
	weight := Load(Param("weight").Base(), GP64())
	end, k, first := GP64(), GP64(), GP64()
	sum := YMM()
	// pick leaves the values of the next tap, weighted, in a register.
	pick := func() reg.VecVirtual {
		MOVLQSX(Mem{Base: base}, first)
		ADDQ(U8(4), base)
		which, choice := YMM(), YMM()
		VMOVDQU(Mem{Base: lane}, which)
		ADDQ(U8(4*lanes), lane)
		values := make([]reg.VecVirtual, window/lanes)
		for i := range values {
			values[i] = YMM()
			VPERMPS(Mem{Base: src, Index: first, Scale: 4, Disp: 4 * lanes * i}, which, values[i])
		}
		for bit := 3; len(values) > 1; bit++ {
			VPSLLD(U8(31-bit), which, choice)
			for i := range len(values) / 2 {
				VBLENDVPS(choice, values[2*i+1], values[2*i], values[i])
			}
			values = values[:len(values)/2]
		}
		VMULPS(Mem{Base: weight}, values[0], values[0])
		ADDQ(U8(4*lanes), weight)
		return values[0]
	}
	LEAQ(Mem{Base: dst, Index: n, Scale: 4}, end)
	Label("group")
	CMPQ(dst, end)
	JGE(LabelRef("done"))
	VMOVAPS(pick(), sum)
	MOVQ(taps, k)
	Label("tap")
	DECQ(k)
	JLE(LabelRef("store"))
	VADDPS(pick(), sum, sum)
	JMP(LabelRef("tap"))
	Label("store")
	VMOVUPS(sum, Mem{Base: dst})
	ADDQ(U8(4*lanes), dst)
	JMP(LabelRef("group"))
	Label("done")
	VZEROUPPER()
	RET()
}

func windowScale() {
	TEXT("windowScaleAVX2", NOSPLIT, "func(dst, src []float32, lo, hi float32, factor, offset float64) bool")
	Doc("windowScaleAVX2 computes dst = (min(max(src, lo), hi) - lo)·factor + offset in double precision, a NaN as lo, " +
		"and reports whether there was one; len(dst) is a multiple of 8.")
	dst := Load(Param("dst").Base(), GP64())
	n := Load(Param("dst").Len(), GP64()).(reg.GPVirtual)
	src := Load(Param("src").Base(), GP64())
	lo, hi := YMM(), YMM()
	lo64, factor, offset := YMM(), YMM(), YMM()
	address := func(name string) Mem {
		b, err := Param(name).Resolve()
		if err != nil {
			panic(err)
		}
		return b.Addr
	}
	VBROADCASTSS(address("lo"), lo)
	VBROADCASTSS(address("hi"), hi)
	VBROADCASTSD(address("factor"), factor)
	VBROADCASTSD(address("offset"), offset)
	VCVTPS2PD(lo.AsX(), lo64)
	odd, none := YMM(), YMM()
	VXORPS(odd, odd, odd)
	SHLQ(U8(2), n)
	j := GP64()
	XORQ(j, j)
	Label("loop")
	CMPQ(j, n)
	JGE(LabelRef("done"))
	x := YMM()
	VMOVUPS(Mem{Base: src, Index: j, Scale: 1}, x)
	const unordered = 3
	VCMPPS(U8(unordered), x, x, none)
	VORPS(none, odd, odd)
	VMAXPS(lo, x, x) // lo where x is a NaN
	VMINPS(hi, x, x)
	high := XMM()
	VEXTRACTF128(U8(1), x, high)
	for half, v := range []reg.VecVirtual{x.AsX().(reg.VecVirtual), high} {
		wide := YMM()
		VCVTPS2PD(v, wide)
		VSUBPD(lo64, wide, wide)
		VMULPD(factor, wide, wide)
		VADDPD(offset, wide, wide)
		narrow := XMM()
		VCVTPD2PSY(wide, narrow)
		VMOVUPS(narrow, Mem{Base: dst, Index: j, Scale: 1, Disp: 16 * half})
	}
	ADDQ(U8(4*lanes), j)
	JMP(LabelRef("loop"))
	Label("done")
	mask := GP32()
	VMOVMSKPS(odd, mask)
	TESTL(mask, mask)
	found, err := ReturnIndex(0).Resolve()
	if err != nil {
		panic(err)
	}
	SETNE(found.Addr)
	VZEROUPPER()
	RET()
}
