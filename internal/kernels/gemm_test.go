package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

type gemmCase struct {
	transA, transB bool
	m, n, k        int
	bias           bool
	from, packed   bool
	inPlace        bool // with from: C itself
	lines          bool
}

func TestGEMM(t *testing.T) {
	sizes := []gemmCase{
		{m: 1, n: 1, k: 1},
		{m: 1, n: 70, k: 33},
		{m: 5, n: 16, k: 16},
		{m: 12, n: 32, k: 16},
		{m: 13, n: 33, k: 17},
		{m: 25, n: 48, k: 400},
		{m: 200, n: 40, k: 50},
		{m: 7, n: 420, k: 800},
		{m: 3, n: 5, k: 0},
		{m: 31, n: 95, k: 385},
		{m: 100, n: 1000, k: 784},
	}
	for _, size := range sizes {
		for variant := range 8 {
			c := size
			c.transA, c.transB, c.bias = variant&1 != 0, variant&2 != 0, variant&4 != 0
			t.Run(fmt.Sprintf("%+v", c), c.check)
			c.packed = true
			c.from, c.inPlace = variant%4 > 0, variant%4 == 3
			c.lines = c.k > 0 && c.k%Block == 0 && variant%3 > 0
			c.transA = c.transA && !c.lines
			t.Run(fmt.Sprintf("%+v", c), c.check)
		}
	}
}

func (c gemmCase) check(t *testing.T) {
	r := rand.New(rand.NewPCG(3, uint64(c.m*c.n+c.k)))
	// Row strides are larger than the rows.
	lda, ldb, ldc := c.k+3, c.n+1, c.n+5
	aLen, bLen := c.m*lda, c.k*ldb
	if c.transA {
		lda = c.m + 2
		aLen = c.k * lda
	}
	if c.transB {
		ldb = c.k + 1
		bLen = c.n * ldb
	}
	a, b, c0 := randomSlice(r, aLen), randomSlice(r, bLen), randomSlice(r, c.m*ldc)
	bias := randomSlice(r, c.n)
	product := GEMM{TransA: c.transA, TransB: c.transB, M: c.m, N: c.n, K: c.k, A: a, B: b, LDA: lda, LDB: ldb, LDC: ldc}
	if c.bias {
		product.Bias = bias
	}
	added := randomSlice(r, c.m*ldc)
	if c.inPlace {
		added = slices.Clone(c0)
	}
	if c.lines { // each line of all rows, then the next line
		lines := make([]float32, len(a))
		product.Lines = &Lines{}
		for i := range c.m {
			product.Lines.Row = append(product.Lines.Row, i*Block)
		}
		for k := 0; k < c.k; k += Block {
			product.Lines.Line = append(product.Lines.Line, k*c.m)
			for i := range c.m {
				copy(lines[k*c.m+i*Block:][:Block], a[i*lda+k:])
			}
		}
		product.A = lines
	}
	at := func(i, k int) float64 {
		if c.transA {
			return float64(a[k*lda+i])
		}
		return float64(a[i*lda+k])
	}
	bt := func(k, j int) float64 {
		if c.transB {
			return float64(b[j*ldb+k])
		}
		return float64(b[k*ldb+j])
	}
	want := make([]float64, c.m*ldc)
	for i := range want {
		want[i] = float64(c0[i])
	}
	for i := range c.m {
		for j := range c.n {
			sum := 0.0
			if c.bias {
				sum = float64(bias[j])
			}
			for k := range c.k {
				sum += at(i, k) * bt(k, j)
			}
			if c.from {
				sum += float64(added[i*ldc+j])
			}
			want[i*ldc+j] = sum
		}
	}
	for _, isa := range Supported() {
		var first []float32
		for _, threads := range []int{1, 2, 3, 7} {
			m := testMachine(t, isa, threads)
			got := slices.Clone(c0)
			product.B, product.C = b, got
			if c.from {
				product.From = added
			}
			if c.inPlace {
				product.From = got
			}
			if c.packed {
				packed := filled(product.PackedLen())
				m.PackB(product, packed)
				product.B, product.Packed = packed, true
			}
			m.GEMM(product, filled(m.GEMMWorkspace(product)))
			if threads == 1 {
				checkClose(t, isa.String(), got, want, 1e-5)
				first = got
			} else if !slices.Equal(first, got) {
				t.Errorf("%v: results differ between 1 and %d threads", isa, threads)
			}
		}
		// A single row, as a matrix of its own, gives the same bits.
		m := testMachine(t, isa, 2)
		row := c.m / 2
		single := product
		single.M, single.A = 1, a[min(row, len(a)):]
		switch {
		case c.lines:
			single.A, single.Lines = product.A, &Lines{product.Lines.Row[row:][:1], product.Lines.Line}
		case !c.transA:
			single.A = a[row*lda:]
		}
		got := slices.Clone(c0[row*ldc:][:ldc])
		single.C = got
		if c.from {
			single.From = added[row*ldc:]
		}
		m.GEMM(single, filled(m.GEMMWorkspace(single)))
		if !slices.Equal(got, first[row*ldc:][:ldc]) {
			t.Errorf("%v: row %d depends on the number of rows", isa, row)
		}
	}
}
