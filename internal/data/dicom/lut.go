package dicom

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// rawLUT is a Modality LUT as it stands in the file (PS3.3, C.11.1).
type rawLUT struct {
	descriptor, data []byte
	kind             string // ModalityLUTType
}

const (
	tagModalityLUT   tagID = 0x00283000
	tagLUTDescriptor tagID = 0x00283002
	tagLUTType       tagID = 0x00283004
	tagLUTData       tagID = 0x00283006

	maxLUT = 2 << 16 // bytes of the longest LUT
)

// modalityLUT reads the first item of the Modality LUT sequence, nil when it has none.
func (w *walker) modalityLUT(of element) (*rawLUT, error) {
	var lut *rawLUT
	items := 0
	begin := func() error {
		if items++; lut == nil {
			lut = new(rawLUT)
		}
		return nil
	}
	err := w.items(of, 1, begin, func(e element) error {
		wanted := e.tag == tagLUTDescriptor || e.tag == tagLUTType || e.tag == tagLUTData
		if !wanted || items > 1 || e.length > maxLUT {
			return w.skipValue(e, 2)
		}
		value, err := w.value(e)
		switch e.tag {
		case tagLUTDescriptor:
			lut.descriptor = value
		case tagLUTData:
			lut.data = value
		default:
			lut.kind = trimUID(value)
		}
		return err
	})
	return lut, err
}

// modalityLUT turns stored values into output values by a table.
type modalityLUT struct {
	first   int64 // stored value of the first entry
	entries []uint16
}

// newModalityLUT reads the table; signed is the sign of the pixels.
func newModalityLUT(raw *rawLUT, order binary.ByteOrder, signed bool) (*modalityLUT, error) {
	if len(raw.descriptor) < 6 {
		return nil, errors.New("the Modality LUT has no descriptor")
	}
	n, bits := int(order.Uint16(raw.descriptor)), int(order.Uint16(raw.descriptor[4:]))
	if n == 0 {
		n = 1 << 16
	}
	l := &modalityLUT{first: int64(order.Uint16(raw.descriptor[2:])), entries: make([]uint16, 0, n)}
	if signed {
		l.first = int64(int16(l.first))
	}
	switch {
	case bits < 8 || bits > 16:
		return nil, fmt.Errorf("a Modality LUT with entries of %d bits is not supported", bits)
	case len(raw.data) >= 2*n:
		for i := range n {
			l.entries = append(l.entries, order.Uint16(raw.data[2*i:]))
		}
	case bits == 8 && len(raw.data) >= n:
		for _, b := range raw.data[:n] {
			l.entries = append(l.entries, uint16(b))
		}
	default:
		return nil, fmt.Errorf("the Modality LUT is cut: %d bytes for %d entries of %d bits", len(raw.data), n, bits)
	}
	return l, nil
}

// value returns the entry of a stored value; beyond the ends of the table the last one there.
func (l *modalityLUT) value(stored int32) float32 {
	i := min(max(int64(stored)-l.first, 0), int64(len(l.entries)-1))
	return float32(l.entries[i])
}

func (l *modalityLUT) equal(other *modalityLUT) bool {
	if l == nil || other == nil {
		return l == other
	}
	return l.first == other.first && slices.Equal(l.entries, other.entries)
}
