package dicom

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of the walk. Real CT headers stay far below them.
const (
	maxDepth     = 64      // nesting of sequences
	maxValue     = 1 << 16 // bytes of one header value that is kept
	magicOffset  = 128     // length of the preamble before "DICM"
	undefinedLen = 0xFFFFFFFF
)

// ErrNotDICOM is wrapped by ReadHeader's error for a file that does not look like DICOM at all.
var ErrNotDICOM = errors.New("not a DICOM file")

// tagID is a data element tag, group in the upper and element in the lower 16 bits.
type tagID uint32

func (t tagID) String() string { return fmt.Sprintf("(%04x,%04x)", uint32(t)>>16, uint32(t)&0xFFFF) }

const (
	tagItem         tagID = 0xFFFEE000
	tagItemEnd      tagID = 0xFFFEE00D
	tagSequenceEnd  tagID = 0xFFFEE0DD
	tagOffsetTable  tagID = 0x7FE00001 // extended offset table
	tagFloatPixels  tagID = 0x7FE00008
	tagDoublePixels tagID = 0x7FE00009
	tagPixels       tagID = 0x7FE00010
	tagMetaSOPClass tagID = 0x00020002
	tagMetaSyntax   tagID = 0x00020010
)

// structure is what a walk over one file found: where things are, and the values of the wanted elements.
type structure struct {
	syntax       string // transfer syntax UID of the meta header, "" without one
	metaSOPClass string
	order        binary.ByteOrder
	implicit     bool
	deflated     bool
	dataset      int64 // file offset of the first byte after the meta header
	// wanted holds the wanted elements in explicit VR of the byte order `order`, with the VRs that were asked for.
	wanted       []byte
	lut          *rawLUT       // Modality LUT, which replaces the rescale slope
	shared       []frameValues // of multi-frame images: what holds for all frames
	perFrame     []frameValues // and what for each
	pixelTag     tagID         // 0: no pixel data
	pixelOffset  int64         // from the file's start, or (deflated) from the start of the inflated data set
	pixelLength  int64         // declared length in bytes; -1: encapsulated
	pixelPresent int64         // bytes that the file holds of it (encapsulated: at most); -1: unknown (deflated)
	// extendedOffsets is where the extended offset table lies; its length is 0 without one.
	extendedOffsets span
}

// walker reads a DICOM stream forward, element by element, and checks each declared length against what is
// left before anything is allocated for it.
type walker struct {
	br       *bufio.Reader
	pos      int64
	limit    int64 // bytes in the stream; -1: unknown (deflated)
	order    binary.ByteOrder
	implicit bool
	wanted   func(tagID) string // the value representation of the elements to keep, "" for all others
}

// element is the head of one data element.
type element struct {
	tag    tagID
	vr     string // "" in implicit VR and for items
	length uint32
}

// walk finds the structure of the DICOM file r of size bytes and keeps the elements of Header. The errors speak of
// the content only; the caller names the file.
func walk(r io.Reader, size int64) (*structure, error) { return walkFor(r, size, wantedVR) }

// walkFor is walk with other elements to keep.
func walkFor(r io.Reader, size int64, wanted func(tagID) string) (*structure, error) {
	w := &walker{br: bufio.NewReaderSize(r, 1<<15), limit: size, order: binary.LittleEndian, wanted: wanted}
	if err := w.findStart(); err != nil {
		return nil, err
	}
	s := &structure{}
	if err := w.meta(s); err != nil {
		return nil, err
	}
	s.dataset = w.pos
	if s.syntax == syntaxDeflated {
		s.deflated = true
		w = &walker{br: bufio.NewReaderSize(inflate(w.br), 1<<15), limit: -1, order: binary.LittleEndian, wanted: wanted}
	}
	if err := w.encoding(s); err != nil {
		return nil, err
	}
	if err := w.elements(s); err != nil {
		return nil, err
	}
	return s, nil
}

// findStart moves to the first element: after the preamble, after a bare "DICM", or at byte 0.
func (w *walker) findStart() error {
	head, _ := w.br.Peek(magicOffset + 4)
	switch {
	case len(head) == magicOffset+4 && string(head[magicOffset:]) == "DICM":
		return w.skip(magicOffset + 4)
	case len(head) >= 4 && string(head[:4]) == "DICM":
		return w.skip(4)
	case len(head) < 8:
		return ErrNotDICOM
	}
	// Without a magic word the stream must begin with an element of group 2 or 8 whose length is plausible.
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		group, length := order.Uint16(head), int64(order.Uint32(head[4:]))
		if group != 2 && group != 8 {
			continue
		}
		if isVR(head[4:6]) || order == binary.LittleEndian && length <= w.limit-8 {
			return nil
		}
	}
	return ErrNotDICOM
}

