package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func BenchmarkGEMM(b *testing.B) {
	m := NewMachine(2)
	defer m.Close()
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range []gemmCase{
		{m: 1, n: 512, k: 1024, transB: true},
		{m: 16, n: 256, k: 512, transB: true},
		{m: 64, n: 512, k: 2048, transB: true},
		{m: 1177, n: 384, k: 384, transB: true},
		{m: 1177, n: 384, k: 384, transB: true, packed: true},
		{m: 1177, n: 1536, k: 384, transB: true, packed: true},
		{m: 1177, n: 384, k: 1536, transB: true, packed: true},
		{m: 2354, n: 768, k: 3072, transB: true},
		{m: 1024, n: 1024, k: 1024},
		{m: 768, n: 3072, k: 1177, transA: true},
	} {
		lda, ldb := s.k, s.n
		if s.transA {
			lda = s.m
		}
		if s.transB {
			ldb = s.k
		}
		a, w, c := randomSlice(r, s.m*s.k), randomSlice(r, s.n*s.k), make([]float32, s.m*s.n)
		g := GEMM{TransA: s.transA, TransB: s.transB, M: s.m, N: s.n, K: s.k, A: a, B: w, C: c, LDA: lda, LDB: ldb, LDC: s.n}
		if s.packed {
			packed := make([]float32, g.PackedLen())
			m.PackB(g, packed)
			g.B, g.Packed = packed, true
		}
		ws := make([]float32, m.GEMMWorkspace(g))
		b.Run(fmt.Sprintf("%dx%dx%d/%v%v%v", s.m, s.n, s.k, s.transA, s.transB, s.packed), func(b *testing.B) {
			start := processTime()
			for b.Loop() {
				m.GEMM(g, ws)
			}
			reportGFLOPS(b, 2*float64(s.m)*float64(s.n)*float64(s.k), start)
		})
	}
}
