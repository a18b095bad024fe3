package nifti

import (
	"encoding/binary"
	"math"
	"slices"
)

// convert turns stored voxels into HU, len(src) = len(dst)·voxelBytes. It may reorder src. Scaling is
// done in double precision and rounded once.
func (h *header) convert(dst []float32, src []byte) {
	if h.BigEndian && h.voxelBytes > 1 {
		for i := 0; i < len(src); i += h.voxelBytes {
			slices.Reverse(src[i : i+h.voxelBytes])
		}
	}
	little := binary.LittleEndian
	switch h.DType {
	case Uint8:
		for i := range dst {
			dst[i] = h.scaled(float64(src[i]))
		}
	case Int8:
		for i := range dst {
			dst[i] = h.scaled(float64(int8(src[i])))
		}
	case Int16:
		for i := range dst {
			dst[i] = h.scaled(float64(int16(little.Uint16(src[2*i:]))))
		}
	case Uint16:
		for i := range dst {
			dst[i] = h.scaled(float64(little.Uint16(src[2*i:])))
		}
	case Int32:
		for i := range dst {
			dst[i] = h.scaled(float64(int32(little.Uint32(src[4*i:]))))
		}
	case Uint32:
		for i := range dst {
			dst[i] = h.scaled(float64(little.Uint32(src[4*i:])))
		}
	case Int64:
		for i := range dst {
			dst[i] = h.scaled(float64(int64(little.Uint64(src[8*i:]))))
		}
	case Uint64:
		for i := range dst {
			dst[i] = h.scaled(float64(little.Uint64(src[8*i:])))
		}
	case Float32:
		for i := range dst {
			dst[i] = h.scaled(float64(math.Float32frombits(little.Uint32(src[4*i:]))))
		}
	case Float64:
		for i := range dst {
			dst[i] = h.scaled(math.Float64frombits(little.Uint64(src[8*i:])))
		}
	}
}

// scaled applies slope and intercept. The inner conversion keeps the product from being fused with the
// sum, which would make the last bit depend on the processor.
func (h *header) scaled(x float64) float32 {
	return float32(float64(x*h.Slope) + h.Inter)
}
