package dicom

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// airHU is what voxels without data (PixelPaddingValue) become in a corrected volume: the air around a
// patient, the value scanners themselves fill with.
const airHU = -1024

// A compressed image without any detail takes next to no bytes. So that a few bytes cannot claim all memory,
// files of more than freePixels pixels need a byte for each pixelsPerByte of them.
const (
	freePixels    = 1 << 22
	pixelsPerByte = 1024
)

// frameBytes is the size in bytes of one frame in native storage.
func (h *Header) frameBytes() int64 {
	return int64(h.Rows) * int64(h.Columns) * int64(h.BitsAllocated/8)
}

// CheckPixels reports why the pixel data of this file cannot be read as one grey-level slice: a sentence
// that names the file. It reads nothing.
func (h *Header) CheckPixels() error {
	if err := h.checkPixels(); err != nil {
		return fmt.Errorf("%s: %w", h.Path, err)
	}
	return nil
}

func (h *Header) checkPixels() error {
	l := &h.layout
	switch {
	case h.framesUnknown():
		return fmt.Errorf("multi-frame image (%s, %d frames) that says of %d frames where they lie: export it as single-frame CT images",
			className(h.SOPClassUID), h.Frames, h.describedFrames)
	case l.pixelTag == tagFloatPixels || l.pixelTag == tagDoublePixels:
		return errors.New("floating-point pixel data are not supported")
	case l.pixelTag == 0:
		return errors.New("the file holds no pixel data")
	case h.SamplesPerPixel != 1:
		return fmt.Errorf("%d samples per pixel: a colour image, not CT", h.SamplesPerPixel)
	case h.Rows < 1 || h.Columns < 1:
		return fmt.Errorf("image size %d rows x %d columns is not usable", h.Rows, h.Columns)
	case h.BitsAllocated != 8 && h.BitsAllocated != 16 && h.BitsAllocated != 32:
		return fmt.Errorf("%d bits allocated per pixel are not supported (8, 16 and 32 are)", h.BitsAllocated)
	case h.BitsStored < 1 || h.BitsStored > h.BitsAllocated || h.HighBit >= h.BitsAllocated || h.HighBit+1 < h.BitsStored:
		return fmt.Errorf("contradicting pixel format: %d bits allocated, %d stored, high bit %d",
			h.BitsAllocated, h.BitsStored, h.HighBit)
	case h.BitsStored == 32 && !h.Signed:
		return errors.New("unsigned 32-bit pixels are not supported")
	case h.Slope == 0 && h.lut == nil:
		return errors.New("rescale slope 0: the grey values cannot be turned into HU")
	case l.deflated && h.Frames > 1:
		return errors.New("deflated multi-frame images are not supported: convert the file to explicit VR little endian, for example with gdcmconv --raw")
	}
	if decoderFor(h.TransferSyntax) != nil {
		if l.pixelLength >= 0 {
			return fmt.Errorf("transfer syntax %s, but the pixel data are not encapsulated", SyntaxName(h.TransferSyntax))
		}
		if n := h.frameBytes() / int64(h.BitsAllocated/8) * int64(h.Frames); n > max(freePixels, pixelsPerByte*l.pixelPresent) {
			return fmt.Errorf("%d bytes of %s cannot hold %d frames of %d x %d pixels",
				l.pixelPresent, SyntaxName(h.TransferSyntax), h.Frames, h.Rows, h.Columns)
		}
		return nil
	}
	if !nativeSyntax(h.TransferSyntax) {
		return fmt.Errorf("transfer syntax %s (%s) is not supported: convert the file to an uncompressed one, for example with gdcmconv --raw",
			h.TransferSyntax, SyntaxName(h.TransferSyntax))
	}
	if l.pixelLength < 0 {
		return fmt.Errorf("encapsulated pixel data contradict the transfer syntax %s", SyntaxName(h.TransferSyntax))
	}
	present := l.pixelLength
	if l.pixelPresent >= 0 {
		present = l.pixelPresent
	}
	if want := h.frameBytes() * int64(h.Frames); present < want {
		return fmt.Errorf("the pixel data are truncated: %d of %d bytes", present, want)
	}
	return nil
}

// slice reads stored pixel values; its buffers are reused from file to file by one worker.
type slice struct {
	of     string        // the file that index belongs to
	index  *encapsulated // where its compressed frames lie
	stream []byte        // compressed
	raw    []byte        // words as the file has them, in the byte order of order
	order  binary.ByteOrder
	stored []int32
	table  *wordTable
}

// file is what pixel data are read from.
type file interface {
	io.ReadSeeker
	io.ReaderAt
}

// read fills s.stored with the stored values of the file, row by row: bits beyond BitsStored masked off,
// sign applied. A word equal to the padding value keeps it even where BitsStored could not hold it.
func (s *slice) read(h *Header) error {
	if err := s.readFile(h); err != nil {
		return fmt.Errorf("%s: %w", h.Name(), err)
	}
	s.unpack(h, s.order)
	return nil
}

// readHU writes the Hounsfield units of the file to dst, row by row; see rescale.
func (s *slice) readHU(dst []float32, h *Header, asStored bool) error {
	if h.BitsAllocated != 16 {
		if err := s.read(h); err != nil {
			return err
		}
		s.rescale(dst, h, asStored)
		return nil
	}
	if err := s.readFile(h); err != nil {
		return fmt.Errorf("%s: %w", h.Name(), err)
	}
	if s.table == nil || !s.table.serves(h, s.order, asStored) {
		s.table = newWordTable(h, s.order, asStored)
	}
	s.table.apply(dst, s.raw)
	return nil
}

