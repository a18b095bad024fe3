// Command elementwise generates the AVX2 and AVX-512 inner loops of the memory-bound kernels.
// Each function computes what the plain Go function of the same name computes.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// target is an instruction set. A voxel is 16 lanes: one register of AVX-512 or two of AVX2.
type target struct {
	name  string
	wide  bool // AVX-512
	parts int  // registers in a voxel
	width int  // bytes in a register
}

var targets = []target{
	{"AVX2", false, 2, 32},
	{"AVX512", true, 1, 64},
}

const voxel = 64 // bytes

func main() {
	ConstraintExpr("!noasm")
	for _, t := range targets {
		t.bn()
		t.elementwise()
		t.pool()
		t.optim()
		t.gelu()
		t.layerNorm()
		t.attention()
		t.half()
	}
	Generate()
}

// text begins a function that replaces the Go function of the same name.
func (t target) text(name, signature, doc string) {
	clear(held)
	TEXT(name+t.name, NOSPLIT, "func"+signature)
	Doc(name + t.name + " " + doc)
}

func (t target) end() {
	VZEROUPPER()
	RET()
}

func (t target) reg() reg.VecVirtual {
	if t.wide {
		return ZMM()
	}
	return YMM()
}

// regs returns n registers.
func (t target) regs(n int) []reg.VecVirtual {
	r := make([]reg.VecVirtual, n)
	for i := range r {
		r[i] = t.reg()
	}
	return r
}

func (t target) zero() reg.VecVirtual {
	r := t.reg()
	VXORPS(r, r, r)
	return r
}

func (t target) zeros(n int) []reg.VecVirtual {
	r := make([]reg.VecVirtual, n)
	for i := range r {
		r[i] = t.zero()
	}
	return r
}

// lanes loads the 16 floats that a slice parameter points to.
func (t target) lanes(param string) []reg.VecVirtual {
	p := Mem{Base: Load(Param(param).Base(), GP64())}
	r := t.regs(t.parts)
	for h := range r {
		VMOVUPS(p.Offset(h*t.width), r[h])
	}
	return r
}

// scalar broadcasts a float parameter.
func (t target) scalar(param string) reg.VecVirtual {
	b, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	r := t.reg()
	VBROADCASTSS(b.Addr, r)
	return r
}

// constant broadcasts float i of the array that a pointer parameter points to.
func (t target) constant(base reg.Register, i int) reg.VecVirtual {
	r := t.reg()
	VBROADCASTSS(Mem{Base: base, Disp: 4 * i}, r)
	return r
}

func ptr(param string) reg.Register { return Load(Param(param).Base(), GP64()) }

// bytes loads the length of a slice of float32 in bytes.
func bytes(param string) reg.GPVirtual {
	n := Load(Param(param).Len(), GP64()).(reg.GPVirtual)
	SHLQ(U8(2), n)
	return n
}

// loop walks over n bytes, unroll voxels at a time and then one by one. body handles the register at
// byte offset off from the index i; u and h number the voxel and the part.
func (t target) loop(label string, n reg.GPVirtual, unroll int, body func(i reg.Register, off, u, h int)) {
	i, end := GP64(), GP64()
	XORQ(i, i)
	MOVQ(n, end)
	ANDQ(I32(-unroll*voxel), end)
	Label(label)
	CMPQ(i, end)
	JGE(LabelRef(label + "Rest"))
	for u := range unroll {
		for h := range t.parts {
			body(i, u*voxel+h*t.width, u, h)
		}
	}
	ADDQ(U32(unroll*voxel), i)
	JMP(LabelRef(label))
	Label(label + "Rest")
	CMPQ(i, n)
	JGE(LabelRef(label + "Done"))
	for h := range t.parts {
		body(i, h*t.width, 0, h)
	}
	ADDQ(U8(voxel), i)
	JMP(LabelRef(label + "Rest"))
	Label(label + "Done")
}

// streamed is loop for a function that writes y and has a parameter stream. When that is set and y is
// aligned, body's store bypasses the caches, which saves reading the lines that are overwritten.
func (t target) streamed(y reg.Register, n reg.GPVirtual, unroll int, body func(store func(v, m Op), i reg.Register, off, u, h int)) {
	stream := GP64()
	b, err := Param("stream").Resolve()
	if err != nil {
		panic(err)
	}
	MOVBQZX(b.Addr, stream)
	TESTQ(stream, stream)
	JZ(LabelRef("cached"))
	TESTQ(U32(voxel-1), y)
	JNZ(LabelRef("cached"))
	t.loop("around", n, unroll, func(i reg.Register, off, u, h int) {
		body(func(v, m Op) { VMOVNTPS(v, m) }, i, off, u, h)
	})
	SFENCE()
	t.end()
	Label("cached")
	t.loop("loop", n, unroll, func(i reg.Register, off, u, h int) {
		body(func(v, m Op) { VMOVUPS(v, m) }, i, off, u, h)
	})
	t.end()
}

func at(base, index reg.Register, off int) Mem {
	return Mem{Base: base, Index: index, Scale: 1, Disp: off}
}

// fold adds up accumulators acc[u*parts+h] over u into the first parts of them.
func (t target) fold(acc []reg.VecVirtual) {
	for i := t.parts; i < len(acc); i++ {
		VADDPS(acc[i], acc[i%t.parts], acc[i%t.parts])
	}
}

// store writes a voxel of registers.
func (t target) store(r []reg.VecVirtual, base reg.Register, off int) {
	for h := range t.parts {
		VMOVUPS(r[h], Mem{Base: base, Disp: off + h*t.width})
	}
}

// masked loads val where cond > 0 and zero elsewhere.
func (t target) masked(val, cond Mem, zero, dst reg.VecVirtual) {
	const less = 17 // LT_OQ: zero < cond
	if t.wide {
		k := K()
		VCMPPS(U8(less), cond, zero, k)
		VMOVUPS_Z(val, k, dst)
		return
	}
	VCMPPS(U8(less), cond, zero, dst)
	VANDPS(val, dst, dst)
}
