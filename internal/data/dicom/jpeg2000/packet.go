package jpeg2000

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// errPacket is what a packet header that contradicts itself makes.
var errPacket = errors.New("a packet header is damaged")

// place is a precinct with its position on the reference grid, by which some progressions order it.
type place struct {
	component, resolution, index int
	x, y                         int
}

// readPackets reads all packets of the tile in the order of its progressions (T.800, B.12). Their headers
// lie in `packed`, or before each packet's data when there are none.
func (t *tile) readPackets(packed []byte) error {
	r := &packetReader{tile: t, body: t.body}
	if packed != nil {
		r.packed, r.hasPacked = packed, true
	}
	var places []place
	for c := range t.components {
		tc := &t.components[c]
		for k := range tc.resolutions {
			res := &tc.resolutions[k]
			down := tc.params.levels - k
			for i := range res.precincts {
				// A precinct comes at the reference position of its corner, moved into the tile.
				x := (res.x0>>res.precW + i%res.across) << (res.precW + down)
				y := (res.y0>>res.precH + i/res.across) << (res.precH + down)
				places = append(places, place{c, k, i, max(x, t.x0), max(y, t.y0)})
			}
		}
	}
	progressions := t.params.progressions
	if len(progressions) == 0 {
		progressions = []progression{{t.params.order, 0, 33, 0, len(t.components), t.params.layers}}
	}
	sorted := -1
	for _, g := range progressions {
		if g.order != sorted {
			slices.SortFunc(places, orders[g.order])
			sorted = g.order
		}
		if err := r.walk(places, &g); err != nil {
			return err
		}
	}
	for _, p := range places {
		if t.components[p.component].resolutions[p.resolution].precincts[p.index].next < t.params.layers {
			return errors.New("the progressions leave packets out")
		}
	}
	return nil
}

// orders sorts precincts for each progression order; layers are counted outside of it.
var orders = [5]func(a, b place) int{
	byResolution, // layer, resolution, component, position
	byResolution, // resolution, layer, component, position
	func(a, b place) int { // resolution, position, component, layer
		return cmp.Or(a.resolution-b.resolution, a.y-b.y, a.x-b.x, a.component-b.component, a.index-b.index)
	},
	func(a, b place) int { // position, component, resolution, layer
		return cmp.Or(a.y-b.y, a.x-b.x, a.component-b.component, a.resolution-b.resolution, a.index-b.index)
	},
	func(a, b place) int { // component, position, resolution, layer
		return cmp.Or(a.component-b.component, a.y-b.y, a.x-b.x, a.resolution-b.resolution, a.index-b.index)
	},
}

func byResolution(a, b place) int {
	return cmp.Or(a.resolution-b.resolution, a.component-b.component, a.index-b.index)
}

// walk reads the packets of one progression from places in its order.
func (r *packetReader) walk(places []place, g *progression) error {
	layers := min(g.layerEnd, r.tile.params.layers)
	inside := func(p place) bool {
		return p.resolution >= g.resStart && p.resolution < g.resEnd &&
			p.component >= g.componentStart && p.component < g.componentEnd
	}
	read := func(places []place, from, to int) error {
		for _, p := range places {
			if !inside(p) {
				continue
			}
			res := &r.tile.components[p.component].resolutions[p.resolution]
			for q := &res.precincts[p.index]; q.next < to && q.next >= from; q.next++ {
				if err := r.packet(q, q.next); err != nil {
					return err
				}
			}
		}
		return nil
	}
	switch g.order {
	case 0:
		for l := range layers {
			if err := read(places, l, l+1); err != nil {
				return err
			}
		}
		return nil
	case 1:
		for len(places) > 0 {
			n := 1
			for n < len(places) && places[n].resolution == places[0].resolution {
				n++
			}
			for l := range layers {
				if err := read(places[:n], l, l+1); err != nil {
					return err
				}
			}
			places = places[n:]
		}
		return nil
	}
	return read(places, 0, layers)
}

