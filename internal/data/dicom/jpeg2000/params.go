package jpeg2000

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Code-block styles (T.800, table A.19; T.814 adds the last).
const (
	styleBypass   = 1 << iota // raw bits in the passes of low bit-planes
	styleReset                // contexts start afresh in each pass
	styleTermAll              // each pass is a codeword segment
	styleCausal               // contexts do not look into the next stripe
	stylePredict              // predictable termination: a check the decoder may leave out
	styleSegments             // a symbol ends each cleanup pass
	styleHT                   // high-throughput coding
	styleMixed                // HT and Part 1 code-blocks in one tile-component
)

// Where a parameter was set; a higher rank is not overridden by a lower one.
const (
	rankMain = 1 + iota
	rankMainComponent
	rankTile
	rankTileComponent
)

// params are the coding parameters of a tile.
type params struct {
	order          int // progression order (T.800, table A.16)
	layers         int
	transform      bool // component transform of the first three components
	sop, eph       bool
	ownProgression bool // the tile header has a POC segment of its own
	progressions   []progression
	components     []componentParams
}

// progression is one entry of a POC segment: an order over a box of packets.
type progression struct {
	order                        int
	resStart, resEnd             int
	componentStart, componentEnd int
	layerEnd                     int
}

// componentParams are the coding parameters of a tile-component.
type componentParams struct {
	codingRank, quantRank int

	levels         int // decomposition levels
	blockW, blockH int // log2 of the code-block size
	style          int
	reversible     bool
	precW, precH   [33]uint8 // log2 of the precinct size for each resolution
	quantStyle     int       // 0 none, 1 derived from the first step, 2 a step for each subband
	guard          int
	steps          [97]uint16 // exponent and mantissa, for each subband
	stepCount      int
	roiShift       int
}

func (p *params) clone() *params {
	c := *p
	c.components = slices.Clone(p.components)
	c.progressions = slices.Clone(p.progressions)
	return &c
}

// complete reports what the main header lacks.
func (p *params) complete() error {
	for i := range p.components {
		if c := &p.components[i]; c.codingRank == 0 || c.quantRank == 0 {
			return errors.New("the main header lacks the coding or the quantization parameters")
		}
	}
	return nil
}

// segment reads one marker segment of the main header or, with tile set, of a tile-part header. Those that
// say nothing a decoder needs are skipped.
func (p *params) segment(marker int, b []byte, tile bool) error {
	r := &fields{b: b}
	rank := rankMain
	if tile {
		rank = rankTile
	}
	wide := len(p.components) > 256
	switch marker {
	case markerCOD:
		style := r.u8()
		p.order, p.layers = r.u8(), r.u16()
		mct := r.u8()
		var c componentParams
		if err := c.coding(r, style&1 != 0); err != nil {
			return err
		}
		switch {
		case r.short:
			return errCut
		case p.order > 4 || p.layers < 1:
			return errors.New("unusable progression order or number of layers")
		case mct > 1 || mct == 1 && len(p.components) < 3:
			return fmt.Errorf("component transform %d of %d components is not supported", mct, len(p.components))
		}
		p.sop, p.eph, p.transform = style&2 != 0, style&4 != 0, mct == 1
		for i := range p.components {
			p.components[i].setCoding(&c, rank)
		}
	case markerCOC:
		i := r.component(wide)
		style := r.u8()
		var c componentParams
		if err := c.coding(r, style&1 != 0); err != nil {
			return err
		}
		if r.short || i >= len(p.components) {
			return errCut
		}
		p.components[i].setCoding(&c, rank+1)
	case markerQCD:
		var c componentParams
		if err := c.quantization(r); err != nil {
			return err
		}
		for i := range p.components {
			p.components[i].setQuantization(&c, rank)
		}
	case markerQCC:
		i := r.component(wide)
		var c componentParams
		if err := c.quantization(r); err != nil {
			return err
		}
		if i >= len(p.components) {
			return errCut
		}
		p.components[i].setQuantization(&c, rank+1)
	case markerRGN:
		i, style, shift := r.component(wide), r.u8(), r.u8()
		if r.short || i >= len(p.components) {
			return errCut
		}
		if style != 0 {
			return fmt.Errorf("region of interest of style %d is not supported", style)
		}
		p.components[i].roiShift = shift
	case markerPOC:
		if tile && !p.ownProgression {
			p.ownProgression, p.progressions = true, nil
		}
		for len(r.b) > 0 {
			var g progression
			g.resStart, g.componentStart = r.u8(), r.component(wide)
			g.layerEnd, g.resEnd, g.componentEnd, g.order = r.u16(), r.u8(), r.component(wide), r.u8()
			if g.componentEnd == 0 {
				g.componentEnd = len(p.components)
			}
			if r.short {
				return errCut
			}
			if g.order > 4 || len(p.progressions) == maxProgressions {
				return errors.New("unusable progression order changes")
			}
			p.progressions = append(p.progressions, g)
		}
	}
	return nil
}

