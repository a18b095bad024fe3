// Package jpegmark reads the outer form that all JPEG streams share (ITU-T T.81, annex B): markers, and the segments
// of parameters behind them.
package jpegmark

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Markers, the byte behind 0xFF (T.81, table B.1; T.87 for JPEG-LS).
const (
	TEM  = 0x01
	SOF0 = 0xC0 // baseline
	SOF1 = 0xC1 // extended sequential
	SOF2 = 0xC2 // progressive
	SOF3 = 0xC3 // lossless
	DHT  = 0xC4
	JPG  = 0xC8
	DAC  = 0xCC
	RST0 = 0xD0
	RST7 = 0xD7
	SOI  = 0xD8
	EOI  = 0xD9
	SOS  = 0xDA
	DQT  = 0xDB
	DNL  = 0xDC
	DRI  = 0xDD
	DHP  = 0xDE
	EXP  = 0xDF

	SOF55 = 0xF7 // JPEG-LS
	LSE   = 0xF8 // JPEG-LS parameters
)

// ErrCut says that a stream ends too early.
var ErrCut = errors.New("the JPEG stream is cut")

// IsFrame reports whether a marker begins a frame of T.81 or announces hierarchical ones.
func IsFrame(m byte) bool {
	return m >= SOF0 && m <= 0xCF && m != DHT && m != JPG && m != DAC || m == DHP
}

// IsRestart reports whether a marker is one of the eight restart markers.
func IsRestart(m byte) bool { return m >= RST0 && m <= RST7 }

// Stream is what is left of a stream.
type Stream []byte

// Open returns what follows the marker at the start of a stream.
func Open(src []byte) (Stream, error) {
	if len(src) < 2 || src[0] != 0xFF || src[1] != SOI {
		return nil, errors.New("the data do not begin with a JPEG marker")
	}
	return src[2:], nil
}

// Marker reads the next marker, with the fill bytes before it.
func (s *Stream) Marker() (byte, error) {
	for i := 0; i+1 < len(*s); i++ {
		if (*s)[i] != 0xFF {
			return 0, fmt.Errorf("the JPEG stream holds byte %#02x where a marker must be", (*s)[i])
		}
		if m := (*s)[i+1]; m != 0xFF {
			*s = (*s)[i+2:]
			return m, nil
		}
	}
	return 0, ErrCut
}

// Restart reads the marker that begins restart interval number n, counted from 1.
func (s *Stream) Restart(n int) error {
	marker, err := s.Marker()
	if err != nil {
		return err
	}
	if want := RST0 + byte((n-1)%8); marker != want {
		return fmt.Errorf("the JPEG stream holds marker %#02x instead of restart marker %#02x", marker, want)
	}
	return nil
}

// Segment reads the parameters that follow a marker.
func (s *Stream) Segment() ([]byte, error) {
	if len(*s) < 2 {
		return nil, ErrCut
	}
	n := int(binary.BigEndian.Uint16(*s))
	if n < 2 {
		return nil, errors.New("a JPEG segment has no length")
	}
	if n > len(*s) {
		return nil, ErrCut
	}
	parameters := (*s)[2:n]
	*s = (*s)[n:]
	return parameters, nil
}