// meta reads the elements of group 2, always explicit VR little endian.
func (w *walker) meta(s *structure) error {
	for {
		head, _ := w.br.Peek(2)
		if len(head) < 2 || w.order.Uint16(head) != 2 {
			return nil
		}
		e, err := w.head()
		if err != nil {
			return err
		}
		if e.tag != tagMetaSyntax && e.tag != tagMetaSOPClass || e.length > 128 {
			if err := w.skip(int64(e.length)); err != nil {
				return err
			}
			continue
		}
		value, err := w.value(e)
		if err != nil {
			return err
		}
		if e.tag == tagMetaSyntax {
			s.syntax = trimUID(value)
		} else {
			s.metaSOPClass = trimUID(value)
		}
	}
}

// encoding settles byte order and VR of the data set. The transfer syntax says them, but files exist whose
// data contradict it, and files without a meta header: the first element then decides.
func (w *walker) encoding(s *structure) error {
	head, err := w.br.Peek(8)
	if err != nil {
		return errors.New("the file ends after its meta header: it holds no data set")
	}
	if s.syntax == syntaxBigEndian || s.syntax == "" && binary.BigEndian.Uint16(head) == 8 {
		w.order = binary.BigEndian
	}
	w.implicit = !isVR(head[4:6])
	if s.syntax == "" {
		switch {
		case w.implicit:
			s.syntax = syntaxImplicit
		case w.order == binary.BigEndian:
			s.syntax = syntaxBigEndian
		default:
			s.syntax = syntaxExplicit
		}
	}
	s.order, s.implicit = w.order, w.implicit
	return nil
}

// elements walks the data set up to the pixel data.
func (w *walker) elements(s *structure) error {
	for {
		if _, err := w.br.Peek(1); errors.Is(err, io.EOF) {
			return nil
		}
		e, err := w.head()
		if err != nil {
			return err
		}
		switch e.tag {
		case tagPixels, tagFloatPixels, tagDoublePixels:
			s.pixelTag, s.pixelOffset, s.pixelLength, s.pixelPresent = e.tag, w.pos, int64(e.length), -1
			if e.length == undefinedLen {
				s.pixelLength = -1
			}
			if w.limit >= 0 {
				s.pixelPresent = w.limit - w.pos
				if s.pixelLength >= 0 {
					s.pixelPresent = min(s.pixelPresent, s.pixelLength)
				}
			}
			return nil
		case tagOffsetTable:
			s.extendedOffsets = span{w.pos, int64(e.length)}
		}
		vr := w.wanted(e.tag)
		switch {
		case e.tag == tagShared:
			s.shared, err = w.functionalGroups(e)
		case e.tag == tagPerFrame:
			s.perFrame, err = w.functionalGroups(e)
		case e.tag == tagModalityLUT:
			s.lut, err = w.modalityLUT(e)
		case vr != "" && e.length <= maxValue:
			var value []byte
			if value, err = w.value(e); err == nil {
				s.wanted = appendElement(s.wanted, s.order, e.tag, vr, value)
			}
		default:
			err = w.skipValue(e, 1)
		}
		if err != nil {
			return err
		}
	}
}

// skipValue skips the value of e, which lies within depth-1 sequences.
func (w *walker) skipValue(e element, depth int) error {
	if e.length == undefinedLen {
		return w.items(e, depth, nil, nil)
	}
	return w.skip(int64(e.length))
}

