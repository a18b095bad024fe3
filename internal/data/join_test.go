package data

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/scan"
)

// indexHead is the header of an index as far as the default rule needs it.
const indexHead = "path,series,study,patient,format,modality,series_number,kernel,size_d,size_h,size_w,orientation,derived\n"

// Labels of studies, joined with an index of series by hashed UIDs: of each study the series that the default rule
// takes, with the patient from the index.
func TestJoinIndex(t *testing.T) {
	study, other := scan.HashUID("1.2.3"), scan.HashUID("1.2.4")
	dir, labels := folder(t, "StudyInstanceUID,nodule\n1.2.3,1\n1.2.4,0\n", "scans/x/a", "scans/x/b", "scans/y/c")
	write(t, filepath.Join(dir, "scans", "index.csv"), indexHead+
		"x,aaa,"+study+",p1,dicom,CT,2,B70f,30,512,512,LPS,0\n"+
		"x,bbb,"+study+",p1,dicom,CT,3,B30f,300,512,512,LPS,0\n"+ // most slices
		"x,ccc,"+study+",p1,dicom,CT,4,B30f,400,512,512,LPS,1\n"+ // derived
		"y,ddd,"+other+",p2,dicom,CT,1,B30f,300,512,512,LPS,0\n")
	c := config.Data{
		Table: labels, Index: filepath.Join(dir, "scans", "index.csv"), JoinKey: "StudyInstanceUID=study",
		Task: Binary, Labels: []string{"nodule"}, GroupColumn: "patient",
	}
	d, err := Open(c, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []Sample{
		{Name: "x#bbb", Path: filepath.Join(dir, "scans", "x"), Series: "bbb", Group: "p1", Target: []float64{1}},
		{Name: "y#ddd", Path: filepath.Join(dir, "scans", "y"), Series: "ddd", Group: "p2", Target: []float64{0}},
	}
	for i, w := range want {
		if s := d.Samples[i]; s.Name != w.Name || s.Path != w.Path || s.Series != w.Series || s.Group != w.Group || s.Target[0] != w.Target[0] {
			t.Errorf("sample %d is %+v, want %+v", i, s, w)
		}
	}
	if len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "1 scans have several series") {
		t.Errorf("warnings %q", d.Warnings)
	}
}

func TestJoinTable(t *testing.T) {
	labels := "id,x\n7,1\n8,0\n9,1\n"
	files := "id,file,who\n9,c.nii,Ann\n7,a.nii,Bob\n8,b.nii,Ann\n1,z.nii,Eve\n"
	open := func(labels, files, key string, change func(*config.Data)) (*Dataset, error) {
		dir, table := folder(t, labels, "a.nii", "b.nii", "c.nii")
		write(t, filepath.Join(dir, "files.csv"), files)
		c := config.Data{Table: table, Index: filepath.Join(dir, "files.csv"), JoinKey: key, Task: Binary, Labels: []string{"x"}, PathColumn: "file", GroupColumn: "who"}
		if change != nil {
			change(&c)
		}
		return Open(c, 0)
	}
	d, err := open(labels, files, "id", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range d.Samples {
		got = append(got, s.Name+" "+s.Group)
	}
	if !slices.Equal(got, []string{"a.nii Bob", "b.nii Ann", "c.nii Ann"}) || d.Samples[1].Target[0] != 0 {
		t.Errorf("samples %q", got)
	}
	skip := func(c *config.Data) { c.OnError = "skip" }
	if d, err = open("id,x\n7,1\n5,0\n8,0\n", files, "id", skip); err != nil {
		t.Fatal(err)
	}
	if len(d.Samples) != 2 || len(d.Unmatched) != 1 || !strings.Contains(d.Unmatched[0].Row, "line 3: 5") || len(d.Warnings) != 1 {
		t.Errorf("%d samples, left out %v, warnings %q", len(d.Samples), d.Unmatched, d.Warnings)
	}
	for name, test := range map[string]struct {
		labels, files, key string
		change             func(*config.Data)
		want               []string
	}{
		"no match":         {"id,x\n7,1\n5,0\n", files, "id", nil, []string{"1 of 2 rows have no match", "line 3: 5", "data.join_key"}},
		"no match at all":  {"id,x\n4,1\n5,0\n", files, "id", skip, []string{"2 of 2 rows have no match"}},
		"no key in labels": {labels, files, "number=id", nil, []string{"labels.csv", `no column "number"`}},
		"no key in index":  {labels, files, "id=number", nil, []string{"files.csv", `no column "number"`}},
		"twice in index":   {labels, files + "7,y.nii,Bob\n", "id", nil, []string{"files.csv: lines 3 and 6", `the same "id", 7`}},
		"twice in labels":  {labels + "7,1\n", files, "id", nil, []string{"labels.csv: lines 2 and 5", "same scan"}},
		"empty patient":    {labels, "id,file,who\n7,a.nii,\n8,b.nii,x\n9,c.nii,x\n", "id", nil, []string{"files.csv: line 2", `"who"`}},
		"label":            {"id,x\n7,7\n", files, "id", nil, []string{"labels.csv: line 2", `value "7"`}},
	} {
		_, err := open(test.labels, test.files, test.key, test.change)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, w := range test.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: the message %q does not say %q", name, err, w)
			}
		}
	}
}

