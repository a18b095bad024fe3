// Command conv generates the micro-kernels of the convolutions and of GEMM. The plain Go functions of the
// same names (gatherGeneric, plainGeneric, outerGeneric, transposeGeneric) say what they compute; the
// argument structures they take lie in conv_kernels.go.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Byte offsets of the fields of gatherArgs, gatherTap, plainArgs, outerArgs, denseArgs and phaseArgs.
const (
	gatherX, gatherTab, gatherW, gatherY           = 0, 8, 16, 24
	gatherTaps, gatherInBlocks                     = 32, 40
	gatherXStep, gatherWStep, gatherYBlock         = 48, 56, 64
	gatherFrom, gatherYOff, gatherNext, gatherBias = 72, 80, 176, 184
	tapWide, tapNarrow, tapSize                    = 96, 104, 128
	plainX, plainTab, plainW, plainY               = 0, 8, 16, 24
	plainSegments, plainLen, plainYBlock           = 32, 40, 48
	plainXOff, plainYOff                           = 56, 152
	outerX, outerDY, outerDW, outerN               = 0, 8, 16, 24
	outerXStep, outerDYStep, outerBlock, outerStep = 48, 72, 96, 104
	denseX, denseW, denseY, denseBlocks            = 0, 8, 16, 24
	denseXStep, denseWStep, denseYBlock, denseNext = 32, 40, 48, 56
	phaseX, phaseW, phaseY                         = 0, 8, 16
	phaseElements, phaseRows                       = 24, 32
	phaseXStep, phaseYStep                         = 40, 48
)

// shape is the register tile of a micro-kernel: rows of one or two vectors.
type shape struct {
	isa  string
	wide bool // weight rows of 32 channels; otherwise of 16
	rows int
	vecs int // vectors of a row that this kernel computes
	size int // bytes of a vector
	regs []reg.VecPhysical
}

var (
	zmm = []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}
	ymm = []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}
)

// avx512 computes a whole panel of 32 or 16 channels; avx2 computes 16 channels of either.
func avx512(rows int, wide bool) shape {
	s := shape{isa: "AVX512", wide: wide, rows: rows, vecs: 1, size: 64, regs: zmm}
	if wide {
		s.vecs = 2
	}
	return s
}

func avx2(rows int, wide bool) shape {
	return shape{isa: "AVX2", wide: wide, rows: rows, vecs: 2, size: 32, regs: ymm}
}

func (s shape) width() string {
	if s.wide {
		return "Wide"
	}
	return "Narrow"
}

func (s shape) rowBytes() int {
	if s.wide {
		return 128
	}
	return 64
}

// twoBlocks says that the second vector of a row lies in the next block of 16 channels.
func (s shape) twoBlocks() bool { return s.vecs == 2 && s.size == 64 }

// Registers: accumulators first, then one row of weights and two broadcasts.
func (s shape) acc(row, v int) reg.VecPhysical { return s.regs[row*s.vecs+v] }
func (s shape) weight(v int) reg.VecPhysical   { return s.regs[s.rows*s.vecs+v] }
func (s shape) broadcast(i int) reg.VecPhysical {
	return s.regs[s.rows*s.vecs+s.vecs+i%2]
}

func (s shape) zeroAcc() {
	for i := range s.rows * s.vecs {
		if s.size == 64 {
			VPXORD(s.regs[i], s.regs[i], s.regs[i])
		} else {
			VXORPS(s.regs[i], s.regs[i], s.regs[i])
		}
	}
}

// step adds to each row the broadcast of x(row) times the weight row at w+at.
func (s shape) step(w reg.Register, at int, x func(row int) Mem) {
	for v := range s.vecs {
		VMOVUPS(field(w, at+v*s.size), s.weight(v))
	}
	for r := range s.rows {
		b := s.broadcast(r)
		VBROADCASTSS(x(r), b)
		for v := range s.vecs {
			VFMADD231PS(s.weight(v), b, s.acc(r, v))
		}
	}
}

// text begins a function of one pointer argument and returns it.
func (s shape) text(kind, doc string) reg.Register {
	name := fmt.Sprintf("%s%s%s%d", kind, s.isa, s.width(), s.rows)
	TEXT(name, NOSPLIT, "func(a *byte)")
	Pragma("noescape")
	Doc(name + " " + doc)
	return Load(Param("a"), GP64())
}

func field(p reg.Register, offset int) Mem { return Mem{Base: p, Disp: offset} }

// move copies one memory word to another.
func move(from, to Mem) {
	t := GP64()
	MOVQ(from, t)
	MOVQ(t, to)
}

// y returns the place of vector v of an output row.
func (s shape) y(row reg.Register, block reg.Register, v int) Mem {
	if v == 1 && s.twoBlocks() {
		return Mem{Base: row, Index: block, Scale: 1}
	}
	return Mem{Base: row, Disp: v * s.size}
}

