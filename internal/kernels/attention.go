package kernels

import "math"

// attTile is the number of queries and of keys in a tile: a multiple of 12 and of 32, as tileProduct asks.
const attTile = 96

// attGroup is how many tiles of queries at most share the keys and values that a task gathers. It does not affect results.
const attGroup = 7

// AttentionShape is the size of a multi-head self-attention. Its input qkv is [N][T][3*Heads*HeadDim]: for
// each token the queries of all heads, then the keys, then the values. Its output is [N][T][Heads*HeadDim],
// with a row stride that the caller chooses.
type AttentionShape struct{ N, T, Heads, HeadDim int }

// width returns HeadDim rounded up to what a tile product takes.
func (s AttentionShape) width() int { return (s.HeadDim + 31) / 32 * 32 }

// Workspace returns how many floats of work memory Attention needs for each thread.
func (s AttentionShape) Workspace() int {
	return attTile * (2*s.width() + attTile + attGroup*(2*s.width()+3))
}

// BackwardWorkspace returns how many floats of work memory AttentionBackward needs for each thread.
func (s AttentionShape) BackwardWorkspace() int {
	return attTile*(5*s.width()+2*attTile) + s.tiles()*attTile*(3*s.width()+1)
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

// attTranspose sets dst [width][rows] from src [rows][width]; both are multiples of 16.
func attTranspose(c *convKernels, dst, src []float32, rows, width int) {
	for r := 0; r < rows; r += Block {
		for i := 0; i < width; i += Block {
			c.transpose(&dst[i*rows+r], &src[r*width+i], rows, width)
		}
	}
}

// attRows and attLanes return n rounded up to what a tile product takes of rows, and of columns.
func attRows(n int) int  { return ceilDiv(n, 12) * 12 }
func attLanes(n int) int { return ceilDiv(n, 32) * 32 }

// Attention computes softmax(q k^T / sqrt(HeadDim)) v for every head, tile by tile with the online softmax
// (Milakov and Gimelshein, 2018; Dao et al., FlashAttention, 2022), so that no T x T matrix exists. Row
// (n, t) of the output starts at out[(n*T+t)*stride]. lse [N][Heads][T], unless it is nil, gets the logarithm of each
// query's sum of exponentials, for the backward pass. work holds Threads()*s.Workspace() floats.
func (m *Machine) Attention(qkv []float32, s AttentionShape, out []float32, stride int, lse, work []float32) {
	c, k, w := convKernelsFor(m.ISA), m.ewTable(), s.width()
	per, tasks := s.Workspace(), s.tasks(m.Threads())
	m.Run(len(tasks), func(worker, i int) {
		head, first, end := tasks[i].head, tasks[i].first, tasks[i].end
		mem := work[worker*per:][:per]
		keys, values, probs := attCarve(&mem, attTile*w), attCarve(&mem, attTile*w), attCarve(&mem, attTile*attTile)
		qs := make([]attQueryTile, 0, attGroup)
		for t := first; t < end; t++ {
			qs = append(qs, newAttQueryTile(c, k, qkv, s, head, t*attTile, keys, &mem))
		}
		e := s.Heads * s.HeadDim
		base := qkv[head/s.Heads*s.T*3*e+head%s.Heads*s.HeadDim:]
		for k0 := 0; k0 < s.T; k0 += attTile {
			count := min(attTile, s.T-k0)
			rows, stride := base[k0*3*e+e:], 3*e
			if attRows(count) != count { // there may be nothing behind the last
				attGather(keys, rows, count, stride, s.HeadDim, w)
				rows, stride = keys, w
			}
			vals, vstride := base[k0*3*e+2*e:], 3*e
			if s.HeadDim != w {
				attGather(values, vals, count, 3*e, s.HeadDim, w)
				vals, vstride = values, w
			}
			for j := range qs {
				qs[j].add(k, rows, stride, vals, vstride, probs, count)
			}
		}
		for j := range qs {
			qs[j].finish(k, out[(head/s.Heads*s.T+qs[j].first)*stride+head%s.Heads*s.HeadDim:], stride)
			if lse != nil {
				qs[j].logs(lse[head*s.T+qs[j].first:])
			}
		}
	})
}

// attTask is some tiles of queries of a head, which is counted through all samples.
type attTask struct{ head, first, end int }

// tasks deals out the tiles of all heads, fewer at a time towards the end so that all threads end together.
func (s AttentionShape) tasks(threads int) []attTask {
	var list []attTask
	heads, tiles := s.N*s.Heads, s.tiles()
	for left := heads * tiles; left > 0; {
		head, first := heads-ceilDiv(left, tiles), (tiles-left%tiles)%tiles
		n := min(attGroup, ceilDiv(left, 2*threads), tiles-first)
		list = append(list, attTask{head, first, first + n})
		left -= n
	}
	return list
}

// attQueryTile is a tile of queries on its way through the keys.
type attQueryTile struct {
	first, count    int // tokens
	dim, w          int
	power           float32
	score, weigh    tileProduct
	q, acc          []float32 // queries [w][lanes]; sums of values [attTile][w]
	best, sum, corr []float32
}

// newAttQueryTile takes the queries from token first on. rows is scratch for a tile.
func newAttQueryTile(c *convKernels, k *ewTable, qkv []float32, s AttentionShape, head, first int, rows []float32, mem *[]float32) attQueryTile {
	w, e := s.width(), s.Heads*s.HeadDim
	t := attQueryTile{first: first, count: min(attTile, s.T-first), dim: s.HeadDim, w: w, power: s.power()}
	lanes := attLanes(t.count)
	// Scores have a row for each key: then lanes are queries and the softmax needs no sums across lanes.
	t.score = tileProduct{n: lanes, k: s.HeadDim, aCol: 1, b: lanes, c: lanes}
	t.weigh = tileProduct{m: attRows(t.count), n: w, aRow: 1, aCol: lanes, b: w, c: w, add: 1}
	t.q, t.acc = attCarve(mem, attTile*w), attCarve(mem, attTile*w)
	t.best, t.sum, t.corr = attCarve(mem, lanes), attCarve(mem, lanes), attCarve(mem, lanes)
	attGather(rows, qkv[(head/s.Heads*s.T+first)*3*e+head%s.Heads*s.HeadDim:], t.count, 3*e, s.HeadDim, w)
	attTranspose(c, t.q, rows, lanes, w)
	clear(t.acc)
	clear(t.sum)
	for j := range t.best {
		t.best[j] = float32(math.Inf(-1))
	}
	return t
}

// add takes count keys, stride floats apart, and their values; probs is scratch.
func (t *attQueryTile) add(k *ewTable, keys []float32, stride int, values []float32, vstride int, probs []float32, count int) {
	t.score.m, t.score.aRow, t.weigh.k, t.weigh.b = attRows(count), stride, count, vstride
	k.tileProduct(probs, keys, t.q, &t.score)
	k.softmaxTile(probs, t.best, t.sum, t.corr, count, t.power)
	for j, f := range t.corr[:t.count] {
		if f != 1 {
			row := t.acc[j*t.w:][:t.w]
			k.scale(row, row, f)
		}
	}
	k.tileProduct(t.acc, probs, values, &t.weigh)
}

// power is the factor of scores with which powers of 2 are those of e in the softmax.
func (s AttentionShape) power() float32 {
	return float32(math.Log2E / math.Sqrt(float64(s.HeadDim)))
}

// logSumExp is the logarithm of the sum of exponentials that sum, of powers of 2 with the best score, stands for.
func logSumExp(best, sum, power float32) float32 {
	return float32(float64(best*power)*math.Ln2 + math.Log(float64(sum)))
}

// log2 is the logarithm to base 2 of what a natural logarithm is of.
func log2(ln float32) float32 { return float32(float64(ln) * math.Log2E) }

// logs writes the log-sum-exp.
func (t *attQueryTile) logs(lse []float32) {
	for j := range t.count {
		lse[j] = logSumExp(t.best[j], t.sum[j], t.power)
	}
}

// finish writes the output's rows, stride apart.
func (t *attQueryTile) finish(k *ewTable, out []float32, stride int) {
	for j := range t.count {
		row := t.acc[j*t.w:][:t.w]
		k.scale(row, row, 1/t.sum[j])
		copy(out[j*stride:][:t.dim], row)
	}
}

// AttentionBackward sets dqkv [N][T][3*Heads*HeadDim] to the gradient of Attention with respect to qkv. out
// and lse are what Attention left, dout is the gradient of out and has its stride. Probabilities are
// recomputed from lse. work holds Threads()*s.BackwardWorkspace() floats.
func (m *Machine) AttentionBackward(qkv []float32, s AttentionShape, out, dout []float32, stride int, lse, dqkv, work []float32) {
	b := attBackward{s, convKernelsFor(m.ISA), m.ewTable(), qkv, out, dout, stride, lse, dqkv}
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
	c              *convKernels
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
	dk, dv := attCarve(&mem, attTile*w), attCarve(&mem, attTile*w)
	probs, ds := attCarve(&mem, attTile*attTile), attCarve(&mem, attTile*attTile)
	all := b.tiles() * attTile
	qs, gs, dq, delta := attCarve(&mem, all*w), attCarve(&mem, all*w), attCarve(&mem, all*w), attCarve(&mem, all)

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
	for t := querySpan.lo; t < querySpan.hi; t += attTile {
		queries := min(attTile, b.T-t)
		q := qs[t*w:][:attTile*w]
		attGather(q, base[t*3*e:], queries, 3*e, dim, w)
		attGather(gs[t*w:][:attTile*w], grads[t*b.stride:], queries, b.stride, dim, w)
	}
	score := tileProduct{k: dim, aRow: w, aCol: 1}
	toKeys := tileProduct{n: w, aRow: 1, b: w, c: w}
	toQueries := tileProduct{n: w, aCol: 1, b: w, c: w}
	for k0 := keySpan.lo; k0 < keySpan.hi; k0 += attTile {
		count := min(attTile, b.T-k0)
		lanes := attLanes(count)
		attGather(keys, base[k0*3*e+2*e:], count, 3*e, dim, w)
		attTranspose(b.c, valuesT, keys, lanes, w)
		attGather(keys, base[k0*3*e+e:], count, 3*e, dim, w)
		attTranspose(b.c, keysT, keys, lanes, w)
		score.n, score.b, score.c = lanes, lanes, lanes
		toKeys.m, toKeys.aCol, toKeys.add = attRows(count), lanes, 0
		toQueries.k, toQueries.aRow = count, lanes
		for t0 := querySpan.lo; t0 < querySpan.hi; t0 += attTile {
			queries := min(attTile, b.T-t0)
			q, g := qs[t0*w:], gs[t0*w:]
			score.m = attRows(queries)
			b.k.tileProduct(probs, q, keysT, &score)
			b.k.tileProduct(ds, g, valuesT, &score)
			for j := range queries {
				b.k.softmaxBack(probs[j*lanes:][:lanes], ds[j*lanes:][:lanes], b.power(), log2(logs[t0+j]), delta[t0+j])
			}
			if wantKeys {
				toKeys.k = queries
				b.k.tileProduct(dv, probs, g, &toKeys)
				b.k.tileProduct(dk, ds, q, &toKeys)
				toKeys.add = 1
			}
			if wantQueries {
				toQueries.m = score.m
				b.k.tileProduct(dq[t0*w:], ds, keys, &toQueries)
			}
		}
		toQueries.add = 1
		for j := 0; wantKeys && j < count; j++ {
			to := dbase[(k0+j)*3*e+e:][:dim]
			for c, v := range dk[j*w:][:dim] {
				to[c] = scale * v
			}
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
