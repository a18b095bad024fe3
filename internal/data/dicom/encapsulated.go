package dicom

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// span is a run of bytes in a file.
type span struct{ offset, length int64 }

// encapsulated says where the compressed streams of encapsulated pixel data lie (PS3.5, A.4): for each
// frame the fragments that make its stream, in order.
type encapsulated struct {
	frames [][]span
}

var errTruncated = errors.New("the encapsulated pixel data are truncated")

// indexFrames finds the fragments of each frame in the file r of size bytes. An offset table, extended or
// basic, says which fragments belong to a frame. One that is missing or contradicts the fragments is done
// without: there may be one fragment for each frame, or each frame begins with a start-of-image marker.
func indexFrames(r io.ReaderAt, size int64, h *Header) (*encapsulated, error) {
	at := h.layout.pixelOffset
	head, err := itemAt(r, at, size)
	if err != nil {
		return nil, err
	}
	if head.length < 0 {
		return nil, errors.New("the encapsulated pixel data hold no offset table and no fragment")
	}
	basic := head
	first := head.offset + head.length // offsets in the tables count from here
	var fragments []span
	for at = first; ; {
		s, err := itemAt(r, at, size)
		if err != nil {
			return nil, err
		}
		if s.length < 0 {
			break
		}
		if s.length > 0 {
			fragments = append(fragments, s)
		}
		at = s.offset + s.length
	}
	switch {
	case h.Frames < 1 || len(fragments) < h.Frames:
		return nil, fmt.Errorf("%d fragments cannot hold %d frames", len(fragments), h.Frames)
	case h.Frames == 1:
		return &encapsulated{[][]span{fragments}}, nil
	}
	e := &encapsulated{frames: make([][]span, 0, h.Frames)}
	for _, table := range []struct {
		span
		width int // bytes of one offset
	}{{h.layout.extendedOffsets, 8}, {basic, 4}} {
		if table.length != int64(h.Frames*table.width) || table.offset+table.length > size {
			continue
		}
		b := make([]byte, table.length)
		if _, err := r.ReadAt(b, table.offset); err != nil {
			return nil, fmt.Errorf("reading the offset table: %w", err)
		}
		if e.splitByOffsets(fragments, b, table.width, first) {
			return e, nil
		}
	}
	if len(fragments) == h.Frames {
		e.split(fragments, func(int) bool { return true })
		return e, nil
	}
	starts, err := imageStarts(r, fragments)
	if err != nil {
		return nil, err
	}
	if e.split(fragments, func(i int) bool { return starts[i] }); len(e.frames) != h.Frames {
		return nil, fmt.Errorf("%d fragments hold %d frames and nothing says which belong to which", len(fragments), h.Frames)
	}
	return e, nil
}

// itemAt reads the head of the item at a file offset and returns where its value lies. The length is -1 for
// the delimiter that ends the sequence.
func itemAt(r io.ReaderAt, at, size int64) (span, error) {
	if size-at < 8 {
		return span{}, errTruncated
	}
	var b [8]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return span{}, fmt.Errorf("reading the encapsulated pixel data: %w", err)
	}
	le := binary.LittleEndian
	s := span{at + 8, int64(le.Uint32(b[4:]))}
	switch t := tagID(le.Uint16(b[:]))<<16 | tagID(le.Uint16(b[2:])); {
	case t == tagSequenceEnd:
		return span{at + 8, -1}, nil
	case t != tagItem:
		return span{}, fmt.Errorf("the encapsulated pixel data hold %v instead of a fragment", t)
	case s.length > size-s.offset:
		return span{}, errTruncated
	}
	return s, nil
}

// splitByOffsets divides the fragments by a table of offsets of `width` bytes, counted from file offset
// zero. It reports false when the table is not the rising offsets of fragments, beginning with the first.
func (e *encapsulated) splitByOffsets(fragments []span, table []byte, width int, zero int64) bool {
	begins := make(map[int64]bool, len(table)/width)
	last := int64(-1)
	for ; len(table) > 0; table = table[width:] {
		offset := uint64(binary.LittleEndian.Uint32(table))
		if width == 8 {
			offset = binary.LittleEndian.Uint64(table)
		}
		if int64(offset) <= last {
			return false
		}
		last = int64(offset)
		begins[zero+last+8] = true
	}
	frames := len(begins)
	found := 0
	for _, f := range fragments {
		if begins[f.offset] {
			found++
		}
	}
	if found != frames || !begins[fragments[0].offset] {
		return false
	}
	e.split(fragments, func(i int) bool { return begins[fragments[i].offset] })
	return true
}

// split divides the fragments into frames; begins says with which ones a frame begins.
func (e *encapsulated) split(fragments []span, begins func(int) bool) {
	for i := range fragments {
		if i == 0 || begins(i) {
			e.frames = append(e.frames, fragments[i:i:len(fragments)])
		}
		k := len(e.frames) - 1
		e.frames[k] = e.frames[k][:len(e.frames[k])+1]
	}
}

// imageStarts reports which fragments begin with a start-of-image marker, of JPEG and JPEG-LS or of a
// JPEG 2000 codestream. Within compressed data no marker of these values can occur.
func imageStarts(r io.ReaderAt, fragments []span) ([]bool, error) {
	starts := make([]bool, len(fragments))
	for i, f := range fragments {
		var b [4]byte
		n := min(f.length, 4)
		if _, err := r.ReadAt(b[:n], f.offset); err != nil {
			return nil, fmt.Errorf("reading the encapsulated pixel data: %w", err)
		}
		starts[i] = b[0] == 0xFF && b[1] == 0xD8 || b == [4]byte{0xFF, 0x4F, 0xFF, 0x51}
	}
	return starts, nil
}

// stream returns the compressed stream of one frame, in buf when it is large enough.
func (e *encapsulated) stream(r io.ReaderAt, frame int, buf []byte) ([]byte, error) {
	var n int64
	for _, f := range e.frames[frame] {
		n += f.length
	}
	buf = slices.Grow(buf[:0], int(n))[:n]
	at := buf
	for _, f := range e.frames[frame] {
		if _, err := r.ReadAt(at[:f.length], f.offset); err != nil {
			return nil, fmt.Errorf("reading the encapsulated pixel data: %w", err)
		}
		at = at[f.length:]
	}
	return buf, nil
}