func (s *slice) readFile(h *Header) error {
	if err := h.checkPixels(); err != nil {
		return err
	}
	f, err := h.open()
	if err != nil {
		return err
	}
	defer f.Close()
	return s.readFrom(f, f.Size(), h)
}

// readFrom reads from the whole file r of size bytes.
func (s *slice) readFrom(r file, size int64, h *Header) error {
	l := &h.layout
	if decode := decoderFor(h.TransferSyntax); decode != nil {
		if s.index == nil || s.of != h.Path || h.Frames == 1 {
			e, err := indexFrames(r, size, h)
			if err != nil {
				return err
			}
			s.index, s.of = e, h.Path
		}
		var err error
		if s.stream, err = s.index.stream(r, max(h.Frame-1, 0), s.stream); err != nil {
			return err
		}
		if s.raw, err = decode(s.stream, h); err != nil {
			return fmt.Errorf("decoding %s: %w", SyntaxName(h.TransferSyntax), err)
		}
		if int64(len(s.raw)) != h.frameBytes() {
			return fmt.Errorf("decoding %s: %d bytes, expected %d", SyntaxName(h.TransferSyntax), len(s.raw), h.frameBytes())
		}
		s.order = binary.LittleEndian
		return nil
	}
	start := l.pixelOffset + int64(max(h.Frame-1, 0))*h.frameBytes()
	if l.deflated {
		start = l.dataset
	}
	if _, err := r.Seek(start, io.SeekStart); err != nil {
		return err
	}
	if l.deflated {
		z := bufio.NewReader(inflate(r))
		if _, err := io.CopyN(io.Discard, z, l.pixelOffset); err != nil {
			return fmt.Errorf("the pixel data are truncated: %w", err)
		}
		// How much a deflated file holds is known only by reading it: grow with what comes.
		raw, err := io.ReadAll(io.LimitReader(z, h.frameBytes()))
		if err != nil || int64(len(raw)) < h.frameBytes() {
			return fmt.Errorf("the pixel data are truncated: %d of %d bytes", len(raw), h.frameBytes())
		}
		s.raw = raw
	} else {
		if size-start < h.frameBytes() {
			return fmt.Errorf("the pixel data are truncated: %d of %d bytes", max(size-start, 0), h.frameBytes())
		}
		s.raw = resized(s.raw, int(h.frameBytes()))
		if _, err := io.ReadFull(r, s.raw); err != nil {
			return fmt.Errorf("reading the pixel data: %w", err)
		}
	}
	s.order = l.order
	return nil
}

// unpack turns raw bytes into stored values.
func (s *slice) unpack(h *Header, order binary.ByteOrder) {
	n := h.Rows * h.Columns
	s.stored = resized(s.stored, n)
	low := h.HighBit + 1 - h.BitsStored
	f := field{left: uint(32 - h.BitsStored - low), right: uint(32 - h.BitsStored), signed: h.Signed}
	switch h.BitsAllocated {
	case 8:
		for i, b := range s.raw[:n] {
			s.stored[i] = f.value(uint32(b))
		}
	case 16:
		swap := order == binary.BigEndian
		raw := s.raw[:2*n]
		for i := range s.stored {
			word := uint16(raw[2*i]) | uint16(raw[2*i+1])<<8
			if swap {
				word = word<<8 | word>>8
			}
			s.stored[i] = f.value(uint32(word))
		}
	default:
		for i := range s.stored {
			s.stored[i] = f.value(order.Uint32(s.raw[4*i:]))
		}
	}
	if h.HasPadding && h.BitsAllocated == 16 && h.PaddingLow == h.PaddingHigh && h.BitsStored < 16 {
		word := uint16(h.PaddingLow)
		if int64(f.value(uint32(word))) != h.PaddingLow {
			for i := range s.stored {
				if order.Uint16(s.raw[2*i:]) == word {
					s.stored[i] = int32(h.PaddingLow)
				}
			}
		}
	}
}

// field says where the stored bits lie in a word: shifting left cuts the bits above off, shifting right the
// bits below and extends the sign.
type field struct {
	left, right uint
	signed      bool
}

func (f field) value(word uint32) int32 {
	word <<= f.left & 31
	if f.signed {
		return int32(word) >> (f.right & 31)
	}
	return int32(word >> (f.right & 31))
}

// rescale writes the slice's Hounsfield units to dst. Unless asStored, padded pixels become airHU.
func (s *slice) rescale(dst []float32, h *Header, asStored bool) {
	if h.lut != nil {
		for i, v := range s.stored {
			dst[i] = h.lut.value(v)
		}
	} else {
		slope, intercept := h.Slope, h.Intercept
		for i, v := range s.stored {
			dst[i] = float32(float64(v)*slope + intercept)
		}
	}
	if h.HasPadding && !asStored {
		low, high := h.PaddingLow, h.PaddingHigh
		for i, v := range s.stored {
			if x := int64(v); x >= low && x <= high {
				dst[i] = airHU
			}
		}
	}
}

// resized returns b with length n, newly allocated only when it is too small.
func resized[T any](b []T, n int) []T {
	if cap(b) < n {
		return make([]T, n)
	}
	return b[:n]
}
