package models

import (
	"fmt"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/nn"
	"github.com/ctclass/ctclass/internal/ops"
)

// Cost is what a network is made of and what one sample's forward pass takes.
type Cost struct {
	Parameters int64
	FLOP       int64 // see ops.FLOP
}

// Cost counts for volumes of shape (D, H, W), without taking any memory for them. It fails for a shape that
// the network cannot take. Only a vision transformer has more parameters for larger volumes.
func (n *Network) Cost(shapeDHW [3]int) (Cost, error) {
	var c Cost
	_, err := graph.Build(func(g *graph.Graph) error {
		b := nn.New(g, false)
		x := g.Leaf(graph.Input, "x", graph.Type{
			Shape: []int{1, n.InChannels, shapeDHW[0], shapeDHW[1], shapeDHW[2]}, Class: graph.Volume,
		})
		logits := n.Build(b, x)
		for _, p := range b.Trainable() {
			c.Parameters += int64(p.Elements())
		}
		c.FLOP = ops.FLOP(graph.Reachable(logits))
		return nil
	})
	if err != nil {
		return Cost{}, fmt.Errorf("%s cannot take volumes of %d×%d×%d voxels (D, H, W): %w",
			n.Name, shapeDHW[0], shapeDHW[1], shapeDHW[2], err)
	}
	return c, nil
}
