package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (s shape) outer() {
	p := s.text("outer", "is outerGeneric for a fixed number of rows.")
	get := func(offset int) reg.Register {
		r := GP64()
		MOVQ(field(p, offset), r)
		return r
	}
	second := get(outerBlock)
	xStep, dyStep := get(outerXStep), get(outerDYStep)
	xPlane, dyPlane, planes := get(outerX), get(outerDY), get(outerN+16)
	s.zeroAcc()

	Label("plane")
	xLine, dyLine := GP64(), GP64()
	MOVQ(xPlane, xLine)
	MOVQ(dyPlane, dyLine)
	lines := get(outerN + 8)
	Label("line")
	x, dy := GP64(), GP64()
	MOVQ(xLine, x)
	MOVQ(dyLine, dy)
	n := get(outerN)
	point := func() {
		for v := range s.vecs {
			VMOVUPS(s.y(dy, second, v), s.weight(v))
		}
		for r := range s.rows {
			b := s.broadcast(r)
			VBROADCASTSS(field(x, 4*r), b)
			for v := range s.vecs {
				VFMADD231PS(s.weight(v), b, s.acc(r, v))
			}
		}
		ADDQ(xStep, x)
		ADDQ(dyStep, dy)
	}
	Label("four")
	CMPQ(n, U8(4))
	JLT(LabelRef("rest"))
	for range 4 {
		point()
	}
	SUBQ(U8(4), n)
	JMP(LabelRef("four"))
	Label("rest")
	TESTQ(n, n)
	JZ(LabelRef("endline"))
	Label("one")
	point()
	DECQ(n)
	JNZ(LabelRef("one"))
	Label("endline")
	ADDQ(field(p, outerXStep+8), xLine)
	ADDQ(field(p, outerDYStep+8), dyLine)
	DECQ(lines)
	JNZ(LabelRef("line"))
	ADDQ(field(p, outerXStep+16), xPlane)
	ADDQ(field(p, outerDYStep+16), dyPlane)
	DECQ(planes)
	JNZ(LabelRef("plane"))

	dw := get(outerDW)
	step := get(outerStep)
	for r := range s.rows {
		for v := range s.vecs {
			VADDPS(field(dw, v*s.size), s.acc(r, v), s.acc(r, v))
			VMOVUPS(s.acc(r, v), field(dw, v*s.size))
		}
		ADDQ(step, dw)
	}
	VZEROUPPER()
	RET()
}

// transpose exchanges rows and columns of four 8x8 blocks with 128-bit loads and in-lane shuffles.
func transpose() {
	TEXT("transposeAVX2", NOSPLIT, "func(dst, src *float32, dstStride, srcStride int)")
	Pragma("noescape")
	Doc("transposeAVX2 is transposeGeneric.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	ds := Load(Param("dstStride"), GP64())
	ss := Load(Param("srcStride"), GP64())
	SHLQ(U8(2), ds)
	SHLQ(U8(2), ss)
	ahead := GP64() // the 16 rows that follow are often what is transposed next
	LEAQ(Mem{Base: src, Index: ss, Scale: 8}, ahead)
	LEAQ(Mem{Base: ahead, Index: ss, Scale: 8}, ahead)
	for range 16 {
		PREFETCHT1(field(ahead, 0))
		ADDQ(ss, ahead)
	}
	for half := range 2 { // source rows 8*half..8*half+7
		low, high := GP64(), GP64()
		MOVQ(src, low)
		LEAQ(Mem{Base: src, Index: ss, Scale: 4}, high)
		var rows, rowsHigh [4]reg.Register
		for i := range rows {
			rows[i], rowsHigh[i] = low, high
			if i < 3 {
				l, h := GP64(), GP64()
				LEAQ(Mem{Base: low, Index: ss, Scale: 1}, l)
				LEAQ(Mem{Base: high, Index: ss, Scale: 1}, h)
				low, high = l, h
			}
		}
		out := GP64()
		LEAQ(field(dst, 32*half), out)
		for col := 0; col < 16; col += 4 {
			t := ymm[:4]
			for i := range t {
				VMOVUPS(field(rows[i], 4*col), t[i].AsX())
				VINSERTF128(U8(1), field(rowsHigh[i], 4*col), t[i], t[i])
			}
			u := ymm[4:8]
			VUNPCKLPS(t[1], t[0], u[0])
			VUNPCKHPS(t[1], t[0], u[1])
			VUNPCKLPS(t[3], t[2], u[2])
			VUNPCKHPS(t[3], t[2], u[3])
			o := ymm[8:12]
			VUNPCKLPD(u[2], u[0], o[0])
			VUNPCKHPD(u[2], u[0], o[1])
			VUNPCKLPD(u[3], u[1], o[2])
			VUNPCKHPD(u[3], u[1], o[3])
			for _, r := range o {
				VMOVUPS(r, Mem{Base: out})
				ADDQ(ds, out)
			}
		}
		if half == 0 {
			LEAQ(Mem{Base: src, Index: ss, Scale: 8}, src)
		}
	}
	VZEROUPPER()
	RET()
}
