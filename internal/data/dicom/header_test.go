package dicom

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

// tiny is a slice of 2 rows x 3 columns.
func tiny(instance int, z float64) *dicomtest.File {
	return dicomtest.Slice("1.2.3.4", instance, z, 2, 3, []int16{0, 1024, -5, 100, 32767, -32768})
}

func mustHeader(t *testing.T, f *dicomtest.File) Header {
	t.Helper()
	h, err := ReadHeader(f.Write(t, t.TempDir(), "IM0"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHeaderFacts(t *testing.T) {
	f := tiny(7, 12.5)
	f.Set(0x0008103E, "LO", "Thorax  1.0  B40f ").Set(0x00181210, "SH", "B40f").Set(0x00185100, "CS", "FFS")
	f.Set(0x00280030, "DS", `0.5\0.75`).Set(0x00200052, "UI", "1.2.3.9").Set(0x00201041, "DS", "-3.5")
	f.SetShort(0x00280120, 0xF830) // -2000
	f.SetShort(0x00280121, 0xF831)
	h := mustHeader(t, f)
	if h.SeriesUID != "1.2.3.4" || h.SOPInstanceUID != "1.2.3.4.7" || h.StudyUID != "1.2.3" || h.FrameOfReferenceUID != "1.2.3.9" {
		t.Errorf("UIDs: %q %q %q %q", h.SeriesUID, h.SOPInstanceUID, h.StudyUID, h.FrameOfReferenceUID)
	}
	if h.SeriesDescription != "Thorax  1.0  B40f" || h.Kernel != "B40f" || h.PatientPosition != "FFS" || h.Modality != "CT" {
		t.Errorf("texts: %q %q %q %q", h.SeriesDescription, h.Kernel, h.PatientPosition, h.Modality)
	}
	if want := []string{"ORIGINAL", "PRIMARY", "AXIAL"}; !reflect.DeepEqual(h.ImageType, want) {
		t.Errorf("image type %q", h.ImageType)
	}
	if h.SeriesNumber != 4 || h.AcquisitionNumber != 1 || h.InstanceNumber != 7 {
		t.Errorf("numbers %d %d %d", h.SeriesNumber, h.AcquisitionNumber, h.InstanceNumber)
	}
	if h.Position != [3]float64{-10, 20, 12.5} || h.Orientation != [6]float64{1, 0, 0, 0, 1, 0} ||
		h.PixelSpacing != [2]float64{0.5, 0.75} || h.SliceThickness != 2.5 || h.SliceLocation != -3.5 {
		t.Errorf("geometry %v %v %v %g %g", h.Position, h.Orientation, h.PixelSpacing, h.SliceThickness, h.SliceLocation)
	}
	if h.Rows != 2 || h.Columns != 3 || h.BitsAllocated != 16 || h.BitsStored != 16 || h.HighBit != 15 || !h.Signed {
		t.Errorf("pixel format %+v", h)
	}
	if !h.HasPadding || h.PaddingLow != -2000 || h.PaddingHigh != -1999 {
		t.Errorf("padding %v %d..%d", h.HasPadding, h.PaddingLow, h.PaddingHigh)
	}
	if h.Slope != 1 || h.Intercept != -1024 || !h.HasRescale {
		t.Errorf("rescale %g %g", h.Slope, h.Intercept)
	}
}

// All encodings of one slice give the same pixels: the first row is 0, 1024, -5.
func TestEncodings(t *testing.T) {
	want := []int32{0, 1024, -5, 100, 32767, -32768}
	for _, syntax := range []string{dicomtest.Implicit, dicomtest.Explicit, dicomtest.BigEndian, dicomtest.Deflated} {
		for _, bare := range []bool{false, true} {
			if bare && syntax == dicomtest.Deflated {
				continue // nothing would say that it is deflated
			}
			f := tiny(1, 0)
			f.Syntax, f.Bare = syntax, bare
			h := mustHeader(t, f)
			if h.TransferSyntax != syntax {
				t.Errorf("%s bare %v: read as %s", syntax, bare, h.TransferSyntax)
			}
			var s slice
			if err := s.read(&h); err != nil {
				t.Errorf("%s bare %v: %v", syntax, bare, err)
			} else if !reflect.DeepEqual(s.stored, want) {
				t.Errorf("%s bare %v: %v", syntax, bare, s.stored)
			}
		}
	}
}

// A data set in another encoding than its meta header says is read by what it is.
func TestContradictingSyntax(t *testing.T) {
	f := tiny(1, 0)
	f.Syntax, f.Bare = dicomtest.Implicit, true
	body := f.Bytes()
	meta := dicomtest.AppendElement(nil, binary.LittleEndian, false, 0x00020010, dicomtest.Value{VR: "UI", Data: dicomtest.Explicit})
	file := append(append(append(make([]byte, 128), "DICM"...), meta...), body...) // and no group length either
	h, err := readHeader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if h.Rows != 2 || h.Columns != 3 || h.SeriesUID != "1.2.3.4" {
		t.Errorf("header %+v", h)
	}
}

// Private elements, sequences of undefined length within each other and UN sequences are stepped over.
func TestSequencesAreSkipped(t *testing.T) {
	undefined := []byte{0xFF, 0xFF, 0xFF, 0xFF}
	item := append([]byte{0xFE, 0xFF, 0x00, 0xE0}, undefined...)
	itemEnd := []byte{0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0}
	seqEnd := []byte{0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0}
	inner := bytes.Join([][]byte{{0x08, 0x00, 0x40, 0x11, 'S', 'Q', 0, 0}, undefined, item, itemEnd, seqEnd}, nil)
	rows := dicomtest.AppendElement(nil, binary.LittleEndian, false, 0x00280010, dicomtest.Value{VR: "US", Data: []uint16{99}})
	implicitRows := dicomtest.AppendElement(nil, binary.LittleEndian, true, 0x00280010, dicomtest.Value{VR: "US", Data: []uint16{99}})
	sq := bytes.Join([][]byte{{0x08, 0x00, 0x15, 0x11, 'S', 'Q', 0, 0}, undefined, item, inner, rows, itemEnd, seqEnd}, nil)
	un := bytes.Join([][]byte{{0x09, 0x00, 0x10, 0x10, 'U', 'N', 0, 0}, undefined, item, implicitRows, itemEnd, seqEnd}, nil)

	f := tiny(1, 0)
	f.Bare = true
	body := f.Bytes()
	cut := bytes.Index(body, []byte{0x18, 0x00, 0x50, 0x00}) // before the slice thickness
	file := bytes.Join([][]byte{make([]byte, 128), []byte("DICM"), body[:cut], sq, un, body[cut:]}, nil)
	h, err := readHeader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if h.Rows != 2 {
		t.Errorf("rows %d taken from inside a sequence", h.Rows)
	}

	deep := bytes.Join([][]byte{make([]byte, 128), []byte("DICM"), bytes.Repeat(sq[:20], 100000)}, nil)
	if _, err := readHeader(bytes.NewReader(deep), int64(len(deep))); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("endless nesting: %v", err)
	}
}

func TestHeaderErrors(t *testing.T) {
	good := tiny(1, 0).Bytes()
	lying := append(bytes.Clone(good[:len(good)-24]), 0x09, 0x00, 0x10, 0x00, 'O', 'B', 0, 0, 0xF0, 0xFF, 0xFF, 0x7F)
	for _, tt := range []struct {
		name    string
		content []byte
		want    string
		notDICM bool
	}{
		{"empty", nil, "not a DICOM file", true},
		{"text", []byte("This is a note about the scan, not an image.\n"), "not a DICOM file", true},
		{"magic only", append(make([]byte, 128), "DICM"...), "no data set", false},
		{"cut header", good[:300], "", false},
		{"length beyond the file", lying, "claims 2147483632 bytes", false},
		{"bad position", tiny(1, 0).Set(0x00200032, "DS", `1\2\x`).Bytes(), "(0020,0032)", false},
		{"position of two numbers", tiny(1, 0).Set(0x00200032, "DS", `1\2`).Bytes(), "2 values, expected 3", false},
		{"infinite slope", tiny(1, 0).Set(0x00281053, "DS", "Inf").Bytes(), "(0028,1053)", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file.dcm")
			if err := os.WriteFile(path, tt.content, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := ReadHeader(path)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "file.dcm") {
				t.Errorf("error %q", err)
			}
			if errors.Is(err, ErrNotDICOM) != tt.notDICM {
				t.Errorf("errors.Is(%v, ErrNotDICOM) = %v", err, !tt.notDICM)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *dicomtest.File)
		want   string
	}{
		{"compressed", func(f *dicomtest.File) { f.Syntax = "1.2.840.10008.1.2.4.100"; f.Fragments = [][]byte{{1, 2}} }, "gdcmconv --raw"},
		{"private syntax", func(f *dicomtest.File) { f.Syntax = "1.3.46.670589.33.1.4.1" }, "1.3.46.670589.33.1.4.1"},
		{"enhanced", func(f *dicomtest.File) {
			f.Set(0x00080016, "UI", classEnhancedCT).Set(0x00280008, "IS", "2")
		}, "multi-frame"},
		{"truncated", func(f *dicomtest.File) { f.SetShort(0x00280010, 3) }, "truncated: 12 of 18 bytes"},
		{"no pixels", func(f *dicomtest.File) { delete(f.Elements, 0x7FE00010) }, "no pixel data"},
		{"colour", func(f *dicomtest.File) { f.SetShort(0x00280002, 3) }, "samples per pixel"},
		{"12 bits allocated", func(f *dicomtest.File) { f.SetShort(0x00280100, 12) }, "12 bits allocated"},
		{"stored beyond allocated", func(f *dicomtest.File) { f.SetShort(0x00280101, 17) }, "contradicting pixel format"},
		{"high bit", func(f *dicomtest.File) { f.SetShort(0x00280101, 12); f.SetShort(0x00280102, 5) }, "contradicting pixel format"},
		{"slope 0", func(f *dicomtest.File) { f.Set(0x00281053, "DS", "0") }, "slope 0"},
		{"RLE not encapsulated", func(f *dicomtest.File) { f.Syntax = dicomtest.RLE }, "not encapsulated"},
		{"encapsulated without compression", func(f *dicomtest.File) { f.Fragments = [][]byte{{1, 2}} }, "encapsulated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := tiny(1, 0)
			tt.change(f)
			h := mustHeader(t, f)
			err := h.CheckPixels()
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "IM0") {
				t.Errorf("error %v, want %q and the file's name", err, tt.want)
			}
			var s slice
			if s.read(&h) == nil {
				t.Error("the pixels were read all the same")
			}
		})
	}
}
