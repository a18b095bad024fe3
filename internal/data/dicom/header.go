// Package dicom reads CT series from DICOM files into volumes in Hounsfield units.
//
// Three steps: ReadHeader reads the facts of one file, Group sorts the headers of many files into series,
// and Series.Read stacks one series into a volume.
//
// The values of header elements are decoded by github.com/suyashkumar/dicom. That library allocates what a
// length field claims, recurses as deep as a file nests, panics on transfer syntaxes it does not know and
// ignores the sign of pixels. A walk of our own therefore goes over each file first (walk.go): it checks
// every length against the file, picks out the wanted elements, which alone are handed to the library, and
// finds the pixel data, which are decoded here (pixels.go).
//
// Attributes that identify a patient are not read, but for the patient's ID, of which only a digest is kept, to tell
// patients apart, and by Series.Origin, for documents that must join the patient's study. Errors and warnings name
// files and UIDs only.
package dicom

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	sdicom "github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/ctclass/ctclass/internal/data/files"
)

// Header holds the facts of one DICOM file that matter for making a volume.
type Header struct {
	Path string

	SOPClassUID, SOPInstanceUID              string
	StudyUID, SeriesUID, FrameOfReferenceUID string
	Patient                                  uint64 // digest of the patient's ID and who gave it; 0 without an ID
	Modality                                 string
	ImageType                                []string // upper case, e.g. ORIGINAL, PRIMARY, AXIAL
	SeriesNumber, AcquisitionNumber          int      // 0 when absent
	InstanceNumber, TemporalPosition         int      // 0 when absent
	Stack                                    string   // the stack of a multi-frame image that the slice is in
	CardiacPhase                             float64  // nominal percentage of the cardiac cycle, of multi-frame images
	SeriesDescription, Kernel                string
	PatientPosition                          string // HFS, FFS, HFP, ...

	HasPosition    bool
	Position       [3]float64 // centre of the first voxel in patient coordinates, mm, LPS
	HasOrientation bool
	// Orientation holds two unit vectors: the direction in which the column index grows, then the one in
	// which the row index grows.
	Orientation      [6]float64
	PixelSpacing     [2]float64 // mm between rows (along h), then between columns (along w); 0 when absent
	SliceThickness   float64    // mm, 0 when absent
	SpacingBetween   float64    // mm between slices as declared, 0 when absent
	HasSliceLocation bool
	SliceLocation    float64 // mm

	Rows, Columns, SamplesPerPixel     int
	Frames                             int // number of frames in the file
	Frame                              int // the one that these are the facts of, from 1; 0: the facts of the whole file
	BitsAllocated, BitsStored, HighBit int
	Signed                             bool
	HasRescale                         bool
	Slope, Intercept                   float64 // HU = stored value * Slope + Intercept
	RescaleType                        string  // unit of the rescaled values; "" or HU: Hounsfield units
	HasPadding                         bool
	PaddingLow, PaddingHigh            int64 // stored values in this closed range mean "no data"

	TransferSyntax string // UID

	layout structure
	files  files.Files // where Path is; nil: on disk

	lut             *modalityLUT // instead of Slope and Intercept
	concatenation   string       // UID of the multi-frame image that was divided into several files
	frames          []Header     // of a multi-frame file whose frames are described
	describedFrames int          // how many are
}

// wantedVR returns the value representation of the elements that Header is made of, "" for all others.
// US stands for "US or SS" too: the sign is applied here, by the pixel representation.
func wantedVR(t tagID) string {
	switch t {
	case 0x00080005: // SpecificCharacterSet: how the library reads descriptions
		return "CS"
	case 0x00080008, 0x00080060, 0x00185100: // ImageType, Modality, PatientPosition
		return "CS"
	case 0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00200052, 0x00209161: // UIDs
		return "UI"
	case 0x0008103E, 0x00281054, 0x00100020, 0x00100021: // SeriesDescription, RescaleType, PatientID and its issuer
		return "LO"
	case 0x00181210: // ConvolutionKernel
		return "SH"
	case 0x00200011, 0x00200012, 0x00200013, 0x00200100, 0x00280008: // numbers of series, acquisition, instance, time, frames
		return "IS"
	case 0x00180050, 0x00180088, 0x00200032, 0x00200037, 0x00201041, // thickness, spacing, position, orientation, location
		0x00280030, 0x00281052, 0x00281053: // PixelSpacing, intercept, slope
		return "DS"
	case 0x00280002, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103, // the pixel format
		0x00280120, 0x00280121: // PixelPaddingValue and its range limit
		return "US"
	}
	return ""
}

// ReadHeader reads the header of the DICOM file at path; its pixel data are only located. A file that is no
// DICOM gives an error that wraps ErrNotDICOM, a damaged one an error that says what is wrong.
func ReadHeader(path string) (Header, error) { return ReadHeaderIn(files.Disk{}, path) }