// packetReader reads packets one after another.
type packetReader struct {
	tile      *tile
	body      []byte // from the next packet on
	packed    []byte // from the next packed header on
	hasPacked bool
	fresh     []int32 // chunks of the packet being read
}

// packet reads the packet of one precinct and layer: header (T.800, B.10) and data.
func (r *packetReader) packet(p *precinct, layer int) error {
	if b := r.body; len(b) >= 6 && b[0] == 0xFF && b[1] == markerSOP&0xFF && r.tile.params.sop {
		r.body = b[6:]
	}
	h := &bitReader{data: r.body}
	if r.hasPacked {
		h.data = r.packed
	}
	r.fresh = r.fresh[:0]
	if h.bit() != 0 {
		for i := range p.bands {
			if err := r.bandHeader(h, &p.bands[i], layer); err != nil {
				return err
			}
		}
	}
	rest, ok := h.end()
	if !ok {
		return errCut
	}
	if len(rest) >= 2 && rest[0] == 0xFF && rest[1] == markerEPH&0xFF && r.tile.params.eph {
		rest = rest[2:]
	}
	if r.hasPacked {
		r.packed = rest
	} else {
		r.body = rest
	}
	offset := len(r.tile.body) - len(r.body)
	for _, i := range r.fresh {
		c := &r.tile.chunks[i]
		if int(c.length) > len(r.tile.body)-offset {
			return errCut
		}
		c.offset = int32(offset)
		offset += int(c.length)
	}
	r.body = r.tile.body[offset:]
	return nil
}

// bandHeader reads what a packet header says of the code-blocks of one band.
func (r *packetReader) bandHeader(h *bitReader, pb *precinctBand, layer int) error {
	for i := range pb.blocks {
		b := &pb.blocks[i]
		var included bool
		if b.lengthBits == 0 {
			included = pb.inclusion.below(h, i%pb.across, i/pb.across, layer+1)
		} else {
			included = h.bit() != 0
		}
		if h.short {
			return errCut
		}
		if !included {
			continue
		}
		if b.lengthBits == 0 {
			limit := 1
			for !pb.zeroPlanes.below(h, i%pb.across, i/pb.across, limit) {
				if limit++; limit > 100 || h.short {
					return errPacket
				}
			}
			b.zeroPlanes = uint8(limit - 1)
			b.lengthBits = 3
		}
		planes := pb.band.planes - int(b.zeroPlanes)
		if planes < 1 || planes > maxPlanes {
			return fmt.Errorf("a code-block of %d bit-planes is not supported", planes)
		}
		passes := h.passes()
		for h.bit() != 0 {
			if b.lengthBits++; b.lengthBits > 32 || h.short {
				return errPacket
			}
		}
		if err := r.lengths(h, b, pb.band.style, passes); err != nil {
			return err
		}
	}
	return nil
}

// lengths reads the lengths of the codeword segments that `passes` new passes of a code-block are in, and
// adds a chunk for each.
func (r *packetReader) lengths(h *bitReader, b *codeBlock, style, passes int) error {
	if style&styleHT != 0 {
		if int(b.passes) > 1 || b.passes == 1 && passes > 2 {
			return errors.New("several sets of HT passes in one code-block are not supported")
		}
		if b.passes == 0 {
			// Passes before the last set of three are only counted: they stand for bit-planes of zeros.
			left := (passes - 1) / 3
			b.zeroPlanes += uint8(left)
			length := h.bits(int(b.lengthBits) + bits.Len(uint(3*left+1)) - 1)
			if err := r.add(h, b, length, 1); err != nil {
				return err
			}
			passes -= 3*left + 1
		}
	}
	for passes > 0 {
		n := min(passes, segmentPasses(style, int(b.passes)))
		length := h.bits(int(b.lengthBits) + bits.Len(uint(n)) - 1)
		if err := r.add(h, b, length, n); err != nil {
			return err
		}
		passes -= n
	}
	return nil
}

