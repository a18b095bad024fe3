// Command winograd generates the transforms of the Winograd convolutions F(2,3)³, F(4,3)³ and F(3,4)³: three passes of a
// one-dimensional transform over a small cube of vectors, along w and h plane by plane, then along d (or the
// other way round). The plain Go function winoGeneric says what they compute; the argument structure they
// take lies in winograd_kernels.go.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Byte offsets of the fields of winoArgs.
const (
	argSrc, argDst         = 0, 8
	argSrcStep, argDstStep = 16, 24
	argPlanes, argRows     = 32, 40
	argCols, argMask       = 48, 56
	argWidth, argCount     = 64, 72
	argScale, argShift     = 80, 88
	argAdd, argFloor       = 96, 104
)

// The vectors that a transform works on: 6 values, 4 temporaries, 6 constants.
var (
	ymm = [16]reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}
	zmm = [16]reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	}
)

// What is generated at present: the registers, the bytes of one, and whether they are those of AVX-512, which only
// transforms that write maps have.
var (
	file   [16]reg.VecPhysical
	vector int
	wide   bool
)

const (
	temps  = 6  // number of the first temporary
	consts = 10 // number of the first constant
	lane   = 32 // bytes of 8 channels, which the arguments count
)

func field(p reg.Register, offset int) Mem { return Mem{Base: p, Disp: offset} }

func load(p reg.Register, offset int) reg.GPVirtual {
	r := GP64()
	MOVQ(field(p, offset), r)
	return r
}

// line is a one-dimensional transform of values in ymm[0:in]; apply returns where the out results are.
type line struct {
	in, out   int
	constants []float64
	apply     func() []int
}

// cube is a kernel: line along all three axes.
type cube struct {
	name, doc string
	line
	fromMap bool // reads rows of a map: tables of offsets, clamped columns and masks; otherwise elements a step apart
	toMap   bool // writes rows of a map: row offsets, negative ones are left out, and a number of columns
	norm    bool // multiplies by a scale per channel, adds a shift and clamps from below
	add     bool // adds another map before that
	half    bool // the maps are bfloat16
	stride  int  // columns from one tile to the next, of a transform that reads a map

	src, dst, count, scaleAt, shiftAt, addAt Mem // arguments that change from vector to vector

	scratch Mem // what lies between the passes, and room to align it
}

// steps returns the places of n elements, a step apart, from base on: at most 6.
func steps(base, step reg.Register, n int) []Mem {
	at := []Mem{
		{Base: base},
		{Base: base, Index: step, Scale: 1},
		{Base: base, Index: step, Scale: 2},
	}
	if n > 3 {
		far := GP64()
		LEAQ(Mem{Base: base, Index: step, Scale: 2}, far)
		ADDQ(step, far)
		at = append(at, Mem{Base: far}, Mem{Base: far, Index: step, Scale: 1}, Mem{Base: far, Index: step, Scale: 2})
	}
	return at[:n]
}

func (c cube) run(in, out []Mem) {
	for i, m := range in {
		VMOVUPS(m, file[i])
	}
	for i, r := range c.apply() {
		VMOVUPS(file[r], out[i])
	}
}

// strip returns n places in scratch memory, step vectors apart.
func strip(base reg.Register, at, step, n int) []Mem {
	m := make([]Mem, n)
	for i := range m {
		m[i] = field(base, (at+i*step)*vector)
	}
	return m
}

func (c cube) generate() {
	if c.apply == nil {
		return
	}
	TEXT(c.name, 0, "func(a *byte)") // the frame is too large for NOSPLIT
	Pragma("noescape")
	Doc(c.name + " " + c.doc)
	p := Load(Param("a"), GP64())
	if len(c.constants) > 0 {
		table := GLOBL(c.name+"Constants", RODATA|NOPTR)
		for i, v := range c.constants {
			DATA(4*i, F32(v))
			VBROADCASTSS(table.Offset(4*i), file[consts+i])
		}
	}
	frame := AllocLocal(48)
	c.src, c.dst, c.count = frame, frame.Offset(8), frame.Offset(16)
	c.scaleAt, c.shiftAt, c.addAt = frame.Offset(24), frame.Offset(32), frame.Offset(40)
	c.scratch = AllocLocal(c.scratchVectors()*vector + 64)
	c.keep(p, argSrc, c.src)
	c.keep(p, argDst, c.dst)
	c.keep(p, argCount, c.count)
	if c.norm {
		c.keep(p, argScale, c.scaleAt)
		c.keep(p, argShift, c.shiftAt)
	}
	if c.add {
		c.keep(p, argAdd, c.addAt)
	}
	Label("vector")
	if c.toMap {
		c.elementsToMap(p)
	} else {
		c.toElements(p)
	}
	VZEROUPPER()
	RET()
}

