package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// halfMachines are those of every instruction set, and with pairs where they are multiplied in Go and in hardware.
func halfMachines(t *testing.T, threads int) map[string]*Machine {
	t.Helper()
	all := map[string]*Machine{}
	add := func(name string, isa ISA, pairs bool) {
		m := &Machine{Pool: NewPool(threads), ISA: isa, Pairs: pairs}
		t.Cleanup(m.Close)
		all[name] = m
	}
	for _, isa := range Supported() {
		add(isa.String(), isa, false)
	}
	add("generic pairs", Generic, true)
	if HasPairs() {
		add("avx512 pairs", AVX512, true)
	}
	return all
}

// TestNarrow checks that every instruction set rounds to the nearest bfloat16, a tie to even, and widens back.
func TestNarrow(t *testing.T) {
	cases := []struct {
		x    float32
		want uint16
	}{
		{0, 0},
		{float32(math.Copysign(0, -1)), 0x8000},
		{1, 0x3f80},
		{-2, 0xc000},
		{1 + 1.0/256, 0x3f80},
		{1 + 3.0/256, 0x3f82},
		{1 + 1.0/256 + 1e-6, 0x3f81}, // ties and beside one
		{math.MaxFloat32, 0x7f80},
		{float32(math.Inf(-1)), 0xff80},
		{1e-40, 0x0001},
		{math.Float32frombits(0x7fffffff), 0x7fff},
		{math.Float32frombits(0x7f800001), 0x7fc0},
		{math.Float32frombits(0xffc00000), 0xffc0},
	}
	for name, m := range halfMachines(t, 1) {
		x := make([]float32, 37)
		for first := range x { // at every place of the pieces that the kernels take
			for i := range x {
				x[i] = cases[(i+first)%len(cases)].x
			}
			y, back := make([]uint16, len(x)), make([]float32, len(x))
			m.Narrow(y, x)
			m.Widen(back, y)
			for i := range x {
				if want := cases[(i+first)%len(cases)].want; y[i] != want || math.Float32bits(back[i]) != uint32(want)<<16 {
					t.Fatalf("%s: %g (%#x) at %d becomes %#x and back %g, want %#x", name, x[i], math.Float32bits(x[i]), i, y[i], back[i], want)
				}
			}
		}
	}
}

// halves returns n random bfloat16 values and the same in float32.
func halves(r *rand.Rand, n int) (Vec, []float32) {
	h, f := make([]uint16, n), make([]float32, n)
	for i := range h {
		h[i] = narrowBF16(r.Float32()*2 - 1)
		f[i] = widenBF16(h[i])
	}
	return Vec{Half: h}, f
}

func rounded(x []float32) []float32 {
	y := slices.Clone(x)
	for i, v := range y {
		y[i] = widenBF16(narrowBF16(v))
	}
	return y
}

// TestLinearHalf compares the products of a linear layer with float64 sums of the rounded factors: what is float32 to 1e-5
// of the rms, what is bfloat16 to half a unit in its last place more. Threads change no bit, nor do other rows.
func TestLinearHalf(t *testing.T) {
	for _, size := range []struct{ rows, in, out int }{{1, 32, 32}, {2, 64, 96}, {13, 96, 32}, {97, 32, 192}, {205, 160, 128}, {4101, 32, 32}} {
		r := rand.New(rand.NewPCG(1, uint64(size.rows)))
		x, x32 := halves(r, size.rows*size.in)
		dy, dy32 := halves(r, size.rows*size.out)
		w, bias := make([]float32, size.in*size.out), make([]float32, size.out)
		for i := range w {
			w[i] = r.Float32() - 0.5
		}
		for i := range bias {
			bias[i] = r.Float32()
		}
		wr := rounded(w)
		product := func(rows, cols, inner int, a, b func(i, k int) float32, add []float32) []float64 {
			y := make([]float64, rows*cols)
			for i := range y {
				if add != nil {
					y[i] = float64(add[i%cols])
				}
				for k := range inner {
					y[i] += float64(a(i/cols, k)) * float64(b(i%cols, k))
				}
			}
			return y
		}
		wantY := product(size.rows, size.out, size.in, func(i, k int) float32 { return x32[i*size.in+k] }, func(j, k int) float32 { return wr[j*size.in+k] }, bias)
		wantDX := product(size.rows, size.in, size.out, func(i, k int) float32 { return dy32[i*size.out+k] }, func(j, k int) float32 { return wr[k*size.in+j] }, nil)
		wantDW := product(size.out, size.in, size.rows, func(i, k int) float32 { return dy32[k*size.out+i] }, func(j, k int) float32 { return x32[k*size.in+j] }, nil)
		run := func(m *Machine, rows int) (y, dx []uint16, dw []float32) {
			y, dx, dw = make([]uint16, rows*size.out), make([]uint16, rows*size.in), make([]float32, len(w))
			xs, gs := x.Slice((size.rows-rows)*size.in, size.rows*size.in), dy.Slice((size.rows-rows)*size.out, size.rows*size.out)
			paired := make([]float32, PairedLen(size.in, size.out))
			m.PairLinear(w, size.in, size.out, paired, make([]float32, m.PairLinearWorkspace(size.in)))
			m.LinearHalf(xs, rows, size.in, paired, size.out, bias, Vec{Half: y})
			m.LinearBackwardDataHalf(gs, rows, size.out, w, size.in, Vec{Half: dx}, make([]float32, m.LinearBackwardDataHalfWorkspace(size.in, size.out)))
			m.LinearBackwardWeightsHalf(gs, xs, rows, size.out, size.in, dw, make([]float32, m.LinearBackwardWeightsHalfWorkspace(rows, size.in, size.out)))
			return y, dx, dw
		}
		three := halfMachines(t, 3)
		for name, m := range halfMachines(t, 1) {
			if !m.Pairs {
				continue
			}
			name = fmt.Sprint(name, size)
			y, dx, dw := run(m, size.rows)
			wantHalf(t, name+" y", y, wantY)
			wantHalf(t, name+" dx", dx, wantDX)
			rms := rmsOf(wantDW)
			for i, v := range dw {
				if math.Abs(float64(v)-wantDW[i]) > 1e-5*rms {
					t.Fatalf("%s dw: value %d is %g, want %g", name, i, v, wantDW[i])
				}
			}
			y3, dx3, dw3 := run(three[name[:len(name)-len(fmt.Sprint(size))]], size.rows)
			if !slices.Equal(y, y3) || !slices.Equal(dx, dx3) || !slices.Equal(dw, dw3) {
				t.Errorf("%s: results depend on the number of threads", name)
			}
			few := max(1, size.rows-12)
			part, _, _ := run(m, few)
			if !slices.Equal(part, y[(size.rows-few)*size.out:]) {
				t.Errorf("%s: a row depends on the others", name)
			}
		}
	}
}

