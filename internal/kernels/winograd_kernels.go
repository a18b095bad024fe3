package kernels

import "unsafe"

//go:generate go -C gen run ./winograd -pkg kernels -out ../winograd_amd64.s -stubs ../winograd_stubs_amd64.go

// winoKind is one of the transforms of a Winograd convolution (Winograd 1980; Lavin and Gray 2016). Each takes a
// cube of n³ vectors to one of m³ by the same matrix along all three axes.
type winoKind int

const (
	winoInput          winoKind = iota // Bᵀ: input of the convolution → elements
	winoOutput                         // Aᵀ: elements → output
	winoOutputNorm                     // the same, times a scale plus a shift per channel, clamped from below
	winoOutputNormAdd                  // the same, plus another map before the clamp
	winoWeight                         // G: filters → elements
	winoGradient                       // A: gradient of the output → elements
	winoWeightGradient                 // Gᵀ: elements → gradient of the filters

	winoHalf winoKind = 8 // to be added to the kind of a transform from or to a map of bfloat16
)

// winoLane is what a transform takes at a time: 8 channels.
type winoLane = lanes8

// winoColumns say where a row of a tile finds its columns: their byte offsets, and for columns outside the map
// any offset and a mask of zeros.
type winoColumns struct {
	offset [winoMaxTile]int
	mask   [winoMaxTile][8]uint32
}

// winoMaxTile is the edge of the largest cube.
const winoMaxTile = 6

// winoArgs are the arguments of a transform. The cube lies in a map (row (d, h) Planes[d] + Rows[h] bytes from Src or Dst,
// as in float32; a negative sum is outside the map) or is made of elements a step of bytes apart, in the order (d, h, w).
// Count vectors that follow each other at both ends are transformed one after another.
type winoArgs struct {
	Src, Dst         unsafe.Pointer
	SrcStep, DstStep int
	Planes, Rows     *int
	Cols             *[winoMaxTile]int
	Mask             *[winoMaxTile][8]uint32
	Width            int // columns of the output that lie in the map
	Count            int
	Scale, Shift     unsafe.Pointer
	Add, Floor       unsafe.Pointer // Floor is the lower bound
}

// row returns the offset of row i of a cube with the given edge.
func (a *winoArgs) row(i, edge int) int {
	return unsafe.Slice(a.Planes, edge)[i/edge] + unsafe.Slice(a.Rows, edge)[i%edge]
}

// winoCube holds the largest cube.
type winoCube [winoMaxTile * winoMaxTile * winoMaxTile]winoLane

// winoKernels are the transforms of F(2, 3), F(3, 4) or F(4, 3), told by m, on one instruction set.
type winoKernels struct {
	isa      ISA
	m        int
	matrices [3][][]float32 // Bᵀ, Aᵀ and G
}

func winoKernelsFor(isa ISA, m int) *winoKernels {
	k := &winoKernels{isa: isa, m: m}
	if m == 2 {
		k.matrices = [3][][]float32{
			{{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}},
			{{1, 1, 1, 0}, {0, 1, -1, -1}},
			{{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}},
		}
		return k
	}
	// The points 0, ±a, ±b and infinity: rounding errors are a tenth of those of 1 and 2.
	const a, b = 0.75, 1.5
	k.matrices[0] = [][]float32{
		{a * a * b * b, 0, -(a*a + b*b), 0, 1, 0},
		{0, -a * b * b, -b * b, a, 1, 0},
		{0, a * b * b, -b * b, -a, 1, 0},
		{0, -a * a * b, -a * a, b, 1, 0},
		{0, a * a * b, -a * a, -b, 1, 0},
		{0, a * a * b * b, 0, -(a*a + b*b), 0, 1},
	}
	points := []float64{0, a, -a, b, -b}
	last := func(n int) []float32 { // of infinity: the highest power alone
		row := make([]float32, n)
		row[n-1] = 1
		return row
	}
	taps := winoMaxTile + 1 - m
	for i, p := range points {
		f := 1.0
		for j, q := range points {
			if i != j {
				f *= p - q
			}
		}
		k.matrices[1] = append(k.matrices[1], powers(p, 1, m))
		k.matrices[2] = append(k.matrices[2], powers(p, f, taps))
	}
	k.matrices[1] = transposed(append(k.matrices[1], last(m)))
	k.matrices[2] = append(k.matrices[2], last(taps))
	return k
}

// powers returns p⁰/f, p¹/f, … of n terms.
func powers(p, f float64, n int) []float32 {
	row := make([]float32, n)
	for i := range row {
		row[i] = float32(1 / f)
		f /= p
		if p == 0 {
			return row
		}
	}
	return row
}

