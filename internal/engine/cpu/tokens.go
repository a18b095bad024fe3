package cpu

import (
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/kernels/ref"
	"github.com/ctclass/ctclass/internal/ops"
)

// tokenKernel binds the operations of transformers.
func (d *Device) tokenKernel(op graph.Op, in, out []engine.Layout) (run, int) {
	m := d.m
	switch op := op.(type) {
	case ops.Patches:
		s := in[0].Type.Shape
		x := ref.Shape{N: 1, C: s[1], D: s[2], H: s[3], W: s[4]}
		perX, perY := x.Len(), out[0].Type.Elements()/s[0]
		return func(a *args) {
			m.Run(s[0], func(_, n int) { ref.Patches(a.out[0][n*perY:][:perY], a.in[0][n*perX:][:perX], x, op.Size) })
		}, 0
	case ops.EmbedTokens:
		n, t, e := dims3(in[0])
		return func(a *args) {
			m.Run(n, func(_, i int) {
				row := a.out[0][i*(t+1)*e:][:(t+1)*e]
				copy(row, a.in[1][:e])
				copy(row[e:], a.in[0][i*t*e:][:t*e])
				for j, p := range a.in[2][:len(row)] {
					row[j] += p
				}
			})
		}, 0
	case ops.EmbedTokensBackward:
		n, t, e := dims3(out[0])
		return func(a *args) {
			m.Run(n, func(_, i int) { copy(a.out[0][i*t*e:][:t*e], a.in[0][(i*(t+1)+1)*e:]) })
		}, 0
	case ops.FirstToken:
		n, t, e := dims3(in[0])
		return func(a *args) {
			for i := range n {
				copy(a.out[0][i*e:][:e], a.in[0][i*t*e:])
			}
		}, 0
	case ops.FirstTokenBackward:
		n, t, e := dims3(out[0])
		return func(a *args) {
			clear(a.out[0][:n*t*e])
			for i := range n {
				copy(a.out[0][i*t*e:], a.in[0][i*e:][:e])
			}
		}, 0
	}
	return nil, 0
}

func dims3(l engine.Layout) (n, t, e int) {
	s := l.Type.Shape
	return s[0], s[1], s[2]
}
