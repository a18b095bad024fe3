package jpeg2000

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// pieces is a codestream of one tile taken apart at its markers. It must have SOP and EPH markers.
type pieces struct {
	main    []byte // marker segments of the main header
	packets []packetPieces
}

type packetPieces struct{ header, body []byte } // the header with its EPH

// takeApart takes sop_eph.j2k apart: 3 layers of 3 resolutions with one precinct each, LRCP.
func takeApart(t *testing.T) (*vector, *pieces, [][]int32) {
	t.Helper()
	var v *vector
	for i := range partOne {
		if partOne[i].name == "sop_eph.j2k" {
			v = &partOne[i]
		}
	}
	src, want := v.read(t)
	sot := bytes.Index(src, []byte{0xFF, 0x90, 0, 10})
	p := &pieces{main: src[2:sot]}
	// After a byte FF no value above 8F occurs in headers and data: markers are found by their look.
	data := src[sot+14 : len(src)-2]
	for _, s := range bytes.Split(data, []byte{0xFF, 0x91, 0, 4})[1:] {
		s = s[2:]
		end := bytes.Index(s, []byte{0xFF, 0x92}) + 2
		p.packets = append(p.packets, packetPieces{s[:end], s[end:]})
	}
	if len(p.packets) != 9 {
		t.Fatalf("%d packets", len(p.packets))
	}
	return v, p, want
}

func segment(marker uint16, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, marker)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)+2))
	return append(b, body...)
}

// tilePart makes a tile-part of tile 0.
func tilePart(part, parts int, header, data []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(14+len(header)+len(data)))
	b = segment(markerSOT, append(b, byte(part), byte(parts))...)
	b = append(append(b, header...), 0xFF, 0x93)
	return append(b, data...)
}

func codestreamOf(parts ...[]byte) []byte {
	b := append([]byte{0xFF, 0x4F}, bytes.Join(parts, nil)...)
	return append(b, 0xFF, 0xD9)
}

func joined(p []packetPieces) (both, headers, bodies []byte) {
	for _, k := range p {
		both = append(append(both, k.header...), k.body...)
		headers = append(headers, k.header...)
		bodies = append(bodies, k.body...)
	}
	return both, headers, bodies
}

func TestProgressionOrderChange(t *testing.T) {
	v, p, want := takeApart(t)
	// Resolution 0 of layers 0 and 1, then everything else in LRCP order.
	var order []packetPieces
	for _, lr := range [][2]int{{0, 0}, {1, 0}, {0, 1}, {0, 2}, {1, 1}, {1, 2}, {2, 0}, {2, 1}, {2, 2}} {
		order = append(order, p.packets[3*lr[0]+lr[1]])
	}
	poc := segment(markerPOC,
		0, 0, 0, 2, 1, 1, 1, // resolutions 0 to 1, component 0 to 1, layers to 2, RLCP
		0, 0, 0, 3, 33, 1, 0)
	data, _, _ := joined(order)
	v.check(t, codestreamOf(p.main, tilePart(0, 1, poc, data)), want)
	v.check(t, codestreamOf(p.main, poc, tilePart(0, 1, nil, data)), want)
	// The tile's own order goes before the main header's.
	wrong := segment(markerPOC, 0, 0, 0, 3, 33, 1, 1)
	v.check(t, codestreamOf(p.main, wrong, tilePart(0, 1, poc, data)), want)
	// Packets that no order reaches.
	short := segment(markerPOC, 0, 0, 0, 2, 1, 1, 1, 0, 0, 0, 3, 2, 1, 0)
	if _, err := Decode(codestreamOf(p.main, short, tilePart(0, 1, nil, data)), 1<<16); err == nil {
		t.Error("a resolution left out: no error")
	}
}