// eachRow calls f with every accumulator and its place in the output row at base+offsets; block holds the
// distance of the second output block.
func (s shape) eachRow(p reg.Register, base, offsets, block int, f func(acc reg.VecPhysical, y Mem)) {
	second := GP64()
	MOVQ(field(p, block), second)
	for r := range s.rows {
		row := GP64()
		MOVQ(field(p, base), row)
		ADDQ(field(p, offsets+8*r), row)
		for v := range s.vecs {
			f(s.acc(r, v), s.y(row, second, v))
		}
	}
}

func (s shape) store(p reg.Register, base, offsets, block int) {
	s.eachRow(p, base, offsets, block, func(acc reg.VecPhysical, y Mem) { VMOVUPS(acc, y) })
	VZEROUPPER()
	RET()
}

func (s shape) gather(zeros Mem) {
	p := s.text("gather", "is gatherGeneric for a fixed number of rows.")
	frame := AllocLocal(56)
	x, zero, w, next := frame, frame.Offset(8), frame.Offset(16), frame.Offset(48)
	taps, blocks, args := frame.Offset(24), frame.Offset(32), frame.Offset(40)
	move(field(p, gatherX), x)
	move(field(p, gatherW), w)
	move(field(p, gatherInBlocks), blocks)
	move(field(p, gatherNext), next)
	MOVQ(p, args)
	z := GP64()
	LEAQ(zeros, z)
	MOVQ(z, zero)
	CMPQ(field(p, gatherFrom), U8(0))
	JEQ(LabelRef("clear"))
	s.eachRow(p, gatherFrom, gatherYOff, gatherYBlock, func(_ reg.VecPhysical, y Mem) {
		if y.Disp%64 == 0 {
			PREFETCHT0(y)
		}
	})
	Label("clear")
	s.zeroAcc()

	Label("block")
	p, tab := GP64(), GP64()
	MOVQ(args, p)
	move(field(p, gatherTaps), taps)
	MOVQ(field(p, gatherTab), tab)
	Label("tap")
	ahead := GP64()
	MOVQ(next, ahead)
	TESTQ(ahead, ahead)
	JZ(LabelRef("asked"))
	for i := range 4 {
		PREFETCHT1(field(ahead, 64*i))
	}
	ADDQ(U32(256), next)
	for r := range s.rows { // of the next tap
		row := GP64()
		MOVQ(field(tab, tapSize+8*r), row)
		ADDQ(x, row)
		PREFETCHT0(field(row, 0))
	}
	Label("asked")
	rows := make([]reg.Register, s.rows)
	for r := range rows {
		row := GP64()
		MOVQ(field(tab, 8*r), row)
		ADDQ(x, row)
		CMOVQMI(zero, row)
		rows[r] = row
	}
	b := GP64()
	if s.wide {
		MOVQ(field(tab, tapWide), b)
	} else {
		MOVQ(field(tab, tapNarrow), b)
	}
	ADDQ(w, b)
	for c := range 16 {
		at := c * s.rowBytes()
		if at%256 == 0 { // the weights of the next tap usually follow
			for i := 0; i < 256; i += s.rowBytes() * 64 / (s.vecs * s.size) {
				PREFETCHT0(field(b, 16*s.rowBytes()+at+i))
			}
		}
		s.step(b, at, func(r int) Mem { return field(rows[r], c*4) })
	}
	ADDQ(U32(tapSize), tab)
	DECQ(taps)
	JNZ(LabelRef("tap"))
	p = GP64()
	MOVQ(args, p)
	step := GP64()
	MOVQ(field(p, gatherXStep), step)
	ADDQ(step, x)
	MOVQ(field(p, gatherWStep), step)
	ADDQ(step, w)
	DECQ(blocks)
	JNZ(LabelRef("block"))

	CMPQ(field(p, gatherFrom), U8(0))
	JEQ(LabelRef("store"))
	s.eachRow(p, gatherFrom, gatherYOff, gatherYBlock, func(acc reg.VecPhysical, y Mem) { VADDPS(y, acc, acc) })
	Label("store")
	bias := load(p, gatherBias)
	TESTQ(bias, bias)
	JZ(LabelRef("done"))
	for v := range s.vecs {
		VMOVUPS(field(bias, v*s.size), s.weight(v))
		for r := range s.rows {
			VADDPS(s.weight(v), s.acc(r, v), s.acc(r, v))
		}
	}
	Label("done")
	s.store(p, gatherY, gatherYOff, gatherYBlock)
}

func (s shape) plain() {
	p := s.text("plain", "is plainGeneric for a fixed number of rows.")
	frame := AllocLocal(40)
	tab, segments, length, count, args := frame, frame.Offset(8), frame.Offset(16), frame.Offset(24), frame.Offset(32)
	move(field(p, plainTab), tab)
	move(field(p, plainSegments), segments)
	move(field(p, plainLen), length)
	MOVQ(p, args)
	w := GP64()
	MOVQ(field(p, plainW), w)
	rows := make([]reg.Register, s.rows)
	for r := range rows {
		row := GP64()
		MOVQ(field(p, plainX), row)
		ADDQ(field(p, plainXOff+8*r), row)
		rows[r] = row
	}
	s.zeroAcc()

	Label("segment")
	i := GP64()
	MOVQ(length, i)
	MOVQ(i, count)
	MOVQ(tab, i)
	MOVQ(Mem{Base: i}, i)
	ADDQ(U8(8), tab)
	Label("float")
	s.step(w, 0, func(r int) Mem { return Mem{Base: rows[r], Index: i, Scale: 1} })
	ADDQ(U8(4), i)
	SUBQ(I8(-s.rowBytes()), w)
	DECQ(count)
	JNZ(LabelRef("float"))
	DECQ(segments)
	JNZ(LabelRef("segment"))

	p = GP64()
	MOVQ(args, p)
	s.store(p, plainY, plainYOff, plainYBlock)
}

