package dicom

import "encoding/binary"

// words is the number of different 16-bit words.
const words = 1 << 16

// wordTable holds the Hounsfield units of every 16-bit word: one look-up does what masking, sign, rescale or
// Modality LUT and padding do to a pixel. The slices of a series mostly share one table.
type wordTable struct {
	key wordKey
	hu  *[words]float32
}

// wordKey is everything that the table depends on.
type wordKey struct {
	bits, high       int
	signed, asStored bool
	slope, intercept float64
	lut              *modalityLUT
	padded           bool
	low, last        int64
	order            binary.ByteOrder
}

func keyOf(h *Header, order binary.ByteOrder, asStored bool) wordKey {
	return wordKey{
		bits: h.BitsStored, high: h.HighBit, signed: h.Signed, asStored: asStored,
		slope: h.Slope, intercept: h.Intercept, lut: h.lut,
		padded: h.HasPadding, low: h.PaddingLow, last: h.PaddingHigh, order: order,
	}
}

// newWordTable puts every word through the plain way.
func newWordTable(h *Header, order binary.ByteOrder, asStored bool) *wordTable {
	all := *h
	all.Rows, all.Columns = 1, words
	s := slice{raw: make([]byte, 2*words)}
	for w := range words {
		binary.LittleEndian.PutUint16(s.raw[2*w:], uint16(w))
	}
	s.unpack(&all, order)
	t := &wordTable{key: keyOf(h, order, asStored), hu: new([words]float32)}
	s.rescale(t.hu[:], &all, asStored)
	return t
}

func (t *wordTable) serves(h *Header, order binary.ByteOrder, asStored bool) bool {
	return t.key == keyOf(h, order, asStored)
}

// apply looks up the words of raw, two bytes each in the file's order; the table knows that order.
func (t *wordTable) apply(dst []float32, raw []byte) {
	raw = raw[:2*len(dst)]
	for len(dst) >= 4 && len(raw) >= 8 {
		w := binary.LittleEndian.Uint64(raw)
		dst[0] = t.hu[uint16(w)]
		dst[1] = t.hu[uint16(w>>16)]
		dst[2] = t.hu[uint16(w>>32)]
		dst[3] = t.hu[uint16(w>>48)]
		dst, raw = dst[4:], raw[8:]
	}
	for i := range dst {
		dst[i] = t.hu[binary.LittleEndian.Uint16(raw[2*i:])]
	}
}