// scratchVectors is the number of vectors between the passes.
func (c cube) scratchVectors() int {
	if c.toMap {
		return c.in * c.in * c.out
	}
	return c.in*c.out + c.in*c.out*c.out
}

// scratchStart returns where they lie, at a cache line.
func (c cube) scratchStart() reg.GPVirtual {
	r := GP64()
	LEAQ(c.scratch.Offset(63), r)
	ANDQ(I8(-64), r)
	return r
}

func (c cube) keep(p reg.Register, arg int, to Mem) { MOVQ(load(p, arg), to) }

// get returns one of the arguments that change.
func get(m Mem) reg.GPVirtual {
	r := GP64()
	MOVQ(m, r)
	return r
}

// toElements goes along w and h in each plane, then along d, and writes elements a step apart.
func (c cube) toElements(p reg.Register) {
	n, m := c.in, c.out
	scratch := c.scratchStart()
	planes := GP64()
	LEAQ(field(scratch, n*m*vector), planes)
	plane := GP64()
	MOVQ(planes, plane)
	count := GP64()
	MOVQ(U32(uint32(n)), count)
	ahead := get(c.dst)
	if c.fromMap {
		at := load(p, argPlanes)
		Label("plane")
		c.fetchElements(p, ahead)
		for h := range n {
			// A row outside the map counts as zeros.
			zero, done := c.name+"zero"+digit(h), c.name+"row"+digit(h)
			row := c.row(at, load(p, argRows), h)
			JS(LabelRef(zero))
			ADDQ(c.src, row)
			cols, mask := load(p, argCols), load(p, argMask)
			for w := range n {
				col := load(cols, 8*w)
				if c.half {
					SARQ(U8(1), col)
					widened(Mem{Base: row, Index: col, Scale: 1}, file[w])
					VANDPS(field(mask, w*vector), file[w], file[w])
				} else {
					VMOVUPS(field(mask, w*vector), file[temps])
					VANDPS(Mem{Base: row, Index: col, Scale: 1}, file[temps], file[w])
				}
				if w == n-1 { // the next tile of the row
					for i := range c.stride {
						PREFETCHT0(Mem{Base: row, Index: col, Scale: 1, Disp: c.voxel() * (i + 1)})
					}
				}
			}
			for i, r := range c.apply() {
				VMOVUPS(file[r], field(scratch, (h*m+i)*vector))
			}
			JMP(LabelRef(done))
			Label(zero)
			VXORPS(file[0], file[0], file[0])
			for i := range m {
				VMOVUPS(file[0], field(scratch, (h*m+i)*vector))
			}
			Label(done)
		}
		ADDQ(U8(8), at)
	} else {
		src, step := get(c.src), load(p, argSrcStep)
		Label("plane")
		c.fetchElements(p, ahead)
		for h := range n {
			c.run(steps(src, step, n), strip(scratch, h*m, 1, m))
			next := GP64()
			LEAQ(Mem{Base: src, Index: step, Scale: 2}, next)
			ADDQ(step, next)
			for range n - 3 {
				ADDQ(step, next)
			}
			MOVQ(next, src)
		}
	}
	for w := range m {
		c.run(strip(scratch, w, m, n), strip(plane, w, m, m))
	}
	ADDQ(U32(uint32(m*m*vector)), plane)
	DECQ(count)
	JNZ(LabelRef("plane"))

	dst, step := get(c.dst), load(p, argDstStep)
	deep := GP64() // from one plane of elements to the next
	IMUL3Q(U8(uint8(m*m)), step, deep)
	MOVQ(U32(uint32(m*m)), count)
	Label("element")
	c.run(strip(planes, 0, m*m, n), steps(dst, deep, m))
	ADDQ(step, dst)
	ADDQ(U8(uint8(vector)), planes)
	DECQ(count)
	JNZ(LabelRef("element"))
	c.next()
}

// fetchElements asks for a plane's share of the lines that the elements will be written to, for they lie far from each
// other. The second vector of a line finds them there.
func (c cube) fetchElements(p reg.Register, ahead reg.GPVirtual) {
	const half = 32 // second vectors of a line begin there
	skip := c.name + "fetched"
	TESTQ(U32(half), ahead)
	JNZ(LabelRef(skip))
	step := load(p, argDstStep)
	for left := (c.out*c.out*c.out + c.in - 1) / c.in; left > 0; left -= 6 {
		n := min(left, 6)
		for _, m := range steps(ahead, step, n) {
			PREFETCHT0(m)
		}
		for range n {
			ADDQ(step, ahead)
		}
	}
	Label(skip)
}

