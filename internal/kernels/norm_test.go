package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestLayerNorm(t *testing.T) {
	const eps = 1e-5
	for _, size := range [][2]int{{1, 1}, {2, 7}, {3, 16}, {70, 192}, {5, 203}, {1100, 33}} {
		rows, e := size[0], size[1]
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
				r := rand.New(rand.NewPCG(11, uint64(e)))
				a, g := randomLogical(r, 1, 1, 1, rows, e), randomLogical(r, 1, 1, 1, rows, e)
				ga, be := randomLogical(r, 1, 1, 1, 1, e), randomLogical(r, 1, 1, 1, 1, e)
				for i := range a.v { // means far from zero
					a.v[i] = float64(float32(a.v[i] + 100))
				}
				wantY, wantDX := make([]float64, rows*e), make([]float64, rows*e)
				wantG, wantB := make([]float64, e), make([]float64, e)
				for i := range rows {
					x, dy := a.v[i*e:][:e], g.v[i*e:][:e]
					var mu, va, s1, s2 float64
					for _, v := range x {
						mu += v / float64(e)
					}
					for _, v := range x {
						va += (v - mu) * (v - mu) / float64(e)
					}
					inv := 1 / math.Sqrt(va+eps)
					for j, v := range x {
						hat := (v - mu) * inv
						wantY[i*e+j] = hat*ga.v[j] + be.v[j]
						wantG[j] += dy[j] * hat
						wantB[j] += dy[j]
						s1 += dy[j] * ga.v[j] / float64(e)
						s2 += dy[j] * ga.v[j] * hat / float64(e)
					}
					for j, v := range x {
						wantDX[i*e+j] = inv * (dy[j]*ga.v[j] - s1 - (v-mu)*inv*s2)
					}
				}
				x, dy, gamma, beta := a.plain(), g.plain(), ga.plain(), be.plain()
				y, mean, invstd := make([]float32, rows*e), make([]float32, rows), make([]float32, rows)
				dx, dgamma, dbeta := make([]float32, rows*e), make([]float32, e), make([]float32, e)
				m.LayerNorm(Floats(x), rows, e, gamma, beta, eps, Floats(y), mean, invstd)
				wantFlat(t, "y", y, wantY, 2e-5)
				m.LayerNormBackward(Floats(x), Floats(dy), rows, e, gamma, mean, invstd, Floats(dx), dgamma, dbeta)
				// A row of one value has invstd 316: what cancels there leaves rounding errors that large.
				wantFlat(t, "dx", dx, wantDX, 1e-4)
				wantFlat(t, "dgamma", dgamma, wantG, 1e-4)
				wantFlat(t, "dbeta", dbeta, wantB, 1e-5)
				m.LayerNormBackward(Floats(x), Floats(dy), rows, e, gamma, mean, invstd, Floats(dy), dgamma, dbeta)
				if !slices.Equal(dy, dx) {
					t.Fatal("dx in place of dy differs")
				}
				return [][]float32{y, dx, dgamma, dbeta}
			})
		})
	}
}

func TestGELU(t *testing.T) {
	eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
		const n = 16*1250 + 7
		x, y, dy, dx := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = float32(i-n/2) * 0.001
			dy[i] = 1
		}
		m.GELU(Floats(x), Floats(y))
		m.GELUBackward(Floats(x), Floats(dy), Floats(dx))
		for i, v := range x {
			z := float64(v)
			cdf := 0.5 * (1 + math.Erf(z/math.Sqrt2))
			if d := math.Abs(float64(y[i]) - z*cdf); d > 3e-7*max(1, math.Abs(z)) {
				t.Fatalf("GELU(%v) = %v, want %v", v, y[i], z*cdf)
			}
			want := cdf + z*math.Exp(-z*z/2)/math.Sqrt(2*math.Pi)
			if d := math.Abs(float64(dx[i]) - want); d > 5e-7 {
				t.Fatalf("GELU'(%v) = %v, want %v", v, dx[i], want)
			}
		}
		// An element's result must not depend on its place.
		for shift := range 16 {
			part := make([]float32, 40)
			m.GELU(Floats(x[9000+shift:9040+shift]), Floats(part))
			if !slices.Equal(part, y[9000+shift:9040+shift]) {
				t.Fatalf("GELU of a slice that starts %d later differs", shift)
			}
		}
		m.GELUBackward(Floats(x), Floats(dy), Floats(dy))
		if !slices.Equal(dy, dx) {
			t.Fatal("dx in place of dy differs")
		}
		x[3] = float32(math.NaN())
		m.GELU(Floats(x), Floats(x))
		if x[3] == x[3] {
			t.Fatalf("GELU(NaN) = %v", x[3])
		}
		return [][]float32{y, dx}
	})
}

func TestExp2(t *testing.T) {
	eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
		const n = 16 * 2000
		x, s, ds := make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = -126 + float32(i)*(127./n)
		}
		copy(s, x)
		m.ewTable().softmaxBack(s, ds, 1, 0, 0)
		worst := 0.0
		for i, v := range x {
			worst = max(worst, math.Abs(float64(s[i])/math.Exp2(float64(v))-1))
		}
		t.Logf("largest relative error of exp2 %.2g", worst)
		if !(worst < 2e-7) {
			t.Fatalf("largest relative error of exp2 %v", worst)
		}
		far := make([]float32, 16)
		for i := range far {
			far[i] = -math.MaxFloat32
		}
		far[1] = float32(math.NaN())
		m.ewTable().softmaxBack(far, ds[:16], 1, 0, 0)
		if !(far[0] >= 0 && far[0] < 1e-37) || far[1] == far[1] {
			t.Fatalf("exp2 of the least number is %v, of NaN %v", far[0], far[1])
		}
		return [][]float32{s}
	})
}
