package cache

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/klauspost/compress/zstd"
)

// An entry is a file of this form, numbers in little-endian order:
//
//	 0  8 bytes  magic
//	 8  uint32   CRC-32C of everything after it
//	12  uint8    encoding
//	13  3 bytes  zero
//	16  32 bytes key
//	48  uint64   number of values
//	56  float64  lo, the least value  (encoding steps16)
//	64  float64  step                 (encoding steps16)
//	72  uint32   bytes of the warnings
//	76  uint32   zero
//	80  ...      warnings, a JSON list of texts
//	    ...      the values, zstd
const (
	magic      = "CTCLASS\x01"
	headBytes  = 80
	checkFrom  = 12
	maxWarning = 1 << 20 // bytes of warnings
	maxValues  = 1 << 36
)

// Sample is what the cache keeps of a scan.
type Sample struct {
	Voxels   []float32
	Warnings []string // about the scan and its preprocessing
}

// errDamaged is wrapped by every error about an entry's content.
var errDamaged = errors.New("damaged")

func damagedf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errDamaged}, args...)...)
}

// encode writes an entry.
func encode(z *zstd.Encoder, key Key, p packed, warnings []string) ([]byte, error) {
	notes, err := json.Marshal(warnings)
	if err != nil {
		return nil, err
	}
	if len(notes) > maxWarning {
		return nil, fmt.Errorf("%d bytes of warnings are too many for the cache", len(notes))
	}
	le := binary.LittleEndian
	b := make([]byte, headBytes, headBytes+len(notes)+len(p.planes)/2)
	copy(b, magic)
	b[checkFrom] = byte(p.encoding)
	copy(b[16:], key[:])
	le.PutUint64(b[48:], uint64(p.n))
	le.PutUint64(b[56:], math.Float64bits(p.lo))
	le.PutUint64(b[64:], math.Float64bits(p.step))
	le.PutUint32(b[72:], uint32(len(notes)))
	b = append(b, notes...)
	b = z.EncodeAll(p.planes, b)
	le.PutUint32(b[8:], crc32.Checksum(b[checkFrom:], crc32.MakeTable(crc32.Castagnoli)))
	return b, nil
}

// head is the front of an entry.
type head struct {
	encoding encoding
	key      Key
	values   int
	lo, step float64
	warnings int // bytes
}

// readHead reads the front of an entry, whose checksum is not looked at.
func readHead(b []byte) (head, error) {
	if len(b) < headBytes {
		return head{}, damagedf("it is cut at byte %d", len(b))
	}
	if string(b[:len(magic)]) != magic {
		return head{}, damagedf("it is no entry of a cache")
	}
	le := binary.LittleEndian
	h := head{
		encoding: encoding(b[checkFrom]), key: Key(b[16:48]), lo: math.Float64frombits(le.Uint64(b[56:])),
		step: math.Float64frombits(le.Uint64(b[64:])), warnings: int(le.Uint32(b[72:])),
	}
	values := le.Uint64(b[48:])
	switch {
	case h.encoding < steps16 || h.encoding > single:
		return head{}, damagedf("unknown encoding %d", h.encoding)
	case values > maxValues || h.warnings > maxWarning:
		return head{}, damagedf("it claims %d values and %d bytes of warnings", values, h.warnings)
	}
	h.values = int(values)
	return h, nil
}

// decode reads an entry. Nothing is allocated for more than the bytes that are there: the checksum comes first, and
// the size that the compressed values declare must be that of the head.
func decode(z *zstd.Decoder, key Key, b []byte) (packed, []string, error) {
	h, err := readHead(b)
	if err != nil {
		return packed{}, nil, err
	}
	if sum := crc32.Checksum(b[checkFrom:], crc32.MakeTable(crc32.Castagnoli)); sum != binary.LittleEndian.Uint32(b[8:]) {
		return packed{}, nil, damagedf("its checksum is wrong")
	}
	if h.key != key {
		return packed{}, nil, damagedf("it is the entry of another key")
	}
	if headBytes+h.warnings > len(b) {
		return packed{}, nil, damagedf("it is cut in its warnings")
	}
	var warnings []string
	if err := json.Unmarshal(b[headBytes:headBytes+h.warnings], &warnings); err != nil {
		return packed{}, nil, damagedf("its warnings cannot be read: %v", err)
	}
	payload := b[headBytes+h.warnings:]
	size := uint64(h.values * h.encoding.width())
	var frame zstd.Header
	// A frame of less than 256 bytes need not say its size.
	if err := frame.Decode(payload); err != nil || frame.HasFCS && frame.FrameContentSize != size || !frame.HasFCS && size >= 256 {
		return packed{}, nil, damagedf("its values are not %d bytes", size)
	}
	planes, err := z.DecodeAll(payload, make([]byte, 0, size))
	if err != nil || uint64(len(planes)) != size {
		return packed{}, nil, damagedf("its values cannot be unpacked: %v", err)
	}
	return packed{h.encoding, h.lo, h.step, h.values, planes}, warnings, nil
}
