package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (t target) layerNorm() {
	t.text("ewRowNorm", "(y, x, gamma, beta []float32, mean, invstd float32)", "computes y = (x-mean)*invstd*gamma + beta.")
	y, x, gamma, beta, n := ptr("y"), ptr("x"), ptr("gamma"), ptr("beta"), bytes("y")
	mean, invstd := t.scalar("mean"), t.scalar("invstd")
	t.loop("loop", n, 2, func(i reg.Register, off, u, h int) {
		v, b := t.reg(), t.reg()
		VMOVUPS(at(x, i, off), v)
		VSUBPS(mean, v, v)
		VMULPS(invstd, v, v)
		VMOVUPS(at(beta, i, off), b)
		VFMADD231PS(at(gamma, i, off), v, b)
		VMOVUPS(b, at(y, i, off))
	})
	t.end()

	t.text("ewRowSums", "(x, dy, gamma []float32, mean, invstd float32, dgamma, dbeta []float32, out *[32]float32)",
		"sums dy*gamma and dy*gamma*xhat and adds dy*xhat and dy to dgamma and dbeta.")
	x, dy, gamma, n := ptr("x"), ptr("dy"), ptr("gamma"), bytes("x")
	dgamma, dbeta := ptr("dgamma"), ptr("dbeta")
	out := Load(Param("out"), GP64())
	mean, invstd = t.scalar("mean"), t.scalar("invstd")
	s1, s2 := t.zeros(t.parts), t.zeros(t.parts)
	t.loop("loop", n, 1, func(i reg.Register, off, u, h int) {
		v, d, acc := t.reg(), t.reg(), t.reg()
		VMOVUPS(at(x, i, off), v)
		VSUBPS(mean, v, v)
		VMULPS(invstd, v, v)
		VMOVUPS(at(dy, i, off), d)
		VADDPS(at(dbeta, i, off), d, acc)
		VMOVUPS(acc, at(dbeta, i, off))
		VMOVUPS(at(dgamma, i, off), acc)
		VFMADD231PS(v, d, acc)
		VMOVUPS(acc, at(dgamma, i, off))
		VMULPS(at(gamma, i, off), d, d)
		VADDPS(d, s1[h], s1[h])
		VFMADD231PS(v, d, s2[h])
	})
	t.store(s1, out, 0)
	t.store(s2, out, 64)
	t.end()

	t.text("ewRowBack", "(dx, x, dy, gamma []float32, c *[4]float32)",
		"computes dx = invstd*(dy*gamma - c2 - xhat*c3) with c = mean, invstd, c2, c3.")
	dx, x, dy, gamma, n := ptr("dx"), ptr("x"), ptr("dy"), ptr("gamma"), bytes("dx")
	c := Load(Param("c"), GP64())
	mean, invstd = t.constant(c, 0), t.constant(c, 1)
	c2, c3 := t.constant(c, 2), t.constant(c, 3)
	t.loop("loop", n, 2, func(i reg.Register, off, u, h int) {
		v, d := t.reg(), t.reg()
		VMOVUPS(at(x, i, off), v)
		VSUBPS(mean, v, v)
		VMULPS(invstd, v, v)
		VMOVUPS(at(dy, i, off), d)
		VFMSUB132PS(at(gamma, i, off), c2, d)
		VFNMADD231PS(c3, v, d)
		VMULPS(invstd, d, d)
		VMOVUPS(d, at(dx, i, off))
	})
	t.end()
}

// softmaxVecs is how many vectors of queries the softmax takes at once; there are 32 queries or a multiple.
const softmaxVecs = 2

// softmaxSlack is softmaxSlack of the package kernels.
const softmaxSlack = 8

