package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Fields of the Go struct poolWindow.
const (
	fieldN = iota
	fieldStep
	fieldKD
	fieldKH
	fieldKW
	fieldDS
	fieldHS
	fieldD0
	fieldD1
)

func (t target) pool() {
	t.poolRow("ewMaxRow", "(y, x []float32, w *[9]int)", "takes the maximum over each window.",
		nil, func(x Mem, acc reg.VecVirtual) {
			v := t.reg()
			VMOVUPS(x, v)
			VMAXPS(acc, v, acc)
		})
	t.poolRow("ewAvgRow", "(y, x []float32, w *[9]int, scale float32)", "scales the sum over each window.",
		func() reg.VecVirtual { return t.scalar("scale") }, func(x Mem, acc reg.VecVirtual) { VADDPS(x, acc, acc) })
	t.maxRowBack()
	t.spread()
}

// field loads a field of the window; strides become bytes.
func field(w reg.Register, i int) reg.GPVirtual {
	r := GP64()
	MOVQ(Mem{Base: w, Disp: 8 * i}, r)
	if i == fieldStep || i == fieldDS || i == fieldHS {
		SHLQ(U8(2), r)
	}
	return r
}

// walk visits the voxels of a window: base is the first, body gets the address of each. The extents are
// re-read from w for each row and plane.
func walk(label string, w, base reg.Register, ds, hs reg.Register, body func(p reg.Register)) {
	pd, ph, p := GP64(), GP64(), GP64()
	d, h, k := GP64(), GP64(), GP64()
	MOVQ(base, pd)
	MOVQ(Mem{Base: w, Disp: 8 * fieldKD}, d)
	Label(label + "Plane")
	MOVQ(pd, ph)
	MOVQ(Mem{Base: w, Disp: 8 * fieldKH}, h)
	Label(label + "Row")
	MOVQ(ph, p)
	MOVQ(Mem{Base: w, Disp: 8 * fieldKW}, k)
	Label(label + "Voxel")
	body(p)
	ADDQ(U8(voxel), p)
	DECQ(k)
	JNZ(LabelRef(label + "Voxel"))
	ADDQ(hs, ph)
	DECQ(h)
	JNZ(LabelRef(label + "Row"))
	ADDQ(ds, pd)
	DECQ(d)
	JNZ(LabelRef(label + "Plane"))
}

// poolRow combines the voxels of each window, four windows at a time. With a scale the accumulators start
// at zero and are scaled at the end, otherwise they start with the first voxel.
func (t target) poolRow(name, signature, doc string, scale func() reg.VecVirtual, combine func(x Mem, acc reg.VecVirtual)) {
	t.text(name, signature, doc)
	y, x := ptr("y"), ptr("x")
	w := Load(Param("w"), GP64())
	var factor reg.VecVirtual
	if scale != nil {
		factor = scale()
	}
	n, step, ds, hs := field(w, fieldN), field(w, fieldStep), field(w, fieldDS), field(w, fieldHS)
	step3 := GP64()
	LEAQ(Mem{Base: step, Index: step, Scale: 2}, step3)
	window := func(p reg.Register, u, h int) Mem {
		m := Mem{Base: p, Disp: h * t.width}
		switch u {
		case 1, 2:
			m.Index, m.Scale = step, uint8(u)
		case 3:
			m.Index, m.Scale = step3, 1
		}
		return m
	}
	some := func(label string, count int) {
		acc := t.regs(count * t.parts)
		each := func(f func(u, h int, a reg.VecVirtual)) {
			for u := range count {
				for h := range t.parts {
					f(u, h, acc[u*t.parts+h])
				}
			}
		}
		each(func(u, h int, a reg.VecVirtual) {
			if scale != nil {
				VXORPS(a, a, a)
			} else {
				VMOVUPS(window(x, u, h), a)
			}
		})
		walk(label, w, x, ds, hs, func(p reg.Register) {
			each(func(u, h int, a reg.VecVirtual) { combine(window(p, u, h), a) })
		})
		each(func(u, h int, a reg.VecVirtual) {
			if scale != nil {
				VMULPS(factor, a, a)
			}
			VMOVUPS(a, Mem{Base: y, Disp: u*voxel + h*t.width})
		})
		ADDQ(U32(count*voxel), y)
	}
	Label("four")
	CMPQ(n, U8(4))
	JL(LabelRef("one"))
	some("four", 4)
	LEAQ(Mem{Base: x, Index: step, Scale: 4}, x)
	SUBQ(U8(4), n)
	JMP(LabelRef("four"))
	Label("one")
	CMPQ(n, U8(0))
	JLE(LabelRef("done"))
	some("one", 1)
	ADDQ(step, x)
	DECQ(n)
	JMP(LabelRef("one"))
	Label("done")
	t.end()
}

