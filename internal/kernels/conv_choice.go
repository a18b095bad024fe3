package kernels

// Algorithm is a way to compute a convolution. Algorithms agree to rounding.
type Algorithm uint8

const (
	Direct    Algorithm = iota // a product for each tap
	Winograd2                  // F(2,3)³
	Winograd4                  // F(4,3)³; for a 7³ convolution of stride 2, F(3,4)³ on its phases
)

// String returns the name used in run records and tuning tables.
func (a Algorithm) String() string { return [...]string{"direct", "winograd2", "winograd4"}[a] }

// tile returns the edge of an output tile.
func (a Algorithm) tile() int { return int(a) * 2 }

// The passes of a convolution.
const (
	Forward = iota
	BackwardData
	BackwardWeights
)

// ConvChoice is the algorithm of each pass.
type ConvChoice [3]Algorithm

// narrow is the product of input and output channels below which the larger tiles, whose rounding is coarser, save
// little: their transforms cost as much as the products.
const narrow = 64 * 32

// DefaultChoice returns the algorithms that serve a per-sample shape well on an instruction set.
func DefaultChoice(s ConvSpec, _ ISA) ConvChoice {
	voxels := volume3(s.OutSize())
	if stemFits(s) {
		c := ConvChoice{Direct, Direct, Winograd4}
		if voxels >= 40*40*40 { // smaller maps are not worth the transforms of the weights
			c[Forward] = Winograd4
		}
		return c
	}
	if !winogradFits(s) {
		return ConvChoice{}
	}
	channels := s.In.Blocks() * s.Out.Blocks() * Block * Block
	switch {
	case voxels < 6*6*6:
		return ConvChoice{}
	case channels >= narrow && (voxels >= 12*12*12 && channels <= 256*256 || voxels >= 20*20*20):
		return ConvChoice{Winograd4, Winograd4, Winograd4}
	}
	return ConvChoice{Winograd2, Winograd2, Winograd2}
}
