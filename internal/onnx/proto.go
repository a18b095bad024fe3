package onnx

import (
	"encoding/binary"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// This file encodes the messages of onnx.proto (IR version 8) that an export needs. Weights are not part of
// the encoded bytes but written behind their headers, so that a large model is never in memory twice.

// The element types of TensorProto.
const (
	float32Type = 1
	int64Type   = 7
	float16Type = 10
)

func appendText(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendMessage(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}

func appendInt(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

// attribute is an AttributeProto: an int, a float or ints.
type attribute struct {
	name  string
	value any
}

func (a attribute) encode() []byte {
	b := appendText(nil, 1, a.name)
	switch v := a.value.(type) {
	case float64:
		b = protowire.AppendFixed32(protowire.AppendTag(b, 2, protowire.Fixed32Type), math.Float32bits(float32(v)))
		b = appendInt(b, 20, 1)
	case int:
		b = appendInt(b, 3, int64(v))
		b = appendInt(b, 20, 2)
	case []int:
		for _, x := range v {
			b = appendInt(b, 8, int64(x))
		}
		b = appendInt(b, 20, 7)
	default:
		panic("onnx: an attribute of an unknown type")
	}
	return b
}

// node is a NodeProto.
type node struct {
	op, name string
	in, out  []string
	attrs    []attribute
}

func (n node) encode() []byte {
	var b []byte
	for _, s := range n.in {
		b = appendText(b, 1, s)
	}
	for _, s := range n.out {
		b = appendText(b, 2, s)
	}
	b = appendText(b, 3, n.name)
	b = appendText(b, 4, n.op)
	for _, a := range n.attrs {
		b = appendMessage(b, 5, a.encode())
	}
	return b
}

// constant is a TensorProto with its values: integers, or floats that are stored as the export's type.
type constant struct {
	name  string
	shape []int
	ints  []int64
	f32   []float32
	half  bool
}

func (c constant) dtype() int64 {
	switch {
	case c.ints != nil:
		return int64Type
	case c.half:
		return float16Type
	}
	return float32Type
}

// rawBytes is the size of the values.
func (c constant) rawBytes() int {
	switch c.dtype() {
	case int64Type:
		return 8 * len(c.ints)
	case float16Type:
		return 2 * len(c.f32)
	}
	return 4 * len(c.f32)
}

// header is everything of the message but the values; the values' tag and length come last.
func (c constant) header() []byte {
	var b []byte
	for _, d := range c.shape {
		b = appendInt(b, 1, int64(d))
	}
	b = appendInt(b, 2, c.dtype())
	b = appendText(b, 8, c.name)
	b = protowire.AppendTag(b, 9, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(c.rawBytes()))
}

// write writes the values, little-endian.
func (c constant) write(w io.Writer) error {
	const chunk = 1 << 15
	buf := make([]byte, 0, 8*chunk)
	flush := func() error {
		_, err := w.Write(buf)
		buf = buf[:0]
		return err
	}
	for _, v := range c.ints {
		buf = binary.LittleEndian.AppendUint64(buf, uint64(v))
	}
	for i, v := range c.f32 {
		if c.half {
			buf = binary.LittleEndian.AppendUint16(buf, halfBits(v))
		} else {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		if i%chunk == chunk-1 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// halfBits rounds to IEEE 754 binary16, ties to even; what is too large becomes infinite.
func halfBits(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	x := math.Float64frombits(math.Float64bits(float64(v)) &^ (1 << 63))
	switch {
	case v != v:
		return sign | 0x7e00
	case x >= 65520: // half way from the largest number to the next power of two
		return sign | 0x7c00
	case x < 0x1p-14: // subnormal: multiples of 2⁻²⁴
		return sign | uint16(math.RoundToEven(x*0x1p24))
	}
	frac, exp := math.Frexp(x) // x = frac·2^exp, frac in [½, 1)
	// The mantissa's carry, if there is one, correctly moves into the exponent.
	return sign | (uint16(exp+13)<<10 + uint16(math.RoundToEven(frac*0x1p11)))
}

// valueInfo is a ValueInfoProto of float32 elements; a first size of 0 is the symbolic batch.
func valueInfo(name string, shape []int) []byte {
	var dims []byte
	for _, d := range shape {
		var dim []byte
		if d == 0 {
			dim = appendText(nil, 2, "batch")
		} else {
			dim = appendInt(nil, 1, int64(d))
		}
		dims = appendMessage(dims, 1, dim)
	}
	tensor := appendMessage(appendInt(nil, 1, float32Type), 2, dims)
	return appendMessage(appendText(nil, 1, name), 2, appendMessage(nil, 1, tensor))
}
