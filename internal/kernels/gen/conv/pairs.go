package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Byte offsets of the fields of pairArgs.
const (
	pairA, pairB, pairC, pairBias = 0, 8, 16, 24
	pairCount                     = 32
	pairARow, pairACol, pairCRow  = 40, 48, 56
	pairMode                      = 64
)

// The values of pairArgs.Mode that are not pairStore.
const (
	pairAdd  = 1
	pairHalf = 2
)

// pairs multiplies bfloat16 pairs: rows of 32 columns, two vectors each.
func (s shape) pairs() {
	p := s.text("pairs", "is pairsGeneric for a fixed number of rows.")
	b, n, aRow, aCol := load(p, pairB), load(p, pairCount), load(p, pairARow), load(p, pairACol)
	a := make([]reg.Register, (s.rows+2)/3) // of every third row
	for i := range a {
		if i == 0 {
			a[i] = load(p, pairA)
			continue
		}
		next := GP64()
		LEAQ(Mem{Base: aRow, Index: aRow, Scale: 2}, next)
		ADDQ(a[i-1], next)
		a[i] = next
	}
	s.zeroAcc()
	Label("pair")
	for v := range s.vecs {
		VMOVUPS(field(b, v*s.size), s.weight(v))
	}
	for r := range s.rows {
		from := Mem{Base: a[r/3]}
		if r%3 > 0 {
			from.Index, from.Scale = aRow, uint8(r%3)
		}
		VBROADCASTSS(from, s.broadcast(r))
		for v := range s.vecs {
			evexF3(0x52, s.acc(r, v), s.weight(v), s.broadcast(r)) // VDPBF16PS
		}
	}
	for i := range a {
		ADDQ(aCol, a[i])
	}
	SUBQ(I8(-s.rowBytes()), b)
	DECQ(n)
	JNZ(LabelRef("pair"))

	c, cRow, mode := load(p, pairC), load(p, pairCRow), load(p, pairMode)
	CMPQ(mode, U8(pairHalf))
	JE(LabelRef("half"))
	CMPQ(mode, U8(pairAdd))
	JNE(LabelRef("store"))
	row := GP64()
	MOVQ(c, row)
	for r := range s.rows {
		for v := range s.vecs {
			VADDPS(field(row, v*s.size), s.acc(r, v), s.acc(r, v))
		}
		ADDQ(cRow, row)
	}
	Label("store")
	for r := range s.rows {
		for v := range s.vecs {
			VMOVUPS(s.acc(r, v), field(c, v*s.size))
		}
		ADDQ(cRow, c)
	}
	VZEROUPPER()
	RET()

	Label("half")
	bias := load(p, pairBias)
	TESTQ(bias, bias)
	JZ(LabelRef("round"))
	for v := range s.vecs {
		VMOVUPS(field(bias, v*s.size), s.weight(v))
	}
	for r := range s.rows {
		for v := range s.vecs {
			VADDPS(s.weight(v), s.acc(r, v), s.acc(r, v))
		}
	}
	Label("round")
	for r := range s.rows {
		for v := range s.vecs {
			acc := s.acc(r, v)
			evexF3(0x72, acc, nil, acc) // VCVTNEPS2BF16
			VMOVUPS(acc.AsY(), field(c, v*s.size/2))
		}
		ADDQ(cRow, c)
	}
	VZEROUPPER()
	RET()
}

// evexF3 emits EVEX.512.F3.0F38.W0 op /r on registers, for the instructions of AVX512_BF16, which the assembler lacks:
// dst, the first source (nil: none) and the second.
func evexF3(op byte, dst, first, second reg.VecPhysical) {
	d, m := byte(dst.PhysicalIndex()), byte(second.PhysicalIndex())
	v := byte(0)
	if first != nil {
		v = byte(first.PhysicalIndex())
	}
	inverted := func(number, bit, at byte) byte { return (^number >> bit & 1) << at }
	p0 := inverted(d, 3, 7) | inverted(m, 4, 6) | inverted(m, 3, 5) | inverted(d, 4, 4) | 2
	p1 := (^v&15)<<3 | 4 | 2
	p2 := byte(0x40) | inverted(v, 4, 3)
	for _, b := range []byte{0x62, p0, p1, p2, op, 0xc0 | d&7<<3 | m&7} {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}})
	}
}

// packPairs writes rows of pairs, step bytes apart: rows 2i and 2i+1 of 32 columns become row i. The bfloat16 form only
// mixes.
func packPairs(half bool) {
	name, doc := "packPairsAVX512", "rounds and packs rows of float32, see packPairsGeneric."
	size := 4
	if half {
		name, doc, size = "packPairHalvesAVX512", "packs rows of bfloat16, see packPairsGeneric.", 2
	}
	TEXT(name, NOSPLIT, "func(dst, src *byte, n, step, stride int)")
	Pragma("noescape")
	Doc(name + " " + doc)
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	n, step, stride := Load(Param("n"), GP64()), Load(Param("step"), GP64()), Load(Param("stride"), GP64())
	Label("row")
	for v := range 2 {
		lower, upper := zmm[2*v], zmm[2*v+1]
		even, odd := Mem{Base: src, Disp: v * 16 * size}, Mem{Base: src, Index: stride, Scale: 1, Disp: v * 16 * size}
		if half {
			VPMOVZXWD(even, lower)
			VPMOVZXWD(odd, upper)
		} else {
			VMOVUPS(even, lower)
			VMOVUPS(odd, upper)
			evexF3(0x72, lower, nil, lower)
			evexF3(0x72, upper, nil, upper)
			VPMOVZXWD(lower.AsY(), lower)
			VPMOVZXWD(upper.AsY(), upper)
		}
		VPSLLD(U8(16), upper, upper)
		VPORD(lower, upper, upper)
		VMOVDQU32(upper, field(dst, v*64))
	}
	LEAQ(Mem{Base: src, Index: stride, Scale: 2}, src)
	ADDQ(step, dst)
	DECQ(n)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}
