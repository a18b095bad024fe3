// Package dicomtest writes small DICOM files for tests: a few elements in any of the uncompressed
// encodings, right or wrong on purpose.
package dicomtest

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Transfer syntax UIDs that Bytes encodes; any other is written as explicit VR little endian.
const (
	Implicit  = "1.2.840.10008.1.2"
	Explicit  = "1.2.840.10008.1.2.1"
	Deflated  = "1.2.840.10008.1.2.1.99"
	BigEndian = "1.2.840.10008.1.2.2"
	RLE       = "1.2.840.10008.1.2.5"
)

// Value is the value of an element with its value representation.
type Value struct {
	VR   string
	Data any // string, []uint16, []Item, OpenItems, or []byte for values already encoded
}

// Item is one item of a sequence: its elements by tag.
type Item map[uint32]Value

// OpenItems are items of a sequence written with undefined lengths.
type OpenItems []Item

// File is one DICOM file: its elements by tag (group<<16 | element) and how they are written.
type File struct {
	Syntax   string
	Bare     bool // neither preamble nor meta header
	Elements map[uint32]Value
	// Fragments, when not nil, is the encapsulated pixel data, written instead of element 7FE0,0010.
	Fragments [][]byte
}

// Slice returns an ordinary axial CT slice in explicit VR little endian: rows x columns signed 16-bit
// pixels, 0.5 mm between rows, 0.75 mm between columns, at height z, HU = pixel - 1024. The instance's UID
// ends in instance.
func Slice(seriesUID string, instance int, z float64, rows, columns int, pixels []int16) *File {
	words := make([]uint16, len(pixels))
	for i, p := range pixels {
		words[i] = uint16(p)
	}
	f := &File{Syntax: Explicit, Elements: map[uint32]Value{
		0x00280010: {"US", []uint16{uint16(rows)}}, 0x00280011: {"US", []uint16{uint16(columns)}},
		0x00280002: {"US", []uint16{1}}, 0x00280100: {"US", []uint16{16}}, 0x00280101: {"US", []uint16{16}},
		0x00280102: {"US", []uint16{15}}, 0x00280103: {"US", []uint16{1}}, 0x7FE00010: {"OW", words},
	}}
	f.Set(0x00080008, "CS", `ORIGINAL\PRIMARY\AXIAL`)
	f.Set(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2")
	f.Set(0x00080018, "UI", fmt.Sprintf("%s.%d", seriesUID, instance))
	f.Set(0x00080060, "CS", "CT")
	f.Set(0x00180050, "DS", "2.5")
	f.Set(0x0020000D, "UI", "1.2.3")
	f.Set(0x0020000E, "UI", seriesUID)
	f.Set(0x00200011, "IS", "4")
	f.Set(0x00200012, "IS", "1")
	f.Set(0x00200013, "IS", fmt.Sprint(instance))
	f.Set(0x00200032, "DS", fmt.Sprintf(`-10\20\%g`, z))
	f.Set(0x00200037, "DS", `1\0\0\0\1\0`)
	f.Set(0x00280030, "DS", `0.5\0.75`)
	f.Set(0x00281052, "DS", "-1024")
	f.Set(0x00281053, "DS", "1")
	return f
}

// Set writes a text element, or removes it when text is "".
func (f *File) Set(tag uint32, vr, text string) *File {
	if text == "" {
		delete(f.Elements, tag)
	} else {
		f.Elements[tag] = Value{vr, text}
	}
	return f
}

// SetShort writes an element of 16-bit words.
func (f *File) SetShort(tag uint32, words ...uint16) *File {
	f.Elements[tag] = Value{"US", words}
	return f
}

// Bytes encodes the file.
func (f *File) Bytes() []byte {
	var order binary.ByteOrder = binary.LittleEndian
	if f.Syntax == BigEndian {
		order = binary.BigEndian
	}
	var body []byte
	for _, tag := range slices.Sorted(maps.Keys(f.Elements)) {
		if tag != 0x7FE00010 || f.Fragments == nil {
			body = AppendElement(body, order, f.Syntax == Implicit, tag, f.Elements[tag])
		}
	}
	if f.Fragments != nil {
		le := binary.LittleEndian
		body = append(body, 0xE0, 0x7F, 0x10, 0x00, 'O', 'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF)
		for _, fragment := range append([][]byte{{}}, f.Fragments...) { // an empty offset table first
			body = le.AppendUint32(append(body, 0xFE, 0xFF, 0x00, 0xE0), uint32(len(fragment)))
			body = append(body, fragment...)
		}
		body = append(body, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0)
	}
	if f.Bare {
		return body
	}
	if f.Syntax == Deflated {
		var z bytes.Buffer
		w, err := flate.NewWriter(&z, flate.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		w.Write(body)
		w.Close()
		body = z.Bytes()
	}
	le := binary.LittleEndian
	meta := AppendElement(nil, le, false, 0x00020010, Value{"UI", f.Syntax})
	out := append(make([]byte, 128), "DICM"...)
	out = AppendElement(out, le, false, 0x00020000, Value{"UL", le.AppendUint32(nil, uint32(len(meta)))})
	return append(append(out, meta...), body...)
}

// AppendElement appends one element, its value padded to even length.
func AppendElement(b []byte, order binary.ByteOrder, implicit bool, tag uint32, v Value) []byte {
	var data []byte
	undefined := false
	switch d := v.Data.(type) {
	case string:
		data = []byte(d)
	case []byte:
		data = slices.Clone(d)
	case []Item:
		data = appendItems(nil, order, implicit || v.VR == "UN", d, false)
	case OpenItems:
		data = appendItems(nil, order, implicit || v.VR == "UN", d, true)
		undefined = true
	case []uint16:
		for _, w := range d {
			data = append(data, byte(w), byte(w>>8))
			if order == binary.BigEndian {
				n := len(data)
				data[n-2], data[n-1] = data[n-1], data[n-2]
			}
		}
	default:
		panic(fmt.Sprintf("dicomtest: value of type %T", v.Data))
	}
	if len(data)%2 != 0 {
		data = append(data, map[bool]byte{true: 0, false: ' '}[v.VR == "UI" || v.VR == "OB"])
	}
	var word [4]byte
	short := func(x uint16) { order.PutUint16(word[:], x); b = append(b, word[:2]...) }
	long := func(x uint32) { order.PutUint32(word[:], x); b = append(b, word[:]...) }
	short(uint16(tag >> 16))
	short(uint16(tag))
	length := uint32(len(data))
	if undefined {
		length = 0xFFFFFFFF
	}
	switch {
	case implicit:
		long(length)
	case strings.Contains("OB OV OW OF SQ UN UT", v.VR):
		b = append(b, v.VR+"\x00\x00"...)
		long(length)
	default:
		b = append(b, v.VR...)
		short(uint16(len(data)))
	}
	return append(b, data...)
}

// appendItems appends the items of a sequence, when open with delimiters instead of lengths.
func appendItems(b []byte, order binary.ByteOrder, implicit bool, items []Item, open bool) []byte {
	head := func(element uint16, length uint32) {
		var h [8]byte
		order.PutUint16(h[:], 0xFFFE)
		order.PutUint16(h[2:], element)
		order.PutUint32(h[4:], length)
		b = append(b, h[:]...)
	}
	for _, item := range items {
		var body []byte
		for _, tag := range slices.Sorted(maps.Keys(item)) {
			body = AppendElement(body, order, implicit, tag, item[tag])
		}
		if !open {
			head(0xE000, uint32(len(body)))
			b = append(b, body...)
			continue
		}
		head(0xE000, 0xFFFFFFFF)
		b = append(b, body...)
		head(0xE00D, 0)
	}
	if open {
		head(0xE0DD, 0)
	}
	return b
}

// Enhanced returns an Enhanced CT image of as many frames as there are items in frames, each rows x columns
// signed 16-bit pixels, with these functional groups.
func Enhanced(seriesUID string, rows, columns int, shared Item, frames []Item, pixels []int16) *File {
	f := Slice(seriesUID, 1, 0, rows, columns, pixels)
	for _, tag := range []uint32{0x00180050, 0x00200032, 0x00200037, 0x00280030, 0x00281052, 0x00281053} {
		delete(f.Elements, tag)
	}
	f.Set(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2.1")
	f.Set(0x00280008, "IS", fmt.Sprint(len(frames)))
	f.Elements[0x52009229] = Value{"SQ", []Item{shared}}
	f.Elements[0x52009230] = Value{"SQ", frames}
	return f
}

// Group is a functional group: a sequence of one item, which holds the elements.
func Group(elements Item) Value { return Value{"SQ", []Item{elements}} }

// Write writes the file to dir/name and returns its path. Folders are made as needed.
func (f *File) Write(t testing.TB, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
