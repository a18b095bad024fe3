package kernels

// Block is the number of channels that lie side by side in memory: one 512-bit register of float32.
const Block = 16

// Map is a feature map in blocked layout (oneDNN calls it nCdhw16c). Element (n, c, d, h, w), c a physical
// channel, is Data[n*Stride + (c/16)*D*H*W*16 + ((d*H+h)*W+w)*16 + c%16].
//
// A map may be a view of some channel blocks of a larger one (a concatenation): then Stride exceeds
// CB*D*H*W*16. Lanes that hold no logical channel are zero, in activations and in gradients; every kernel
// that writes a Map keeps it so.
//
// The values are bfloat16 in Half where that is not nil, and Data is nil then.
type Map struct {
	Data    []float32
	Half    []uint16
	N       int // samples
	CB      int // blocks of 16 channels
	D, H, W int
	Stride  int // values from one sample to the next
}

// Vec returns the map's values.
func (x Map) Vec() Vec { return Vec{x.Data, x.Half} }

// Part returns the n values from at on.
func (x Map) Part(at, n int) Vec { return x.Vec().Slice(at, at+n) }

// From returns the map without the channel blocks before the given one, which others may follow.
func (x Map) From(block int) Map {
	at := block * Block * x.D * x.H * x.W
	if x.Half != nil {
		x.Half = x.Half[at:]
	} else {
		x.Data = x.Data[at:]
	}
	return x
}

// sample returns the values of sample n.
func (x Map) sample(n int) Vec { return x.Part(n*x.Stride, x.CB*x.D*x.H*x.W*Block) }

// block returns the values of channel block cb of sample n.
func (x Map) block(n, cb int) Vec {
	l := x.D * x.H * x.W * Block
	return x.Part(n*x.Stride+cb*l, l)
}

// Channels says where the logical channels of a blocked map lie: each segment holds its logical channels
// first and zeros up to the next multiple of 16. A plain map has one segment; a concatenation one per part.
type Channels []int

// Count returns the number of logical channels.
func (c Channels) Count() int {
	n := 0
	for _, s := range c {
		n += s
	}
	return n
}

// Blocks returns the number of 16-channel blocks.
func (c Channels) Blocks() int {
	n := 0
	for _, s := range c {
		n += (s + Block - 1) / Block
	}
	return n
}

// Physical returns for each logical channel its physical index.
func (c Channels) Physical() []int {
	idx := make([]int, 0, c.Count())
	base := 0
	for _, s := range c {
		for i := range s {
			idx = append(idx, base+i)
		}
		base += (s + Block - 1) / Block * Block
	}
	return idx
}
