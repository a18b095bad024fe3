package kernels

import "math"

// attTile is the number of queries and of keys in a tile.
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

// carve cuts the first n floats off work.
func carve(work *[]float32, n int) []float32 {
	p := (*work)[:n:n]
	*work = (*work)[n:]
	return p
}

// gather copies rows of dim floats, stride apart, into tile [attTile][width]; what is left is zero.
func gather(tile, src []float32, rows, stride, dim, width int) {
	if dim < width {
		clear(tile)
	} else {
		clear(tile[rows*width:])
	}
	for r := range rows {
		copy(tile[r*width:], src[r*stride:][:dim])
	}
}

// transpose sets dst [width][attTile] from src [attTile][width].
func transpose(dst, src []float32, width int) {
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
		q, keys, values, acc := carve(&mem, attTile*w), carve(&mem, attTile*w), carve(&mem, attTile*w), carve(&mem, attTile*w)
		probs := carve(&mem, attTile*attTile)
		best, sum, corr := carve(&mem, attTile), carve(&mem, attTile), carve(&mem, attTile)

		base := qkv[n*s.T*3*e+head*dim:]
		queries := min(attTile, s.T-t0)
		gather(keys, base[t0*3*e:], queries, 3*e, dim, w)
		k.scale(keys, keys, scale)
		transpose(q, keys, w)
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
			gather(keys, base[k0*3*e+e:], count, 3*e, dim, w)
			gather(values, base[k0*3*e+2*e:], count, 3*e, dim, w)
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
	k := m.ewTable()
	e, dim, w := s.Heads*s.HeadDim, s.HeadDim, s.width()
	tiles, per := s.tiles(), s.BackwardWorkspace()
	scale := float32(1 / math.Sqrt(float64(dim)))
	m.Run(s.N*s.Heads, func(worker, i int) {
		n, head := i/s.Heads, i%s.Heads
		mem := work[worker*per:][:per]
		keys, keysT, valuesT := carve(&mem, attTile*w), carve(&mem, attTile*w), carve(&mem, attTile*w)
		q, g := carve(&mem, attTile*w), carve(&mem, attTile*w)
		dk, dv := carve(&mem, attTile*w), carve(&mem, attTile*w)
		probs, ds := carve(&mem, attTile*attTile), carve(&mem, attTile*attTile)
		dq, delta := carve(&mem, tiles*attTile*w), carve(&mem, tiles*attTile)

		base, dbase := qkv[n*s.T*3*e+head*dim:], dqkv[n*s.T*3*e+head*dim:]
		outs, grads := out[n*s.T*stride+head*dim:], dout[n*s.T*stride+head*dim:]
		logs := lse[(n*s.Heads+head)*s.T:][:s.T]
		for t := range s.T {
			var d float32
			gs := grads[t*stride:][:dim]
			for c, v := range outs[t*stride:][:dim] {
				d += v * gs[c]
			}
			delta[t] = d
		}
		// From the dot products of rows (score), to keys from queries (toKeys) and to queries from keys.
		score := tileProduct{m: attTile, n: attTile, k: dim, aRow: w, aCol: 1, b: attTile, c: attTile}
		toKeys := tileProduct{m: attTile, n: w, aRow: 1, aCol: attTile, b: w, c: w}
		toQueries := tileProduct{m: attTile, n: w, aRow: attTile, aCol: 1, b: w, c: w}
		for k0 := 0; k0 < s.T; k0 += attTile {
			count := min(attTile, s.T-k0)
			gather(keys, base[k0*3*e+2*e:], count, 3*e, dim, w)
			transpose(valuesT, keys, w)
			gather(keys, base[k0*3*e+e:], count, 3*e, dim, w)
			transpose(keysT, keys, w)
			toKeys.add = 0
			for t0 := 0; t0 < s.T; t0 += attTile {
				queries := min(attTile, s.T-t0)
				gather(q, base[t0*3*e:], queries, 3*e, dim, w)
				k.scale(q, q, scale)
				gather(g, grads[t0*stride:], queries, stride, dim, w)
				k.tileProduct(probs, q, keysT, &score)
				k.tileProduct(ds, g, valuesT, &score)
				for j := range queries {
					k.softmaxBack(probs[j*attTile:][:attTile], ds[j*attTile:][:attTile], logs[t0+j], delta[t0+j])
				}
				toKeys.k = queries
				k.tileProduct(dv, probs, g, &toKeys)
				k.tileProduct(dk, ds, q, &toKeys)
				toKeys.add = 1
				toQueries.k = count
				k.tileProduct(dq[t0*w:], ds, keys, &toQueries)
			}
			toQueries.add = 1
			for j := range count {
				copy(dbase[(k0+j)*3*e+e:][:dim], dk[j*w:])
				copy(dbase[(k0+j)*3*e+2*e:][:dim], dv[j*w:])
			}
		}
		for t := range s.T {
			to := dbase[t*3*e:][:dim]
			for c, v := range dq[t*w:][:dim] {
				to[c] = scale * v
			}
		}
	})
}
