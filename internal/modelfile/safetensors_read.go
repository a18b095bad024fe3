package modelfile

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// elementBytes is the size of the element types that can be read.
func elementBytes(dtype string) (int64, bool) {
	switch dtype {
	case "F16", "BF16":
		return 2, true
	case "F32":
		return 4, true
	case "F64", "I64":
		return 8, true
	}
	return 0, false
}

// LoadTensors reads a safetensors file: its tensors sorted by name, and its metadata (never nil).
// F16, BF16 and F64 values become float32, a finite F64 beyond float32 is an error; I64 stays; any
// other element type is an error. Header length, offsets, shapes and the absence of gaps and
// overlaps are checked against the size of the file before a tensor is allocated.
func LoadTensors(path string) (tensors []Tensor, metadata map[string]string, err error) {
	err = open(path, func(r io.Reader, size int64) (err error) {
		tensors, metadata, err = decode(r, size)
		return err
	})
	return tensors, metadata, err
}

// EachTensor reads a safetensors file as [LoadTensors] does, but one tensor at a time. accept comes first,
// with the metadata and the tensors without their values, sorted by name; then take gets one after the other,
// whose floats are valid during the call only. An error of either ends the reading and is returned.
func EachTensor(path string, accept func(metadata map[string]string, tensors []Tensor) error, take func(Tensor) error) error {
	var refused error // not about the file
	err := open(path, func(r io.Reader, size int64) error {
		return decodeEach(r, size, true,
			func(m map[string]string, t []Tensor) error {
				refused = accept(m, t)
				return refused
			},
			func(t Tensor) error {
				refused = take(t)
				return refused
			})
	})
	if refused != nil {
		return refused
	}
	return err
}

// open calls read with the content and the size of the file.
func open(path string, read func(r io.Reader, size int64) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the model file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the model file: %w", err)
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a folder, expected a .safetensors file", path)
	}
	if err := read(f, info.Size()); err != nil {
		return fmt.Errorf("%s cannot be read as a safetensors file: %w", path, err)
	}
	return nil
}

// storedTensor is a tensor of the header, its place in the file checked.
type storedTensor struct {
	name     string
	dtype    string
	shape    []int
	from, to int64 // bytes from the end of the header
	count    int   // elements, set by checkLayout
}

// decode reads a safetensors file of size bytes from r.
func decode(r io.Reader, size int64) (tensors []Tensor, metadata map[string]string, err error) {
	err = decodeEach(r, size, false,
		func(m map[string]string, stored []Tensor) error {
			metadata, tensors = m, make([]Tensor, 0, len(stored))
			return nil
		},
		func(t Tensor) error {
			tensors = append(tensors, t)
			return nil
		})
	if err != nil {
		return nil, nil, err
	}
	sortByName(tensors)
	return tensors, metadata, nil
}

func sortByName(tensors []Tensor) {
	slices.SortFunc(tensors, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
}

// decodeEach is EachTensor on size bytes from r; reuse gives all tensors' floats the same memory.
func decodeEach(r io.Reader, size int64, reuse bool, accept func(map[string]string, []Tensor) error, take func(Tensor) error) error {
	header, err := readHeader(r, size)
	if err != nil {
		return err
	}
	stored, metadata, err := parseHeader(header)
	if err != nil {
		return err
	}
	if err := checkLayout(stored, size-8-int64(len(header))); err != nil {
		return err
	}
	var blank []Tensor
	for _, s := range stored {
		t := Tensor{Name: s.name, Shape: s.shape}
		if s.dtype == string(I64) {
			t.I64 = []int64{}
		}
		blank = append(blank, t)
	}
	sortByName(blank)
	if err := accept(metadata, blank); err != nil {
		return err
	}
	var floats []float32
	if reuse {
		most := 0
		for _, s := range stored {
			most = max(most, s.count)
		}
		floats = make([]float32, most)
	}
	for _, s := range stored { // in the order of the file: one pass
		t, err := readValues(r, s, floats)
		if err == nil {
			err = take(t)
		}
		if err != nil {
			return fmt.Errorf("tensor %q: %w", s.name, err)
		}
	}
	return nil
}

// readHeader reads the length word and the header.
func readHeader(r io.Reader, size int64) ([]byte, error) {
	var word [8]byte
	if size < 8 {
		return nil, fmt.Errorf("it has %d bytes, too few for the format", size)
	}
	if _, err := io.ReadFull(r, word[:]); err != nil {
		return nil, shortRead(err)
	}
	length := binary.LittleEndian.Uint64(word[:])
	if length > maxHeader || int64(length) > size-8 {
		return nil, fmt.Errorf("its header claims %d bytes, the file has %d and the format allows %d; it is cut short or of another format", length, size, maxHeader)
	}
	header := make([]byte, length)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, shortRead(err)
	}
	return header, nil
}

