package phantom

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/ctclass/ctclass/internal/dicomwrite"
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
		file, err := slice(v, info, number)
		if err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
		if err := os.WriteFile(path, file, 0o666); err != nil {
			return fmt.Errorf("cannot write the DICOM series: %w", err)
		}
	}
	return nil
}

// slice returns the file of the slice with the given instance number.
func slice(v *volume.Volume, info SeriesInfo, number int) ([]byte, error) {
	d := v.Size[0] - number
	pixels, err := storedPixels(v, d)
	if err != nil {
		return nil, err
	}
	id := func(what string, more ...uint64) []string {
		return []string{makeUID(rng.Key(info.Seed, "phantom uid "+what, append([]uint64{uint64(info.Case)}, more...)...))}
	}
	instance := id("instance", uint64(number))
	spacing := volume.SpacingOf(v.Affine)
	var position, orientation []string
	for row := range 3 {
		position = append(position, dicomwrite.Decimal(v.Affine[row][2]*float64(d)+v.Affine[row][3]))
	}
	for column, step := range [2]float64{spacing[2], spacing[1]} {
		for row := range 3 {
			orientation = append(orientation, dicomwrite.Decimal(v.Affine[row][column]/step))
		}
	}
	sex := []string{"F", "M"}[rng.At(rng.Key(info.Seed, "phantom sex", uint64(info.Case)), 0)&1]
	none := dicomwrite.Empty()

	set := dicomwrite.Attr
	return dicomwrite.File(ctImageStorage, instance[0], makeUID(rng.Hash("ctclass phantom")), []dicomwrite.Attribute{
		set(tag.ImageType, []string{"ORIGINAL", "PRIMARY", "AXIAL"}),
		set(tag.StudyDate, none),
		set(tag.StudyTime, none),
		set(tag.AccessionNumber, none),
		set(tag.Modality, []string{"CT"}),
		set(tag.Manufacturer, []string{"ctclass phantom"}),
		set(tag.ReferringPhysicianName, none),
		set(tag.StudyDescription, []string{"Synthetic chest CT"}),
		set(tag.SeriesDescription, []string{"Chest"}),
		set(tag.PatientName, []string{"Phantom^" + info.PatientID}),
		set(tag.PatientID, []string{info.PatientID}),
		set(tag.PatientBirthDate, none),
		set(tag.PatientSex, []string{sex}),
		set(tag.BodyPartExamined, []string{"CHEST"}),
		set(tag.SliceThickness, []string{dicomwrite.Decimal(spacing[0])}),
		set(tag.KVP, []string{"120"}),
		set(tag.PatientPosition, []string{"HFS"}),
		set(tag.StudyInstanceUID, id("study")),
		set(tag.SeriesInstanceUID, id("series")),
		set(tag.StudyID, []string{"1"}),
		set(tag.SeriesNumber, []string{"2"}),
		set(tag.AcquisitionNumber, []string{"1"}),
		set(tag.InstanceNumber, []string{strconv.Itoa(number)}),
		set(tag.ImagePositionPatient, position),
		set(tag.ImageOrientationPatient, orientation),
		set(tag.FrameOfReferenceUID, id("frame")),
		set(tag.PositionReferenceIndicator, none),
		set(tag.SamplesPerPixel, []int{1}),
		set(tag.PhotometricInterpretation, []string{"MONOCHROME2"}),
		set(tag.Rows, []int{v.Size[1]}),
		set(tag.Columns, []int{v.Size[2]}),
		set(tag.PixelSpacing, []string{dicomwrite.Decimal(spacing[1]), dicomwrite.Decimal(spacing[2])}),
		set(tag.BitsAllocated, []int{16}),
		set(tag.BitsStored, []int{12}),
		set(tag.HighBit, []int{11}),
		set(tag.PixelRepresentation, []int{0}),
		set(tag.WindowCenter, []string{"40"}),
		set(tag.WindowWidth, []string{"400"}),
		set(tag.RescaleIntercept, []string{strconv.Itoa(rescaleIntercept)}),
		set(tag.RescaleSlope, []string{"1"}),
		set(tag.RescaleType, []string{"HU"}),
		set(tag.PixelData, dicomwrite.Pixels{VR: "OW", Data: pixels}),
	})
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

// makeUID derives a UID from a key.
func makeUID(key uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], rng.At(key, 0))
	binary.BigEndian.PutUint64(b[8:], rng.At(key, 1))
	return dicomwrite.UID(b)
}
