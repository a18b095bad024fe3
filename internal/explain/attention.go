package explain

import (
	"math"
	"runtime"
	"sync"
)

// relevance returns how much each of n patch tokens contributes to the class token by the rule of Chefer et al.
// (2021): with A the softmax matrix of a head and ∇A the gradient of the score, a block has
// Ā = mean over heads of max(0, ∇A ⊙ A), and the relevance is row 0 of (I + Ā_L)···(I + Ā_1) without the class
// token's own column.
//
// qkv holds for each block q | k | v of every token, (T, 3E), and gradient the score's gradient with respect to
// the attention's output, (T, E), T = n + 1; ∇A = gradient·vᵀ. Only one row of the product is wanted, so it is
// carried from the last block to the first, and of each matrix one row at a time exists.
func relevance(qkv, gradient [][]float32, heads, n int) []float64 {
	t := n + 1
	row := make([]float64, t)
	row[0] = 1
	for b := len(qkv) - 1; b >= 0; b-- {
		added := block{qkv: qkv[b], gradient: gradient[b], heads: heads, tokens: t}.through(row)
		for j, v := range added {
			row[j] += v
		}
	}
	return row[1:]
}

// block is one attention with the gradient at its output.
type block struct {
	qkv, gradient []float32
	heads, tokens int
}

// relevanceChunk is how many rows one goroutine sums up by itself: the order of all sums is fixed by it.
const relevanceChunk = 64

// through returns row·Ā.
func (b block) through(row []float64) []float64 {
	chunks := (b.tokens + relevanceChunk - 1) / relevanceChunk
	sums := make([][]float64, chunks)
	var next sync.Mutex
	at := 0
	take := func() int {
		next.Lock()
		defer next.Unlock()
		at++
		return at - 1
	}
	var wg sync.WaitGroup
	for range min(chunks, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			scores, total := make([]float64, b.tokens), make([]float64, b.tokens)
			for c := take(); c < chunks; c = take() {
				clear(total)
				any := false
				for i := c * relevanceChunk; i < min((c+1)*relevanceChunk, b.tokens); i++ {
					if row[i] != 0 {
						b.addRow(i, row[i]/float64(b.heads), scores, total)
						any = true
					}
				}
				if any {
					sums[c] = append([]float64(nil), total...)
				}
			}
		})
	}
	wg.Wait()
	out := make([]float64, b.tokens)
	for _, s := range sums {
		for j, v := range s {
			out[j] += v
		}
	}
	return out
}

// addRow adds by·max(0, ∇A ⊙ A) of token i, summed over the heads, to total.
func (b block) addRow(i int, by float64, scores, total []float64) {
	e := len(b.gradient) / b.tokens
	d := e / b.heads
	scale := 1 / math.Sqrt(float64(d))
	for h := range b.heads {
		q := b.qkv[i*3*e+h*d:][:d]
		g := b.gradient[i*e+h*d:][:d]
		top := math.Inf(-1)
		for j := range scores {
			scores[j] = dot(q, b.qkv[j*3*e+e+h*d:][:d]) * scale
			top = max(top, scores[j])
		}
		sum := 0.0
		for j, s := range scores {
			scores[j] = math.Exp(s - top)
			sum += scores[j]
		}
		for j, p := range scores {
			if v := dot(g, b.qkv[j*3*e+2*e+h*d:][:d]) * p / sum; v > 0 {
				total[j] += by * v
			}
		}
	}
}

func dot(a, b []float32) float64 {
	sum := 0.0
	b = b[:len(a)]
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return sum
}