// parseHeader decodes the JSON of a header. It walks the top level itself, because repeated names
// would pass unseen through a map.
func parseHeader(header []byte) ([]storedTensor, map[string]string, error) {
	broken := func(err error) error { return fmt.Errorf("its header is not as the format wants: %w", err) }
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, broken(errors.New("it does not start with {"))
	}
	dec := json.NewDecoder(bytes.NewReader(header))
	dec.DisallowUnknownFields()
	if _, err := dec.Token(); err != nil {
		return nil, nil, broken(err)
	}
	var stored []storedTensor
	metadata := map[string]string{}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, nil, broken(err)
		}
		name, ok := token.(string)
		if !ok {
			return nil, nil, broken(fmt.Errorf("a tensor name is %v", token))
		}
		if seen[name] {
			return nil, nil, broken(fmt.Errorf("the name %q appears twice", name))
		}
		seen[name] = true
		if name == metadataKey {
			if err := dec.Decode(&metadata); err != nil {
				return nil, nil, broken(fmt.Errorf("%s: %w", metadataKey, err))
			}
			if metadata == nil { // null
				metadata = map[string]string{}
			}
			continue
		}
		var e headerEntry
		if err := dec.Decode(&e); err != nil {
			return nil, nil, broken(fmt.Errorf("tensor %q: %w", name, err))
		}
		if e.Shape == nil || len(e.Offsets) != 2 {
			return nil, nil, broken(fmt.Errorf("tensor %q needs a shape and two data_offsets", name))
		}
		stored = append(stored, storedTensor{name: name, dtype: e.DType, shape: e.Shape, from: e.Offsets[0], to: e.Offsets[1]})
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, broken(err)
	}
	if rest := bytes.TrimRight(header[dec.InputOffset():], " "); len(rest) > 0 {
		return nil, nil, broken(fmt.Errorf("%d bytes follow the closing brace", len(rest)))
	}
	return stored, metadata, nil
}

// checkLayout sorts the tensors by place and checks that each has the bytes its shape needs and
// that together they cover the size bytes of data once.
func checkLayout(stored []storedTensor, size int64) error {
	slices.SortFunc(stored, func(a, b storedTensor) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), strings.Compare(a.name, b.name))
	})
	end := int64(0)
	for i := range stored {
		s := &stored[i]
		if s.from < 0 || s.to < s.from || s.to > size {
			return fmt.Errorf("tensor %q lies at bytes %d to %d of %d", s.name, s.from, s.to, size)
		}
		bytesEach, ok := elementBytes(s.dtype)
		if !ok {
			return fmt.Errorf("tensor %q has element type %q, supported are F32, F16, BF16, F64 and I64", s.name, s.dtype)
		}
		n, err := elements(s.shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", s.name, err)
		}
		if int64(n) != (s.to-s.from)/bytesEach || (s.to-s.from)%bytesEach != 0 {
			return fmt.Errorf("tensor %q of shape %v and type %s has %d bytes", s.name, s.shape, s.dtype, s.to-s.from)
		}
		s.count = n
		if s.from < end {
			return fmt.Errorf("tensor %q overlaps the one before it", s.name)
		}
		if s.from > end {
			return fmt.Errorf("%d bytes before tensor %q belong to nothing", s.from-end, s.name)
		}
		end = s.to
	}
	if end != size {
		return fmt.Errorf("%d bytes after the last tensor belong to nothing", size-end)
	}
	return nil
}

// readValues reads the values of s, which start where r stands, floats into the given memory if there is any.
func readValues(r io.Reader, s storedTensor, floats []float32) (Tensor, error) {
	t := Tensor{Name: s.name, Shape: s.shape}
	each, _ := elementBytes(s.dtype)
	switch {
	case s.dtype == "I64":
		t.I64 = make([]int64, s.count)
	case floats != nil:
		t.F32 = floats[:s.count:s.count]
	default:
		t.F32 = make([]float32, s.count)
	}
	buf := make([]byte, int(each)*min(chunk, s.count))
	for done := 0; done < s.count; {
		n := min(chunk, s.count-done)
		part := buf[:n*int(each)]
		if _, err := io.ReadFull(r, part); err != nil {
			return Tensor{}, shortRead(err)
		}
		switch s.dtype {
		case "I64":
			for i := range n {
				t.I64[done+i] = int64(binary.LittleEndian.Uint64(part[8*i:]))
			}
		case "F32":
			for i := range n {
				t.F32[done+i] = math.Float32frombits(binary.LittleEndian.Uint32(part[4*i:]))
			}
		case "F16":
			for i := range n {
				t.F32[done+i] = halfToFloat(binary.LittleEndian.Uint16(part[2*i:]))
			}
		case "BF16":
			for i := range n {
				t.F32[done+i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(part[2*i:])) << 16)
			}
		case "F64":
			for i := range n {
				x := math.Float64frombits(binary.LittleEndian.Uint64(part[8*i:]))
				y := float32(x)
				if math.IsInf(float64(y), 0) && !math.IsInf(x, 0) {
					return Tensor{}, fmt.Errorf("value %v is beyond the range of float32", x)
				}
				t.F32[done+i] = y
			}
		}
		done += n
	}
	return t, nil
}

// shortRead names the end of the file met too early, which io reports as if it were expected.
func shortRead(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends too early")
	}
	return err
}

// halfToFloat converts an IEEE 754 binary16 number, exactly.
func halfToFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent := uint32(h >> 10 & 0x1f)
	fraction := uint32(h & 0x3ff)
	switch exponent {
	case 0: // zero or subnormal: fraction * 2^-24
		x := float32(fraction) * 0x1p-24
		return math.Float32frombits(math.Float32bits(x) | sign)
	case 0x1f: // infinity or not a number
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