// ReadHeaderIn is ReadHeader for a file of an archive. Its pixels are read from there too.
func ReadHeaderIn(in files.Files, path string) (Header, error) {
	f, err := in.Open(path)
	if err != nil {
		return Header{}, err
	}
	defer f.Close()
	h, err := readHeader(f, f.Size())
	if err != nil {
		return Header{}, fmt.Errorf("%s: %w", path, err)
	}
	h.Path, h.files = path, in
	for i := range h.frames {
		h.frames[i].Path, h.frames[i].files = path, in
	}
	return h, nil
}

// open opens the header's file again.
func (h *Header) open() (files.File, error) {
	if h.files == nil {
		return files.Disk{}.Open(h.Path)
	}
	return h.files.Open(h.Path)
}

// readHeader reads the header of the DICOM stream r of size bytes.
func readHeader(r io.Reader, size int64) (Header, error) {
	s, err := walk(r, size)
	if err != nil {
		return Header{}, err
	}
	h := Header{Frames: 1, SamplesPerPixel: 1, Slope: 1, TransferSyntax: s.syntax, layout: *s}
	h.layout.wanted, h.layout.lut, h.layout.shared, h.layout.perFrame = nil, nil, nil, nil
	values, err := decodeElements(s)
	if err != nil {
		return Header{}, err
	}
	if err := h.fill(values, s); err != nil {
		return Header{}, err
	}
	if s.lut != nil {
		if h.lut, err = newModalityLUT(s.lut, s.order, h.Signed); err != nil {
			return Header{}, err
		}
		h.HasRescale, h.RescaleType = true, strings.ToUpper(s.lut.kind)
	}
	if err := h.describeFrames(values, s); err != nil {
		return Header{}, err
	}
	return h, nil
}

// decodeElements lets the library decode the wanted elements. They are given to it as a complete file whose
// transfer syntax it knows; what a panic in it says becomes an error.
func decodeElements(s *structure) (values map[tagID]sdicom.Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			values, err = nil, fmt.Errorf("malformed header: %v", p)
		}
	}()
	syntax := syntaxExplicit
	if s.order == binary.BigEndian {
		syntax = syntaxBigEndian
	}
	if len(syntax)%2 != 0 {
		syntax += "\x00"
	}
	le := binary.LittleEndian
	meta := appendElement(nil, le, tagMetaSyntax, "UI", []byte(syntax))
	var file bytes.Buffer
	file.Write(make([]byte, magicOffset))
	file.WriteString("DICM")
	file.Write(appendElement(nil, le, 0x00020000, "UL", le.AppendUint32(nil, uint32(len(meta)))))
	file.Write(meta)
	file.Write(s.wanted)
	p, err := sdicom.NewParser(&file, int64(file.Len()), nil,
		sdicom.SkipProcessingPixelDataValue(), sdicom.AllowUnknownSpecificCharacterSet())
	if err != nil {
		return nil, fmt.Errorf("malformed header: %w", err)
	}
	values = make(map[tagID]sdicom.Value)
	for {
		e, err := p.Next()
		if errors.Is(err, sdicom.ErrorEndOfDICOM) {
			return values, nil
		}
		if err != nil {
			return nil, fmt.Errorf("malformed header: %w", err)
		}
		values[id(e.Tag)] = e.Value
	}
}

func id(t tag.Tag) tagID { return tagID(t.Group)<<16 | tagID(t.Element) }