func (t target) maxRowBack() {
	t.text("ewMaxRowBack", "(dx, x, dy []float32, w *[9]int)", "adds each voxel of dy to the first maximum of its window.")
	dx, x, dy := ptr("dx"), ptr("x"), ptr("dy")
	w := Load(Param("w"), GP64())
	n, step, ds, hs := field(w, fieldN), field(w, fieldStep), field(w, fieldDS), field(w, fieldHS)
	offsets, grads := AllocLocal(voxel), AllocLocal(voxel)

	// Constants: -Inf, the distance of two voxels, and the offset of the first voxel that may be written.
	minusInf, next, first := t.reg(), t.reg(), t.reg()
	bits, firstOff := GP64(), GP64()
	broadcast := func(v reg.GPVirtual, dst reg.VecVirtual) {
		if t.wide {
			VPBROADCASTD(v.As32(), dst)
			return
		}
		s := XMM()
		VMOVD(v.As32(), s)
		VPBROADCASTD(s, dst)
	}
	MOVQ(U32(0xff800000), bits)
	broadcast(bits, minusInf)
	MOVQ(U32(voxel), bits)
	broadcast(bits, next)
	MOVQ(Mem{Base: w, Disp: 8 * fieldD0}, firstOff)
	IMULQ(ds, firstOff)
	broadcast(firstOff, first)

	Label("window")
	CMPQ(n, U8(0))
	JLE(LabelRef("done"))
	// best, where it was met (a byte offset) and the gradient to put there: none in planes of other tasks.
	best, where, grad := t.regs(t.parts), t.regs(t.parts), t.zeros(t.parts)
	for part := range t.parts {
		VMOVAPS(minusInf, best[part])
		VMOVAPS(first, where[part])
	}
	off, pd, ph, p := GP64(), GP64(), GP64(), GP64()
	d, h, k := GP64(), GP64(), GP64()
	rows := func(label string, write bool) {
		MOVQ(pd, ph)
		MOVQ(Mem{Base: w, Disp: 8 * fieldKH}, h)
		Label(label + "Row")
		MOVQ(ph, p)
		MOVQ(Mem{Base: w, Disp: 8 * fieldKW}, k)
		MOVQ(ph, off)
		SUBQ(x, off)
		here := t.reg()
		broadcast(off, here)
		Label(label + "Voxel")
		for part := range t.parts {
			v, zero := t.reg(), t.zero()
			g := zero
			if write {
				g = t.reg()
				VMOVUPS(Mem{Base: dy, Disp: part * t.width}, g)
			}
			VMOVUPS(Mem{Base: p, Disp: part * t.width}, v)
			const greater = 30 // GT_OQ
			if t.wide {
				gt := K()
				VCMPPS(U8(greater), best[part], v, gt)
				VMOVAPS(g, gt, grad[part])
				if write {
					VMOVAPS(here, gt, where[part])
				}
			} else {
				gt := t.reg()
				VCMPPS(U8(greater), best[part], v, gt)
				VBLENDVPS(gt, g, grad[part], grad[part])
				if write {
					VBLENDVPS(gt, here, where[part], where[part])
				}
			}
			VMAXPS(best[part], v, best[part])
		}
		VPADDD(next, here, here)
		ADDQ(U8(voxel), p)
		DECQ(k)
		JNZ(LabelRef(label + "Voxel"))
		ADDQ(hs, ph)
		DECQ(h)
		JNZ(LabelRef(label + "Row"))
	}
	MOVQ(x, pd)
	XORQ(d, d)
	Label("plane")
	CMPQ(d, Mem{Base: w, Disp: 8 * fieldD0})
	JL(LabelRef("passRows"))
	CMPQ(d, Mem{Base: w, Disp: 8 * fieldD1})
	JGE(LabelRef("passRows"))
	rows("write", true)
	JMP(LabelRef("next"))
	Label("passRows")
	rows("pass", false)
	Label("next")
	ADDQ(ds, pd)
	INCQ(d)
	CMPQ(d, Mem{Base: w, Disp: 8 * fieldKD})
	JL(LabelRef("plane"))

	// Lane by lane: at most 16 stores, where whole voxels would take one for each voxel of the window.
	for part := range t.parts {
		VMOVUPS(where[part], offsets.Offset(part*t.width))
		VMOVUPS(grad[part], grads.Offset(part*t.width))
	}
	for lane := range 16 {
		to, s := GP64(), XMM()
		MOVLQSX(offsets.Offset(4*lane), to)
		dst := Mem{Base: dx, Index: to, Scale: 1, Disp: 4 * lane}
		VMOVSS(grads.Offset(4*lane), s)
		VADDSS(dst, s, s)
		VMOVSS(s, dst)
	}
	ADDQ(step, x)
	ADDQ(step, dx)
	ADDQ(U8(voxel), dy)
	DECQ(n)
	JMP(LabelRef("window"))
	Label("done")
	t.end()
}

func (t target) spread() {
	t.text("ewSpread", "(dx, dy []float32, step int, a float32)", "adds a*dy to every step-th float of dx.")
	dx, dy, n := ptr("dx"), ptr("dy"), bytes("dy")
	step := Load(Param("step"), GP64())
	SHLQ(U8(2), step)
	a := t.scalar("a")
	t.loop("loop", n, 1, func(i reg.Register, off, u, h int) {
		v := t.reg()
		VMOVUPS(Mem{Base: dx, Disp: off}, v)
		VFMADD231PS(at(dy, i, off), a, v)
		VMOVUPS(v, Mem{Base: dx, Disp: off})
		if h == t.parts-1 {
			ADDQ(step, dx)
		}
	})
	t.end()
}
