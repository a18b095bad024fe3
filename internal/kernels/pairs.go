package kernels

import "unsafe"

// Products of bfloat16 pairs, for processors with AVX512_BF16: two neighbours along the inner dimension lie side by side
// in the 32 bits of a pair, and an instruction adds both their products to a float32.

// pairArgs are the arguments of the pairs kernel. It computes for each row i and 32 columns j
//
//	c[i][j] = sum over k < Pairs of a[i][k].lower*b[k][j].lower + a[i][k].upper*b[k][j].upper
//
// where pair (i, k) of a lies at i*ARow + k*ACol and rows of b, 32 pairs each, follow each other. Steps are in bytes.
type pairArgs struct {
	A, B, C    unsafe.Pointer
	Bias       unsafe.Pointer // 32 floats to add in mode pairHalf, or nil
	Pairs      int
	ARow, ACol int
	CRow       int
	Mode       int
}

// The modes of the pairs kernel: what becomes of its sums.
const (
	pairStore = iota // float32
	pairAdd          // float32, added to what is there
	pairHalf         // bfloat16, after the bias
)

// pairRows are the row counts of the pairs kernel, descending.
var pairRows = [...]int{12, 6, 3, 2, 1}

// pairProduct computes n rows.
func (k *convKernels) pairProduct(a pairArgs, n int) {
	for _, rows := range pairRows {
		for ; n >= rows; n -= rows {
			k.pairs(&a, rows)
			a.A, a.C = unsafe.Add(a.A, rows*a.ARow), unsafe.Add(a.C, rows*a.CRow)
		}
	}
}

func pairsGeneric(a *pairArgs, rows int) {
	for i := range rows {
		var sum [panelWidth]float32
		for k := range a.Pairs {
			pair := *(*[2]uint16)(unsafe.Add(a.A, i*a.ARow+k*a.ACol))
			lower, upper := widenBF16(pair[0]), widenBF16(pair[1])
			for j, p := range (*[panelWidth][2]uint16)(unsafe.Add(a.B, k*panelWidth*4)) {
				sum[j] += lower*widenBF16(p[0]) + upper*widenBF16(p[1])
			}
		}
		c := unsafe.Add(a.C, i*a.CRow)
		switch a.Mode {
		case pairStore:
			*(*[panelWidth]float32)(c) = sum
		case pairAdd:
			for j := range sum {
				(*[panelWidth]float32)(c)[j] += sum[j]
			}
		case pairHalf:
			if a.Bias != nil {
				for j, v := range (*[panelWidth]float32)(a.Bias) {
					sum[j] += v
				}
			}
			ewNarrow((*[panelWidth]uint16)(c)[:], sum[:])
		}
	}
}

// packRows writes ⌈n/2⌉ rows of 32 pairs, step floats apart, to dst from n rows of 32 columns of src, those from value at
// on and stride values apart: rows 2i and 2i+1 become row i. Float32 is rounded; behind the last row there are zeros.
func (k *convKernels) packRows(dst []float32, step int, src Vec, at, n, stride int) {
	if n > 1 {
		k.packPairs(dst, step, src, at, n/2, stride)
	}
	if n%2 == 0 {
		return
	}
	last := (*[panelWidth][2]uint16)(unsafe.Pointer(&dst[n/2*step]))
	for j := range last {
		last[j] = [2]uint16{src.half(at + (n-1)*stride + j), 0}
	}
}

// half returns value i as bfloat16.
func (v Vec) half(i int) uint16 {
	if v.Half != nil {
		return v.Half[i]
	}
	return narrowBF16(v.F32[i])
}

// packPairsGeneric is packRows for n pairs of rows.
func packPairsGeneric(dst []float32, step int, src Vec, at, n, stride int) {
	for i := range n {
		row := (*[panelWidth][2]uint16)(unsafe.Pointer(&dst[i*step]))
		for j := range row {
			from := at + 2*i*stride + j
			row[j] = [2]uint16{src.half(from), src.half(from + stride)}
		}
	}
}

// packColumns writes k/2 rows of 32 pairs to dst from 32 rows of k values, those of src from value at on and stride values
// apart: its columns 2i and 2i+1 become row i. k is a multiple of 32; scratch has room for 16 rows of k bfloat16 values
// where src is float32.
func (c *convKernels) packColumns(t *ewTable, dst []float32, src Vec, at, k, stride int, scratch []uint16) {
	for r := 0; r < panelWidth; r += Block {
		rows, first, step := src.Half, at+r*stride, stride
		if src.Half == nil {
			for i := range Block {
				t.narrow(scratch[i*k:][:k], src.F32[first+i*stride:][:k])
			}
			rows, first, step = scratch, 0, k
		}
		pairs := unsafe.Slice((*float32)(unsafe.Pointer(&rows[first])), (Block-1)*step/2+k/2)
		for i := 0; i < k/2; i += Block {
			c.transpose(&dst[i*panelWidth+r], &pairs[i], panelWidth, step/2)
		}
	}
}