// fill takes the header's facts from the decoded values.
func (h *Header) fill(values map[tagID]sdicom.Value, s *structure) error {
	v := facts{values: values}
	h.SOPClassUID, h.SOPInstanceUID = v.text(0x00080016), v.text(0x00080018)
	if h.SOPClassUID == "" {
		h.SOPClassUID = s.metaSOPClass
	}
	h.StudyUID, h.SeriesUID, h.FrameOfReferenceUID = v.text(0x0020000D), v.text(0x0020000E), v.text(0x00200052)
	if id := v.text(0x00100020); id != "" {
		sum := sha256.Sum256([]byte(id + "\x00" + v.text(0x00100021)))
		h.Patient = binary.LittleEndian.Uint64(sum[:])
	}
	h.concatenation = v.text(0x00209161)
	h.Modality = strings.ToUpper(v.text(0x00080060))
	for _, kind := range v.texts(0x00080008) {
		h.ImageType = append(h.ImageType, strings.ToUpper(strings.TrimSpace(kind)))
	}
	h.SeriesNumber, h.AcquisitionNumber = v.integer(0x00200011), v.integer(0x00200012)
	h.InstanceNumber, h.TemporalPosition = v.integer(0x00200013), v.integer(0x00200100)
	h.Stack = v.text(tagStack)
	h.CardiacPhase, _ = v.optional(tagPhase)
	h.SeriesDescription, h.PatientPosition = v.text(0x0008103E), v.text(0x00185100)
	h.Kernel = strings.Join(v.texts(0x00181210), `\`)

	h.HasPosition = v.numbers(0x00200032, h.Position[:])
	h.HasOrientation = v.numbers(0x00200037, h.Orientation[:]) && h.normaliseOrientation()
	v.numbers(0x00280030, h.PixelSpacing[:])
	h.SliceThickness, _ = v.optional(0x00180050)
	h.SpacingBetween, _ = v.optional(0x00180088)
	h.SliceThickness, h.SpacingBetween = math.Abs(h.SliceThickness), math.Abs(h.SpacingBetween)
	h.SliceLocation, h.HasSliceLocation = v.optional(0x00201041)
	var one [1]float64
	hasSlope := v.numbers(0x00281053, one[:])
	if hasSlope {
		h.Slope = one[0]
	}
	hasIntercept := v.numbers(0x00281052, one[:])
	if hasIntercept {
		h.Intercept = one[0]
	}
	h.HasRescale = hasSlope || hasIntercept || h.lut != nil
	if h.lut == nil {
		h.RescaleType = strings.ToUpper(v.text(0x00281054))
	}

	h.Rows, h.Columns = v.short(0x00280010, 0), v.short(0x00280011, 0)
	if v.numbers(0x00280008, one[:]) {
		h.Frames = int(one[0])
	}
	h.SamplesPerPixel = v.short(0x00280002, 1)
	h.BitsAllocated = v.short(0x00280100, 0)
	h.BitsStored = v.short(0x00280101, h.BitsAllocated)
	h.HighBit = v.short(0x00280102, h.BitsStored-1)
	h.Signed = v.short(0x00280103, 0) == 1
	if _, ok := values[0x00280120]; ok {
		h.HasPadding = true
		h.PaddingLow = h.signedShort(v.short(0x00280120, 0))
		h.PaddingHigh = h.PaddingLow
		if _, ok := values[0x00280121]; ok {
			limit := h.signedShort(v.short(0x00280121, 0))
			h.PaddingLow, h.PaddingHigh = min(limit, h.PaddingLow), max(limit, h.PaddingHigh)
		}
	}
	return v.err
}

// signedShort reads a 16-bit header value by the sign of the pixels.
func (h *Header) signedShort(v int) int64 {
	if h.Signed {
		return int64(int16(uint16(v)))
	}
	return int64(uint16(v))
}

// normaliseOrientation makes the two direction vectors exactly unit length and orthogonal. It reports false
// for values that are no pair of directions.
func (h *Header) normaliseOrientation() bool {
	r, c := vec(h.Orientation[:3]), vec(h.Orientation[3:])
	lr, lc := norm(r), norm(c)
	if !(lr > 0.9 && lr < 1.1 && lc > 0.9 && lc < 1.1) {
		return false
	}
	r, c = scaled(r, 1/lr), scaled(c, 1/lc)
	along := dot(r, c)
	if math.Abs(along) > 0.01 {
		return false
	}
	c = added(c, r, -along)
	c = scaled(c, 1/norm(c))
	copy(h.Orientation[:3], r[:])
	copy(h.Orientation[3:], c[:])
	return true
}

// facts reads typed values of elements; err keeps the first malformed one.
type facts struct {
	values map[tagID]sdicom.Value
	err    error
}

func (f *facts) texts(t tagID) []string {
	if v, ok := f.values[t]; ok && v.ValueType() == sdicom.Strings {
		return sdicom.MustGetStrings(v)
	}
	return nil
}

// text returns the trimmed first value, valid UTF-8 without control characters, "" when absent.
func (f *facts) text(t tagID) string {
	all := f.texts(t)
	if len(all) == 0 {
		return ""
	}
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return -1
		}
		return r
	}, strings.ToValidUTF8(all[0], "?"))
	return strings.TrimSpace(clean)
}

// numbers fills dst with decimal values. An absent or empty element gives false; a present one must hold
// len(dst) finite numbers.
func (f *facts) numbers(t tagID, dst []float64) bool {
	all := f.texts(t)
	if len(all) == 0 || len(all) == 1 && strings.Trim(all[0], " \x00") == "" {
		return false
	}
	if len(all) < len(dst) {
		f.fail(t, fmt.Errorf("%d values, expected %d", len(all), len(dst)))
		return false
	}
	for i := range dst {
		x, err := strconv.ParseFloat(strings.Trim(all[i], " \x00"), 64)
		if err != nil || math.IsNaN(x) || math.Abs(x) > 1e9 {
			f.fail(t, errors.New("not a usable decimal number"))
			return false
		}
		dst[i] = x
	}
	return true
}

// optional returns a decimal value that no volume depends on: a malformed one counts as absent.
func (f *facts) optional(t tagID) (float64, bool) {
	var x [1]float64
	lenient := facts{values: f.values}
	ok := lenient.numbers(t, x[:])
	return x[0], ok
}

// integer returns an optional whole number, 0 when absent or malformed.
func (f *facts) integer(t tagID) int {
	x, _ := f.optional(t)
	return int(x)
}

func (f *facts) short(t tagID, absent int) int {
	if v, ok := f.values[t]; ok && v.ValueType() == sdicom.Ints {
		if n := sdicom.MustGetInts(v); len(n) > 0 {
			return n[0]
		}
	}
	return absent
}

func (f *facts) fail(t tagID, err error) {
	if f.err == nil {
		f.err = fmt.Errorf("element %v: %w", t, err)
	}
}
