package modelfile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/atomicfile"
)

const (
	metadataKey = "__metadata__"
	maxHeader   = 100_000_000 // bytes; the limit the format sets
)

// headerEntry is one tensor in the header of the format.
type headerEntry struct {
	DType   string  `json:"dtype"`
	Shape   []int   `json:"shape"`
	Offsets []int64 `json:"data_offsets"` // first byte and the one after the last, from the end of the header
}

// SaveTensors writes tensors and string metadata to a safetensors file, replacing path in one step
// (see [atomicfile.Write]). Integers come first, then floats, each sorted by name, so that every
// tensor starts at a multiple of its element size; the order of the argument does not matter.
func SaveTensors(path string, tensors []Tensor, metadata map[string]string) error {
	sorted := slices.Clone(tensors)
	slices.SortFunc(sorted, func(a, b Tensor) int {
		if a.DType() != b.DType() {
			return -strings.Compare(string(a.DType()), string(b.DType()))
		}
		return strings.Compare(a.Name, b.Name)
	})
	header, err := encodeHeader(sorted, metadata)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		if _, err := w.Write(header); err != nil {
			return err
		}
		for _, t := range sorted {
			if t.Load != nil {
				t.F32, t.Load = t.Load(), nil
				if err := t.check(); err != nil {
					return err
				}
			}
			if err := writeValues(w, t); err != nil {
				return err
			}
		}
		return nil
	})
}

// encodeHeader returns the length word and the header, padded with spaces to a multiple of eight
// bytes, for tensors stored in the given order.
func encodeHeader(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	b.WriteByte('{')
	comma := ""
	if len(metadata) > 0 {
		text, err := marshal(metadata)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", metadataKey, text)
		comma = ","
	}
	seen := make(map[string]bool, len(tensors))
	offset := int64(0)
	for _, t := range tensors {
		if err := t.check(); err != nil {
			return nil, err
		}
		if seen[t.Name] {
			return nil, fmt.Errorf("two tensors are named %q", t.Name)
		}
		seen[t.Name] = true
		count, err := elements(t.Shape)
		if err != nil {
			return nil, err
		}
		size := int64(4 * count)
		if t.DType() == I64 {
			size = int64(8 * count)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{} // a scalar is [], not null
		}
		name, err := marshal(t.Name)
		if err != nil {
			return nil, err
		}
		entry, err := marshal(headerEntry{string(t.DType()), shape, []int64{offset, offset + size}})
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s%s:%s", comma, name, entry)
		comma = ","
		offset += size
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len()-8 > maxHeader {
		return nil, fmt.Errorf("names and metadata take %d bytes, the format allows %d", b.Len()-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(b.Len()-8))
	return b.Bytes(), nil
}

// marshal is json.Marshal without the escapes meant for HTML: map keys sorted, no spaces.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// chunk is the number of values converted at a time; it bounds the memory of saving and loading
// beyond the tensors themselves.
const chunk = 1 << 15

// writeValues writes the values of t in little-endian order.
func writeValues(w io.Writer, t Tensor) error {
	buf := make([]byte, 0, 8*min(chunk, len(t.F32)+len(t.I64)))
	for part := range slices.Chunk(t.F32, chunk) {
		buf = buf[:0]
		for _, x := range part {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(t.I64, chunk) {
		buf = buf[:0]
		for _, x := range part {
			buf = binary.LittleEndian.AppendUint64(buf, uint64(x))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