func TestPackedHeaders(t *testing.T) {
	v, p, want := takeApart(t)
	_, headers, bodies := joined(p.packets)
	half := len(headers) / 2
	ppt := bytes.Join([][]byte{
		segment(markerPPT, append([]byte{1}, headers[half:]...)...), // out of order
		segment(markerPPT, append([]byte{0}, headers[:half]...)...),
	}, nil)
	v.check(t, codestreamOf(p.main, tilePart(0, 1, ppt, bodies)), want)

	// Two tile-parts; the packet headers of both in the main header, cut at odd places.
	_, firstHeaders, firstBodies := joined(p.packets[:4])
	_, secondHeaders, secondBodies := joined(p.packets[4:])
	var all []byte
	for _, h := range [][]byte{firstHeaders, secondHeaders} {
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(h))), h...)
	}
	ppm := bytes.Join([][]byte{
		segment(markerPPM, append([]byte{0}, all[:len(firstHeaders)+6]...)...),
		segment(markerPPM, append([]byte{1}, all[len(firstHeaders)+6:]...)...),
	}, nil)
	src := codestreamOf(p.main, ppm, tilePart(0, 0, nil, firstBodies), tilePart(1, 2, nil, secondBodies))
	v.check(t, src, want)
	for _, n := range []int{3, 4, len(all) - 1} {
		cut := segment(markerPPM, append([]byte{0}, all[:n]...)...)
		src := codestreamOf(p.main, cut, tilePart(0, 0, nil, firstBodies), tilePart(1, 2, nil, secondBodies))
		if _, err := Decode(src, 1<<16); err == nil {
			t.Errorf("packet headers cut after %d bytes: no error", n)
		}
	}
}

func TestTileParts(t *testing.T) {
	v, p, want := takeApart(t)
	a, _, _ := joined(p.packets[:2])
	b, _, _ := joined(p.packets[2:5])
	c, _, _ := joined(p.packets[5:])
	parts := [][]byte{tilePart(0, 0, nil, a), tilePart(1, 0, nil, b), tilePart(2, 3, nil, c)}
	v.check(t, codestreamOf(p.main, parts[0], parts[1], parts[2]), want)
	// The last may leave its length open.
	binary.BigEndian.PutUint32(parts[2][6:], 0)
	v.check(t, codestreamOf(p.main, parts[0], parts[1], parts[2]), want)
	if _, err := Decode(codestreamOf(p.main, parts[0], parts[2]), 1<<16); err == nil {
		t.Error("a missing tile-part: no error")
	}
	if _, err := Decode(codestreamOf(p.main, parts[0], parts[1]), 1<<16); err == nil {
		t.Error("the last tile-part missing: no error")
	}
}

// A component's own parameters, and a tile's, go before those of the main header, in the order of T.800, A.6.
func TestParameterPrecedence(t *testing.T) {
	v, p, want := takeApart(t)
	data, _, _ := joined(p.packets)
	find := func(marker byte) (before, body, after []byte) {
		i := bytes.Index(p.main, []byte{0xFF, marker})
		n := int(binary.BigEndian.Uint16(p.main[i+2:]))
		return p.main[:i], p.main[i+4 : i+2+n], p.main[i+2+n:]
	}
	before, cod, after := find(markerCOD & 0xFF)
	wrongCOD := bytes.Clone(cod)
	wrongCOD[6], wrongCOD[9] = 1, 0 // block width, wavelet
	coc := segment(markerCOC, append([]byte{0, 0}, cod[5:]...)...)
	wrongCOC := segment(markerCOC, append([]byte{0, 0}, wrongCOD[5:]...)...)
	main := func(segments ...[]byte) []byte {
		return bytes.Join(append(append([][]byte{before}, segments...), after), nil)
	}
	whole := tilePart(0, 1, nil, data)
	v.check(t, codestreamOf(main(segment(markerCOD, wrongCOD...), coc), whole), want)
	v.check(t, codestreamOf(main(coc, segment(markerCOD, wrongCOD...)), whole), want)
	v.check(t, codestreamOf(main(segment(markerCOD, wrongCOD...)), tilePart(0, 1, coc, data)), want)
	v.check(t, codestreamOf(main(wrongCOC, segment(markerCOD, wrongCOD...)),
		tilePart(0, 1, segment(markerCOD, cod...), data)), want)

	before, qcd, after := find(markerQCD & 0xFF)
	wrongQCD := bytes.Clone(qcd)
	wrongQCD[0] ^= 3 << 5 // guard bits
	qcc := segment(markerQCC, append([]byte{0}, qcd...)...)
	v.check(t, codestreamOf(main(segment(markerQCD, wrongQCD...), qcc), whole), want)
	v.check(t, codestreamOf(main(qcc), tilePart(0, 1, segment(markerQCC, append([]byte{0}, qcd...)...), data)), want)
	if _, err := Decode(codestreamOf(main(), whole), 1<<16); err == nil {
		t.Error("no quantization parameters: no error")
	}
}
