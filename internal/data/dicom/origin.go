package dicom

import (
	"fmt"

	"github.com/ctclass/ctclass/internal/data/files"
)

// Origin is what a DICOM document about a series repeats of it, to join its patient and study. It identifies the
// patient: it is read only for such a document, and goes nowhere else.
type Origin struct {
	PatientName, PatientID, PatientIDIssuer, PatientBirthDate, PatientSex      string
	StudyUID, StudyID, StudyDate, StudyTime, AccessionNumber, StudyDescription string
	ReferringPhysician                                                         string

	SeriesUID, Modality string
	Instances           []Reference // the images of the series, in stacking order
}

// Reference names an image.
type Reference struct{ SOPClassUID, SOPInstanceUID string }

// originVR returns the value representation of the elements that Origin is made of.
func originVR(t tagID) string {
	switch t {
	case 0x00080005, 0x00100040: // SpecificCharacterSet, PatientSex
		return "CS"
	case 0x00100010, 0x00080090: // PatientName, ReferringPhysicianName
		return "PN"
	case 0x00100020, 0x00100021, 0x00081030: // PatientID, its issuer, StudyDescription
		return "LO"
	case 0x00080050, 0x00200010: // AccessionNumber, StudyID
		return "SH"
	case 0x00100030, 0x00080020: // PatientBirthDate, StudyDate
		return "DA"
	case 0x00080030: // StudyTime
		return "TM"
	}
	return ""
}

// Origin reads the origin of the series, the patient and study from its first file. Text is UTF-8 whatever the
// file's character set is.
func (s *Series) Origin() (Origin, error) {
	first := &s.Slices[0]
	o, err := readOrigin(first.files, first.Path)
	if err != nil {
		return Origin{}, fmt.Errorf("%s: %w", first.Path, err)
	}
	o.StudyUID, o.SeriesUID, o.Modality = first.StudyUID, first.SeriesUID, first.Modality
	seen := map[string]bool{} // the frames of a file are one instance
	for i := range s.Slices {
		h := &s.Slices[i]
		if h.SOPInstanceUID != "" && !seen[h.SOPInstanceUID] {
			seen[h.SOPInstanceUID] = true
			o.Instances = append(o.Instances, Reference{h.SOPClassUID, h.SOPInstanceUID})
		}
	}
	if o.StudyUID == "" || len(o.Instances) == 0 {
		return Origin{}, fmt.Errorf("%s: the series has no study UID or no instance UIDs, so nothing can refer to it", first.Path)
	}
	return o, nil
}

func readOrigin(in files.Files, path string) (Origin, error) {
	if in == nil {
		in = files.Disk{}
	}
	f, err := in.Open(path)
	if err != nil {
		return Origin{}, err
	}
	defer f.Close()
	s, err := walkFor(f, f.Size(), originVR)
	if err != nil {
		return Origin{}, err
	}
	values, err := decodeElements(s)
	if err != nil {
		return Origin{}, err
	}
	v := facts{values: values}
	return Origin{
		PatientName: v.text(0x00100010), PatientID: v.text(0x00100020), PatientIDIssuer: v.text(0x00100021),
		PatientBirthDate: v.text(0x00100030), PatientSex: v.text(0x00100040),
		StudyID: v.text(0x00200010), StudyDate: v.text(0x00080020), StudyTime: v.text(0x00080030),
		AccessionNumber: v.text(0x00080050), StudyDescription: v.text(0x00081030), ReferringPhysician: v.text(0x00080090),
	}, nil
}
