package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (t target) elementwise() {
	t.text("ewReLU", "(y, x []float32, stream bool)", "computes y = max(x, 0).")
	y, x, n, zero := ptr("y"), ptr("x"), bytes("y"), t.zero()
	t.streamed(y, n, 4, func(store func(v, m Op), i reg.Register, off, u, h int) {
		v := t.reg()
		VMOVUPS(at(x, i, off), v)
		VMAXPS(v, zero, v) // a NaN in v stays
		store(v, at(y, i, off))
	})

	t.text("ewReLUBack", "(dx, dy, y []float32)", "computes dx = dy where y > 0, else 0.")
	dx, dy, y, n, zero := ptr("dx"), ptr("dy"), ptr("y"), bytes("dx"), t.zero()
	t.loop("loop", n, 4, func(i reg.Register, off, u, h int) {
		v := t.reg()
		t.masked(at(dy, i, off), at(y, i, off), zero, v)
		VMOVUPS(v, at(dx, i, off))
	})
	t.end()

	t.text("ewAdd", "(y, a, b []float32, floor float32, stream bool)", "computes y = max(a+b, floor).")
	y, a, b, n, floor := ptr("y"), ptr("a"), ptr("b"), bytes("y"), t.scalar("floor")
	t.streamed(y, n, 4, func(store func(v, m Op), i reg.Register, off, u, h int) {
		v := t.reg()
		VMOVUPS(at(a, i, off), v)
		VADDPS(at(b, i, off), v, v)
		VMAXPS(v, floor, v)
		store(v, at(y, i, off))
	})

	t.text("ewScale", "(y, x []float32, a float32)", "computes y = a*x.")
	y, x, n, f := ptr("y"), ptr("x"), bytes("y"), t.scalar("a")
	t.loop("loop", n, 4, func(i reg.Register, off, u, h int) {
		v := t.reg()
		VMULPS(at(x, i, off), f, v)
		VMOVUPS(v, at(y, i, off))
	})
	t.end()

	t.text("ewAxpy", "(y, x []float32, a float32)", "computes y += a*x.")
	y, x, n, f = ptr("y"), ptr("x"), bytes("y"), t.scalar("a")
	t.loop("loop", n, 4, func(i reg.Register, off, u, h int) {
		v := t.reg()
		VMOVUPS(at(y, i, off), v)
		VFMADD231PS(at(x, i, off), f, v)
		VMOVUPS(v, at(y, i, off))
	})
	t.end()
}

func (t target) optim() {
	t.text("ewAdamW", "(w, g, mom, vel []float32, c *[7]float32)", "makes one AdamW step.")
	w, g, mom, vel, n := ptr("w"), ptr("g"), ptr("mom"), ptr("vel"), bytes("w")
	c := Load(Param("c"), GP64())
	oneMinusBeta1, beta2, oneMinusBeta2 := t.constant(c, 0), t.constant(c, 1), t.constant(c, 2)
	invSqrtBias2, eps, keep, stepSize := t.constant(c, 3), t.constant(c, 4), t.constant(c, 5), t.constant(c, 6)
	t.loop("loop", n, 2, func(i reg.Register, off, u, h int) {
		gi, m, v, d := t.reg(), t.reg(), t.reg(), t.reg()
		VMOVUPS(at(g, i, off), gi)
		VMOVUPS(at(mom, i, off), m)
		VSUBPS(m, gi, d)
		VFMADD231PS(oneMinusBeta1, d, m)
		VMOVUPS(m, at(mom, i, off))
		VMULPS(at(vel, i, off), beta2, v)
		VMULPS(gi, gi, gi)
		VFMADD231PS(oneMinusBeta2, gi, v)
		VMOVUPS(v, at(vel, i, off))
		VSQRTPS(v, v)
		VFMADD213PS(eps, invSqrtBias2, v)
		VDIVPS(v, m, m)
		VMULPS(at(w, i, off), keep, d)
		VFNMADD231PS(stepSize, m, d)
		VMOVUPS(d, at(w, i, off))
	})
	t.end()

	t.text("ewSGD", "(w, g, mom []float32, c *[3]float32)", "makes one step of SGD with Nesterov momentum.")
	w, g, mom, n = ptr("w"), ptr("g"), ptr("mom"), bytes("w")
	c = Load(Param("c"), GP64())
	lr, momentum, decay := t.constant(c, 0), t.constant(c, 1), t.constant(c, 2)
	t.loop("loop", n, 2, func(i reg.Register, off, u, h int) {
		wi, gi, b := t.reg(), t.reg(), t.reg()
		VMOVUPS(at(w, i, off), wi)
		VMOVUPS(at(g, i, off), gi)
		VFMADD231PS(decay, wi, gi)
		VMOVUPS(at(mom, i, off), b)
		VFMADD213PS(gi, momentum, b)
		VMOVUPS(b, at(mom, i, off))
		VFMADD231PS(momentum, b, gi)
		VFNMADD231PS(lr, gi, wi)
		VMOVUPS(wi, at(w, i, off))
	})
	t.end()
}