// next goes on to the next vector, which follows in memory at both ends.
func (c cube) next() {
	ADDQ(U8(c.step(c.fromMap)), c.src)
	ADDQ(U8(c.step(c.toMap)), c.dst)
	if c.norm {
		ADDQ(U8(uint8(vector)), c.scaleAt)
		ADDQ(U8(uint8(vector)), c.shiftAt)
	}
	if c.add {
		ADDQ(U8(c.step(true)), c.addAt)
	}
	SUBQ(U8(uint8(vector/lane)), c.count)
	JNZ(LabelRef("vector"))
}

// voxel is the number of bytes of a voxel of a map.
func (c cube) voxel() int {
	if c.half {
		return 32
	}
	return 64
}

// step is the number of bytes from one vector to the next, of a map or of elements.
func (c cube) step(ofMap bool) uint8 {
	if ofMap && c.half {
		return uint8(vector / 2)
	}
	return uint8(vector)
}

// elementsToMap goes along d, then along h and w in each plane, and writes rows of a map.
func (c cube) elementsToMap(p reg.Register) {
	n, m := c.in, c.out
	scratch := c.scratchStart()
	src, step := get(c.src), load(p, argSrcStep)
	deep := GP64()
	IMUL3Q(U8(uint8(n*n)), step, deep)
	count, at := GP64(), GP64()
	MOVQ(U32(uint32(n*n)), count)
	MOVQ(scratch, at)
	c.fetchRows(p)
	Label("element")
	far := GP64()
	LEAQ(Mem{Base: src, Index: step, Scale: 8}, far)
	for _, m := range steps(far, deep, n) {
		PREFETCHT0(m)
	}
	c.run(steps(src, deep, n), strip(at, 0, n*n, m))
	ADDQ(step, src)
	ADDQ(U8(uint8(vector)), at)
	DECQ(count)
	JNZ(LabelRef("element"))

	d := load(p, argPlanes)
	MOVQ(U32(uint32(m)), count)
	plane := GP64()
	MOVQ(scratch, plane)
	Label("plane")
	for w := range n {
		c.run(strip(plane, w, n, n), strip(plane, w, n, m))
	}
	for h := range m {
		done := c.name + "row" + digit(h)
		row := c.row(d, load(p, argRows), h)
		JS(LabelRef(done))
		for w := range n {
			VMOVUPS(field(plane, (h*n+w)*vector), file[w])
		}
		out := c.apply()
		c.store(p, row, out, done)
		Label(done)
	}
	ADDQ(U8(8), d)
	ADDQ(U32(uint32(n*n*vector)), plane)
	DECQ(count)
	JNZ(LabelRef("plane"))
	c.next()
}

// row returns the offset of row h of the plane whose offset lies at plane; the flags tell its sign, negative is outside.
func (c cube) row(plane, rows reg.Register, h int) reg.GPVirtual {
	row := load(rows, 8*h)
	ADDQ(field(plane, 0), row)
	if c.half {
		SARQ(U8(1), row)
	}
	return row
}

// fetchRows asks for the lines that the rows will be written to. Those of rows outside the map are none.
func (c cube) fetchRows(p reg.Register) {
	dst, rows := get(c.dst), load(p, argRows)
	for d := range c.out {
		plane := load(p, argPlanes)
		ADDQ(U8(uint8(8*d)), plane)
		for h := range c.out {
			row := c.row(plane, rows, h)
			ADDQ(dst, row)
			for w := range c.out {
				PREFETCHT0(field(row, w*c.voxel()))
			}
		}
	}
}

