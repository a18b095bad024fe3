package dicomout

import (
	"bytes"
	"image"
	"image/color"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdicom "github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/ctclass/ctclass/internal/data/dicom"
)

func document() Document {
	return Document{
		Origin: dicom.Origin{
			PatientName: "Müller^Zoë", PatientID: "77-1", PatientBirthDate: "19500102", PatientSex: "F",
			StudyUID: "1.2.3", StudyID: "9", StudyDate: "20260102", StudyTime: "081500", AccessionNumber: "A1", StudyDescription: "Chest",
			SeriesUID: "1.2.3.4", Modality: "CT",
			Instances: []dicom.Reference{{SOPClassUID: "1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID: "1.2.3.4.1"}, {SOPClassUID: "1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID: "1.2.3.4.2"}},
		},
		Model: "resnet18_3d", ModelID: "0123456789abcdef", Version: "v1", Created: time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.UTC),
		Comments: []string{"a\\b\nc"},
	}
}

func report(t *testing.T) []byte {
	t.Helper()
	threshold := 0.25
	r := Report{Document: document(), Findings: []Finding{
		{Label: "nodule", Probability: 0.123456789, Threshold: &threshold},
		{Label: "a label with a name of more than sixteen characters", Probability: 1, Present: true},
	}}
	file, err := r.File()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func capture(t *testing.T) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 5, 3)) // 45 bytes: the odd one is padded
	m.SetRGBA(4, 2, color.RGBA{1, 2, 3, 255})
	c := Capture{Document: document(), Number: 2, Picture: m, Title: "ctclass gradcam", Description: "where"}
	file, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func parse(t *testing.T, file []byte) sdicom.Dataset {
	t.Helper()
	set, err := sdicom.Parse(bytes.NewReader(file), int64(len(file)), nil, sdicom.SkipProcessingPixelDataValue())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// find returns the first value of an element at the top.
func find(t *testing.T, set sdicom.Dataset, at tag.Tag) string {
	t.Helper()
	e, err := set.FindElementByTag(at)
	if err != nil {
		t.Fatalf("%v: %v", at, err)
	}
	return strings.Trim(strings.Trim(e.Value.String(), "[]"), " \x00")
}

// Both documents join the patient's study in series of their own.
func TestDocumentsJoinTheStudy(t *testing.T) {
	sr, sc := parse(t, report(t)), parse(t, capture(t))
	for _, set := range []sdicom.Dataset{sr, sc} {
		for at, want := range map[tag.Tag]string{
			tag.PatientName: "Müller^Zoë", tag.PatientID: "77-1", tag.PatientBirthDate: "19500102", tag.PatientSex: "F",
			tag.StudyInstanceUID: "1.2.3", tag.StudyDate: "20260102", tag.AccessionNumber: "A1", tag.ContentDate: "20260506",
			tag.SpecificCharacterSet: "ISO_IR 192", tag.DeviceSerialNumber: "0123456789abcdef",
		} {
			if got := find(t, set, at); got != want {
				t.Errorf("%v: got %q, want %q", at, got, want)
			}
		}
	}
	seen := map[string]bool{"1.2.3.4": true}
	for _, set := range []sdicom.Dataset{sr, sc} {
		for _, at := range []tag.Tag{tag.SeriesInstanceUID, tag.SOPInstanceUID} {
			uid := find(t, set, at)
			if seen[uid] || !strings.HasPrefix(uid, "2.25.") || len(uid) > 64 {
				t.Errorf("%v: %q is no UID of its own", at, uid)
			}
			seen[uid] = true
		}
	}
	if !bytes.Equal(report(t), report(t)) {
		t.Error("the same report gives other bytes")
	}
}

// The tree of the report holds the answers in per cent and the decisions.
func TestReportContent(t *testing.T) {
	var all []string
	set := parse(t, report(t))
	for e := range set.FlatIterator() {
		switch e.Tag {
		case tag.NumericValue, tag.CodeValue, tag.TextValue, tag.ReferencedSOPInstanceUID:
			all = append(all, strings.Trim(strings.Trim(e.Value.String(), "[]"), " \x00"))
		}
	}
	text := strings.Join(all, "|")
	for _, want := range []string{
		"|nodule|", "|111012|%|12.3457|", "|threshold|%|25.0000|", "|decision|2667000|", "|111012|%|100.0000|", "|decision|52101004|",
		"|a b c", "1.2.3.4.1|1.2.3.4.2",
	} {
		ordered := strings.ReplaceAll(text, "\n", " ")
		if !strings.Contains(ordered, want) {
			t.Errorf("the report lacks %q: %s", want, ordered)
		}
	}
	if c := labelCode("a label with a name of more than sixteen characters"); len(c.value) != 16 || c.meaning[:7] != "a label" {
		t.Errorf("the code of a long label is %+v", c)
	}
}

// Where dicom3tools and dcmtk are installed both documents pass without errors.
func TestValidators(t *testing.T) {
	dir := t.TempDir()
	for name, file := range map[string][]byte{"sr.dcm": report(t), "sc.dcm": capture(t)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, file, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, tool := range [][]string{{"dciodvfy", "-new", path}, {"dcmftest", path}, {"dsrdump", path}} {
			if name == "sc.dcm" && tool[0] == "dsrdump" {
				continue
			}
			if _, err := exec.LookPath(tool[0]); err != nil {
				t.Logf("%s is not installed", tool[0])
				continue
			}
			out, err := exec.CommandContext(t.Context(), tool[0], tool[1:]...).CombinedOutput()
			if err != nil || bytes.Contains(out, []byte("Error")) || bytes.Contains(out, []byte("E: ")) {
				t.Errorf("%s of %s: %v\n%s", tool[0], name, err, out)
			}
		}
	}
}
