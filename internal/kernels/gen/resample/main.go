// Command resample generates the AVX2 loops that bring scans to the network's input. Each function computes,
// to the last bit, what the plain Go function of the same name computes: no fused multiplication.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
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
	trilinear()
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
	VBROADCASTSS(address(Param("lo")), lo)
	VBROADCASTSS(address(Param("hi")), hi)
	VBROADCASTSD(address(Param("factor")), factor)
	VBROADCASTSD(address(Param("offset")), offset)
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

// address is where a parameter lies.
func address(c gotypes.Component) Mem {
	b, err := c.Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// trilinear takes the pairs of neighbours along w one by one, as 8 bytes each: a gather instruction is slower.
func trilinear() {
	TEXT("trilinearAVX2", NOSPLIT, "func(dst []float32, inside []uint8, data []float32, row, plane int, moveD, moveH, moveW []float32, start, step, top [3]float32, last [3]int)")
	Doc("trilinearAVX2 computes Trilinear; len(dst) is a multiple of 8, start, step, top (size-1) and last (size-2) are along d, h, w.")
	numbers := GLOBL("trilinearNumbers", RODATA|NOPTR)
	for i := range lanes {
		DATA(4*i, F32(i))
	}
	eight := GLOBL("trilinearEight", RODATA|NOPTR)
	DATA(0, F32(lanes))

	dst := Load(Param("dst").Base(), GP64())
	n := Load(Param("dst").Len(), GP64()).(reg.GPVirtual)
	marks := Load(Param("inside").Base(), GP64())
	row := Load(Param("row"), GP64())
	plane := Load(Param("plane"), GP64())
	rows := [4]reg.Register{Load(Param("data").Base(), GP64()), GP64(), GP64(), GP64()}
	LEAQ(Mem{Base: rows[0], Index: row, Scale: 4}, rows[1])
	LEAQ(Mem{Base: rows[0], Index: plane, Scale: 4}, rows[2])
	LEAQ(Mem{Base: rows[2], Index: row, Scale: 4}, rows[3])
	moves := [3]reg.Register{Load(Param("moveD").Base(), GP64()), Load(Param("moveH").Base(), GP64()), Load(Param("moveW").Base(), GP64())}
	places := AllocLocal(4 * lanes)
	x, place := GP64(), GP64()
	XORQ(x, x)
	number, zero := YMM(), YMM()
	VMOVUPS(numbers, number)
	VXORPS(zero, zero, zero)

	Label("points")
	CMPQ(x, n)
	JGE(LabelRef("end"))
	in, index := YMM(), YMM()
	var share [3]reg.VecVirtual
	for i := range share {
		v, bound, whole := YMM(), YMM(), YMM()
		VBROADCASTSS(address(Param("step").Index(i)), bound)
		VMULPS(number, bound, v)
		VBROADCASTSS(address(Param("start").Index(i)), bound)
		VADDPS(v, bound, v)
		VADDPS(Mem{Base: moves[i], Index: x, Scale: 4}, v, v)
		const less, atLeast = 17, 29 // ordered, quiet
		test := YMM()
		VCMPPS(U8(atLeast), zero, v, test)
		if i == 0 {
			VMOVAPS(test, in)
		} else {
			VANDPS(test, in, in)
		}
		VBROADCASTSS(address(Param("top").Index(i)), bound)
		VCMPPS(U8(less), bound, v, test)
		VANDPS(test, in, in)
		// Points that are not inside take the nearest place that can be read.
		VCVTTPS2DQ(v, whole)
		VPMAXSD(zero, whole, whole)
		VPBROADCASTD(address(Param("last").Index(i)), bound)
		VPMINSD(bound, whole, whole)
		share[i] = YMM()
		VCVTDQ2PS(whole, share[i])
		VSUBPS(share[i], v, share[i])
		stride := YMM()
		switch i {
		case 0:
			VPBROADCASTD(address(Param("plane")), stride)
			VPMULLD(stride, whole, index)
		case 1:
			VPBROADCASTD(address(Param("row")), stride)
			VPMULLD(stride, whole, whole)
			VPADDD(whole, index, index)
		case 2:
			VPADDD(whole, index, index)
		}
	}
	VMOVDQU(index, places)
	mask := GP32()
	VMOVMSKPS(in, mask)
	MOVB(mask.As8(), Mem{Base: marks})
	INCQ(marks)

	// four loads the pairs of lanes a, a+1 and b, b+1 of a row into the halves of a register.
	four := func(base reg.Register, a, b int) reg.VecVirtual {
		low, high, both := XMM(), XMM(), YMM()
		for _, h := range []struct {
			half reg.VecVirtual
			lane int
		}{{low, a}, {high, b}} {
			MOVLQZX(places.Offset(4*h.lane), place)
			VMOVSD(Mem{Base: base, Index: place, Scale: 4}, h.half)
			MOVLQZX(places.Offset(4*h.lane+4), place)
			VMOVHPS(Mem{Base: base, Index: place, Scale: 4}, h.half, h.half)
		}
		VINSERTF128(U8(1), high, low.AsY(), both)
		return both
	}
	// between leaves a + f·(b-a) in a.
	between := func(a, b, f reg.VecVirtual) {
		VSUBPS(a, b, b)
		VMULPS(f, b, b)
		VADDPS(b, a, a)
	}
	var along [4]reg.VecVirtual
	for k, base := range rows {
		even, odd := four(base, 0, 4), four(base, 2, 6)
		along[k] = YMM()
		second := YMM()
		VSHUFPS(U8(0x88), odd, even, along[k])
		VSHUFPS(U8(0xDD), odd, even, second)
		between(along[k], second, share[2])
	}
	between(along[0], along[1], share[1])
	between(along[2], along[3], share[1])
	between(along[0], along[2], share[0])
	VMOVUPS(along[0], Mem{Base: dst, Index: x, Scale: 4})
	step := YMM()
	VBROADCASTSS(eight, step)
	VADDPS(step, number, number)
	ADDQ(U8(lanes), x)
	JMP(LabelRef("points"))
	Label("end")
	VZEROUPPER()
	RET()
}
