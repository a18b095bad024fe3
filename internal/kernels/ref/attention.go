package ref

import "math"

// AttentionShape is the shape of a multi-head self-attention: N samples of T tokens, Heads heads of HeadDim
// features each.
type AttentionShape struct{ N, T, Heads, HeadDim int }

// E returns the width of a token, Heads*HeadDim.
func (s AttentionShape) E() int { return s.Heads * s.HeadDim }

// Attention is scaled dot-product self-attention (Vaswani et al. 2017). qkv is [N][T][3E]: in each row the
// queries, then the keys, then the values, each ordered by head. For each sample and head, over tokens i, j:
//
//	s[i][j] = Σ over f of q[i][f]*k[j][f] / sqrt(HeadDim)
//	lse[i] = log Σ over j of exp(s[i][j])
//	out[i][f] = Σ over j of exp(s[i][j] - lse[i]) * v[j][f]
//
// out is [N][T][E], heads side by side; lse is [N][Heads][T] and is kept for AttentionBackward.
func Attention[T Float](out, lse, qkv []T, s AttentionShape) {
	scale := 1 / math.Sqrt(float64(s.HeadDim))
	p, acc := make([]float64, s.T), make([]float64, s.HeadDim)
	for n := range s.N {
		for h := range s.Heads {
			for i := range s.T {
				q := part(qkv, s, n, i, 0, h)
				top := math.Inf(-1)
				for j := range p {
					p[j] = scale * dot(q, part(qkv, s, n, j, 1, h))
					top = max(top, p[j])
				}
				var sum float64
				for j, v := range p {
					p[j] = math.Exp(v - top)
					sum += p[j]
				}
				clear(acc)
				for j, v := range p {
					axpy(acc, v/sum, part(qkv, s, n, j, 2, h))
				}
				store(head(out, s, n, i, h), acc)
				lse[(n*s.Heads+h)*s.T+i] = T(top + math.Log(sum))
			}
		}
	}
}

// AttentionBackward computes dqkv from the input and the results of Attention. With p[i][j] =
// exp(s[i][j]-lse[i]) and delta[i] = Σ over f of dout[i][f]*out[i][f]:
//
//	ds[i][j] = p[i][j] * (Σ over f of dout[i][f]*v[j][f] - delta[i]) / sqrt(HeadDim)
//	dq[i] = Σ over j of ds[i][j]*k[j],  dk[j] = Σ over i of ds[i][j]*q[i],  dv[j] = Σ over i of p[i][j]*dout[i]
func AttentionBackward[T Float](dqkv, qkv, out, lse, dout []T, s AttentionShape) {
	scale := 1 / math.Sqrt(float64(s.HeadDim))
	f := s.HeadDim
	dq := make([]float64, f)
	dk, dv := make([]float64, s.T*f), make([]float64, s.T*f)
	for n := range s.N {
		for h := range s.Heads {
			clear(dk)
			clear(dv)
			for i := range s.T {
				q, do := part(qkv, s, n, i, 0, h), head(dout, s, n, i, h)
				delta := dot(do, head(out, s, n, i, h))
				norm := float64(lse[(n*s.Heads+h)*s.T+i])
				clear(dq)
				for j := range s.T {
					k := part(qkv, s, n, j, 1, h)
					p := math.Exp(scale*dot(q, k) - norm)
					ds := scale * p * (dot(do, part(qkv, s, n, j, 2, h)) - delta)
					axpy(dq, ds, k)
					axpy(dk[j*f:][:f], ds, q)
					axpy(dv[j*f:][:f], p, do)
				}
				store(part(dqkv, s, n, i, 0, h), dq)
			}
			for j := range s.T {
				store(part(dqkv, s, n, j, 1, h), dk[j*f:][:f])
				store(part(dqkv, s, n, j, 2, h), dv[j*f:][:f])
			}
		}
	}
}

// part returns the row of one token and head in qkv: which = 0 for the query, 1 the key, 2 the value.
func part[T Float](qkv []T, s AttentionShape, n, token, which, h int) []T {
	return qkv[(((n*s.T+token)*3+which)*s.Heads+h)*s.HeadDim:][:s.HeadDim]
}

// head returns the row of one token and head in an [N][T][E] matrix.
func head[T Float](x []T, s AttentionShape, n, token, h int) []T {
	return x[((n*s.T+token)*s.Heads+h)*s.HeadDim:][:s.HeadDim]
}