// A pattern names several tables, as CT-RATE's labels of its two splits are.
func TestTablePattern(t *testing.T) {
	dir, _ := folder(t, "x\n1\n",
		"train/train_1/train_1_a/train_1_a_1.nii.gz", "valid_2_a_1.nii.gz")
	write(t, filepath.Join(dir, "l_train.csv"), "VolumeName,Nodule\ntrain_1_a_1.nii.gz,1\n")
	write(t, filepath.Join(dir, "l_valid.csv"), "VolumeName,Nodule\nvalid_2_a_1.nii.gz,0\n")
	c := config.Data{Table: filepath.Join(dir, "l_*.csv"), Task: Multilabel}
	d, err := Open(c, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Samples) != 2 || d.Samples[0].Split != Train || d.Samples[1].Split != Val || d.Labels[0] != "Nodule" {
		t.Errorf("%+v", d.Samples)
	}
	write(t, filepath.Join(dir, "l_valid.csv"), "VolumeName,Nodule\nvalid_2_a_1.nii.gz,0\ntrain_1_a_1.nii.gz,0\n")
	if _, err := Open(c, 0); err == nil || !strings.Contains(err.Error(), "l_train.csv: line 2 and ") || !strings.Contains(err.Error(), "l_valid.csv: line 3 name the same scan") {
		t.Errorf("in two files: %v", err)
	}
	write(t, filepath.Join(dir, "l_valid.csv"), "VolumeName,Other\nvalid_2_a_1.nii.gz,0\n")
	if _, err := Open(c, 0); err == nil || !strings.Contains(err.Error(), "do not have the same columns") {
		t.Errorf("other columns: %v", err)
	}
	c.Table = filepath.Join(dir, "m_*.csv")
	if _, err := Open(c, 0); err == nil || !strings.Contains(err.Error(), "no table is named by the pattern") {
		t.Errorf("no file: %v", err)
	}
}

