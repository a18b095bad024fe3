package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// naiveAttention computes the output, the log-sum-exp and the gradient of qkv in float64.
func naiveAttention(s AttentionShape, qkv, dout []float64) (out, lse, dqkv []float64) {
	e := s.Heads * s.HeadDim
	out, lse, dqkv = make([]float64, s.N*s.T*e), make([]float64, s.N*s.Heads*s.T), make([]float64, len(qkv))
	scale := 1 / math.Sqrt(float64(s.HeadDim))
	for n := range s.N {
		for h := range s.Heads {
			in := func(part, t int) int { return (n*s.T+t)*3*e + part*e + h*s.HeadDim }
			for q := range s.T {
				p, dp := make([]float64, s.T), make([]float64, s.T)
				var sum, delta float64
				o := (n*s.T+q)*e + h*s.HeadDim
				for k := range s.T {
					for c := range s.HeadDim {
						p[k] += qkv[in(0, q)+c] * qkv[in(1, k)+c] * scale
						dp[k] += dout[o+c] * qkv[in(2, k)+c]
					}
					p[k] = math.Exp(p[k])
					sum += p[k]
				}
				lse[(n*s.Heads+h)*s.T+q] = math.Log(sum)
				for k := range s.T {
					p[k] /= sum
					delta += p[k] * dp[k]
				}
				for k := range s.T {
					ds := p[k] * (dp[k] - delta) * scale
					for c := range s.HeadDim {
						out[o+c] += p[k] * qkv[in(2, k)+c]
						dqkv[in(0, q)+c] += ds * qkv[in(1, k)+c]
						dqkv[in(1, k)+c] += ds * qkv[in(0, q)+c]
						dqkv[in(2, k)+c] += p[k] * dout[o+c]
					}
				}
			}
		}
	}
	return out, lse, dqkv
}

func TestAttention(t *testing.T) {
	for _, c := range []struct {
		s      AttentionShape
		spread float64 // of the inputs: large values make large scores and peaked distributions
	}{
		{AttentionShape{1, 1, 1, 1}, 1},
		{AttentionShape{2, 3, 2, 5}, 3},
		{AttentionShape{1, 96, 1, 64}, 1},
		{AttentionShape{2, 97, 3, 32}, 2},
		{AttentionShape{1, 205, 2, 48}, 4},
		{AttentionShape{1, 300, 1, 32}, 6}, // powers of 2 below the least float
		{AttentionShape{1, 290, 1, 16}, 1}, // on 3 threads: two passes
	} {
		t.Run(fmt.Sprint(c.s), func(t *testing.T) {
			s := c.s
			e := s.Heads * s.HeadDim
			r := rand.New(rand.NewPCG(13, uint64(s.T)))
			in, g := randomLogical(r, 1, 1, s.N, s.T, 3*e), randomLogical(r, 1, 1, s.N, s.T, e)
			for i := range in.v {
				in.v[i] = float64(float32(in.v[i] * c.spread))
			}
			wantOut, wantLSE, want := naiveAttention(s, in.v, g.v)
			stride := e + 3
			eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
				nan := float32(math.NaN())
				qkv := in.plain()
				out, dout := make([]float32, s.N*s.T*stride), make([]float32, s.N*s.T*stride)
				for i := range out {
					out[i], dout[i] = nan, nan
				}
				for i, v := range g.plain() {
					dout[i/e*stride+i%e] = v
				}
				lse := make([]float32, s.N*s.Heads*s.T)
				work := slices.Repeat([]float32{nan}, m.Threads()*max(s.Workspace(), s.BackwardWorkspace()))
				m.Attention(qkv, s, out, stride, lse, work[:m.Threads()*s.Workspace()])
				for i, v := range wantOut {
					if got := float64(out[i/e*stride+i%e]); !near(got, v, 5e-6*c.spread*c.spread) {
						t.Fatalf("output %d: got %v, want %v", i, got, v)
					}
				}
				if s := out[e]; s == s {
					t.Fatal("wrote between the rows of the output")
				}
				wantFlat(t, "log-sum-exp", lse, wantLSE, 2e-6)
				dqkv := slices.Repeat([]float32{nan}, len(qkv))
				m.AttentionBackward(qkv, s, out, dout, stride, lse, dqkv, work[:m.Threads()*s.BackwardWorkspace()])
				wantFlat(t, "gradient", dqkv, want, 2e-5*c.spread*c.spread)
				return [][]float32{out, lse, dqkv}
			})
		})
	}
}

func TestAttentionOfOneSampleInABatch(t *testing.T) {
	eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
		s := AttentionShape{3, 100, 2, 16}
		r := rand.New(rand.NewPCG(17, 1))
		qkv := randomLogical(r, 1, 1, s.N, s.T, 96).plain()
		work := make([]float32, m.Threads()*s.Workspace())
		out, lse := make([]float32, s.N*s.T*32), make([]float32, s.N*s.Heads*s.T)
		m.Attention(qkv, s, out, 32, lse, work)
		one, alone, lone := s, make([]float32, s.T*32), make([]float32, s.Heads*s.T)
		one.N = 1
		m.Attention(qkv[2*s.T*96:], one, alone, 32, lone, work)
		if !slices.Equal(alone, out[2*s.T*32:]) {
			t.Fatal("a sample's attention depends on the batch")
		}
		return nil
	})
}
