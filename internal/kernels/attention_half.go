package kernels

import (
	"math"
	"unsafe"
)

// Attention whose queries, keys and values are bfloat16: the products are taken in pairs, the softmax in float32. What
// Attention and AttentionBackward say of layout and order holds here too.

// PairsFit reports whether the heads have a size that the pairs kernels take.
func (s AttentionShape) PairsFit() bool { return s.HeadDim%panelWidth == 0 }

const (
	attPairs  = attTile / 2 * attTile // floats of a tile of pairs
	attSquare = attTile * attTile     // floats of a tile of scores
)

// HalfWorkspace returns how many floats of work memory AttentionHalf needs for each thread.
func (s AttentionShape) HalfWorkspace() int {
	return attTile*s.HeadDim*5/2 + attSquare + attPairs + 3*attTile
}

// HalfBackwardWorkspace returns how many floats of work memory AttentionBackwardHalf needs for each thread.
func (s AttentionShape) HalfBackwardWorkspace() int {
	return attTile*s.HeadDim*11/2 + 2*attSquare + 3*attPairs + s.tiles()*attTile*(s.HeadDim+1)
}

// halvesOf views floats as twice as many bfloat16 values.
func halvesOf(x []float32) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(x))), 2*len(x))
}

// attHead is a head of a sample: where its rows lie in qkv and in the output.
type attHead struct {
	AttentionShape
	c           *convKernels
	k           *ewTable
	qkv         Vec
	q, out      int // first values in qkv and in the output
	step, width int // values from one token to the next, there and there
}

func (m *Machine) attHead(qkv Vec, s AttentionShape, i int) attHead {
	e := s.Heads * s.HeadDim
	n, head := i/s.Heads, i%s.Heads
	return attHead{s, convKernelsFor(m.ISA), m.ewTable(), qkv, n*s.T*3*e + head*s.HeadDim, n*s.T*e + head*s.HeadDim, 3 * e, e}
}

// The parts of qkv, each Heads*HeadDim values behind the one before.
const (
	attQueries = iota
	attKeys
	attValues
)

// at returns where a token's row of a part of qkv begins.
func (h *attHead) at(part, token int) int { return h.q + part*h.width + token*h.step }

// columns packs the rows of a tile, those of src from value at on, for products with its transpose: panels of 32 tokens.
// rows is scratch for the tile.
func (h *attHead) columns(dst, rows []float32, src Vec, at, count, step int) {
	r := halvesOf(rows)[:attTile*h.HeadDim]
	clear(r[count*h.HeadDim : attLanes(count)*h.HeadDim])
	for i := range count {
		copy(r[i*h.HeadDim:][:h.HeadDim], src.Half[at+i*step:])
	}
	for p := range ceilDiv(count, panelWidth) {
		h.c.packColumns(h.k, dst[p*h.HeadDim/2*panelWidth:], Vec{Half: r}, p*panelWidth*h.HeadDim, h.HeadDim, h.HeadDim, nil)
	}
}

// pairs packs the rows of a tile for products over its tokens: panels of 32 columns.
func (h *attHead) pairs(dst []float32, src Vec, at, count, step int) {
	for p := range h.HeadDim / panelWidth {
		h.c.packRows(dst[p*attTile/2*panelWidth:], panelWidth, src, at+p*panelWidth, count, step)
	}
}

// mixed packs the rows of a tile of scores: rows of as many pairs as they are long.
func (h *attHead) mixed(dst, scores []float32, rows, lanes int) {
	for p := 0; p < lanes; p += panelWidth {
		h.c.packRows(dst[p:], lanes, Floats(scores), p, rows, lanes)
	}
}

// scores computes for rows tokens of src their products with the tokens in panels: rows of lanes.
func (h *attHead) scores(dst []float32, lanes int, panels []float32, src Vec, at, rows, step int) {
	for p := range lanes / panelWidth {
		h.c.pairProduct(pairArgs{
			A: unsafe.Pointer(&src.Half[at]), B: unsafe.Pointer(&panels[p*h.HeadDim/2*panelWidth]), C: unsafe.Pointer(&dst[p*panelWidth]),
			Pairs: h.HeadDim / 2, ARow: 2 * step, ACol: 4, CRow: 4 * lanes,
		}, rows)
	}
}

