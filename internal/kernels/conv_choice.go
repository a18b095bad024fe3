package kernels

import (
	"fmt"
	"slices"
)

// Algorithm is a way to compute a convolution. Algorithms agree to rounding.
type Algorithm uint8

const (
	Direct    Algorithm = iota // a product for each tap
	Winograd2                  // F(2,3)³
	Winograd4                  // F(4,3)³; for a 7³ convolution of stride 2, F(3,4)³ on its phases
)

// String returns the name used in run records and tuning tables.
func (a Algorithm) String() string { return algorithmNames()[a] }

func algorithmNames() []string { return []string{"direct", "winograd2", "winograd4"} }

// MarshalText writes the name.
func (a Algorithm) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads a name.
func (a *Algorithm) UnmarshalText(text []byte) error {
	i := slices.Index(algorithmNames(), string(text))
	if i < 0 {
		return fmt.Errorf("%q is no algorithm, known: %v", text, algorithmNames())
	}
	*a = Algorithm(i)
	return nil
}

// tile returns the edge of an output tile.
func (a Algorithm) tile() int { return int(a) * 2 }

// The passes of a convolution.
const (
	Forward = iota
	BackwardData
	BackwardWeights
)

// PassName names a pass.
func PassName(pass int) string { return [...]string{"forward", "data", "weights"}[pass] }

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
		if voxels >= 40*40*40 { // the rounding of smaller maps shows in their networks' gradients
			c[Forward] = Winograd4
		}
		return c
	}
	if !winogradFits(s) {
		return ConvChoice{}
	}
	channels := s.channelProducts()
	switch {
	case voxels < 6*6*6:
		return ConvChoice{}
	case channels >= narrow && (voxels >= 12*12*12 && channels <= 256*256 || voxels >= 20*20*20):
		return ConvChoice{Winograd4, Winograd4, Winograd4}
	}
	return ConvChoice{Winograd2, Winograd2, Winograd2}
}

// channelProducts is the number of products of a tap.
func (s ConvSpec) channelProducts() int { return s.In.Blocks() * s.Out.Blocks() * Block * Block }

// Candidates returns the algorithms that a pass of a convolution may take: those whose rounding is close to that of
// DefaultChoice, and no choice where there is one only.
func Candidates(s ConvSpec, pass int) []Algorithm {
	switch {
	case stemFits(s) && pass != BackwardData:
		return []Algorithm{Direct, Winograd4}
	case !winogradFits(s):
		return []Algorithm{Direct}
	case s.channelProducts() < narrow:
		return []Algorithm{Direct, Winograd2}
	}
	return []Algorithm{Direct, Winograd2, Winograd4}
}

// Key names the per-sample shape in a tuning table. Channels count with the padding of their blocks.
func (s ConvSpec) Key() string {
	in := fmt.Sprint(s.In.Blocks() * Block)
	if s.PlainIn {
		in = fmt.Sprintf("plain %d", s.In.Count())
	}
	cube := func(v [3]int) string { return fmt.Sprintf("%dx%dx%d", v[0], v[1], v[2]) }
	return fmt.Sprintf("%s in %s out %d kernel %s stride %s pad %s",
		cube(s.Size), in, s.Out.Blocks()*Block, cube(s.Kernel), cube(s.Stride), cube(s.Pad))
}

// Tuning holds choices that were measured, by ConvSpec.Key. A nil Tuning holds none.
type Tuning map[string]ConvChoice

// Choice returns the algorithms for a shape: those of the table, and DefaultChoice where the table has none or one
// that is no candidate.
func (t Tuning) Choice(s ConvSpec, isa ISA) ConvChoice {
	c := DefaultChoice(s, isa)
	tuned, ok := t[s.Key()]
	if !ok {
		return c
	}
	for pass, a := range tuned {
		if slices.Contains(Candidates(s, pass), a) {
			c[pass] = a
		}
	}
	return c
}

// Inference is Choice for a convolution that nothing is differentiated through, so that coarser rounding does no harm,
// and whose transformed weights are kept: larger tiles are taken from smaller maps on, as far as the weights stay small.
func (t Tuning) Inference(s ConvSpec, isa ISA) ConvChoice {
	c := t.Choice(s, isa)
	if _, tuned := t[s.Key()]; tuned {
		return c
	}
	voxels, channels := volume3(s.OutSize()), s.channelProducts()
	switch {
	case stemFits(s):
		if voxels >= 20*20*20 {
			c[Forward] = Winograd4
		}
	case !winogradFits(s):
	case c[Forward] == Winograd2 && voxels >= 7*7*7 && channels >= narrow && channels <= 128*128:
		c[Forward] = Winograd4
	case c[Forward] == Direct && voxels >= 4*4*4 && channels <= 256*256:
		c[Forward] = Winograd2
	}
	return c
}