// keepUnlessAbove puts old in the lanes of v where by is at most limit.
func (t target) keepUnlessAbove(old Mem, by reg.VecVirtual, limit float64, v reg.VecVirtual) {
	const notAbove = 2 // or NaN: false
	if t.wide {
		k := K()
		VCMPPS(U8(notAbove), lit(limit), by, k)
		VMOVUPS(old, k, v)
		return
	}
	mask := t.reg()
	VCMPPS(U8(notAbove), lit(limit), by, mask)
	VBLENDVPS(mask, old, v, v)
}

func (t target) attention() {
	t.gemm()

	// Lanes are queries, rows are keys.
	t.text("ewSoftmaxTile", "(s, m, l, corr []float32, rows int, scale float32)", "makes one step of the online softmax over rows keys.")
	s, m, l, corr, n := ptr("s"), ptr("m"), ptr("l"), ptr("corr"), bytes("m")
	t.holdExp2()
	scale := t.scalar("scale")
	i := GP64()
	XORQ(i, i)
	Label("column")
	CMPQ(i, n)
	JGE(LabelRef("done"))
	top, sum := t.regs(softmaxVecs), t.regs(softmaxVecs)
	p, k := GP64(), GP64()
	start := func() {
		LEAQ(Mem{Base: s, Index: i, Scale: 1}, p)
		Load(Param("rows"), k)
	}
	start()
	for j := range top {
		VMOVUPS(at(m, i, j*t.width), top[j])
	}
	Label("max")
	for j := range top {
		VMAXPS(Mem{Base: p, Disp: j * t.width}, top[j], top[j])
	}
	ADDQ(n, p)
	DECQ(k)
	JNZ(LabelRef("max"))
	for j := range top {
		f, old := t.reg(), t.reg()
		VMULPS(at(m, i, j*t.width), scale, old)
		VMULPS(top[j], scale, f)
		VSUBPS(old, f, f)
		t.keepUnlessAbove(at(m, i, j*t.width), f, softmaxSlack, top[j])
		VMOVUPS(top[j], at(m, i, j*t.width))
		VMULPS(top[j], scale, top[j])
		VSUBPS(top[j], old, f)
		VMAXPS(f, t.load(exp2Least), f) // it is infinite at first
		t.exp2(f)
		VMOVUPS(f, at(corr, i, j*t.width))
		VMULPS(at(l, i, j*t.width), f, sum[j])
	}
	start()
	Label("exp")
	for j := range top {
		v := t.reg()
		VMOVUPS(Mem{Base: p, Disp: j * t.width}, v)
		VFMSUB213PS(top[j], scale, v)
		t.exp2(v)
		VMOVUPS(v, Mem{Base: p, Disp: j * t.width})
		VADDPS(v, sum[j], sum[j])
	}
	ADDQ(n, p)
	DECQ(k)
	JNZ(LabelRef("exp"))
	for j := range sum {
		VMOVUPS(sum[j], at(l, i, j*t.width))
	}
	ADDQ(U8(softmaxVecs*t.width), i)
	JMP(LabelRef("column"))
	Label("done")
	t.end()

	t.text("ewSoftmaxBack", "(s, ds []float32, scale, lse, delta float32)", "computes s = 2^(scale*s-lse) and ds = s*(ds-delta).")
	s, ds, n := ptr("s"), ptr("ds"), bytes("s")
	scale, lse, delta := t.scalar("scale"), t.scalar("lse"), t.scalar("delta")
	t.holdExp2()
	t.loop("loop", n, 2, func(i reg.Register, off, u, h int) {
		v, d := t.reg(), t.reg()
		VMOVUPS(at(s, i, off), v)
		VFMSUB213PS(lse, scale, v)
		t.exp2(v)
		VMOVUPS(v, at(s, i, off))
		VMOVUPS(at(ds, i, off), d)
		VSUBPS(delta, d, d)
		VMULPS(v, d, d)
		VMOVUPS(d, at(ds, i, off))
	})
	t.end()
}

// Fields of the Go struct tileProduct.
const (
	gemmM = iota
	gemmN
	gemmK
	gemmARow
	gemmACol
	gemmB
	gemmC
	gemmAdd
)