// dense computes rows that follow each other in memory, of 32 channels or of 16 as the other kernels do.
func (s shape) dense() {
	p := s.text("dense", "is denseArgs' sum for a fixed number of rows.")
	x, w, blocks := load(p, denseX), load(p, denseW), load(p, denseBlocks)
	xStep, wStep, next := load(p, denseXStep), load(p, denseWStep), load(p, denseNext)
	y, second := load(p, denseY), load(p, denseYBlock)
	at := func(r, v int) Mem {
		m := s.y(y, second, v)
		m.Disp += r * 64
		return m
	}
	for r := range s.rows {
		for v := range s.vecs * s.size / 64 {
			PREFETCHT0(at(r, v))
		}
	}
	s.zeroAcc()
	Label("block")
	for r := range s.rows {
		PREFETCHT0(field(x, (s.rows+r)*64))
	}
	for c := range 16 {
		for v := range s.vecs * s.size / 64 {
			PREFETCHT1(field(next, c*s.rowBytes()+v*64))
		}
		s.step(w, c*s.rowBytes(), func(r int) Mem { return field(x, r*64+c*4) })
	}
	ADDQ(xStep, x)
	ADDQ(wStep, w)
	ADDQ(wStep, next)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	for r := range s.rows {
		for v := range s.vecs {
			VMOVUPS(s.acc(r, v), at(r, v))
		}
	}
	VZEROUPPER()
	RET()
}

// phases computes 16 channels from 8 of rows that follow each other in memory, for one element after the other. The
// number of rows is a multiple of those of the register tile.
func (s shape) phases() {
	p := s.text("phases", "is phasesGeneric.")
	x, w, y := load(p, phaseX), load(p, phaseW), load(p, phaseY)
	elements, xStep, yStep := load(p, phaseElements), load(p, phaseXStep), load(p, phaseYStep)
	Label("element")
	xRow, yRow, rows := GP64(), GP64(), load(p, phaseRows)
	MOVQ(x, xRow)
	MOVQ(y, yRow)
	Label("rows")
	for r := range s.rows { // of the next element
		PREFETCHT0(Mem{Base: yRow, Index: yStep, Scale: 1, Disp: r * 64})
		if r%2 == 0 {
			PREFETCHT0(Mem{Base: xRow, Index: xStep, Scale: 1, Disp: r * 32})
		}
	}
	s.zeroAcc()
	for c := range 8 {
		s.step(w, c*s.rowBytes(), func(r int) Mem { return field(xRow, r*32+c*4) })
	}
	for r := range s.rows {
		for v := range s.vecs {
			VMOVUPS(s.acc(r, v), field(yRow, r*64+v*s.size))
		}
	}
	ADDQ(U32(uint32(s.rows*32)), xRow)
	ADDQ(U32(uint32(s.rows*64)), yRow)
	SUBQ(U8(uint8(s.rows)), rows)
	JNZ(LabelRef("rows"))
	ADDQ(U32(uint32(8*s.rowBytes())), w)
	ADDQ(xStep, x)
	ADDQ(yStep, y)
	DECQ(elements)
	JNZ(LabelRef("element"))
	VZEROUPPER()
	RET()
}

func load(p reg.Register, offset int) reg.Register {
	r := GP64()
	MOVQ(field(p, offset), r)
	return r
}

func main() {
	ConstraintExpr("!noasm")
	zeros := GLOBL("convZeros", RODATA|NOPTR)
	for i := range 8 {
		DATA(8*i, U64(0))
	}
	for _, wide := range []bool{true, false} {
		for _, rows := range []int{12, 8, 4, 2, 1} {
			avx512(rows, wide).gather(zeros)
			avx512(rows, wide).plain()
			avx512(rows, wide).dense()
		}
		for rows := 8; rows > 0; rows-- {
			avx512(rows, wide).outer()
		}
		for _, rows := range []int{6, 4, 2, 1} {
			avx2(rows, wide).gather(zeros)
			avx2(rows, wide).plain()
		}
	}
	for rows := 6; rows > 0; rows-- {
		avx2(rows, false).outer()
		for _, wide := range []bool{true, false} {
			avx2(rows, wide).dense()
		}
	}
	avx2(6, false).phases()
	for _, rows := range []int{12, 6, 3, 2, 1} {
		avx512(rows, true).pairs()
	}
	packPairs(false)
	packPairs(true)
	transpose()
	Generate()
}
