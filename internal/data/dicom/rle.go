package dicom

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// decodeRLE decodes RLE Lossless (PS3.5, annex G): one segment for each byte of a sample, the most
// significant first, each packed in runs.
func decodeRLE(stream []byte, h *Header) ([]byte, error) {
	if len(stream) < 64 {
		return nil, errors.New("the segment table is cut")
	}
	planes := h.BitsAllocated / 8
	if got := binary.LittleEndian.Uint32(stream); got != uint32(planes) {
		return nil, fmt.Errorf("%d segments, expected %d", got, planes)
	}
	pixels := h.Rows * h.Columns
	// A run of two bytes makes at most 128: a size beyond that is not backed by data.
	if int64(pixels)*int64(planes) > 64*int64(len(stream)) {
		return nil, fmt.Errorf("%d bytes cannot hold %d pixels", len(stream), pixels)
	}
	out := make([]byte, pixels*planes)
	for p := range planes {
		start, end := int64(binary.LittleEndian.Uint32(stream[4+4*p:])), int64(len(stream))
		if p+1 < planes {
			end = int64(binary.LittleEndian.Uint32(stream[8+4*p:]))
		}
		if start < 64 || start > end || end > int64(len(stream)) {
			return nil, fmt.Errorf("segment %d lies outside the data", p+1)
		}
		if !unpackBits(out[planes-1-p:], planes, pixels, stream[start:end]) {
			return nil, fmt.Errorf("segment %d is cut", p+1)
		}
	}
	return out, nil
}

// unpackBits unpacks n bytes of one segment to every stride-th byte of dst. It reports false when the
// segment ends early.
func unpackBits(dst []byte, stride, n int, src []byte) bool {
	for i := 0; i < n; {
		if len(src) == 0 {
			return false
		}
		control := int(int8(src[0]))
		src = src[1:]
		switch {
		case control >= 0: // the next control+1 bytes as they are
			count := min(control+1, n-i)
			if len(src) < count {
				return false
			}
			for k := range count {
				dst[(i+k)*stride] = src[k]
			}
			i += count
			src = src[min(control+1, len(src)):]
		case control > -128: // one byte, 1-control times
			if len(src) == 0 {
				return false
			}
			count := min(1-control, n-i)
			for k := range count {
				dst[(i+k)*stride] = src[0]
			}
			i += count
			src = src[1:]
		}
	}
	return true
}
