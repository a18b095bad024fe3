package kernels

import "math"

// attTile is the number of queries and of keys in a tile: a multiple of 12 and of 32, as tileProduct asks.
const attTile = 96

// AttentionShape is the size of a multi-head self-attention. Its input qkv is [N][T][3*Heads*HeadDim]: for
// each token the queries of all heads, then the keys, then the values. Its output is [N][T][Heads*HeadDim],
// with a row stride that the caller chooses.
type AttentionShape struct{ N, T, Heads, HeadDim int }

// width returns HeadDim rounded up to what a tile product takes.
func (s AttentionShape) width() int { return (s.HeadDim + 31) / 32 * 32 }

// Workspace returns how many floats of work memory Attention needs for each thread.
func (s AttentionShape) Workspace() int {
	return attTile * (4*s.width() + attTile + 3)
}

// BackwardWorkspace returns how many floats of work memory AttentionBackward needs for each thread.
func (s AttentionShape) BackwardWorkspace() int {
	return attTile*(7*s.width()+2*attTile) + s.tiles()*attTile*(s.width()+1)
}

// tiles returns the number of tiles that T is cut into.
func (s AttentionShape) tiles() int { return (s.T + attTile - 1) / attTile }

// attCarve cuts the first n floats off work.
func attCarve(work *[]float32, n int) []float32 {
	p := (*work)[:n:n]
	*work = (*work)[n:]
	return p
}

// attGather copies rows of dim floats, stride apart, into tile [attTile][width]; what is left is zero.
func attGather(tile, src []float32, rows, stride, dim, width int) {
	if dim < width {
		clear(tile)
	} else {
		clear(tile[rows*width:])
	}
	for r := range rows {
		copy(tile[r*width:], src[r*stride:][:dim])
	}
}

// attTranspose sets dst [width][attTile] from src [attTile][width].
func attTranspose(dst, src []float32, width int) {
	for r := range attTile {
		for i, v := range src[r*width:][:width] {
			dst[i*attTile+r] = v
		}
	}
}

// Attention computes softmax(q k^T / sqrt(HeadDim)) v for every head, tile by tile with the online softmax
// (Milakov and Gimelshein, 2018; Dao et al., FlashAttention, 2022), so that no T x T matrix exists. Row
// (n, t) of the output starts at out[(n*T+t)*stride]. lse [N][Heads][T] gets the logarithm of each query's
// sum of exponentials, for the backward pass. work holds Threads()*s.Workspace() floats.
func (m *Machine) Attention(qkv []float32, s AttentionShape, out []float32, stride int, lse, work []float32) {
	k := m.ewTable()
	e, dim, w := s.Heads*s.HeadDim, s.HeadDim, s.width()
	tiles, per := s.tiles(), s.Workspace()
	scale := float32(1 / math.Sqrt(float64(dim)))
	m.Run(s.N*s.Heads*tiles, func(worker, i int) {
		n, head, t0 := i/tiles/s.Heads, i/tiles%s.Heads, i%tiles*attTile
		mem := work[worker*per:][:per]
		q, keys, values, acc := attCarve(&mem, attTile*w), attCarve(&mem, attTile*w), attCarve(&mem, attTile*w), attCarve(&mem, attTile*w)
		probs := attCarve(&mem, attTile*attTile)
		best, sum, corr := attCarve(&mem, attTile), attCarve(&mem, attTile), attCarve(&mem, attTile)

		base := qkv[n*s.T*3*e+head*dim:]
		queries := min(attTile, s.T-t0)
		attGather(keys, base[t0*3*e:], queries, 3*e, dim, w)
		k.scale(keys, keys, scale)
		attTranspose(q, keys, w)
		clear(acc)
		clear(sum)
		for j := range best {
			best[j] = float32(math.Inf(-1))
		}
		// Scores have a row for each key: then lanes are queries and the softmax needs no sums across lanes.
		score := tileProduct{m: attTile, n: attTile, k: dim, aRow: w, aCol: 1, b: attTile, c: attTile}
		weigh := tileProduct{m: attTile, n: w, aRow: 1, aCol: attTile, b: w, c: w, add: 1}
		for k0 := 0; k0 < s.T; k0 += attTile {
			count := min(attTile, s.T-k0)
			attGather(keys, base[k0*3*e+e:], count, 3*e, dim, w)
			attGather(values, base[k0*3*e+2*e:], count, 3*e, dim, w)
			k.tileProduct(probs, keys, q, &score)
			k.softmaxTile(probs, best, sum, corr, count)
			for j, f := range corr {
				if f != 1 {
					k.scale(acc[j*w:][:w], acc[j*w:][:w], f)
				}
			}
			weigh.k = count
			k.tileProduct(acc, probs, values, &weigh)
		}
		for j := range queries {
			lse[(n*s.Heads+head)*s.T+t0+j] = best[j] + float32(math.Log(float64(sum[j])))
			row := out[(n*s.T+t0+j)*stride+head*dim:][:dim]
			inv := 1 / sum[j]
			for c, v := range acc[j*w:][:dim] {
				row[c] = v * inv
			}
		}
	})
}

// AttentionBackward sets dqkv [N][T][3*Heads*HeadDim] to the gradient of Attention with respect to qkv. out
// and lse are what Attention left, dout is the gradient of out and has its stride. Probabilities are
// recomputed from lse. work holds Threads()*s.BackwardWorkspace() floats.
func (m *Machine) AttentionBackward(qkv []float32, s AttentionShape, out, dout []float32, stride int, lse, dqkv, work []float32) {
	b := attBackward{s, m.ewTable(), qkv, out, dout, stride, lse, dqkv}
	per := s.BackwardWorkspace()
	m.attentionTasks(s, func(worker, i int, keys, queries attSpan, wantKeys, wantQueries bool) {
		b.run(i, keys, queries, wantKeys, wantQueries, work[worker*per:][:per])
	})
}

