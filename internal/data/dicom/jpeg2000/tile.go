package jpeg2000

import (
	"errors"
	"fmt"
	"math"
)

// tile is the structure of one tile (T.800, annex B).
type tile struct {
	params         *params
	x0, y0, x1, y1 int
	components     []tileComponent
	chunks         []chunk // of all code-blocks
	body           []byte  // what the chunks' offsets count in
}

type tileComponent struct {
	params      *componentParams
	resolutions []resolution
}

// resolution is one resolution level of a tile-component: the lowest holds the LL subband, the others HL,
// LH and HH.
type resolution struct {
	x0, y0, x1, y1 int
	precW, precH   int // log2 of the precinct size
	across, down   int // precincts
	bands          []band
	precincts      []precinct
}

type band struct {
	style          int // of its code-blocks
	orientation    int // 0 LL, 1 HL, 2 LH, 3 HH
	x0, y0, x1, y1 int
	planes         int     // Mb: bit-planes including the guard bits, and those a region of interest is shifted by
	scale          float32 // of half a quantization step, with the gains of the transforms still to come
	atX, atY       int     // where the band begins in the coefficient plane
}

// precinct is a part of a resolution that packets describe, one for each layer.
type precinct struct {
	next  int // the next layer
	bands []precinctBand
}

type precinctBand struct {
	band       *band
	across     int // code-blocks
	blocks     []codeBlock
	inclusion  tagTree
	zeroPlanes tagTree
}

type codeBlock struct {
	x0, y0, w, h int32 // in the coefficient plane
	first, last  int32 // chunks; first is -1 when there are none
	passes       int16
	zeroPlanes   uint8
	lengthBits   uint8 // Lblock; 0 before the block is first included
}

// chunk is what one packet adds to one codeword segment of a code-block.
type chunk struct {
	offset, length int32
	next           int32
	passes         int16
}

// plane holds the samples of one tile-component: integers or floats, by its wavelet.
type plane struct {
	reversible bool
	ints       []int32
	floats     []float32
}

// tileDecoder decodes tiles one after another and reuses its buffers.
type tileDecoder struct {
	size   *imageSize
	planes []plane // of the decoded tile
	blocks blockDecoder

	// While a component is transformed:
	coefficients plane
	low          plane // results of lower resolutions
}

// decode decodes tile number `index` into img.
func (d *tileDecoder) decode(index int, data *tileData, img *Image) error {
	s := d.size
	if err := data.params.check(); err != nil {
		return err
	}
	x, y := s.tileX0+index%s.tilesAcross*s.tileW, s.tileY0+index/s.tilesAcross*s.tileH
	t := &tile{
		params: data.params,
		x0:     max(x, s.x0), y0: max(y, s.y0), x1: min(x+s.tileW, s.x1), y1: min(y+s.tileH, s.y1),
		body: data.body,
	}
	budget := len(data.body) + len(data.headers)
	if err := t.build(budget); err != nil {
		return err
	}
	if err := t.readPackets(data.headers); err != nil {
		return err
	}
	d.planes = resized(d.planes, len(t.components))
	for c := range t.components {
		if err := d.component(t, c, img.Components[c].Bits); err != nil {
			return err
		}
	}
	d.finish(t, img)
	return nil
}

// component decodes the code-blocks of one tile-component and transforms them into d.planes[c].
func (d *tileDecoder) component(t *tile, c, bits int) error {
	tc := &t.components[c]
	n := (t.x1 - t.x0) * (t.y1 - t.y0)
	coefficients, out := &d.coefficients, &d.planes[c]
	out.resize(n, tc.params.reversible)
	if k := len(tc.resolutions); k > 1 {
		coefficients.resize(n, tc.params.reversible)
		below := &tc.resolutions[k-2]
		d.low.resize((t.x1-t.x0)*(below.y1-below.y0), tc.params.reversible)
	} else {
		coefficients = out
	}
	tc.setScales(bits)
	// The planes are reused: what no code-block covers with data is zero.
	if tc.params.reversible {
		clear(coefficients.ints)
	} else {
		clear(coefficients.floats)
	}
	for r := range tc.resolutions {
		res := &tc.resolutions[r]
		for p := range res.precincts {
			for b := range res.precincts[p].bands {
				pb := &res.precincts[p].bands[b]
				for k := range pb.blocks {
					if err := d.blocks.decode(t, tc, pb.band, &pb.blocks[k], coefficients, t.x1-t.x0); err != nil {
						return fmt.Errorf("component %d, resolution %d: %w", c, r, err)
					}
				}
			}
		}
	}
	if len(tc.resolutions) > 1 {
		if tc.params.reversible {
			inverseDWT(tc.resolutions, coefficients.ints, out.ints, d.low.ints, interleave53, lift53)
		} else {
			inverseDWT(tc.resolutions, coefficients.floats, out.floats, d.low.floats, interleave97, lift97)
		}
	}
	return nil
}