// matrix returns the matrix of a kind.
func (k *winoKernels) matrix(kind winoKind) [][]float32 {
	switch kind &^ winoHalf {
	case winoInput:
		return k.matrices[0]
	case winoOutput, winoOutputNorm, winoOutputNormAdd:
		return k.matrices[1]
	case winoWeight:
		return k.matrices[2]
	case winoGradient:
		return transposed(k.matrices[1])
	}
	return transposed(k.matrices[2])
}

func transposed(a [][]float32) [][]float32 {
	t := make([][]float32, len(a[0]))
	for i := range t {
		t[i] = make([]float32, len(a))
		for j := range a {
			t[i][j] = a[j][i]
		}
	}
	return t
}

// winoGeneric is the plain Go of every transform.
func (k *winoKernels) winoGeneric(kind winoKind, a *winoArgs) {
	matrix := k.matrix(kind)
	n, m := len(matrix[0]), len(matrix)
	voxels := winoVoxels{half: kind&winoHalf != 0}
	kind &^= winoHalf
	var x, y winoCube
	for v := range a.Count {
		at := v * int(unsafe.Sizeof(winoLane{}))
		src, dst := unsafe.Add(a.Src, at), unsafe.Add(a.Dst, at) // of elements
		for i := range n * n * n {
			switch {
			case kind != winoInput && kind != winoGradient:
				x[i] = *(*winoLane)(unsafe.Add(src, i*a.SrcStep))
			default:
				row := a.row(i/n, n)
				if row < 0 || a.Mask[i%n][0] == 0 {
					x[i] = winoLane{}
				} else {
					x[i] = voxels.load(a.Src, at, voxels.offset(row+a.Cols[i%n]))
				}
			}
		}
		along(&y, &x, matrix, n*n, 1, 1, n, m) // w: [d][h][w] → [d][h][w']
		along(&x, &y, matrix, n, m, m, n, m)   // h: [d][h][w'] → [d][h'][w']
		along(&y, &x, matrix, 1, m*m, m*m, n, m)
		for i := range m * m * m {
			if kind == winoWeight || kind == winoInput || kind == winoGradient || kind == winoWeightGradient {
				*(*winoLane)(unsafe.Add(dst, i*a.DstStep)) = y[i]
				continue
			}
			row := a.row(i/m, m)
			if row < 0 || i%m >= a.Width {
				continue
			}
			offset := voxels.offset(row + i%m*Block*4)
			if kind != winoOutput {
				k.winoFinish(&y[i], a, at, offset, voxels, kind == winoOutputNormAdd)
			}
			voxels.store(a.Dst, at, offset, &y[i])
		}
	}
}

// winoVoxels reads and writes 8 channels of voxels of a map: those that begin at bytes of float32 into the voxel at an offset.
type winoVoxels struct{ half bool }

// offset returns the offset of what lies at an offset in a map of float32.
func (v winoVoxels) offset(at int) int {
	if v.half {
		return at / 2
	}
	return at
}

func (v winoVoxels) load(p unsafe.Pointer, at, offset int) (x winoLane) {
	if !v.half {
		return *(*winoLane)(unsafe.Add(p, at+offset))
	}
	ewWiden(x[:], (*[len(x)]uint16)(unsafe.Add(p, at/2+offset))[:])
	return x
}

func (v winoVoxels) store(p unsafe.Pointer, at, offset int, x *winoLane) {
	if !v.half {
		*(*winoLane)(unsafe.Add(p, at+offset)) = *x
		return
	}
	ewNarrow((*[len(x)]uint16)(unsafe.Add(p, at/2+offset))[:], x[:])
}

// winoFinish applies scale and shift, perhaps adds another map, and clamps from below.
func (k *winoKernels) winoFinish(y *winoLane, a *winoArgs, at, offset int, voxels winoVoxels, add bool) {
	scale, shift := (*winoLane)(unsafe.Add(a.Scale, at)), (*winoLane)(unsafe.Add(a.Shift, at))
	floor := *(*float32)(a.Floor)
	var other winoLane
	if add {
		other = voxels.load(a.Add, at, offset)
	}
	for l := range y {
		y[l] = y[l]*scale[l] + shift[l]
		if add {
			y[l] += other[l]
		}
		if y[l] < floor {
			y[l] = floor
		}
	}
}

// along applies the matrix along one axis of length n of [outer][n][inner]; the result is [outer][m][inner].
func along(dst, src *winoCube, matrix [][]float32, outer, inner, step, n, m int) {
	for o := range outer {
		for in := range inner {
			for i, row := range matrix {
				var sum winoLane
				for j, f := range row {
					if f == 0 {
						continue
					}
					for l, v := range src[(o*n+j)*step+in] {
						sum[l] += f * v
					}
				}
				dst[(o*m+i)*step+in] = sum
			}
		}
	}
}
