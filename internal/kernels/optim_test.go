package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestAdamW(t *testing.T) {
	const n = 16*5 + 3
	eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
		r := rand.New(rand.NewPCG(1, 1))
		start := randomLogical(r, 1, 1, 1, 1, n)
		w, mom, vel := start.plain(), make([]float32, n), make([]float32, n)
		w64, m64, v64 := start.v, make([]float64, n), make([]float64, n)
		const lr, b1, b2, eps, decay = 1e-3, 0.9, 0.999, 1e-8, 0.05
		for step := 1; step <= 5; step++ {
			g := randomLogical(r, 1, 1, 1, 1, n)
			m.AdamW(w, g.plain(), mom, vel, lr, b1, b2, eps, decay, step)
			for i, gi := range g.v {
				w64[i] *= 1 - lr*decay
				m64[i] = b1*m64[i] + (1-b1)*gi
				v64[i] = b2*v64[i] + (1-b2)*gi*gi
				mhat := m64[i] / (1 - math.Pow(b1, float64(step)))
				vhat := v64[i] / (1 - math.Pow(b2, float64(step)))
				w64[i] -= lr * mhat / (math.Sqrt(vhat) + eps)
			}
		}
		wantFlat(t, "w", w, w64, 1e-6)
		wantFlat(t, "mom", mom, m64, 1e-6)
		wantFlat(t, "vel", vel, v64, 1e-6)
		return [][]float32{w, mom, vel}
	})
}

func TestSGDNesterov(t *testing.T) {
	const n = 16*5 + 3
	eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
		r := rand.New(rand.NewPCG(2, 1))
		start := randomLogical(r, 1, 1, 1, 1, n)
		w, mom := start.plain(), make([]float32, n)
		w64, m64 := start.v, make([]float64, n)
		const lr, mu, decay = 0.1, 0.9, 0.01
		for range 5 {
			g := randomLogical(r, 1, 1, 1, 1, n)
			m.SGDNesterov(w, g.plain(), mom, lr, mu, decay)
			for i, gi := range g.v {
				gi += decay * w64[i]
				m64[i] = mu*m64[i] + gi
				w64[i] -= lr * (gi + mu*m64[i])
			}
		}
		wantFlat(t, "w", w, w64, 1e-5)
		wantFlat(t, "mom", mom, m64, 1e-5)
		return [][]float32{w, mom}
	})
}