// add adds a chunk to a code-block; where its data lie shows at the end of the header.
func (r *packetReader) add(h *bitReader, b *codeBlock, length uint64, passes int) error {
	if h.short || length > 1<<31-1 || int(b.passes)+passes > 3*maxPlanes {
		return errPacket
	}
	k := int32(len(r.tile.chunks))
	r.tile.chunks = append(r.tile.chunks, chunk{length: int32(length), next: -1, passes: int16(passes)})
	r.fresh = append(r.fresh, k)
	if b.first < 0 {
		b.first = k
	} else {
		r.tile.chunks[b.last].next = k
	}
	b.last = k
	b.passes += int16(passes)
	return nil
}

// segmentPasses returns how many passes the codeword segment still holds that pass number `pass` is in.
func segmentPasses(style, pass int) int {
	switch {
	case style&styleTermAll != 0:
		return 1
	case style&styleBypass == 0:
		return 1 << 14
	case pass < 10: // the first four bit-planes
		return 10 - pass
	case (pass-10)%3 == 0: // both raw passes
		return 2
	}
	return 1
}

// bitReader reads the bits of packet headers: after a byte FF follows a stuffed zero bit.
type bitReader struct {
	data  []byte
	pos   int
	last  byte
	left  uint // unread bits of last
	short bool
}

func (h *bitReader) bit() uint32 {
	if h.left == 0 {
		if h.pos >= len(h.data) {
			h.short = true
			return 0
		}
		h.left = 8
		if h.last == 0xFF {
			h.left = 7
		}
		h.last = h.data[h.pos]
		h.pos++
	}
	h.left--
	return uint32(h.last>>h.left) & 1
}

func (h *bitReader) bits(n int) uint64 {
	var v uint64
	for range n {
		v = v<<1 | uint64(h.bit())
	}
	return v
}

// passes reads the number of coding passes (T.800, table B.4).
func (h *bitReader) passes() int {
	if h.bit() == 0 {
		return 1
	}
	if h.bit() == 0 {
		return 2
	}
	if v := h.bits(2); v < 3 {
		return 3 + int(v)
	}
	if v := h.bits(5); v < 31 {
		return 6 + int(v)
	}
	return 37 + int(h.bits(7))
}

// end returns the bytes after the header, and false when it was cut.
func (h *bitReader) end() ([]byte, bool) {
	if h.last == 0xFF { // a stuffed byte follows
		if h.pos >= len(h.data) {
			return nil, false
		}
		h.pos++
	}
	return h.data[h.pos:], !h.short
}

// tagTree is a tree of minima over a grid (T.800, B.10.2).
type tagTree struct {
	levels []tagLevel // from the leaves to the root
}

type tagLevel struct {
	across int
	nodes  []tagNode
}

// tagNode has a value of at least low, and just that when known.
type tagNode struct {
	low   uint16
	known bool
}

func (t *tagTree) build(across, down int) {
	total, count := 0, 1
	for w, h := across, down; ; w, h = (w+1)/2, (h+1)/2 {
		total += w * h
		if w*h == 1 {
			break
		}
		count++
	}
	nodes := make([]tagNode, total)
	t.levels = make([]tagLevel, count)
	for i := range t.levels {
		n := across * down
		t.levels[i] = tagLevel{across, nodes[:n]}
		nodes = nodes[n:]
		across, down = (across+1)/2, (down+1)/2
	}
}

// below reads as many bits as it takes to know whether the value of leaf (x, y) is below limit.
func (t *tagTree) below(h *bitReader, x, y, limit int) bool {
	low := uint16(0)
	for l := len(t.levels) - 1; l >= 0; l-- {
		level := &t.levels[l]
		n := &level.nodes[y>>l*level.across+x>>l]
		n.low = max(n.low, low)
		for !n.known && int(n.low) < limit {
			if h.bit() != 0 {
				n.known = true
			} else {
				n.low++
				if h.short {
					return false
				}
			}
		}
		low = n.low
		if l == 0 {
			return n.known && int(n.low) < limit
		}
	}
	return false
}
