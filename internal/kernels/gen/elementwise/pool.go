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
// re-read from w for each row and plane. perPlane, if any, runs before each plane.
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
	SUBQ(x, dx) // from a voxel of x to that of dx

	Label("window")
	CMPQ(n, U8(0))
	JLE(LabelRef("done"))
	best, grad := t.regs(t.parts), t.regs(t.parts)
	for h := range t.parts {
		VMOVUPS(Mem{Base: x, Disp: h * t.width}, best[h])
		VMOVUPS(Mem{Base: dy, Disp: h * t.width}, grad[h])
	}
	walk("max", w, x, ds, hs, func(p reg.Register) {
		for h := range t.parts {
			v := t.reg()
			VMOVUPS(Mem{Base: p, Disp: h * t.width}, v)
			VMAXPS(best[h], v, best[h])
		}
	})

	// open marks the lanes whose maximum has not been met yet.
	var open reg.OpmaskVirtual
	opens := make([]reg.VecVirtual, t.parts)
	if t.wide {
		open = K()
		KXNORW(open, open, open)
	} else {
		for h := range opens {
			opens[h] = t.reg()
			VPCMPEQD(opens[h], opens[h], opens[h])
		}
	}
	pd, ph, p := GP64(), GP64(), GP64()
	d, h, k := GP64(), GP64(), GP64()
	rows := func(label string, write bool) {
		MOVQ(pd, ph)
		MOVQ(Mem{Base: w, Disp: 8 * fieldKH}, h)
		Label(label + "Row")
		MOVQ(ph, p)
		MOVQ(Mem{Base: w, Disp: 8 * fieldKW}, k)
		Label(label + "Voxel")
		for part := range t.parts {
			src := Mem{Base: p, Disp: part * t.width}
			dst := Mem{Base: p, Index: dx, Scale: 1, Disp: part * t.width}
			v := t.reg()
			if t.wide {
				eq := K()
				VCMPPS(U8(0), src, best[part], eq)
				if write {
					first := K()
					KANDW(open, eq, first)
					VMOVUPS(dst, v)
					VADDPS(grad[part], v, first, v)
					VMOVUPS(v, dst)
				}
				KANDNW(open, eq, open)
			} else {
				VCMPPS(U8(0), src, best[part], v)
				first := t.reg()
				VANDPS(opens[part], v, first)
				VANDNPS(opens[part], v, opens[part])
				if write {
					VANDPS(grad[part], first, first)
					VADDPS(dst, first, first)
					VMOVUPS(first, dst)
				}
			}
		}
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

	ADDQ(step, x)
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
