package jpeg2000

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Markers of a codestream (T.800, table A.2; T.814 adds CAP's use).
const (
	markerSOC = 0xFF4F
	markerCAP = 0xFF50
	markerSIZ = 0xFF51
	markerCOD = 0xFF52
	markerCOC = 0xFF53
	markerQCD = 0xFF5C
	markerQCC = 0xFF5D
	markerRGN = 0xFF5E
	markerPOC = 0xFF5F
	markerPPM = 0xFF60
	markerPPT = 0xFF61
	markerSOT = 0xFF90
	markerSOP = 0xFF91
	markerEPH = 0xFF92
	markerSOD = 0xFF93
	markerEOC = 0xFFD9
)

// maxProgressions bounds the progression order changes of one tile: each costs a walk over its packets.
const maxProgressions = 64

var errCut = errors.New("the codestream is truncated")

// imageSize is what the SIZ segment says: the image and tile areas on the reference grid.
type imageSize struct {
	x0, y0, x1, y1         int
	tileW, tileH           int
	tileX0, tileY0         int
	tilesAcross, tilesDown int
	components             []struct {
		bits   int
		signed bool
	}
}

// codestream is a parsed codestream, its packets still to be read.
type codestream struct {
	size  imageSize
	tiles []tileData
}

// tileData collects what the tile-parts of one tile hold.
type tileData struct {
	params    *params // nil before the first tile-part
	ownParams bool    // params are not those of the main header
	parts     int
	body      []byte // packets of all tile-parts
	packed    []ppt  // packed packet headers
	headers   []byte // the same, joined
}

// ppt is a numbered piece of packed packet headers.
type ppt struct {
	index int
	data  []byte
}

// parse reads all marker segments and divides the data by tiles.
func parse(src []byte, maxSamples int) (*codestream, error) {
	cs := &codestream{}
	r := &segments{src: src, pos: 2}
	p := &params{}
	var packed []ppt
	for {
		marker, body, err := r.next()
		if err != nil {
			return nil, err
		}
		if cs.size.components == nil && marker != markerSIZ {
			return nil, errors.New("the codestream does not begin with its size")
		}
		switch marker {
		case markerSIZ:
			if cs.size.components != nil {
				return nil, errors.New("the codestream declares its size twice")
			}
			if err := cs.size.parse(body, maxSamples); err != nil {
				return nil, err
			}
			p.components = make([]componentParams, len(cs.size.components))
		case markerPPM:
			if len(body) < 1 {
				return nil, errCut
			}
			packed = append(packed, ppt{int(body[0]), body[1:]})
		case markerSOT:
			if err := p.complete(); err != nil {
				return nil, err
			}
			cs.tiles = make([]tileData, cs.size.tilesAcross*cs.size.tilesDown)
			if err := cs.tileParts(r, body, p, join(packed), packed != nil); err != nil {
				return nil, err
			}
			return cs, nil
		default:
			if err := p.segment(marker, body, false); err != nil {
				return nil, err
			}
		}
	}
}

// join puts numbered pieces in order.
func join(pieces []ppt) []byte {
	slices.SortStableFunc(pieces, func(a, b ppt) int { return a.index - b.index })
	if len(pieces) == 1 {
		return pieces[0].data
	}
	var all []byte
	for _, p := range pieces {
		all = append(all, p.data...)
	}
	return all
}

// tileParts reads all tile-parts; sot is the body of the first SOT segment, main the main header's
// parameters, packed the packet headers of PPM segments.
func (cs *codestream) tileParts(r *segments, sot []byte, main *params, packed []byte, hasPacked bool) error {
	for {
		start := r.pos - len(sot) - 4
		if len(sot) != 8 {
			return errors.New("a tile-part header has a wrong length")
		}
		index, length, part := int(binary.BigEndian.Uint16(sot)), int(binary.BigEndian.Uint32(sot[2:])), int(sot[6])
		if index >= len(cs.tiles) {
			return fmt.Errorf("a tile-part of tile %d, but there are %d tiles", index, len(cs.tiles))
		}
		end := len(r.src)
		switch {
		case length == 0: // to the end of the codestream
			if i := bytes.LastIndex(r.src[r.pos:], []byte{0xFF, markerEOC & 0xFF}); i >= 0 {
				end = r.pos + i
			}
		case length < 14 || length > len(r.src)-start:
			return errCut
		default:
			end = start + length
		}
		t := &cs.tiles[index]
		if part != t.parts {
			return fmt.Errorf("tile %d: tile-part %d where %d was due", index, part, t.parts)
		}
		t.parts++
		if t.params == nil {
			t.params = main
		}
		if err := t.readPart(r, end); err != nil {
			return fmt.Errorf("tile %d: %w", index, err)
		}
		if hasPacked {
			if len(packed) < 4 {
				return errCut
			}
			n := binary.BigEndian.Uint32(packed)
			if uint64(n) > uint64(len(packed)-4) {
				return errCut
			}
			t.packed = append(t.packed, ppt{part, packed[4 : 4+n]})
			packed = packed[4+n:]
		}
		r.pos = end
		if len(r.src)-r.pos < 2 || binary.BigEndian.Uint16(r.src[r.pos:]) != markerSOT {
			// EOC, or nothing: whether the packets are all there shows when they are read.
			break
		}
		var err error
		if _, sot, err = r.next(); err != nil {
			return err
		}
	}
	for i := range cs.tiles {
		t := &cs.tiles[i]
		if t.params == nil {
			return fmt.Errorf("tile %d is missing: %w", i, errCut)
		}
		if t.packed != nil {
			t.headers = join(t.packed)
		}
	}
	return nil
}

// readPart reads the header of a tile-part and takes the data up to offset end.
func (t *tileData) readPart(r *segments, end int) error {
	for {
		marker, body, err := r.next()
		if err != nil {
			return err
		}
		if r.pos > end {
			return errCut
		}
		switch marker {
		case markerSOD:
			if t.body == nil {
				t.body = r.src[r.pos:end:end]
			} else {
				t.body = append(t.body, r.src[r.pos:end]...)
			}
			return nil
		case markerPPT:
			if len(body) < 1 {
				return errCut
			}
			t.packed = append(t.packed, ppt{t.parts<<8 | int(body[0]), body[1:]})
		case markerSIZ, markerSOT, markerPPM, markerCAP:
			return fmt.Errorf("marker %04X in a tile-part header", marker)
		case markerCOD, markerCOC, markerQCD, markerQCC, markerRGN, markerPOC:
			if !t.ownParams {
				t.params, t.ownParams = t.params.clone(), true
			}
			if err := t.params.segment(marker, body, true); err != nil {
				return err
			}
		}
	}
}

// segments steps through marker segments.
type segments struct {
	src []byte
	pos int
}

// next returns the next marker and the body of its segment (empty for SOD, which has none).
func (r *segments) next() (marker int, body []byte, err error) {
	if len(r.src)-r.pos < 2 {
		return 0, nil, errCut
	}
	marker = int(binary.BigEndian.Uint16(r.src[r.pos:]))
	r.pos += 2
	if marker == markerSOD {
		return marker, nil, nil
	}
	if marker < 0xFF00 || marker == markerEOC || marker >= 0xFF30 && marker <= 0xFF3F {
		return 0, nil, fmt.Errorf("bytes %04X where a marker segment was due", marker)
	}
	if len(r.src)-r.pos < 2 {
		return 0, nil, errCut
	}
	n := int(binary.BigEndian.Uint16(r.src[r.pos:]))
	if n < 2 || n > len(r.src)-r.pos {
		return 0, nil, errCut
	}
	body = r.src[r.pos+2 : r.pos+n]
	r.pos += n
	return marker, body, nil
}

// parse reads a SIZ segment and checks it against the limit of samples.
func (s *imageSize) parse(b []byte, maxSamples int) error {
	if len(b) < 36 {
		return errCut
	}
	var v [8]int
	for i := range v {
		u := binary.BigEndian.Uint32(b[2+4*i:])
		if i != 4 && i != 5 && u > 1<<31-1 {
			return errors.New("the image area is not usable")
		}
		v[i] = int(min(u, 1<<31-1)) // a tile may reach beyond any image
	}
	*s = imageSize{x1: v[0], y1: v[1], x0: v[2], y0: v[3], tileW: v[4], tileH: v[5], tileX0: v[6], tileY0: v[7]}
	n := int(binary.BigEndian.Uint16(b[34:]))
	w, h := s.x1-s.x0, s.y1-s.y0
	switch {
	case w < 1 || h < 1 || s.tileW < 1 || s.tileH < 1 || s.tileX0 > s.x0 || s.tileY0 > s.y0 ||
		s.tileX0+s.tileW <= s.x0 || s.tileY0+s.tileH <= s.y0:
		return errors.New("the image and tile areas contradict each other")
	case n < 1 || len(b) < 36+3*n:
		return errCut
	case n > 4:
		return fmt.Errorf("%d components are not supported", n)
	case int64(w)*int64(h) > int64(maxSamples)/int64(n):
		return fmt.Errorf("the codestream declares %d x %d pixels, more than expected", w, h)
	}
	s.tilesAcross = ceilDiv(s.x1-s.tileX0, s.tileW)
	s.tilesDown = ceilDiv(s.y1-s.tileY0, s.tileH)
	if int64(s.tilesAcross)*int64(s.tilesDown) > 65535 {
		return fmt.Errorf("%d x %d tiles are more than a codestream can hold", s.tilesAcross, s.tilesDown)
	}
	s.components = make([]struct {
		bits   int
		signed bool
	}, n)
	for i := range s.components {
		c, f := &s.components[i], b[36+3*i:]
		c.bits, c.signed = int(f[0]&0x7F)+1, f[0]&0x80 != 0
		if c.bits > 24 {
			return fmt.Errorf("%d bits per sample are not supported", c.bits)
		}
		if f[1] != 1 || f[2] != 1 {
			return errors.New("subsampled components are not supported")
		}
	}
	return nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