// store writes the results to as many columns of a row of the map as it has.
func (c cube) store(p reg.Register, row reg.GPVirtual, out []int, done string) {
	const scale, shift, floor, free = temps, temps + 1, temps + 2, temps + 3
	var add reg.GPVirtual
	if c.add {
		add = get(c.addAt)
		ADDQ(row, add)
	}
	if c.norm {
		VMOVUPS(field(get(c.scaleAt), 0), file[scale])
		VMOVUPS(field(get(c.shiftAt), 0), file[shift])
		VBROADCASTSS(field(load(p, argFloor), 0), file[floor])
	}
	ADDQ(c.dst, row)
	width := load(p, argWidth)
	for w, r := range out {
		if w > 0 {
			CMPQ(width, U8(uint8(w)))
			JLE(LabelRef(done))
		}
		if c.norm {
			VFMADD213PS(file[shift], file[scale], file[r])
		}
		switch {
		case c.add && c.half:
			widened(field(add, w*c.voxel()), file[free])
			VADDPS(file[free], file[r], file[r])
		case c.add:
			VADDPS(field(add, w*c.voxel()), file[r], file[r])
		}
		if c.norm {
			VMAXPS(file[r], file[floor], file[r]) // not-a-number stays
		}
		if !c.half {
			VMOVUPS(file[r], field(row, w*c.voxel()))
			continue
		}
		narrowed(file[r], file[free], file[3], file[4]) // the transforms leave the last two to us
		if wide {
			VMOVUPS(file[free].AsY(), field(row, w*c.voxel()))
		} else {
			VMOVUPS(file[free].AsX(), field(row, w*c.voxel()))
		}
	}
}

func digit(i int) string { return string(rune('0' + i)) }

// widened loads bfloat16 values.
func widened(from Mem, to reg.VecPhysical) {
	VPMOVZXWD(from, to)
	VPSLLD(U8(16), to, to)
}

// narrowed rounds values to bfloat16, to the nearest, a tie to even, in the lower half of to. A NaN stays one.
func narrowed(v, to, mask, quiet reg.VecPhysical) {
	const unordered = 3
	odd, half, bit := lanes("winoOdd", 1), lanes("winoHalf", 0x7fff), lanes("winoQuiet", 0x400000)
	VPSRLD(U8(16), v, to)
	if wide {
		VPANDD(odd, to, to)
	} else {
		VPAND(odd, to, to)
	}
	VPADDD(half, to, to)
	VPADDD(v, to, to)
	if wide {
		VCMPPS(U8(unordered), v, v, reg.K1)
		VPORD(bit, v, quiet)
		VPBLENDMD(quiet, to, reg.K1, to)
		VPSRLD(U8(16), to, to)
		VPMOVDW(to, to.AsY())
		return
	}
	VCMPPS(U8(unordered), v, v, mask)
	VPOR(bit, v, quiet)
	VBLENDVPS(mask, quiet, to, to)
	VPSRLD(U8(16), to, to)
	VPACKUSDW(to, to, to)
	VPERMQ(U8(0b1000), to, to)
}

var tables = map[string]Mem{}

// lanes returns a constant of equal lanes.
func lanes(name string, bits uint32) Mem {
	m, ok := tables[name]
	if !ok {
		m = GLOBL(name, RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, U32(bits))
		}
		tables[name] = m
	}
	return m
}

func main() {
	ConstraintExpr("!noasm")
	file, vector = ymm, 32
	for _, s := range sizes() {
		for _, half := range []bool{false, true} {
			from(s, half, "Input", "the input of a convolution", s.input)
			from(s, half, "Gradient", "the gradient of the output", s.gradient)
			outputs(s, half)
			if !half {
				named(s, half, "Weight", "the weights", s.weight).generate()
				named(s, half, "WeightGradient", "the gradient of the weights", s.weightGradient).generate()
			}
		}
	}
	file, vector, wide = zmm, 64, true // where it is faster
	for _, half := range []bool{false, true} {
		outputs(three(), half)
	}
	Generate()
}

// named returns a kernel with a line.
func named(s size, half bool, kind, doc string, l line) cube {
	name := "wino" + s.name + kind
	if half {
		name, doc = name+"Half", doc+" in bfloat16"
	}
	if wide {
		name += "Wide"
	}
	return cube{name: name, doc: "is winoGeneric for " + doc + ".", line: l, half: half}
}

// from generates a kernel that reads a map.
func from(s size, half bool, kind, doc string, l line) {
	c := named(s, half, kind, doc, l)
	c.fromMap, c.stride = true, s.output.out
	c.generate()
}

// outputs generates the kernels that write a map.
func outputs(s size, half bool) {
	for _, v := range []struct {
		kind, doc string
		norm, add bool
	}{
		{"Output", "the output of a convolution", false, false},
		{"OutputNorm", "the output of a convolution with a norm", true, false},
		{"OutputNormAdd", "the output of a convolution with a norm and a sum", true, true},
	} {
		c := named(s, half, v.kind, v.doc, s.output)
		c.toMap, c.norm, c.add = true, v.norm, v.add
		c.generate()
	}
}
