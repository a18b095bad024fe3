package ops

import (
	"testing"

	"github.com/ctclass/ctclass/internal/graph"
)

func TestFLOP(t *testing.T) {
	var values []*graph.Value
	_, err := graph.Build(func(g *graph.Graph) error {
		x := g.Leaf(graph.Input, "x", graph.Type{Shape: []int{2, 3, 8, 6, 4}, Class: graph.Volume})
		w := g.Leaf(graph.Parameter, "w", graph.Type{Shape: []int{5, 3, 3, 3, 3}})
		// 2 samples × 5 channels × 4·3·2 places × 3·27 products.
		y := g.Apply(Conv3D{Stride: [3]int{2, 2, 2}, Pad: [3]int{1, 1, 1}}, x, w)
		y = g.Apply(ReLU{}, y)
		z := g.Apply(GlobalAvgPool3D{}, y) // (2, 5)
		fc := g.Leaf(graph.Parameter, "fc", graph.Type{Shape: []int{7, 5}})
		bias := g.Leaf(graph.Parameter, "bias", graph.Type{Shape: []int{7}})
		logits := g.Apply(Linear{}, z, fc, bias) // 2 samples × 7 × 5 products
		tokens := g.Leaf(graph.Input, "tokens", graph.Type{Shape: []int{2, 11, 3 * 12}})
		a := g.Apply(Attention{Heads: 3}, tokens) // 2 samples × 3 heads × two products of 11×11×4
		values = graph.Reachable(logits, a)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := int64(2*(2*5*24*81) + 2*(2*7*5) + 2*(2*3*2*11*11*4))
	if got := FLOP(values); got != want {
		t.Errorf("%d FLOP, want %d", got, want)
	}
}