// weigh computes rows of HeadDim sums over tokens: a holds their weights as pairs, panels what pairs packed.
func (h *attHead) weigh(dst []float32, a unsafe.Pointer, aRow, aCol int, panels []float32, rows, tokens, mode int) {
	for p := range h.HeadDim / panelWidth {
		h.c.pairProduct(pairArgs{
			A: a, B: unsafe.Pointer(&panels[p*attTile/2*panelWidth]), C: unsafe.Pointer(&dst[p*panelWidth]),
			Pairs: ceilDiv(tokens, 2), ARow: aRow, ACol: aCol, CRow: 4 * h.HeadDim, Mode: mode,
		}, rows)
	}
}

// put writes rows of HeadDim floats, times scale, to a vector.
func (h *attHead) put(dst Vec, at, step int, rows []float32, n int, scale float32) {
	for i := range n {
		row := rows[i*h.HeadDim:][:h.HeadDim]
		if scale != 1 {
			h.k.scale(row, row, scale)
		}
		h.k.narrow(dst.Half[at+i*step:][:h.HeadDim], row)
	}
}

// AttentionHalf is Attention with qkv and out in bfloat16, rows of out side by side. work holds
// Threads()*s.HalfWorkspace() floats.
func (m *Machine) AttentionHalf(qkv Vec, s AttentionShape, out Vec, lse, work []float32) {
	tiles, per, dim := s.tiles(), s.HalfWorkspace(), s.HeadDim
	power := s.power()
	m.Run(s.N*s.Heads*tiles, func(worker, i int) {
		h := m.attHead(qkv, s, i/tiles)
		t0 := i % tiles * attTile
		queries := min(attTile, s.T-t0)
		mem := work[worker*per:][:per]
		q, rows, values := attCarve(&mem, attTile*dim/2), attCarve(&mem, attTile*dim/2), attCarve(&mem, attTile*dim/2)
		acc, probs, pairs := attCarve(&mem, attTile*dim), attCarve(&mem, attSquare), attCarve(&mem, attPairs)
		lanes := attLanes(queries)
		best, sum, corr := attCarve(&mem, lanes), attCarve(&mem, lanes), attCarve(&mem, lanes)
		h.columns(q, rows, qkv, h.at(attQueries, t0), queries, h.step)
		clear(acc)
		clear(sum)
		for j := range best {
			best[j] = float32(math.Inf(-1))
		}
		for k0 := 0; k0 < s.T; k0 += attTile {
			count := min(attTile, s.T-k0)
			h.scores(probs, lanes, q, qkv, h.at(attKeys, k0), count, h.step)
			h.k.softmaxTile(probs, best, sum, corr, count, power)
			for j, f := range corr[:queries] {
				if f != 1 {
					h.k.scale(acc[j*dim:][:dim], acc[j*dim:][:dim], f)
				}
			}
			h.mixed(pairs, probs, count, lanes)
			h.pairs(values, qkv, h.at(attValues, k0), count, h.step)
			h.weigh(acc, unsafe.Pointer(&pairs[0]), 4, 4*lanes, values, queries, count, pairAdd)
		}
		for j := range queries {
			if lse != nil {
				lse[i/tiles*s.T+t0+j] = logSumExp(best[j], sum[j], power)
			}
			row := acc[j*dim:][:dim]
			h.k.scale(row, row, 1/sum[j])
		}
		h.put(out, h.out+t0*h.width, h.width, acc, queries, 1)
	})
}

// AttentionBackwardHalf is AttentionBackward with all but lse in bfloat16, rows of out and dout side by side. work holds
// Threads()*s.HalfBackwardWorkspace() floats.
func (m *Machine) AttentionBackwardHalf(qkv Vec, s AttentionShape, out, dout Vec, lse []float32, dqkv Vec, work []float32) {
	per := s.HalfBackwardWorkspace()
	m.attentionTasks(s, func(worker, i int, keys, queries attSpan, wantKeys, wantQueries bool) {
		b := attBackwardHalf{m.attHead(qkv, s, i), out, dout, lse[i*s.T:][:s.T], dqkv}
		b.run(keys, queries, wantKeys, wantQueries, work[worker*per:][:per])
	})
}

