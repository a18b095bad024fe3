package phantom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
	"github.com/suyashkumar/dicom/pkg/uid"

	"github.com/ctclass/ctclass/internal/rng"
	"github.com/ctclass/ctclass/internal/volume"
)

// ctImageStorage is the SOP class of a CT slice.
const ctImageStorage = "1.2.840.10008.5.1.4.1.1.2"

// rescaleIntercept turns a stored value into HU; stored values are 12 bits without sign.
const rescaleIntercept = -1024

// SeriesInfo identifies a DICOM series. The UIDs of study, series, frame of reference and slices
// follow from Seed and Case.
type SeriesInfo struct {
	Seed      uint64
	Case      int
	PatientID string
}

// WriteDICOM writes v as a CT series into the folder dir, which it creates: one file a slice,
// IM0001.dcm at the highest d as scanners number from the head, uncompressed, with the attributes
// that the CT Image module requires. HU are rounded and must lie in -1024..3071. The same arguments
// give the same bytes.
func WriteDICOM(dir string, v *volume.Volume, info SeriesInfo) error {
	if err := v.Validate(); err != nil {
		return fmt.Errorf("cannot write the DICOM series %s: %w", dir, err)
	}
	if skew := volume.Skew(v.Affine); skew > 0.05 {
		return fmt.Errorf("cannot write the DICOM series %s: the axes are %.2f degrees off right angles", dir, skew)
	}
	if v.Size[1] > math.MaxUint16 || v.Size[2] > math.MaxUint16 {
		return fmt.Errorf("cannot write the DICOM series %s: slices of %d x %d are too large", dir, v.Size[1], v.Size[2])
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("cannot write the DICOM series: %w", err)
	}
	for number := 1; number <= v.Size[0]; number++ {
		path := filepath.Join(dir, fmt.Sprintf("IM%04d.dcm", number))
		set, err := slice(v, info, number)
		if err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
		var file bytes.Buffer
		if err := dicom.Write(&file, set); err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
		if err := os.WriteFile(path, file.Bytes(), 0o666); err != nil {
			return fmt.Errorf("cannot write the DICOM series: %w", err)
		}
	}
	return nil
}