func TestFolderOfClasses(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{
		"benign/a.nii.gz", "benign/b/IM1", "benign/notes.txt", "malignant/c.nii", "malignant/d.hdr", "malignant/d.img", "other/e.zip",
		"README.md", "benign/.hidden", ".git/x",
	} {
		write(t, filepath.Join(dir, filepath.FromSlash(f)), "")
	}
	c := config.Data{Format: "folder", Table: dir, Task: Multiclass}
	d, err := Open(c, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range d.Samples {
		got = append(got, s.Name+" "+d.Labels[int(s.Target[0])])
	}
	if !slices.Equal(got, []string{"benign/b benign", "benign/a.nii.gz benign", "malignant/c.nii malignant", "malignant/d.hdr malignant", "other/e.zip other"}) {
		t.Errorf("samples %q", got)
	}
	if d.Samples[0].Path != filepath.Join(dir, "benign", "b") {
		t.Errorf("path %s", d.Samples[0].Path)
	}
	if len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "2 files are not named as scans") || !strings.Contains(d.Warnings[0], "benign/notes.txt") {
		t.Errorf("warnings %q", d.Warnings)
	}
	c.Task, c.Labels = Binary, []string{"malignant"}
	if d, err = Open(c, 0); err != nil {
		t.Fatal(err)
	}
	var targets []float64
	for _, s := range d.Samples {
		targets = append(targets, s.Target...)
	}
	if !slices.Equal(targets, []float64{0, 0, 1, 1, 0}) {
		t.Errorf("targets %v", targets)
	}

	// With splits above.
	split := t.TempDir()
	for _, f := range []string{"train/p/1.nii", "train/n/2.nii", "valid/p/3.nii", "test/n/4.nii"} {
		write(t, filepath.Join(split, filepath.FromSlash(f)), "")
	}
	if d, err = Open(config.Data{Format: "folder", Table: split, Task: Binary, Labels: []string{"p"}}, 0); err != nil {
		t.Fatal(err)
	}
	if len(d.Subset(Train)) != 2 || len(d.Subset(Val)) != 1 || d.Subset(Test)[0].Name != "test/n/4.nii" {
		t.Errorf("%+v", d.Samples)
	}

	// The patients are part of the names; none is in two splits.
	named := t.TempDir()
	for i := range 12 {
		class := []string{"well", "sick"}[i/2%2]
		write(t, filepath.Join(named, class, fmt.Sprintf("P%02d_scan%d.nii", i/2, i%2)), "")
	}
	c = config.Data{Format: "folder", Table: named, Task: Binary, Labels: []string{"sick"}, ValFraction: 0.4}
	for pattern, want := range map[string]string{"": "sick/P01_scan0.nii", "(P[0-9]+)_": "P01", "P[0-9]+": "P01"} {
		c.GroupPattern = pattern
		if d, err = Open(c, 3); err != nil {
			t.Fatal(err)
		}
		split := map[string]string{}
		for _, s := range d.Samples {
			if before, ok := split[s.Group]; ok && before != s.Split {
				t.Errorf("pattern %q: the patient %s is in two splits", pattern, s.Group)
			}
			split[s.Group] = s.Split
		}
		if d.Samples[0].Group != want || len(split) != map[bool]int{true: 12, false: 6}[pattern == ""] {
			t.Errorf("pattern %q: %s is of %q; %d patients", pattern, d.Samples[0].Name, d.Samples[0].Group, len(split))
		}
	}

	with := func(pattern, column string) config.Data {
		c := c
		c.GroupPattern, c.GroupColumn = pattern, column
		return c
	}
	for _, test := range []struct {
		c    config.Data
		want string
	}{
		{with("(Q[0-9]+)_", ""), `data.group_pattern "(Q[0-9]+)_" finds no patient in sick/P01_scan0.nii`},
		{with("P[0-9", ""), "data.group_pattern: error parsing regexp"},
		{with("P", "class"), "both set"},
		{config.Data{Format: "folder", Table: dir, Task: Binary}, `name the folder of the positives`},
		{config.Data{Format: "folder", Table: dir, Task: Binary, Labels: []string{"malignent"}}, `did you mean "malignant"?`},
		{config.Data{Format: "folder", Table: dir, Task: Multilabel}, "multilabel"},
		{config.Data{Format: "folder", Table: filepath.Join(dir, "benign"), Task: Multiclass}, "want a folder for each class"},
		{config.Data{Format: "folder", Table: filepath.Join(dir, "absent"), Task: Multiclass}, "absent"},
		{config.Data{Table: dir, Task: Multiclass, LabelColumn: "x"}, "set data.format to folder"},
	} {
		if _, err := Open(test.c, 0); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.c, err, test.want)
		}
	}
}