// attBackwardHalf is the backward pass of a head.
type attBackwardHalf struct {
	attHead
	results, dout Vec
	lse           []float32
	dqkv          Vec
}

// run is attBackward.run.
func (b *attBackwardHalf) run(keySpan, querySpan attSpan, wantKeys, wantQueries bool, mem []float32) {
	dim := b.HeadDim
	scale := float32(1 / math.Sqrt(float64(dim)))
	keysT, valuesT, keys := attCarve(&mem, attTile*dim/2), attCarve(&mem, attTile*dim/2), attCarve(&mem, attTile*dim/2)
	q, g, rows := attCarve(&mem, attTile*dim/2), attCarve(&mem, attTile*dim/2), attCarve(&mem, attTile*dim/2)
	dk, dv := attCarve(&mem, attTile*dim), attCarve(&mem, attTile*dim)
	probs, ds := attCarve(&mem, attSquare), attCarve(&mem, attSquare)
	probPairs, dsPairs, dsRows := attCarve(&mem, attPairs), attCarve(&mem, attPairs), attCarve(&mem, attPairs)
	dq, delta := attCarve(&mem, b.tiles()*attTile*dim), attCarve(&mem, b.tiles()*attTile)
	for t := querySpan.lo; t < querySpan.hi; t++ {
		delta[t] = b.product(t)
	}
	for k0 := keySpan.lo; k0 < keySpan.hi; k0 += attTile {
		count := min(attTile, b.T-k0)
		lanes := attLanes(count)
		b.columns(keysT, rows, b.qkv, b.at(attKeys, k0), count, b.step)
		b.columns(valuesT, rows, b.qkv, b.at(attValues, k0), count, b.step)
		b.pairs(keys, b.qkv, b.at(attKeys, k0), count, b.step)
		keyMode, queryMode := pairStore, pairStore
		if k0 > keySpan.lo {
			queryMode = pairAdd
		}
		for t0 := querySpan.lo; t0 < querySpan.hi; t0 += attTile {
			queries := min(attTile, b.T-t0)
			b.scores(probs, lanes, keysT, b.qkv, b.at(attQueries, t0), queries, b.step)
			b.scores(ds, lanes, valuesT, b.dout, b.out+t0*b.width, queries, b.width)
			for j := range queries {
				row := ds[j*lanes:][:lanes]
				b.k.softmaxBack(probs[j*lanes:][:lanes], row, b.power(), log2(b.lse[t0+j]), delta[t0+j])
				clear(row[count:])
			}
			if wantKeys {
				b.mixed(probPairs, probs, queries, lanes)
				b.mixed(dsPairs, ds, queries, lanes)
				b.pairs(q, b.qkv, b.at(attQueries, t0), queries, b.step)
				b.pairs(g, b.dout, b.out+t0*b.width, queries, b.width)
				b.weigh(dv, unsafe.Pointer(&probPairs[0]), 4, 4*lanes, g, count, queries, keyMode)
				b.weigh(dk, unsafe.Pointer(&dsPairs[0]), 4, 4*lanes, q, count, queries, keyMode)
				keyMode = pairAdd
			}
			if wantQueries {
				b.k.narrow(halvesOf(dsRows)[:queries*lanes], ds[:queries*lanes])
				b.weigh(dq[t0*dim:], unsafe.Pointer(&dsRows[0]), 2*lanes, 4, keys, queries, count, queryMode)
			}
		}
		if wantKeys {
			b.put(b.dqkv, b.at(attKeys, k0), b.step, dk, count, scale)
			b.put(b.dqkv, b.at(attValues, k0), b.step, dv, count, 1)
		}
	}
	if wantQueries {
		b.put(b.dqkv, b.at(attQueries, querySpan.lo), b.step, dq[querySpan.lo*dim:], querySpan.hi-querySpan.lo, scale)
	}
}

// product returns the inner product of a token's output and its gradient.
func (b *attBackwardHalf) product(t int) float32 {
	at := b.out + t*b.width
	var sum float32
	gs := b.dout.Half[at:][:b.HeadDim]
	for c, v := range b.results.Half[at:][:b.HeadDim] {
		sum += widenBF16(v) * widenBF16(gs[c])
	}
	return sum
}