// items goes through the items of the sequence `of`, which is the depth-th one within each other. It calls
// begin (unless nil) for each item and visit for each element, whose value visit reads or skips. Without
// visit the values are skipped. The content of a UN element is implicit VR whatever the file's syntax is
// (PS3.5, 6.2.2).
func (w *walker) items(of element, depth int, begin func() error, visit func(element) error) error {
	if depth > maxDepth {
		return fmt.Errorf("element %v nests sequences more than %d deep", of.tag, maxDepth)
	}
	outer := w.implicit
	w.implicit = w.implicit || of.vr == "UN"
	defer func() { w.implicit = outer }()
	end := w.end(of)
	for end < 0 || w.pos < end {
		item, err := w.head()
		if err != nil {
			return err
		}
		switch {
		case item.tag == tagSequenceEnd && end < 0:
			return nil
		case item.tag != tagItem:
			return fmt.Errorf("element %v is a sequence without items: found %v", of.tag, item.tag)
		}
		if begin != nil {
			if err := begin(); err != nil {
				return err
			}
		}
		if visit == nil && item.length != undefinedLen {
			if err := w.skip(int64(item.length)); err != nil {
				return err
			}
			continue
		}
		itemEnd := w.end(item)
		for itemEnd < 0 || w.pos < itemEnd {
			e, err := w.head()
			if err != nil {
				return err
			}
			if e.tag == tagItemEnd && itemEnd < 0 {
				break
			}
			if visit != nil {
				err = visit(e)
			} else {
				err = w.skipValue(e, depth+1)
			}
			if err != nil {
				return err
			}
		}
		if itemEnd >= 0 && w.pos > itemEnd {
			return fmt.Errorf("element %v: an item ends within an element", of.tag)
		}
	}
	if w.pos > end {
		return fmt.Errorf("element %v ends within an item", of.tag)
	}
	return nil
}

// end returns where the value of e ends, -1 when its length is undefined.
func (w *walker) end(e element) int64 {
	if e.length == undefinedLen {
		return -1
	}
	return w.pos + int64(e.length)
}

// head reads tag, VR and length of the next element and checks that the length fits into the file. Only
// pixel data may be cut: their reader says so in clearer words.
func (w *walker) head() (element, error) {
	var b [8]byte
	if err := w.read(b[:]); err != nil {
		return element{}, err
	}
	e := element{tag: tagID(w.order.Uint16(b[:]))<<16 | tagID(w.order.Uint16(b[2:]))}
	switch {
	case w.implicit || e.tag>>16 == 0xFFFE:
		e.length = w.order.Uint32(b[4:])
	case !isVR(b[4:6]):
		return e, fmt.Errorf("element %v has no value representation", e.tag)
	default:
		e.vr = string(b[4:6])
		if !longVR(e.vr) {
			e.length = uint32(w.order.Uint16(b[6:]))
			break
		}
		if err := w.read(b[:4]); err != nil {
			return e, err
		}
		e.length = w.order.Uint32(b[:4])
	}
	if w.limit >= 0 && e.length != undefinedLen && int64(e.length) > w.limit-w.pos && e.tag>>16 != tagPixels>>16 {
		return e, fmt.Errorf("element %v claims %d bytes, the file has %d left", e.tag, e.length, w.limit-w.pos)
	}
	return e, nil
}

// value reads the value of e, whose length the caller has bounded.
func (w *walker) value(e element) ([]byte, error) {
	v := make([]byte, e.length)
	return v, w.read(v)
}

func (w *walker) read(b []byte) error {
	n, err := io.ReadFull(w.br, b)
	w.pos += int64(n)
	if err != nil {
		return w.ended(err)
	}
	return nil
}

func (w *walker) skip(n int64) error {
	for n > 0 {
		step := min(n, 1<<30)
		done, err := w.br.Discard(int(step))
		w.pos += int64(done)
		if err != nil {
			return w.ended(err)
		}
		n -= step
	}
	return nil
}

func (w *walker) ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the header is cut at byte %d", w.pos)
	}
	return fmt.Errorf("reading the header at byte %d: %w", w.pos, err)
}

// isVR reports whether b is two upper-case letters.
func isVR(b []byte) bool {
	return b[0] >= 'A' && b[0] <= 'Z' && b[1] >= 'A' && b[1] <= 'Z'
}

// longVR reports whether explicit VR gives the length of vr in 32 bits after two reserved bytes (PS3.5, 7.1.2).
func longVR(vr string) bool {
	switch vr {
	case "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV":
		return true
	}
	return false
}

// appendElement appends an element with a short value representation in explicit VR.
func appendElement(b []byte, order binary.ByteOrder, t tagID, vr string, value []byte) []byte {
	if vr == "US" && (len(value) == 0 || len(value)%2 != 0) || len(value) > 0xFFFE {
		return b // unusable: as if it were absent
	}
	var head [8]byte
	order.PutUint16(head[:], uint16(t>>16))
	order.PutUint16(head[2:], uint16(t))
	copy(head[4:], vr)
	order.PutUint16(head[6:], uint16(len(value)))
	return append(append(b, head[:]...), value...)
}
