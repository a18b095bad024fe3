package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestNormPool compares the fused passes with batch norm and max-pool one after another, which have tests of
// their own: forward and dx bit by bit, in place and not, the sums up to the order of their terms.
func TestNormPool(t *testing.T) {
	for _, p := range poolCases() {
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			eachMap(t, func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32 {
				od, oh, ow := p.out(c)
				if od < 1 || oh < 1 || ow < 1 {
					return nil
				}
				return testNormPool(t, m, r, c, p, [3]int{od, oh, ow})
			})
		})
	}
}

func testNormPool(t *testing.T, m *Machine, r *rand.Rand, c mapCase, p poolCase, out [3]int) [][]float32 {
	x := c.random(r).blocked(t, c.ch)
	dy := randomLogical(r, c.n, c.ch.Count(), out[0], out[1], out[2]).blocked(t, c.ch)
	var coeff [6][]float32 // scale, shift, and those of the gradient
	for i := range coeff {
		coeff[i] = make([]float32, x.CB*Block)
		for _, ph := range c.ch.Physical() {
			coeff[i][ph] = r.Float32() + 0.5
		}
	}
	count := c.ch.Count()
	mean, invstd := make([]float32, count), make([]float32, count)
	for i := range mean {
		mean[i], invstd[i] = r.Float32(), r.Float32()+0.5
	}
	fused := &NormPool{Scale: coeff[0], Shift: coeff[1], Kernel: p.kernel, Stride: p.stride, Pad: p.pad}
	ws := make([]float32, m.NormPoolWorkspace(p.kernel, x.H, x.W))

	norm, _ := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
	grad, _ := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
	m.BNNorm(x, coeff[0], coeff[1], nil, true, norm)
	want, _ := newTestMap(t, c.ch, c.n, out[0], out[1], out[2])
	m.MaxPool(norm, want, p.kernel, p.stride, p.pad)
	m.MaxPoolBackward(norm, dy, grad, p.kernel, p.stride, p.pad)
	wantDX, _ := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
	m.BNBackward(x, grad, &norm, coeff[2], coeff[3], coeff[4], coeff[5], wantDX, false)
	wantBeta, wantGamma := make([]float32, count), make([]float32, count)
	m.BNReduce(x, grad, &norm, c.ch, mean, invstd, wantBeta, wantGamma)

	y, guard := newTestMap(t, c.ch, c.n, out[0], out[1], out[2])
	m.NormPoolForward(fused, x, y, ws)
	guard()
	dbeta, dgamma := make([]float32, count), make([]float32, count)
	m.NormPoolReduce(fused, x, dy, c.ch, mean, invstd, dbeta, dgamma, ws)
	dx, guard := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
	m.NormPoolBackward(fused, x, dy, coeff[2], coeff[3], coeff[4], coeff[5], dx, ws)
	guard()
	m.NormPoolBackward(fused, x, dy, coeff[2], coeff[3], coeff[4], coeff[5], x, ws)

	for n := range x.N {
		for cb := range x.CB {
			if !slices.Equal(y.block(n, cb).F32, want.block(n, cb).F32) {
				t.Fatalf("sample %d, block %d: the pooled map differs", n, cb)
			}
			if !slices.Equal(dx.block(n, cb).F32, wantDX.block(n, cb).F32) {
				t.Fatalf("sample %d, block %d: dx differs", n, cb)
			}
			if !slices.Equal(x.block(n, cb).F32, wantDX.block(n, cb).F32) {
				t.Fatalf("sample %d, block %d: dx in the place of x differs", n, cb)
			}
		}
	}
	for i := range count {
		if !near(float64(dbeta[i]), float64(wantBeta[i]), 1e-5) || !near(float64(dgamma[i]), float64(wantGamma[i]), 1e-5) {
			t.Fatalf("channel %d: sums %v and %v, want %v and %v", i, dbeta[i], dgamma[i], wantBeta[i], wantGamma[i])
		}
	}
	return [][]float32{dbeta, dgamma}
}
