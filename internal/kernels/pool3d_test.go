package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// poolCase is a pooling window in D,H,W order.
type poolCase struct{ kernel, stride, pad [3]int }

func (p poolCase) out(c mapCase) (d, h, w int) {
	f := func(i, n int) int { return (n+2*p.pad[i]-p.kernel[i])/p.stride[i] + 1 }
	return f(0, c.d), f(1, c.h), f(2, c.w)
}

// window calls f for each input position that output (d, h, w) covers, in scan order.
func (p poolCase) window(c mapCase, d, h, w int, f func(d, h, w int)) {
	for kd := range p.kernel[0] {
		for kh := range p.kernel[1] {
			for kw := range p.kernel[2] {
				i, j, k := d*p.stride[0]-p.pad[0]+kd, h*p.stride[1]-p.pad[1]+kh, w*p.stride[2]-p.pad[2]+kw
				if i >= 0 && j >= 0 && k >= 0 && i < c.d && j < c.h && k < c.w {
					f(i, j, k)
				}
			}
		}
	}
}

func poolCases() []poolCase {
	return []poolCase{
		{[3]int{3, 3, 3}, [3]int{2, 2, 2}, [3]int{1, 1, 1}},
		{[3]int{2, 2, 2}, [3]int{2, 2, 2}, [3]int{0, 0, 0}},
		{[3]int{3, 2, 4}, [3]int{1, 3, 2}, [3]int{1, 0, 2}},
		{[3]int{1, 1, 1}, [3]int{2, 1, 3}, [3]int{0, 0, 0}},
		{[3]int{5, 5, 5}, [3]int{2, 2, 2}, [3]int{2, 2, 2}},
	}
}

func TestPool(t *testing.T) {
	for _, p := range poolCases() {
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			eachMap(t, func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32 {
				return append(testMaxPool(t, m, r, c, p), testAvgPool(t, m, r, c, p)...)
			})
		})
	}
}

func testMaxPool(t *testing.T, m *Machine, r *rand.Rand, c mapCase, p poolCase) [][]float32 {
	od, oh, ow := p.out(c)
	if od < 1 || oh < 1 || ow < 1 {
		return nil
	}
	a := c.random(r)
	for i := range a.v { // few distinct values: many ties
		a.v[i] = math.Round(a.v[i] * 2)
	}
	g := randomLogical(r, c.n, a.c, od, oh, ow)
	want, grad := newLogical(c.n, a.c, od, oh, ow), newLogical(c.n, a.c, c.d, c.h, c.w)
	for n := range c.n {
		for ch := range a.c {
			for o := range od * oh * ow {
				d, h, w := o/oh/ow, o/ow%oh, o%ow
				best := math.Inf(-1)
				var to *float64
				p.window(c, d, h, w, func(i, j, k int) {
					if v := *a.at(n, ch, i, j, k); v > best {
						best, to = v, grad.at(n, ch, i, j, k)
					}
				})
				*want.at(n, ch, d, h, w) = best
				*to += *g.at(n, ch, d, h, w)
			}
		}
	}
	x := a.blocked(t, c.ch)
	y, guard := newTestMap(t, c.ch, c.n, od, oh, ow)
	m.MaxPool(x, y, p.kernel, p.stride, p.pad)
	wantMap(t, "MaxPool", y, c.ch, want, 0)
	guard()
	dx, guard := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
	m.MaxPoolBackward(x, g.blocked(t, c.ch), dx, p.kernel, p.stride, p.pad)
	wantMap(t, "MaxPoolBackward", dx, c.ch, grad, 1e-6)
	guard()
	return [][]float32{y.Data, dx.Data}
}

func testAvgPool(t *testing.T, m *Machine, r *rand.Rand, c mapCase, p poolCase) [][]float32 {
	p.pad = [3]int{}
	od, oh, ow := p.out(c)
	if c.d < p.kernel[0] || c.h < p.kernel[1] || c.w < p.kernel[2] {
		return nil
	}
	a := c.random(r)
	g := randomLogical(r, c.n, a.c, od, oh, ow)
	want, grad := newLogical(c.n, a.c, od, oh, ow), newLogical(c.n, a.c, c.d, c.h, c.w)
	size := float64(p.kernel[0] * p.kernel[1] * p.kernel[2])
	for n := range c.n {
		for ch := range a.c {
			for o := range od * oh * ow {
				d, h, w := o/oh/ow, o/ow%oh, o%ow
				p.window(c, d, h, w, func(i, j, k int) {
					*want.at(n, ch, d, h, w) += *a.at(n, ch, i, j, k) / size
					*grad.at(n, ch, i, j, k) += *g.at(n, ch, d, h, w) / size
				})
			}
		}
	}
	y, guard := newTestMap(t, c.ch, c.n, od, oh, ow)
	m.AvgPool(a.blocked(t, c.ch), y, p.kernel, p.stride)
	wantMap(t, "AvgPool", y, c.ch, want, 2e-6)
	guard()
	dx, guard := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
	m.AvgPoolBackward(g.blocked(t, c.ch), dx, p.kernel, p.stride)
	wantMap(t, "AvgPoolBackward", dx, c.ch, grad, 2e-6)
	guard()
	return [][]float32{y.Data, dx.Data}
}

func TestGlobalAvgPool(t *testing.T) {
	eachMap(t, func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32 {
		a := c.random(r)
		count, voxels := a.c, c.d*c.h*c.w
		g := randomLogical(r, 1, 1, 1, c.n, count)
		want, grad := make([]float64, c.n*count), newLogical(c.n, count, c.d, c.h, c.w)
		for i, v := range a.v {
			want[i/voxels] += v / float64(voxels)
			grad.v[i] = g.v[i/voxels] / float64(voxels)
		}
		out := make([]float32, c.n*count)
		m.GlobalAvgPool(a.blocked(t, c.ch), c.ch, out)
		wantFlat(t, "GlobalAvgPool", out, want, 1e-6)
		dx, guard := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
		m.GlobalAvgPoolBackward(g.plain(), c.ch, dx)
		wantMap(t, "GlobalAvgPoolBackward", dx, c.ch, grad, 1e-6)
		guard()
		return [][]float32{out, dx.Data}
	})
}