// gemm multiplies tiles in pieces of 12 x 32 (AVX-512) or 6 x 16 (AVX2) that stay in registers.
func (t target) gemm() {
	t.text("ewTileProduct", "(c, a, b []float32, shape *[8]int)", "computes c = a*b or c += a*b.")
	mr, nv := 6, 2
	if t.wide {
		mr = 12
	}
	shape := Load(Param("shape"), GP64()) // not g: the assembler takes that for a register
	field := func(i int, shift bool) reg.GPVirtual {
		r := GP64()
		MOVQ(Mem{Base: shape, Disp: 8 * i}, r)
		if shift {
			SHLQ(U8(2), r)
		}
		return r
	}
	counters := AllocLocal(16)
	left, below := counters, counters.Offset(8)
	cols := field(gemmN, false)
	MOVQ(cols, left)
	bCol, cCol := ptr("b"), ptr("c")
	aRow, aCol, ldb := field(gemmARow, true), field(gemmACol, true), field(gemmB, true)

	Label("column")
	rows := field(gemmM, false)
	MOVQ(rows, below)
	aPanel, cPanel := GP64(), GP64()
	Load(Param("a").Base(), aPanel)
	MOVQ(cCol, cPanel)

	Label("panel")
	a := make([]reg.GPVirtual, mr/3)
	for i := range a {
		a[i] = GP64()
		if i == 0 {
			MOVQ(aPanel, a[i])
			continue
		}
		LEAQ(Mem{Base: aRow, Index: aRow, Scale: 2}, a[i])
		ADDQ(a[i-1], a[i])
	}
	b := GP64()
	MOVQ(bCol, b)
	acc := t.zeros(mr * nv)
	k := field(gemmK, false)
	Label("k")
	bv := t.regs(nv)
	for j := range bv {
		VMOVUPS(Mem{Base: b, Disp: j * t.width}, bv[j])
	}
	ADDQ(ldb, b)
	for i := range mr {
		src := Mem{Base: a[i/3]}
		if i%3 > 0 {
			src.Index, src.Scale = aRow, uint8(i%3)
		}
		v := t.reg()
		VBROADCASTSS(src, v)
		for j := range bv {
			VFMADD231PS(bv[j], v, acc[i*nv+j])
		}
	}
	for i := range a {
		ADDQ(aCol, a[i])
	}
	DECQ(k)
	JNZ(LabelRef("k"))

	ldc := field(gemmC, true)
	to := GP64()
	MOVQ(cPanel, to)
	CMPQ(Mem{Base: shape, Disp: 8 * gemmAdd}, U8(0))
	JE(LabelRef("write"))
	for i := range mr {
		for j := range nv {
			VADDPS(Mem{Base: to, Disp: j * t.width}, acc[i*nv+j], acc[i*nv+j])
		}
		ADDQ(ldc, to)
	}
	MOVQ(cPanel, to)
	Label("write")
	for i := range mr {
		for j := range nv {
			VMOVUPS(acc[i*nv+j], Mem{Base: to, Disp: j * t.width})
		}
		ADDQ(ldc, to)
	}
	MOVQ(to, cPanel)
	LEAQ(Mem{Base: aPanel, Index: aRow, Scale: 4}, aPanel)
	LEAQ(Mem{Base: aPanel, Index: aRow, Scale: 2}, aPanel)
	if mr == 12 {
		LEAQ(Mem{Base: aPanel, Index: aRow, Scale: 4}, aPanel)
		LEAQ(Mem{Base: aPanel, Index: aRow, Scale: 2}, aPanel)
	}
	SUBQ(U8(mr), below)
	JG(LabelRef("panel"))

	ADDQ(U32(nv*t.width), bCol)
	ADDQ(U32(nv*t.width), cCol)
	SUBQ(U8(nv*t.width/4), left)
	JG(LabelRef("column"))
	t.end()
}
