// Package dicomwrite writes DICOM files: lists of attributes in explicit VR little endian, with
// github.com/suyashkumar/dicom.
package dicomwrite

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
	"github.com/suyashkumar/dicom/pkg/uid"
)

// Attribute is a data element: its tag and its value, which is []string (also for numbers that DICOM writes as
// text), []int, []byte, []Item for a sequence, or Pixels.
type Attribute struct {
	Tag   tag.Tag
	Value any
}

// Attr returns an attribute.
func Attr(t tag.Tag, value any) Attribute { return Attribute{t, value} }

// Item is an item of a sequence.
type Item []Attribute

// Pixels is the value of PixelData, in the bytes of the file, with its VR: OB for bytes, OW for words.
type Pixels struct {
	VR   string
	Data []byte
}

// Empty is the value of an attribute that must be there but is not known.
func Empty() []string { return []string{""} }

// Text is a single value. What is longer than most characters, if most is not 0, is cut; line ends and backslashes,
// which separate values, become spaces.
func Text(s string, most int) []string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r == '\\' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if runes := []rune(s); most > 0 && len(runes) > most {
		s = string(runes[:most])
	}
	return []string{strings.TrimSpace(s)}
}

// File returns a file of the SOP class and instance with the attributes, in any order, and the meta header.
// implementation is the UID of the program that wrote it.
func File(class, instance, implementation string, attributes []Attribute) ([]byte, error) {
	all := append([]Attribute{
		{tag.FileMetaInformationVersion, []byte{0, 1}},
		{tag.MediaStorageSOPClassUID, []string{class}},
		{tag.MediaStorageSOPInstanceUID, []string{instance}},
		{tag.TransferSyntaxUID, []string{uid.ExplicitVRLittleEndian}},
		{tag.ImplementationClassUID, []string{implementation}},
		{tag.SOPClassUID, []string{class}},
		{tag.SOPInstanceUID, []string{instance}},
	}, attributes...)
	elements, err := build(all)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	if err := dicom.Write(&file, dicom.Dataset{Elements: elements}); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}

// build makes the library's elements, sorted by tag.
func build(attributes []Attribute) ([]*dicom.Element, error) {
	sorted := slices.Clone(attributes)
	slices.SortStableFunc(sorted, func(a, b Attribute) int {
		return cmp.Or(cmp.Compare(a.Tag.Group, b.Tag.Group), cmp.Compare(a.Tag.Element, b.Tag.Element))
	})
	var out []*dicom.Element
	for _, a := range sorted {
		value, vr := a.Value, ""
		switch v := a.Value.(type) {
		case []Item:
			items := make([][]*dicom.Element, 0, len(v))
			for _, item := range v {
				elements, err := build(item)
				if err != nil {
					return nil, err
				}
				items = append(items, elements)
			}
			value = items
		case Pixels:
			// The library would convert pixel by pixel; these bytes are already as the file wants them.
			value, vr = dicom.PixelDataInfo{IntentionallyUnprocessed: true, UnprocessedValueData: v.Data}, v.VR
		}
		e, err := dicom.NewElement(a.Tag, value)
		if err != nil {
			return nil, fmt.Errorf("attribute %v: %w", a.Tag, err)
		}
		if vr != "" {
			e.RawValueRepresentation = vr
		}
		out = append(out, e)
	}
	return out, nil
}

// Decimal writes a number as a decimal string, to a millionth at best and in at most 16 characters (what DICOM
// allows) for any length in mm that fits a body.
func Decimal(x float64) string {
	s := strings.TrimRight(strconv.FormatFloat(x, 'f', 6, 64), "0")
	s = strings.TrimSuffix(s, ".")
	if s == "-0" {
		return "0"
	}
	return s
}

// UID derives a UID from 16 bytes, in the form of a UUID under the root 2.25 (version 8, the variant for
// application-defined content).
func UID(b [16]byte) string {
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return "2.25." + new(big.Int).SetBytes(b[:]).String()
}

// HashUID derives a UID from texts.
func HashUID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return UID([16]byte(sum[:16]))
}