func (p *plane) resize(n int, reversible bool) {
	p.reversible = reversible
	if reversible {
		p.ints = resized(p.ints, n)
	} else {
		p.floats = resized(p.floats, n)
	}
}

// resized returns b with length n, newly allocated only when it is too small.
func resized[T any](b []T, n int) []T {
	if cap(b) < n {
		return make([]T, n)
	}
	return b[:n]
}

// build makes the structure of the tile. A precinct needs at least a byte of packet header in each layer, so
// that the bytes there are, budget, bound their number; small code-blocks and precincts beyond any use are
// refused.
func (t *tile) build(budget int) error {
	packets, parts := int64(0), int64(0)
	t.components = make([]tileComponent, len(t.params.components))
	for c := range t.components {
		tc := &t.components[c]
		tc.params = &t.params.components[c]
		tc.resolutions = make([]resolution, tc.params.levels+1)
		for r := range tc.resolutions {
			res := &tc.resolutions[r]
			t.size(tc.params, res, r)
			packets += int64(res.across) * int64(res.down) * int64(t.params.layers)
			if packets > int64(budget) {
				return fmt.Errorf("%d bytes cannot hold all packets: %w", budget, errCut)
			}
			// No more code-blocks than a grid over each band has cells, and those the precincts cut.
			for _, b := range res.bands {
				bw, bh := tc.params.blockSize(res, r)
				cells := func(x0, x1 int, log2 int) int64 {
					if x1 <= x0 {
						return 0
					}
					return int64((x1-1)>>log2 - x0>>log2 + 1)
				}
				parts += cells(b.x0, b.x1, bw) * cells(b.y0, b.y1, bh)
			}
		}
	}
	samples := int64(t.x1-t.x0) * int64(t.y1-t.y0) * int64(len(t.components))
	if parts+packets/int64(t.params.layers) > 1<<18+samples/12 {
		return errors.New("the tile is divided into too many code-blocks and precincts")
	}
	for c := range t.components {
		tc := &t.components[c]
		for r := range tc.resolutions {
			tc.divide(&tc.resolutions[r], r)
		}
	}
	return nil
}

// size computes the extent of a resolution, its bands and its precinct grid (T.800, B.5 and B.6).
func (t *tile) size(p *componentParams, res *resolution, r int) {
	down := p.levels - r
	res.x0, res.y0 = ceilShift(t.x0, down), ceilShift(t.y0, down)
	res.x1, res.y1 = ceilShift(t.x1, down), ceilShift(t.y1, down)
	res.precW, res.precH = int(p.precW[r]), int(p.precH[r])
	if res.x1 > res.x0 && res.y1 > res.y0 {
		res.across = ceilShift(res.x1, res.precW) - res.x0>>res.precW
		res.down = ceilShift(res.y1, res.precH) - res.y0>>res.precH
	}
	first, count := 1, 3
	if r == 0 {
		first, count = 0, 1
	} else {
		down++
	}
	res.bands = make([]band, count)
	for i := range res.bands {
		o := first + i
		b := &res.bands[i]
		// HL is high in the horizontal direction, LH in the vertical.
		ox, oy := 0, 0
		if down > 0 {
			ox, oy = (o&1)<<(down-1), (o>>1)<<(down-1)
		}
		b.orientation, b.style = o, p.style
		b.x0, b.y0 = ceilShift(t.x0-ox, down), ceilShift(t.y0-oy, down)
		b.x1, b.y1 = ceilShift(t.x1-ox, down), ceilShift(t.y1-oy, down)
		if r > 0 {
			// In the plane the low half comes first, in both directions.
			if o&1 != 0 {
				b.atX = ceilShift(res.x1, 1) - ceilShift(res.x0, 1)
			}
			if o>>1 != 0 {
				b.atY = ceilShift(res.y1, 1) - ceilShift(res.y0, 1)
			}
		}
		exponent, _ := p.step(max(3*r-2, 0) + i)
		b.planes = p.guard + exponent - 1 + p.roiShift
	}
}