func rmsOf(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum / float64(len(x)))
}

// TestAttentionHalf compares attention in pairs with float64 sums: the probabilities and the gradients by the scores are
// rounded to bfloat16 on the way. Threads change no bit, and the workspace may hold anything.
func TestAttentionHalf(t *testing.T) {
	nan := float32(math.NaN())
	for _, s := range []AttentionShape{{1, 1, 1, 32}, {2, 3, 2, 64}, {1, 96, 1, 96}, {2, 97, 3, 32}, {1, 205, 2, 64}, {1, 290, 1, 32}} {
		r := rand.New(rand.NewPCG(7, uint64(s.T)))
		e := s.Heads * s.HeadDim
		qkv, in := halves(r, s.N*s.T*3*e)
		dout, g := halves(r, s.N*s.T*e)
		wide := func(x []float32) []float64 {
			y := make([]float64, len(x))
			for i, v := range x {
				y[i] = float64(v)
			}
			return y
		}
		wantOut, wantLSE, want := naiveAttention(s, wide(in), wide(g))
		results := map[int]map[string][][]uint16{}
		for _, threads := range []int{1, 3} {
			results[threads] = map[string][][]uint16{}
			for name, m := range halfMachines(t, threads) {
				if !m.Pairs {
					continue
				}
				out, dqkv := make([]uint16, s.N*s.T*e), make([]uint16, len(in))
				lse := make([]float32, s.N*s.Heads*s.T)
				m.AttentionHalf(qkv, s, Vec{Half: out}, lse, slices.Repeat([]float32{nan}, threads*s.HalfWorkspace()))
				m.AttentionBackwardHalf(qkv, s, Vec{Half: out}, dout, lse, Vec{Half: dqkv}, slices.Repeat([]float32{nan}, threads*s.HalfBackwardWorkspace()))
				name := fmt.Sprint(name, s)
				wantClose(t, name+" output", out, wantOut, 0.01)
				wantFlat(t, name+" log-sum-exp", lse, wantLSE, 1e-4)
				wantClose(t, name+" gradient", dqkv, want, 0.02)
				results[threads][name] = [][]uint16{out, dqkv}
			}
		}
		for name, one := range results[1] {
			for i, x := range one {
				if !slices.Equal(x, results[3][name][i]) {
					t.Errorf("%s: result %d depends on the number of threads", name, i)
				}
			}
		}
	}
}

// wantHalf compares bfloat16 values with what they should be before rounding.
func wantHalf(t *testing.T, name string, got []uint16, want []float64) {
	t.Helper()
	wantWithin(t, name, got, want, 1e-5, 1.0/256)
}

// wantClose compares bfloat16 values with what they should be, to a share of the rms.
func wantClose(t *testing.T, name string, got []uint16, want []float64, tol float64) {
	t.Helper()
	wantWithin(t, name, got, want, tol, 1.0/128)
}

// wantWithin compares to a share of the rms and one of the value itself.
func wantWithin(t *testing.T, name string, got []uint16, want []float64, ofRMS, ofValue float64) {
	t.Helper()
	rms, most := rmsOf(want), 0.0
	for i, w := range want {
		g := float64(widenBF16(got[i]))
		if !(math.Abs(g-w) <= ofRMS*rms+ofValue*math.Abs(w)) {
			t.Fatalf("%s: value %d is %g, want %g (rms %g)", name, i, g, w, rms)
		}
		most = max(most, math.Abs(g-w)/rms)
	}
	t.Logf("%s: largest error %.1e of the rms", name, most)
}