// slice builds the data set of the slice with the given instance number.
func slice(v *volume.Volume, info SeriesInfo, number int) (dicom.Dataset, error) {
	d := v.Size[0] - number
	pixels, err := storedPixels(v, d)
	if err != nil {
		return dicom.Dataset{}, err
	}
	id := func(what string, more ...uint64) []string {
		return []string{makeUID(rng.Key(info.Seed, "phantom uid "+what, append([]uint64{uint64(info.Case)}, more...)...))}
	}
	instance := id("instance", uint64(number))
	spacing := volume.SpacingOf(v.Affine)
	var position, orientation []string
	for row := range 3 {
		position = append(position, decimal(v.Affine[row][2]*float64(d)+v.Affine[row][3]))
	}
	for column, step := range [2]float64{spacing[2], spacing[1]} {
		for row := range 3 {
			orientation = append(orientation, decimal(v.Affine[row][column]/step))
		}
	}
	sex := []string{"F", "M"}[rng.At(rng.Key(info.Seed, "phantom sex", uint64(info.Case)), 0)&1]
	none := []string{""} // known to be empty: these attributes must be there, a value need not

	attributes := []struct {
		tag   tag.Tag
		value any
	}{
		{tag.FileMetaInformationVersion, []byte{0, 1}},
		{tag.MediaStorageSOPClassUID, []string{ctImageStorage}},
		{tag.MediaStorageSOPInstanceUID, instance},
		{tag.TransferSyntaxUID, []string{uid.ExplicitVRLittleEndian}},
		{tag.ImplementationClassUID, []string{makeUID(rng.Hash("ctclass phantom"))}},
		{tag.ImageType, []string{"ORIGINAL", "PRIMARY", "AXIAL"}},
		{tag.SOPClassUID, []string{ctImageStorage}},
		{tag.SOPInstanceUID, instance},
		{tag.StudyDate, none},
		{tag.StudyTime, none},
		{tag.AccessionNumber, none},
		{tag.Modality, []string{"CT"}},
		{tag.Manufacturer, []string{"ctclass phantom"}},
		{tag.ReferringPhysicianName, none},
		{tag.StudyDescription, []string{"Synthetic chest CT"}},
		{tag.SeriesDescription, []string{"Chest"}},
		{tag.PatientName, []string{"Phantom^" + info.PatientID}},
		{tag.PatientID, []string{info.PatientID}},
		{tag.PatientBirthDate, none},
		{tag.PatientSex, []string{sex}},
		{tag.BodyPartExamined, []string{"CHEST"}},
		{tag.SliceThickness, []string{decimal(spacing[0])}},
		{tag.KVP, []string{"120"}},
		{tag.PatientPosition, []string{"HFS"}},
		{tag.StudyInstanceUID, id("study")},
		{tag.SeriesInstanceUID, id("series")},
		{tag.StudyID, []string{"1"}},
		{tag.SeriesNumber, []string{"2"}},
		{tag.AcquisitionNumber, []string{"1"}},
		{tag.InstanceNumber, []string{strconv.Itoa(number)}},
		{tag.ImagePositionPatient, position},
		{tag.ImageOrientationPatient, orientation},
		{tag.FrameOfReferenceUID, id("frame")},
		{tag.PositionReferenceIndicator, none},
		{tag.SamplesPerPixel, []int{1}},
		{tag.PhotometricInterpretation, []string{"MONOCHROME2"}},
		{tag.Rows, []int{v.Size[1]}},
		{tag.Columns, []int{v.Size[2]}},
		{tag.PixelSpacing, []string{decimal(spacing[1]), decimal(spacing[2])}},
		{tag.BitsAllocated, []int{16}},
		{tag.BitsStored, []int{12}},
		{tag.HighBit, []int{11}},
		{tag.PixelRepresentation, []int{0}},
		{tag.WindowCenter, []string{"40"}},
		{tag.WindowWidth, []string{"400"}},
		{tag.RescaleIntercept, []string{strconv.Itoa(rescaleIntercept)}},
		{tag.RescaleSlope, []string{"1"}},
		{tag.RescaleType, []string{"HU"}},
		// The writer would convert pixel by pixel; these bytes are already as the file wants them.
		{tag.PixelData, dicom.PixelDataInfo{IntentionallyUnprocessed: true, UnprocessedValueData: pixels}},
	}
	var set dicom.Dataset
	for _, a := range attributes {
		e, err := dicom.NewElement(a.tag, a.value)
		if err != nil {
			return dicom.Dataset{}, fmt.Errorf("attribute %v: %w", a.tag, err)
		}
		if a.tag == tag.PixelData {
			e.RawValueRepresentation = "OW"
		}
		set.Elements = append(set.Elements, e)
	}
	return set, nil
}

// storedPixels returns slice d as 16-bit words in little-endian order.
func storedPixels(v *volume.Volume, d int) ([]byte, error) {
	n := v.Size[1] * v.Size[2]
	out := make([]byte, 0, 2*n)
	for i, hu := range v.HU[d*n : (d+1)*n] {
		x := math.Round(float64(hu)) - rescaleIntercept
		if !(x >= 0 && x <= 4095) {
			return nil, fmt.Errorf("voxel %d of slice %d has %v HU, 12 bits hold %d to %d", i, d, hu, rescaleIntercept, 4095+rescaleIntercept)
		}
		out = binary.LittleEndian.AppendUint16(out, uint16(x))
	}
	return out, nil
}

// decimal writes a number as a decimal string, to a millionth at best and in at most 16 characters
// (what DICOM allows) for any length in mm that fits a body.
func decimal(x float64) string {
	s := strings.TrimRight(strconv.FormatFloat(x, 'f', 6, 64), "0")
	s = strings.TrimSuffix(s, ".")
	if s == "-0" {
		return "0"
	}
	return s
}

// makeUID derives a UID from a key, in the form of a UUID under the root 2.25 (version 8, the
// variant for application-defined content).
func makeUID(key uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], rng.At(key, 0))
	binary.BigEndian.PutUint64(b[8:], rng.At(key, 1))
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return "2.25." + new(big.Int).SetBytes(b[:]).String()
}
