// Package jpeg2000 decodes JPEG 2000 codestreams: Part 1 (ITU-T T.800) and its high-throughput block coder
// (HTJ2K, ITU-T T.814), as DICOM stores them. All of Part 1's coding options are read, except that
// components must share one sampling grid and a code-block may hold at most 30 bit-planes.
//
// A codestream must be whole: one that ends early or misses packets is an error, never a coarser image.
package jpeg2000

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Image is a decoded image.
type Image struct {
	Width, Height int
	Components    []Component
}

// Component is one sample plane of an image.
type Component struct {
	Bits    int     // precision of a sample
	Signed  bool    // whether the codestream declares its samples signed
	Samples []int32 // [Height][Width], within the range of Bits and Signed
}

// Decode decodes a codestream, or the one in a JP2 file. The image may have at most maxSamples samples,
// counted over all components: this bounds memory (about 16 bytes for a sample) and time.
func Decode(src []byte, maxSamples int) (*Image, error) {
	src, err := unwrap(src)
	if err != nil {
		return nil, err
	}
	if len(src) > math.MaxInt32 {
		return nil, errors.New("a codestream of more than 2 GB is not supported")
	}
	cs, err := parse(src, maxSamples)
	if err != nil {
		return nil, err
	}
	s := &cs.size
	width := s.x1 - s.x0
	img := &Image{Width: width, Height: s.y1 - s.y0, Components: make([]Component, len(s.components))}
	for i, c := range s.components {
		img.Components[i] = Component{c.bits, c.signed, make([]int32, width*img.Height)}
	}
	d := &tileDecoder{size: s}
	for i := range cs.tiles {
		if err := d.decode(i, &cs.tiles[i], img); err != nil {
			return nil, fmt.Errorf("tile %d: %w", i, err)
		}
	}
	return img, nil
}

// unwrap returns the codestream of a JP2 file, or src itself when it is a bare codestream.
func unwrap(src []byte) ([]byte, error) {
	if len(src) >= 2 && src[0] == 0xFF && src[1] == markerSOC&0xFF {
		return src, nil
	}
	if len(src) < 12 || !bytes.Equal(src[4:8], []byte("jP  ")) {
		return nil, errors.New("not a JPEG 2000 codestream")
	}
	for rest := src; len(rest) >= 8; {
		length, head := uint64(binary.BigEndian.Uint32(rest)), uint64(8)
		if length == 1 && len(rest) >= 16 {
			length, head = binary.BigEndian.Uint64(rest[8:]), 16
		}
		if length == 0 {
			length = uint64(len(rest))
		}
		if length < head || length > uint64(len(rest)) {
			break
		}
		if string(rest[4:8]) == "jp2c" {
			return rest[head:length], nil
		}
		rest = rest[length:]
	}
	return nil, errors.New("the JP2 file holds no whole codestream")
}

// finish undoes the component transform and the level shift, and clips: the last steps to samples.
// The tile's planes lie in d.planes.
func (d *tileDecoder) finish(t *tile, img *Image) {
	if t.params.transform {
		if p := d.planes; p[0].reversible {
			inverseRCT(p[0].ints, p[1].ints, p[2].ints)
		} else {
			inverseICT(p[0].floats, p[1].floats, p[2].floats)
		}
	}
	w, h := t.x1-t.x0, t.y1-t.y0
	for c := range img.Components {
		out := &img.Components[c]
		low, high := int32(0), int32(1)<<out.Bits-1
		shift := int32(1) << (out.Bits - 1)
		if out.Signed {
			low, high, shift = -shift, shift-1, 0
		}
		p := &d.planes[c]
		for y := range h {
			at := (t.y0-d.size.y0+y)*img.Width + t.x0 - d.size.x0
			dst := out.Samples[at : at+w]
			if p.reversible {
				for x, v := range p.ints[y*w : y*w+w][:len(dst)] {
					dst[x] = min(max(v+shift, low), high)
				}
				continue
			}
			for x, v := range p.floats[y*w : y*w+w][:len(dst)] {
				// Limits first: beyond the range of int32 a conversion is undefined. NaN becomes low.
				f := math.RoundToEven(float64(v)) + float64(shift)
				switch {
				case f >= float64(high):
					dst[x] = high
				case f > float64(low):
					dst[x] = int32(f)
				default:
					dst[x] = low
				}
			}
		}
	}
}

// inverseRCT undoes the reversible component transform (T.800, G.2).
func inverseRCT(y, u, v []int32) {
	u, v = u[:len(y)], v[:len(y)]
	for i := range y {
		g := y[i] - (u[i]+v[i])>>2
		y[i], u[i], v[i] = v[i]+g, g, u[i]+g
	}
}

// inverseICT undoes the irreversible component transform (T.800, G.3).
func inverseICT(y, cb, cr []float32) {
	cb, cr = cb[:len(y)], cr[:len(y)]
	for i := range y {
		l, b, r := y[i], cb[i], cr[i]
		y[i], cb[i], cr[i] = l+1.402*r, l-0.344136*b-0.714136*r, l+1.772*b
	}
}
