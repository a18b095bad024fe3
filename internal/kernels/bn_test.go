package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// perChannel gathers the values of logical channel c over samples and voxels.
func (a logical) perChannel(c int) []float64 {
	var out []float64
	voxels := a.d * a.h * a.w
	for n := range a.n {
		out = append(out, a.v[(n*a.c+c)*voxels:][:voxels]...)
	}
	return out
}

func TestBNStats(t *testing.T) {
	eachMap(t, func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32 {
		a := c.random(r)
		for i := range a.v { // means far from zero
			a.v[i] = float64(float32(a.v[i] + 1000))
		}
		count := c.ch.Count()
		mean, variance := make([]float32, count), make([]float32, count)
		m.BNStats(a.blocked(t, c.ch), c.ch, mean, variance)
		for i := range count {
			v := a.perChannel(i)
			var mu, m2 float64
			for _, x := range v {
				mu += x / float64(len(v))
			}
			for _, x := range v {
				m2 += (x - mu) * (x - mu) / float64(len(v))
			}
			if !near(float64(mean[i]), mu, 1e-7) || math.Abs(float64(variance[i])-m2) > 2e-6*m2 {
				t.Fatalf("channel %d: mean %v, variance %v, want %v, %v", i, mean[i], variance[i], mu, m2)
			}
		}
		return [][]float32{mean, variance}
	})
}

func TestBNNorm(t *testing.T) {
	eachMap(t, func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32 {
		a, b := c.random(r), c.random(r)
		x, add := a.blocked(t, c.ch), b.blocked(t, c.ch)
		scale, shift := make([]float32, x.CB*Block), make([]float32, x.CB*Block)
		phys := c.ch.Physical()
		for _, p := range phys {
			scale[p], shift[p] = r.Float32()+0.5, r.Float32()
		}
		y, guard := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
		want := newLogical(c.n, a.c, c.d, c.h, c.w)
		voxels := c.d * c.h * c.w
		var out [][]float32
		for variant := range 4 {
			for i, v := range a.v {
				p := phys[i/voxels%a.c]
				z := v*float64(scale[p]) + float64(shift[p])
				if variant&1 != 0 {
					z += b.v[i]
				}
				if variant&2 != 0 {
					z = relu(z)
				}
				want.v[i] = z
			}
			var with *Map
			if variant&1 != 0 {
				with = &add
			}
			m.BNNorm(x, scale, shift, with, variant&2 != 0, y)
			wantMap(t, "BNNorm", y, c.ch, want, 1e-6)
			guard()
			own := a.blocked(t, c.ch)
			m.BNNorm(own, scale, shift, with, variant&2 != 0, own)
			wantMap(t, "BNNorm in place", own, c.ch, want, 1e-6)
			out = append(out, own.Data)
		}
		return out
	})
}

func TestBNBackward(t *testing.T) {
	eachMap(t, func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32 {
		a, g, act, old := c.random(r), c.random(r), c.random(r), c.random(r)
		x, mask := a.blocked(t, c.ch), act.blocked(t, c.ch)
		cp, count := x.CB*Block, a.c
		scale, kx, centre, dmean := make([]float32, cp), make([]float32, cp), make([]float32, cp), make([]float32, cp)
		mean, invstd := make([]float32, count), make([]float32, count)
		dbeta, dgamma := make([]float32, count), make([]float32, count)
		phys := c.ch.Physical()
		for i, p := range phys {
			scale[p], kx[p], centre[p], dmean[p] = r.Float32()+0.5, r.Float32(), r.Float32(), r.Float32()
			mean[i], invstd[i] = r.Float32(), r.Float32()+0.5
		}
		voxels := c.d * c.h * c.w
		var out [][]float32
		for variant := range 8 {
			want := newLogical(c.n, count, c.d, c.h, c.w)
			sums, dots, size := make([]float64, count), make([]float64, count), make([]float64, count)
			for i, dy := range g.v {
				ci := i / voxels % count
				p := phys[ci]
				if variant&bnMasked != 0 && act.v[i] <= 0 {
					dy = 0
				}
				hat := (a.v[i] - float64(mean[ci])) * float64(invstd[ci])
				sums[ci] += dy
				dots[ci] += dy * hat
				size[ci] += math.Abs(dy) * max(1, math.Abs(hat))
				want.v[i] = float64(scale[p]) * dy
				if variant&bnFull != 0 {
					want.v[i] += float64(kx[p])*(a.v[i]-float64(centre[p])) - float64(scale[p])*float64(dmean[p])
				}
				if variant&bnAccumulate != 0 {
					want.v[i] += old.v[i]
				}
			}
			var pm *Map
			if variant&bnMasked != 0 {
				pm = &mask
			}
			b, s, e, xs := kx, centre, dmean, x
			if variant&bnFull == 0 {
				b, s, e, xs = nil, nil, nil, Map{}
			}
			dy, dx := g.blocked(t, c.ch), old.blocked(t, c.ch)
			m.BNReduce(x, dy, pm, c.ch, mean, invstd, dbeta, dgamma)
			for i := range count {
				if math.Abs(float64(dbeta[i])-sums[i]) > 2e-6*size[i] || math.Abs(float64(dgamma[i])-dots[i]) > 2e-6*size[i] {
					t.Fatalf("variant %d channel %d: dbeta %v, dgamma %v, want %v, %v", variant, i, dbeta[i], dgamma[i], sums[i], dots[i])
				}
			}
			m.BNBackward(xs, dy, pm, scale, b, s, e, dx, variant&bnAccumulate != 0)
			wantMap(t, "BNBackward", dx, c.ch, want, 2e-6)
			if variant&bnAccumulate == 0 {
				m.BNBackward(xs, dy, pm, scale, b, s, e, dy, false)
				wantMap(t, "BNBackward in place", dy, c.ch, want, 2e-6)
			}
			out = append(out, append([]float32(nil), dbeta...), append([]float32(nil), dgamma...), dx.Data)
		}
		return out
	})
}

// TestStreamedStores checks that writing around the caches gives the same bits, on aligned results (where
// it happens) and on others (where it does not).
func TestStreamedStores(t *testing.T) {
	eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
		const n = 7 * Block
		k := m.ewTable()
		r := rand.New(rand.NewPCG(19, 1))
		a, b, c := randomLogical(r, 1, 1, 1, 1, n).plain(), randomLogical(r, 1, 1, 1, 1, n).plain(), randomLogical(r, 1, 1, 1, 1, n).plain()
		loops := map[string]func(y []float32, stream bool){
			"norm":    func(y []float32, stream bool) { k.norm(y, a, b, c, 0, stream) },
			"normAdd": func(y []float32, stream bool) { k.normAdd(y, a, b, b, c, 0, stream) },
			"relu":    func(y []float32, stream bool) { k.relu(y, a, stream) },
			"add":     func(y []float32, stream bool) { k.add(y, a, b, 0, stream) },
		}
		for i, f := range k.bnBack {
			loops[fmt.Sprint("bnBack ", i)] = func(y []float32, stream bool) { f(y, a, b, c, a, b, c, b, stream) }
		}
		for name, f := range loops {
			want := make([]float32, n)
			f(want, false)
			buf := make([]float32, n+32)
			start := 0
			for uintptr(unsafe.Pointer(&buf[start]))%64 != 0 {
				start++
			}
			for shift := range 2 {
				y := buf[start+shift:][:n]
				clear(buf)
				f(y, true)
				if !slices.Equal(y, want) || buf[start+shift+n] != 0 {
					t.Fatalf("%s at %d floats from alignment differs", name, shift)
				}
			}
		}
		return nil
	})
}