// attentionTasks deals out the heads of a backward pass. With few heads for the threads, it is two passes over smaller
// tasks: one for keys and values, one for queries. They repeat the scores (7 products for 5), and give the same bits.
func (m *Machine) attentionTasks(s AttentionShape, f func(worker, head int, keys, queries attSpan, wantKeys, wantQueries bool)) {
	heads, tiles, all := s.N*s.Heads, s.tiles(), attSpan{0, s.T}
	if 8*ceilDiv(heads*tiles, m.Threads()) >= 5*tiles*ceilDiv(heads, m.Threads()) {
		m.Run(heads, func(worker, i int) { f(worker, i, all, all, true, true) })
		return
	}
	m.Run(2*heads*tiles, func(worker, i int) {
		t := i / 2 % tiles * attTile
		tile := attSpan{t, min(s.T, t+attTile)}
		if i%2 == 0 {
			f(worker, i/2/tiles, tile, all, true, false)
		} else {
			f(worker, i/2/tiles, all, tile, false, true)
		}
	})
}

// attBackward holds the arguments of AttentionBackward.
type attBackward struct {
	AttentionShape
	k              *ewTable
	qkv, out, dout []float32
	stride         int
	lse, dqkv      []float32
}

// attSpan is a range of tokens; lo is a multiple of attTile.
type attSpan struct{ lo, hi int }

// run goes through the pairs of tiles of keys and queries of head i (counted over samples) and writes the
// gradients of the keys and values, of the queries, or both.
func (b *attBackward) run(i int, keySpan, querySpan attSpan, wantKeys, wantQueries bool, mem []float32) {
	e, dim, w := b.Heads*b.HeadDim, b.HeadDim, b.width()
	n, head := i/b.Heads, i%b.Heads
	scale := float32(1 / math.Sqrt(float64(dim)))
	keys, keysT, valuesT := attCarve(&mem, attTile*w), attCarve(&mem, attTile*w), attCarve(&mem, attTile*w)
	q, g := attCarve(&mem, attTile*w), attCarve(&mem, attTile*w)
	dk, dv := attCarve(&mem, attTile*w), attCarve(&mem, attTile*w)
	probs, ds := attCarve(&mem, attTile*attTile), attCarve(&mem, attTile*attTile)
	dq, delta := attCarve(&mem, b.tiles()*attTile*w), attCarve(&mem, b.tiles()*attTile)

	base, dbase := b.qkv[n*b.T*3*e+head*dim:], b.dqkv[n*b.T*3*e+head*dim:]
	outs, grads := b.out[n*b.T*b.stride+head*dim:], b.dout[n*b.T*b.stride+head*dim:]
	logs := b.lse[i*b.T:][:b.T]
	for t := querySpan.lo; t < querySpan.hi; t++ {
		var d float32
		gs := grads[t*b.stride:][:dim]
		for c, v := range outs[t*b.stride:][:dim] {
			d += v * gs[c]
		}
		delta[t] = d
	}
	score := tileProduct{m: attTile, n: attTile, k: dim, aRow: w, aCol: 1, b: attTile, c: attTile}
	toKeys := tileProduct{m: attTile, n: w, aRow: 1, aCol: attTile, b: w, c: w}
	toQueries := tileProduct{m: attTile, n: w, aRow: attTile, aCol: 1, b: w, c: w}
	for k0 := keySpan.lo; k0 < keySpan.hi; k0 += attTile {
		count := min(attTile, b.T-k0)
		attGather(keys, base[k0*3*e+2*e:], count, 3*e, dim, w)
		attTranspose(valuesT, keys, w)
		attGather(keys, base[k0*3*e+e:], count, 3*e, dim, w)
		attTranspose(keysT, keys, w)
		toKeys.add = 0
		for t0 := querySpan.lo; t0 < querySpan.hi; t0 += attTile {
			queries := min(attTile, b.T-t0)
			attGather(q, base[t0*3*e:], queries, 3*e, dim, w)
			b.k.scale(q, q, scale)
			attGather(g, grads[t0*b.stride:], queries, b.stride, dim, w)
			b.k.tileProduct(probs, q, keysT, &score)
			b.k.tileProduct(ds, g, valuesT, &score)
			for j := range queries {
				b.k.softmaxBack(probs[j*attTile:][:attTile], ds[j*attTile:][:attTile], logs[t0+j], delta[t0+j])
			}
			if wantKeys {
				toKeys.k = queries
				b.k.tileProduct(dv, probs, g, &toKeys)
				b.k.tileProduct(dk, ds, q, &toKeys)
				toKeys.add = 1
			}
			if wantQueries {
				toQueries.k = count
				b.k.tileProduct(dq[t0*w:], ds, keys, &toQueries)
			}
		}
		toQueries.add = 1
		for j := 0; wantKeys && j < count; j++ {
			copy(dbase[(k0+j)*3*e+e:][:dim], dk[j*w:])
			copy(dbase[(k0+j)*3*e+2*e:][:dim], dv[j*w:])
		}
	}
	for t := querySpan.lo; wantQueries && t < querySpan.hi; t++ {
		to := dbase[t*3*e:][:dim]
		for c, v := range dq[t*w:][:dim] {
			to[c] = scale * v
		}
	}
}
