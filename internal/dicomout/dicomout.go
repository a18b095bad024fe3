// Package dicomout writes what a model says about a CT series as DICOM: a structured report of its answers and
// secondary captures of its pictures. Both join the patient and the study of the series and refer to its images.
package dicomout

import (
	"strconv"
	"time"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/ctclass/ctclass/internal/data/dicom"
	"github.com/ctclass/ctclass/internal/dicomwrite"
)

// Document is what reports and captures have in common.
type Document struct {
	Origin   dicom.Origin
	Model    string // architecture
	ModelID  string
	Version  string // of ctclass
	Created  time.Time
	Comments []string // what a reader must know, such as the warnings about the scan
}

const manufacturer = "ctclass"

// implementation identifies the program in meta headers.
func implementation() string { return dicomwrite.HashUID("ctclass dicomout") }

// set returns an attribute.
func set(t tag.Tag, value any) dicomwrite.Attribute { return dicomwrite.Attr(t, value) }

// uid derives a UID for a part of the document.
func (d *Document) uid(parts ...string) string {
	all := []string{"ctclass", d.Origin.SeriesUID, d.ModelID, d.Created.UTC().Format(time.RFC3339Nano)}
	return dicomwrite.HashUID(append(all, parts...)...)
}

func date(t time.Time) []string  { return []string{t.Format("20060102")} }
func clock(t time.Time) []string { return []string{t.Format("150405.000000")} }

// text is a value that may be unknown.
func text(s string, most int) []string { return dicomwrite.Text(s, most) }

// common returns the attributes of patient, study, series and equipment. series is the part of its UID.
func (d *Document) common(modality, series, description string, number, instance int) []dicomwrite.Attribute {
	o := &d.Origin
	a := []dicomwrite.Attribute{
		set(tag.SpecificCharacterSet, []string{"ISO_IR 192"}), // UTF-8
		set(tag.InstanceCreationDate, date(d.Created)), set(tag.InstanceCreationTime, clock(d.Created)),

		set(tag.PatientName, text(o.PatientName, 0)), set(tag.PatientID, text(o.PatientID, 64)),
		set(tag.PatientBirthDate, text(o.PatientBirthDate, 8)), set(tag.PatientSex, text(o.PatientSex, 16)),

		set(tag.StudyInstanceUID, []string{o.StudyUID}), set(tag.StudyID, text(o.StudyID, 16)),
		set(tag.StudyDate, text(o.StudyDate, 0)), set(tag.StudyTime, text(o.StudyTime, 0)),
		set(tag.AccessionNumber, text(o.AccessionNumber, 16)), set(tag.ReferringPhysicianName, text(o.ReferringPhysician, 0)),

		set(tag.Modality, []string{modality}), set(tag.SeriesInstanceUID, []string{d.uid("series", series)}),
		set(tag.SeriesNumber, []string{strconv.Itoa(number)}), set(tag.SeriesDescription, text(description, 64)),
		set(tag.SeriesDate, date(d.Created)), set(tag.SeriesTime, clock(d.Created)),
		set(tag.InstanceNumber, []string{strconv.Itoa(instance)}),
		set(tag.ContentDate, date(d.Created)), set(tag.ContentTime, clock(d.Created)),

		set(tag.Manufacturer, text(manufacturer, 64)), set(tag.ManufacturerModelName, text(d.Model, 64)),
		set(tag.DeviceSerialNumber, text(d.ModelID, 64)), set(tag.SoftwareVersions, text(d.Version, 64)),
	}
	if o.PatientIDIssuer != "" {
		a = append(a, set(tag.IssuerOfPatientID, text(o.PatientIDIssuer, 64)))
	}
	if o.StudyDescription != "" {
		a = append(a, set(tag.StudyDescription, text(o.StudyDescription, 64)))
	}
	return a
}

// reference returns the attributes that name an image.
func reference(r dicom.Reference) dicomwrite.Item {
	return dicomwrite.Item{
		set(tag.ReferencedSOPClassUID, []string{r.SOPClassUID}), set(tag.ReferencedSOPInstanceUID, []string{r.SOPInstanceUID}),
	}
}
