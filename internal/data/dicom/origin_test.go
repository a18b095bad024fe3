package dicom

import (
	"fmt"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

// The origin of a series holds the patient in UTF-8 whatever the file's character set is, and all instances.
func TestOrigin(t *testing.T) {
	dir := t.TempDir()
	var headers []Header
	for i := range 3 {
		f := dicomtest.Slice("1.2.9", i+1, float64(i)*2.5, 2, 2, make([]int16, 4))
		f.Set(0x00080005, "CS", "ISO_IR 100")
		f.Set(0x00100010, "PN", "M\xfcller^Zo\xeb")
		f.Set(0x00100020, "LO", "77-1")
		f.Set(0x00100030, "DA", "19500102")
		f.Set(0x00100040, "CS", "F")
		f.Set(0x00080050, "SH", "A1")
		f.Set(0x00080020, "DA", "20260102")
		h, err := ReadHeader(f.Write(t, dir, fmt.Sprintf("%d.dcm", i)))
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
	}
	series, _ := Group(headers)
	o, err := series[0].Origin()
	if err != nil {
		t.Fatal(err)
	}
	if o.PatientName != "Müller^Zoë" || o.PatientID != "77-1" || o.PatientBirthDate != "19500102" || o.PatientSex != "F" ||
		o.AccessionNumber != "A1" || o.StudyDate != "20260102" || o.StudyUID != "1.2.3" || o.SeriesUID != "1.2.9" {
		t.Errorf("the origin is %+v", o)
	}
	if len(o.Instances) != 3 || o.Instances[0].SOPClassUID != "1.2.840.10008.5.1.4.1.1.2" || o.Instances[0] == o.Instances[1] {
		t.Errorf("the instances are %+v", o.Instances)
	}
	series[0].Slices[0].StudyUID = ""
	if _, err := series[0].Origin(); err == nil {
		t.Error("a series without a study has an origin")
	}
}
