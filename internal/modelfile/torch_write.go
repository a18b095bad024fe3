package modelfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ctclass/ctclass/internal/atomicfile"
)

// SaveTorch writes tensors as a state_dict that torch.load opens, also with weights_only=True: a zip file
// with a pickle of an OrderedDict and one entry of raw values a tensor, in the order of names. The same
// tensors always give the same bytes. An older file at path is replaced in one step.
func SaveTorch(path string, tensors []Tensor) error {
	sorted := slices.Clone(tensors)
	slices.SortFunc(sorted, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	for i, t := range sorted {
		if err := t.check(); err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
		if i > 0 && sorted[i-1].Name == t.Name {
			return fmt.Errorf("cannot write %s: two tensors are named %q", path, t.Name)
		}
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		z := &torchWriter{}
		z.zip = zip.NewWriter(io.MultiWriter(w, &z.at))
		z.add("data.pkl", func(w io.Writer) error { _, err := w.Write(pickleState(sorted)); return err })
		z.add("byteorder", func(w io.Writer) error { _, err := io.WriteString(w, "little"); return err })
		for i, t := range sorted {
			z.add("data/"+strconv.Itoa(i), func(w io.Writer) error { return writeValues(w, t.loaded()) })
		}
		z.add("version", func(w io.Writer) error { _, err := io.WriteString(w, "3\n"); return err })
		if z.err != nil {
			return z.err
		}
		return z.zip.Close()
	})
}

// torchWriter writes the entries of a torch.save file.
type torchWriter struct {
	zip *zip.Writer
	at  counter // bytes written
	err error
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

const (
	torchFolder   = "archive/"
	localHeader   = 30 // bytes of a zip file's local header before name and extra field
	torchAlign    = 64 // torch.save aligns the data of every entry, so that it can be mapped
	paddingHeader = 4  // bytes of an extra field before its content
)

// add writes an entry; write is called twice, first to learn size and checksum, which come before the data.
func (z *torchWriter) add(name string, write func(io.Writer) error) {
	if z.err != nil {
		return
	}
	sum := crc32.NewIEEE()
	var size counter
	if z.err = write(io.MultiWriter(sum, &size)); z.err != nil {
		return
	}
	if z.err = z.zip.Flush(); z.err != nil {
		return
	}
	h := &zip.FileHeader{
		Name: torchFolder + name, Method: zip.Store, CRC32: sum.Sum32(),
		CompressedSize64: uint64(size), UncompressedSize64: uint64(size),
	}
	start := int(z.at) + localHeader + len(h.Name) + paddingHeader
	padding := (torchAlign - start%torchAlign) % torchAlign
	h.Extra = binary.LittleEndian.AppendUint16(append(h.Extra, 'F', 'B'), uint16(padding))
	h.Extra = append(h.Extra, bytes.Repeat([]byte{'Z'}, padding)...)
	w, err := z.zip.CreateRaw(h)
	if err != nil {
		z.err = err
		return
	}
	z.err = write(w)
}

// pickleState is the pickle, in protocol 2, of an OrderedDict of tensors; tensor i lives in storage i.
func pickleState(tensors []Tensor) []byte {
	var b bytes.Buffer
	global := func(module, name string) { fmt.Fprintf(&b, "c%s\n%s\n", module, name) }
	word := func(op byte, v uint32) {
		b.WriteByte(op)
		b.Write(binary.LittleEndian.AppendUint32(nil, v))
	}
	text := func(s string) {
		word('X', uint32(len(s)))
		b.WriteString(s)
	}
	number := func(n int) {
		if n <= math.MaxInt32 {
			word('J', uint32(n))
			return
		}
		b.Write([]byte{0x8a, 8}) // LONG1
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
	numbers := func(ns []int) { // a tuple
		b.WriteByte('(')
		for _, n := range ns {
			number(n)
		}
		b.WriteByte('t')
	}
	orderedDict := func() {
		global("collections", "OrderedDict")
		b.WriteString(")R")
	}
	b.Write([]byte{0x80, 2})
	orderedDict()
	b.WriteByte('(')
	for i, t := range tensors {
		text(t.Name)
		global("torch._utils", "_rebuild_tensor_v2")
		b.WriteString("((")
		text("storage")
		if t.DType() == I64 {
			global("torch", "LongStorage")
		} else {
			global("torch", "FloatStorage")
		}
		text(strconv.Itoa(i))
		text("cpu")
		n, _ := elements(t.Shape) // checked before
		number(n)
		b.WriteString("tQ")
		number(0) // where in the storage it starts
		numbers(t.Shape)
		numbers(rowMajor(t.Shape))
		b.WriteByte(0x89) // needs no gradient
		orderedDict()     // has no hooks
		b.WriteString("tR")
	}
	b.WriteString("u.")
	return b.Bytes()
}

// rowMajor returns the strides of an array without gaps.
func rowMajor(shape []int) []int {
	strides := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i] = n
		n *= max(shape[i], 1)
	}
	return strides
}
