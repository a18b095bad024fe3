package main

import (
	"strings"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (t target) bn() {
	t.stats()
	t.sum("ewSum", "sums each lane.", func(x Mem, acc reg.VecVirtual) { VADDPS(x, acc, acc) })
	t.sum("ewSumSq", "sums the squares of each lane.", func(x Mem, acc reg.VecVirtual) {
		v := t.reg()
		VMOVUPS(x, v)
		VFMADD231PS(v, v, acc)
	})
	t.norm(false)
	t.norm(true)
	t.reduce(false)
	t.reduce(true)
	for variant := range 8 {
		t.bnBack(variant)
	}
}

// unroll is the number of voxels per turn of the loops that keep several accumulators.
func (t target) unroll() int {
	if t.wide {
		return 4
	}
	return 2
}

func (t target) stats() {
	t.text("ewStats", "(x []float32, out *[48]float32)", "computes per lane mean, sum of x-mean and sum of (x-mean)^2.")
	x, n := ptr("x"), bytes("x")
	out := Load(Param("out"), GP64())
	un := t.unroll()
	sum := t.zeros(un * t.parts)
	t.loop("sum", n, un, func(i reg.Register, off, u, h int) {
		s := sum[u*t.parts+h]
		VADDPS(at(x, i, off), s, s)
	})
	t.fold(sum)
	count, one, inv := GP64(), GP64(), t.reg()
	MOVQ(n, count)
	SHRQ(U8(6), count)
	f, g := XMM(), XMM()
	VXORPS(f, f, f)
	VCVTSI2SSQ(count, f, f)
	MOVQ(U32(1), one)
	VXORPS(g, g, g)
	VCVTSI2SSQ(one, g, g)
	VDIVSS(f, g, g)
	VBROADCASTSS(g, inv)
	mean := sum[:t.parts]
	for _, m := range mean {
		VMULPS(inv, m, m)
	}
	d, q := t.zeros(un*t.parts), t.zeros(un*t.parts)
	t.loop("dev", n, un, func(i reg.Register, off, u, h int) {
		v := t.reg()
		VMOVUPS(at(x, i, off), v)
		VSUBPS(mean[h], v, v)
		VADDPS(v, d[u*t.parts+h], d[u*t.parts+h])
		VFMADD231PS(v, v, q[u*t.parts+h])
	})
	t.fold(d)
	t.fold(q)
	t.store(mean, out, 0)
	t.store(d, out, 64)
	t.store(q, out, 128)
	t.end()
}

func (t target) sum(name, doc string, add func(x Mem, acc reg.VecVirtual)) {
	t.text(name, "(x []float32, out *[16]float32)", doc)
	x, n := ptr("x"), bytes("x")
	out := Load(Param("out"), GP64())
	acc := t.zeros(4 * t.parts)
	t.loop("loop", n, 4, func(i reg.Register, off, u, h int) { add(at(x, i, off), acc[u*t.parts+h]) })
	t.fold(acc)
	t.store(acc, out, 0)
	t.end()
}

func (t target) norm(add bool) {
	if add {
		t.text("ewNormAdd", "(y, x, add, scale, shift []float32, floor float32, stream bool)", "computes y = max(x*scale + shift + add, floor).")
	} else {
		t.text("ewNorm", "(y, x, scale, shift []float32, floor float32, stream bool)", "computes y = max(x*scale + shift, floor).")
	}
	y, x, n := ptr("y"), ptr("x"), bytes("y")
	var a reg.Register
	if add {
		a = ptr("add")
	}
	scale, shift, floor := t.lanes("scale"), t.lanes("shift"), t.scalar("floor")
	t.streamed(y, n, 4, func(store func(v, m Op), i reg.Register, off, u, h int) {
		v := t.reg()
		VMOVUPS(at(x, i, off), v)
		VFMADD213PS(shift[h], scale[h], v)
		if add {
			VADDPS(at(a, i, off), v, v)
		}
		VMAXPS(v, floor, v) // a NaN in v stays
		store(v, at(y, i, off))
	})
}

func (t target) reduce(mask bool) {
	if mask {
		t.text("ewReduceMask", "(x, dy, mask, mean []float32, out *[32]float32)", "sums dy and dy*(x-mean) where mask > 0.")
	} else {
		t.text("ewReduce", "(x, dy, mean []float32, out *[32]float32)", "sums dy and dy*(x-mean).")
	}
	x, dy, n := ptr("x"), ptr("dy"), bytes("x")
	out := Load(Param("out"), GP64())
	mean := t.lanes("mean")
	var m reg.Register
	var zero reg.VecVirtual
	if mask {
		m, zero = ptr("mask"), t.zero()
	}
	un := t.unroll()
	b, g := t.zeros(un*t.parts), t.zeros(un*t.parts)
	t.loop("loop", n, un, func(i reg.Register, off, u, h int) {
		d, v := t.reg(), t.reg()
		if mask {
			t.masked(at(dy, i, off), at(m, i, off), zero, d)
		} else {
			VMOVUPS(at(dy, i, off), d)
		}
		VMOVUPS(at(x, i, off), v)
		VSUBPS(mean[h], v, v)
		VADDPS(d, b[u*t.parts+h], b[u*t.parts+h])
		VFMADD231PS(v, d, g[u*t.parts+h])
	})
	t.fold(b)
	t.fold(g)
	t.store(b, out, 0)
	t.store(g, out, 64)
	t.end()
}

// bnBack's variants are numbered as the Go constants bnMasked, bnFull and bnAccumulate.
func (t target) bnBack(variant int) {
	masked, full, accumulate := variant&1 != 0, variant&2 != 0, variant&4 != 0
	name := "ewBNBack"
	doc := "computes dx = scale*dy"
	if full {
		name += "Full"
		doc = "computes dx = scale*(dy-dmean) + kx*(x-mean)"
	}
	if accumulate {
		doc = strings.Replace(doc, "=", "+=", 1)
	}
	if masked {
		name += "Masked"
		doc += ", dy counting where mask > 0"
	}
	if accumulate {
		name += "Add"
	}
	t.text(name, "(dx, dy, mask, x, scale, kx, mean, dmean []float32, stream bool)", doc+".")
	dx, dy, n := ptr("dx"), ptr("dy"), bytes("dx")
	scale := t.lanes("scale")
	var m, x reg.Register
	var zero reg.VecVirtual
	var kx, mean, dmean []reg.VecVirtual
	if masked {
		m, zero = ptr("mask"), t.zero()
	}
	if full {
		x, kx, mean, dmean = ptr("x"), t.lanes("kx"), t.lanes("mean"), t.lanes("dmean")
	}
	t.streamed(dx, n, t.unroll(), func(store func(v, m Op), i reg.Register, off, u, h int) {
		d := t.reg()
		if masked {
			t.masked(at(dy, i, off), at(m, i, off), zero, d)
		} else {
			VMOVUPS(at(dy, i, off), d)
		}
		if full {
			v := t.reg()
			VMOVUPS(at(x, i, off), v)
			VSUBPS(dmean[h], d, d)
			VSUBPS(mean[h], v, v)
			VMULPS(scale[h], d, d)
			VFMADD231PS(v, kx[h], d)
		} else {
			VMULPS(scale[h], d, d)
		}
		if accumulate {
			VADDPS(at(dx, i, off), d, d)
		}
		store(d, at(dx, i, off))
	})
}