// coding reads the part that COD and COC segments share.
func (c *componentParams) coding(r *fields, precincts bool) error {
	c.levels, c.blockW, c.blockH, c.style = r.u8(), r.u8()&15+2, r.u8()&15+2, r.u8()
	wavelet := r.u8()
	switch {
	case r.short:
		return errCut
	case c.levels > 32:
		return fmt.Errorf("%d decomposition levels are not possible", c.levels)
	case c.blockW > 10 || c.blockH > 10 || c.blockW+c.blockH > 12:
		return fmt.Errorf("code-blocks of %d x %d are not possible", 1<<c.blockW, 1<<c.blockH)
	case wavelet > 1:
		return fmt.Errorf("wavelet transform %d is not supported", wavelet)
	case c.style&styleMixed != 0 && c.style&styleHT == 0:
		return fmt.Errorf("code-block style %#x is not supported", c.style)
	case c.style&styleMixed != 0:
		return errors.New("a mixture of HT and Part 1 code-blocks is not supported")
	case c.style&styleHT != 0 && c.style&^(styleHT|styleCausal) != 0:
		return fmt.Errorf("HT code-blocks of style %#x are not supported", c.style)
	}
	c.reversible = wavelet == 1
	for i := 0; i <= c.levels; i++ {
		c.precW[i], c.precH[i] = 15, 15
		if precincts {
			v := r.u8()
			c.precW[i], c.precH[i] = uint8(v&15), uint8(v>>4)
			if i > 0 && (v&15 == 0 || v>>4 == 0) {
				return errors.New("precincts of one sample are not possible")
			}
		}
	}
	if r.short {
		return errCut
	}
	return nil
}

// quantization reads the part that QCD and QCC segments share.
func (c *componentParams) quantization(r *fields) error {
	v := r.u8()
	c.quantStyle, c.guard = v&31, v>>5
	switch c.quantStyle {
	case 0:
		for len(r.b) > 0 && c.stepCount < len(c.steps) {
			c.steps[c.stepCount] = uint16(r.u8()>>3) << 11
			c.stepCount++
		}
	case 1:
		c.steps[0], c.stepCount = uint16(r.u16()), 1
	case 2:
		for len(r.b) > 1 && c.stepCount < len(c.steps) {
			c.steps[c.stepCount] = uint16(r.u16())
			c.stepCount++
		}
	default:
		return fmt.Errorf("quantization style %d is not supported", c.quantStyle)
	}
	if r.short || c.stepCount == 0 {
		return errCut
	}
	return nil
}

func (c *componentParams) setCoding(from *componentParams, rank int) {
	if rank < c.codingRank {
		return
	}
	c.codingRank = rank
	c.levels, c.blockW, c.blockH, c.style = from.levels, from.blockW, from.blockH, from.style
	c.reversible, c.precW, c.precH = from.reversible, from.precW, from.precH
}

func (c *componentParams) setQuantization(from *componentParams, rank int) {
	if rank < c.quantRank {
		return
	}
	c.quantRank = rank
	c.quantStyle, c.guard, c.steps, c.stepCount = from.quantStyle, from.guard, from.steps, from.stepCount
}

// check reports contradictions that show only when all segments are known.
func (p *params) check() error {
	for i := range p.components {
		c := &p.components[i]
		switch {
		case c.reversible && c.quantStyle != 0:
			return errors.New("quantization of the reversible transform is not supported")
		case c.quantStyle != 1 && c.stepCount < 3*c.levels+1:
			return fmt.Errorf("%d quantization steps for %d decomposition levels", c.stepCount, c.levels)
		case p.transform && i < 3 && c.reversible != p.components[0].reversible:
			return errors.New("a component transform over two kinds of wavelets is not possible")
		}
	}
	return nil
}

// step returns the exponent and the mantissa of subband b (0 is the lowest, then HL, LH, HH for each
// resolution).
func (c *componentParams) step(b int) (exponent, mantissa int) {
	if c.quantStyle == 1 {
		// T.800, E-5: one halving for each level above the lowest.
		return max(int(c.steps[0]>>11)-max(b-1, 0)/3, 0), int(c.steps[0] & 0x7FF)
	}
	return int(c.steps[b] >> 11), int(c.steps[b] & 0x7FF)
}

// fields reads the fields of a marker segment; short is set when they end early.
type fields struct {
	b     []byte
	short bool
}

func (r *fields) u8() int {
	if len(r.b) < 1 {
		r.b, r.short = nil, true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return int(v)
}

func (r *fields) u16() int {
	if len(r.b) < 2 {
		r.b, r.short = nil, true
		return 0
	}
	v := binary.BigEndian.Uint16(r.b)
	r.b = r.b[2:]
	return int(v)
}

// component reads a component's number, of two bytes where there are many.
func (r *fields) component(wide bool) int {
	if wide {
		return r.u16()
	}
	return r.u8()
}