// blockSize returns the log2 of the code-block size in resolution r: precincts bound it.
func (p *componentParams) blockSize(res *resolution, r int) (w, h int) {
	w, h = res.precW, res.precH
	if r > 0 {
		w, h = w-1, h-1
	}
	return min(w, p.blockW), min(h, p.blockH)
}

// divide divides the bands of a resolution into precincts and code-blocks (T.800, B.6 and B.7).
func (tc *tileComponent) divide(res *resolution, r int) {
	n := res.across * res.down
	if n == 0 {
		return
	}
	res.precincts = make([]precinct, n)
	bands := make([]precinctBand, n*len(res.bands))
	bw, bh := tc.params.blockSize(res, r)
	pw, ph := res.precW, res.precH
	if r > 0 {
		pw, ph = pw-1, ph-1
	}
	px, py := res.x0>>res.precW, res.y0>>res.precH
	for i := range res.precincts {
		p := &res.precincts[i]
		p.bands, bands = bands[:len(res.bands):len(res.bands)], bands[len(res.bands):]
		x, y := px+i%res.across, py+i/res.across
		for k := range p.bands {
			b := &res.bands[k]
			pb := &p.bands[k]
			pb.band = b
			x0, y0 := max(x<<pw, b.x0), max(y<<ph, b.y0)
			x1, y1 := min((x+1)<<pw, b.x1), min((y+1)<<ph, b.y1)
			if x1 <= x0 || y1 <= y0 {
				continue
			}
			cx, cy := x0>>bw, y0>>bh
			pb.across = ceilShift(x1, bw) - cx
			down := ceilShift(y1, bh) - cy
			pb.blocks = make([]codeBlock, pb.across*down)
			pb.inclusion.build(pb.across, down)
			pb.zeroPlanes.build(pb.across, down)
			for j := range pb.blocks {
				gx, gy := cx+j%pb.across, cy+j/pb.across
				bx0, by0 := max(gx<<bw, x0), max(gy<<bh, y0)
				bx1, by1 := min((gx+1)<<bw, x1), min((gy+1)<<bh, y1)
				pb.blocks[j] = codeBlock{
					x0: int32(bx0 - b.x0 + b.atX), y0: int32(by0 - b.y0 + b.atY),
					w: int32(bx1 - bx0), h: int32(by1 - by0), first: -1,
				}
			}
		}
	}
}

// setScales computes what the coefficients of each band are multiplied with: the quantization step
// (T.800, E-3) and, for the 9/7 transform, the gains of all lifting steps above, which are linear and so
// can be applied at once. Reversible bands keep their integers.
func (tc *tileComponent) setScales(bits int) {
	const low, high = 1.230174104914001, 1 / 1.230174104914001 // K and 1/K of T.800, table F.4
	above := 1.0
	for r := len(tc.resolutions) - 1; r >= 0; r-- {
		res := &tc.resolutions[r]
		gain := func(x0, x1, highPass int) float64 {
			switch {
			case r == 0 || x1-x0 == 1 && x0&1 == 0:
				return 1
			case x1-x0 == 1: // a single sample of odd position is stored doubled
				return 0.5
			case highPass != 0:
				return high
			}
			return low
		}
		for i := range res.bands {
			b := &res.bands[i]
			exponent, mantissa := tc.params.step(max(3*r-2, 0) + i)
			log2 := bits + b.orientation&1 + b.orientation>>1 - exponent
			step := math.Ldexp(1+float64(mantissa)/2048, log2)
			g := gain(res.x0, res.x1, b.orientation&1) * gain(res.y0, res.y1, b.orientation>>1)
			b.scale = float32(step * g * above / 2)
		}
		above *= gain(res.x0, res.x1, 0) * gain(res.y0, res.y1, 0)
	}
}

// ceilShift is the ceiling of a divided by 2^n.
func ceilShift(a, n int) int { return (a + 1<<n - 1) >> n }
