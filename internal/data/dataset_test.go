package data

import (
	"archive/zip"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbinet/npyio/npz"
	"pgregory.net/rapid"

	"github.com/ctclass/ctclass/internal/config"
)

// folder makes a temporary folder that holds a table and empty files for the scans.
func folder(t *testing.T, table string, scans ...string) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, "labels.csv")
	write(t, file, table)
	for _, s := range scans {
		write(t, filepath.Join(dir, filepath.FromSlash(s)), "")
	}
	return dir, file
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTableSpellings(t *testing.T) {
	tables := map[string]string{
		"comma":        "path,x,y,fold\na.nii,1,0,train\nsub/b.nii,0,-1,val\nc.nii,,1.0,test\n",
		"BOM and CRLF": "\ufeffpath,x,y,fold\r\na.nii,1,0,train\r\nsub/b.nii,0,-1,val\r\nc.nii,,1.0,test\r\n",
		"tab":          "path\tx\ty\tfold\na.nii\t1\t0\ttrain\nsub/b.nii\t0\t-1\tval\nc.nii\t\t1.0\ttest",
		"semicolon":    "path;x;y;fold\na.nii;1;0;training\nsub/b.nii;0;-1;valid\nc.nii;;1.0;Test\n",
		"quoted":       "\"path\",\"x\",\"y\",\"fold\"\n\"a.nii\", 1,0,train\n\n\"./sub/b.nii\",0,-1,validation\n\"c.nii\",\"\",1,test\n,,,\n",
	}
	var fingerprint string
	for name, text := range tables {
		t.Run(name, func(t *testing.T) {
			dir, file := folder(t, text, "a.nii", "sub/b.nii", "c.nii")
			d, err := Open(config.Data{Table: file, Task: Multilabel, Labels: []string{"y", "x"}, SplitColumn: "fold"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			want := []struct {
				name, split string
				target      []float64
			}{{"a.nii", Train, []float64{0, 1}}, {"sub/b.nii", Val, []float64{math.NaN(), 0}}, {"c.nii", Test, []float64{1, math.NaN()}}}
			if len(d.Samples) != len(want) {
				t.Fatalf("%d samples, want %d", len(d.Samples), len(want))
			}
			for i, w := range want {
				s := d.Samples[i]
				if s.Name != w.name || s.Split != w.split || fmt.Sprint(s.Target) != fmt.Sprint(w.target) ||
					s.Path != filepath.Join(dir, filepath.FromSlash(w.name)) || s.Group != w.name || s.ID != sampleID(w.name) {
					t.Errorf("sample %d is %+v, want %+v", i, s, w)
				}
			}
			if fingerprint == "" {
				fingerprint = d.Fingerprint()
			}
			if d.Fingerprint() != fingerprint {
				t.Error("the same content has another fingerprint")
			}
		})
	}
}

func TestTableErrors(t *testing.T) {
	plain := config.Data{Task: Binary, Labels: []string{"malignant"}}
	with := func(change func(*config.Data)) config.Data { c := plain; change(&c); return c }
	for _, test := range []struct {
		name, table string
		c           config.Data
		want        []string // parts of the message
	}{
		{
			"label column", "path,Malignent,age\na.nii,1,3\n", plain,
			[]string{"labels.csv", `no column "malignant" (data.labels)`, `"path", "Malignent", "age"`, `did you mean "Malignent"?`},
		},
		{"path column", "file,malignant\na.nii,1\n", plain, []string{"labels.csv", `no column "path" (data.path_column)`, `"file", "malignant"`}},
		{"column twice", "path,malignant,malignant\na.nii,1,1\n", plain, []string{`two columns "malignant"`}},
		{"label value", "path,malignant\na.nii,1\n\n\"b.nii\",yes\n", plain, []string{"labels.csv: line 4", `column "malignant"`, `value "yes"`, "0 or 1"}},
		{"label 2", "path,malignant\na.nii,2\n", plain, []string{"line 2", `value "2"`}},
		{"label NaN", "path,malignant\na.nii,nan\n", plain, []string{"line 2", `value "nan"`}},
		{"same path", "path,malignant\na.nii,1\nb.nii,0\n./a.nii,1\n", plain, []string{"lines 2 and 4", "same scan"}},
		{"no path", "path,malignant\n,1\n", plain, []string{"line 2", `column "path"`, "empty"}},
		{"gone", "path,malignant\na.nii,1\ng1.nii,0\ng2.nii,0\n", plain, []string{"2 of 3 scans are not there", "g1.nii", "g2.nii", "data.on_error"}},
		{
			"patient twice", "path,malignant,who,fold\na.nii,1,Ann,train\ngone.nii,0,Ann,val\n",
			with(func(c *config.Data) { c.GroupColumn, c.SplitColumn = "who", "fold" }),
			[]string{`patient "Ann"`, "train (a.nii)", "val (gone.nii)"},
		},
		{"no patient", "path,malignant,who\na.nii,1,\n", with(func(c *config.Data) { c.GroupColumn = "who" }), []string{"line 2", `column "who"`}},
		{"unknown split", "path,malignant,fold\na.nii,1,tarin\n", with(func(c *config.Data) { c.SplitColumn = "fold" }), []string{"line 2", `"tarin"`, "train, val or test"}},
		{"ragged", "path,malignant\na.nii,1,3\n", plain, []string{"labels.csv", "line 2", "wrong number of fields"}},
		{"no rows", "path,malignant\n", plain, []string{"labels.csv", "no samples"}},
		{"empty", "", plain, []string{"no samples"}},
		{"UTF-16", "\xff\xfep\x00a\x00", plain, []string{"UTF-8"}},
		{"no labels", "path,malignant\na.nii,1\n", with(func(c *config.Data) { c.Labels = nil }), []string{"data.labels is empty", `"malignant"`}},
		{"binary, two labels", "path,a,b\na.nii,1,1\n", with(func(c *config.Data) { c.Labels = []string{"a", "b"} }), []string{"binary", "multilabel"}},
		{"task", "path,malignant\na.nii,1\n", with(func(c *config.Data) { c.Task = "regression" }), []string{`data.task is "regression"`}},
		{"format", "path,malignant\na.nii,1\n", with(func(c *config.Data) { c.Format = "json" }), []string{`data.format is "json"`}},
		{
			"class", "path,kind\na.nii,solid\nb.nii,soild\n",
			config.Data{Task: Multiclass, LabelColumn: "kind", Labels: []string{"solid", "ground glass"}},
			[]string{"line 3", `"soild"`, `"ground glass"`, "0 to 1"},
		},
		{"class column", "path,kind\na.nii,solid\n", config.Data{Task: Multiclass}, []string{"data.label_column is empty", `"kind"`}},
		{"one class", "path,kind\na.nii,solid\n", config.Data{Task: Multiclass, LabelColumn: "kind"}, []string{"fewer than two classes"}},
		{
			"one patient", "path,malignant,who\na.nii,1,Ann\nb.nii,0,Ann\n",
			with(func(c *config.Data) { c.GroupColumn, c.ValFraction = "who", 0.5 }),
			[]string{"labels.csv", "one patient"},
		},
		{"CT-RATE name", "VolumeName,malignant\ntrain_1_a_1.nii.gz,1\nscan7.nii.gz,0\n", plain, []string{"line 3", `"scan7.nii.gz"`, "train_1_a_1.nii.gz"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, file := folder(t, test.table, "a.nii", "b.nii")
			test.c.Table = file
			_, err := Open(test.c, 0)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range test.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the message %q does not say %q", err, w)
				}
			}
		})
	}
}

func TestMissingFilesSkipped(t *testing.T) {
	_, file := folder(t, "path,x\na.nii,1\ng.nii,0\n", "a.nii")
	d, err := Open(config.Data{Table: file, Task: Binary, Labels: []string{"x"}, OnError: "skip"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Samples) != 1 || len(d.Missing) != 1 || d.Missing[0].Name != "g.nii" || len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "g.nii") {
		t.Errorf("samples %v, missing %v, warnings %q", d.Samples, d.Missing, d.Warnings)
	}
	other := t.TempDir()
	if _, err = Open(config.Data{Table: file, Root: other, Task: Binary, Labels: []string{"x"}, OnError: "skip"}, 0); err == nil || !strings.Contains(err.Error(), "none of its 2") {
		t.Errorf("with every file gone: %v", err)
	}
}

func TestMulticlass(t *testing.T) {
	for _, test := range []struct {
		name, column string
		labels       []string
		wantLabels   []string
		want         []float64
	}{
		{"names", "solid,glass,,solid", []string{"glass", "solid"}, []string{"glass", "solid"}, []float64{1, 0, math.NaN(), 1}},
		{"indices with names", "1,0,-1,1.0", []string{"glass", "solid"}, []string{"glass", "solid"}, []float64{1, 0, math.NaN(), 1}},
		{"names from the data", "solid,glass,,part", nil, []string{"glass", "part", "solid"}, []float64{2, 0, math.NaN(), 1}},
		{"indices from the data", "11,0,-1,2", nil, strings.Split("0,1,2,3,4,5,6,7,8,9,10,11", ","), []float64{11, 0, math.NaN(), 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := "path,kind\n"
			for i, k := range strings.Split(test.column, ",") {
				table += fmt.Sprintf("%d.nii,%s\n", i, k)
			}
			_, file := folder(t, table, "0.nii", "1.nii", "2.nii", "3.nii")
			d, err := Open(config.Data{Table: file, Task: Multiclass, LabelColumn: "kind", Labels: test.labels}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(d.Labels, test.wantLabels) {
				t.Errorf("classes %q, want %q", d.Labels, test.wantLabels)
			}
			var got []float64
			for _, s := range d.Samples {
				got = append(got, s.Target...)
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("targets %v, want %v", got, test.want)
			}
		})
	}
}

func TestFingerprintCovers(t *testing.T) {
	base := func() *Dataset {
		return &Dataset{Task: Binary, Labels: []string{"x"}, Samples: []Sample{
			{Name: "a", Path: "/here/a", Split: Train, Target: []float64{0}}, {Name: "b", Split: Val, Target: []float64{math.NaN()}},
		}}
	}
	want := base().Fingerprint()
	if len(want) != 64 {
		t.Fatalf("fingerprint %q is not a SHA-256", want)
	}
	moved := base()
	moved.Samples[0].Path = "/there/a"
	moved.Samples[1].Target[0] = math.Float64frombits(0x7ff8000000000123)
	if got := moved.Fingerprint(); got != want {
		t.Error("the fingerprint depends on where the files lie, or on the bits of a NaN")
	}
	for name, change := range map[string]func(*Dataset){
		"task":   func(d *Dataset) { d.Task = Multilabel },
		"label":  func(d *Dataset) { d.Labels[0] = "y" },
		"name":   func(d *Dataset) { d.Samples[0].Name = "c" },
		"split":  func(d *Dataset) { d.Samples[0].Split = Test },
		"target": func(d *Dataset) { d.Samples[0].Target[0] = 1 },
		"order":  func(d *Dataset) { slices.Reverse(d.Samples) },
		"number": func(d *Dataset) { d.Samples = d.Samples[:1] },
	} {
		d := base()
		change(d)
		if d.Fingerprint() == want {
			t.Errorf("the fingerprint does not cover the %s", name)
		}
	}
}

const ctrateTable = "VolumeName,Cardiomegaly,Lung nodule\ntrain_1_a_1.nii.gz,0,1\ntrain_1_a_2.nii.gz,0,1\ntrain_12_b_1.nii.gz,1,0\nvalid_1_a_1.nii.gz,1,1\n"

func TestCTRATE(t *testing.T) {
	for name, scans := range map[string][]string{
		"nested": {"train/train_1/train_1_a/train_1_a_1.nii.gz", "train/train_1/train_1_a/train_1_a_2.nii.gz", "train/train_12/train_12_b/train_12_b_1.nii.gz", "valid/valid_1/valid_1_a/valid_1_a_1.nii.gz"},
		"flat":   {"train_1_a_1.nii.gz", "train_1_a_2.nii.gz", "train_12_b_1.nii.gz", "valid_1_a_1.nii.gz"},
		"mixed":  {"train_1/train_1_a/train_1_a_1.nii.gz", "train_1_a_2.nii.gz", "train_fixed/train_12/train_12_b/train_12_b_1.nii.gz", "dataset/valid/valid_1/valid_1_a/valid_1_a_1.nii.gz"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, file := folder(t, ctrateTable, scans...)
			d, err := Open(config.Data{Format: "auto", Table: file, Task: Multilabel, PathColumn: "path"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"Cardiomegaly", "Lung nodule"}; !slices.Equal(d.Labels, want) {
				t.Errorf("labels %q, want %q", d.Labels, want)
			}
			groups := []string{"train_1", "train_1", "train_12", "valid_1"}
			splits := []string{Train, Train, Train, Val}
			for i, s := range d.Samples {
				if s.Group != groups[i] || s.Split != splits[i] || s.Path != filepath.Join(dir, filepath.FromSlash(scans[i])) {
					t.Errorf("sample %d: %+v", i, s)
				}
			}
		})
	}
	_, file := folder(t, ctrateTable, "train_1_a_1.nii.gz", "train_1_a_2.nii.gz", "train_12_b_1.nii.gz")
	_, err := Open(config.Data{Table: file, Task: Multilabel}, 0)
	if want := filepath.FromSlash("valid/valid_1/valid_1_a/valid_1_a_1.nii.gz"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a missing volume: error %v, want one that names %s", err, want)
	}
}

// splitTable has n patients of 1 to 3 scans each; every fifth patient is positive.
func splitTable(n int) (table string, scans []string) {
	table = "path,x,who\n"
	for p := range n {
		for s := range p%3 + 1 {
			scan := fmt.Sprintf("p%d_%d.nii", p, s)
			scans = append(scans, scan)
			x := 0
			if p%5 == 0 {
				x = 1
			}
			table += fmt.Sprintf("%s,%d,p%d\n", scan, x, p)
		}
	}
	return table, scans
}

func TestSplitOff(t *testing.T) {
	table, scans := splitTable(150)
	_, file := folder(t, table, scans...)
	c := config.Data{Table: file, Task: Binary, Labels: []string{"x"}, GroupColumn: "who", ValFraction: 0.2}
	open := func(seed uint64) *Dataset {
		d, err := Open(c, seed)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open(1)
	val, train := d.Subset(Val), d.Subset(Train)
	if len(val)+len(train) != len(d.Samples) || len(d.Subset(Test)) != 0 {
		t.Fatalf("train %d, val %d of %d samples", len(train), len(val), len(d.Samples))
	}
	if share := float64(len(val)) / float64(len(d.Samples)); math.Abs(share-0.2) > 0.01 {
		t.Errorf("validation share %.3f, want 0.2", share)
	}
	positive := func(s []Sample) (n float64) {
		for _, s := range s {
			n += s.Target[0]
		}
		return n / float64(len(s))
	}
	if a, b := positive(train), positive(val); math.Abs(a-b) > 0.03 {
		t.Errorf("positive share %.3f in train, %.3f in val", a, b)
	}
	if open(1).Fingerprint() != d.Fingerprint() {
		t.Error("the same seed gives another split")
	}
	if open(2).Fingerprint() == d.Fingerprint() {
		t.Error("another seed gives the same split")
	}
	if err := checkGroups(file, d.Samples, nil); err != nil {
		t.Error(err)
	}
}

// Every sample of two patients lands somewhere, each split gets one, whatever the fraction.
func TestSplitOffSmall(t *testing.T) {
	for _, fraction := range []float64{0.01, 0.5, 0.99} {
		_, file := folder(t, "path,x\na.nii,1\nb.nii,0\n", "a.nii", "b.nii")
		d, err := Open(config.Data{Table: file, Task: Binary, Labels: []string{"x"}, ValFraction: fraction}, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Subset(Train)) != 1 || len(d.Subset(Val)) != 1 {
			t.Errorf("fraction %v: train %d, val %d", fraction, len(d.Subset(Train)), len(d.Subset(Val)))
		}
	}
}

// Whatever the patients and labels: patients stay whole, both splits have some, and the share is
// met to within the largest patient.
func TestSplitOffAlways(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &Dataset{Task: rapid.SampledFrom([]string{Binary, Multilabel, Multiclass}).Draw(t, "task"), Labels: []string{"x"}}
		if d.Task == Multiclass {
			d.Labels = []string{"0", "1"}
		}
		patients := rapid.IntRange(2, 60).Draw(t, "patients")
		largest := 0
		for p := range patients {
			scans := rapid.IntRange(1, 5).Draw(t, "scans")
			largest = max(largest, scans)
			for s := range scans {
				target := []float64{float64(rapid.IntRange(-1, 1).Draw(t, "target"))}
				if target[0] < 0 {
					target[0] = math.NaN()
				}
				d.Samples = append(d.Samples, Sample{Name: fmt.Sprint(p, "/", s), Group: fmt.Sprint(p), Target: target})
			}
		}
		fraction := rapid.Float64Range(0.001, 0.999).Draw(t, "fraction")
		if err := d.splitOff(fraction, rapid.Uint64().Draw(t, "seed")); err != nil {
			t.Fatal(err)
		}
		if err := checkGroups("table", d.Samples, nil); err != nil {
			t.Fatal(err)
		}
		val, n := len(d.Subset(Val)), len(d.Samples)
		if val == 0 || len(d.Subset(Train)) != n-val || val == n {
			t.Fatalf("%d validation samples of %d", val, n)
		}
		if off := math.Abs(float64(val) - fraction*float64(n)); off > float64(largest) {
			t.Fatalf("%d validation samples of %d for a share of %v", val, n, fraction)
		}
	})
}

// Of a rare and a common label, the rare one is spread over both splits.
func TestSplitOffMultilabel(t *testing.T) {
	d := &Dataset{Task: Multilabel, Labels: []string{"common", "rare"}}
	for i := range 200 {
		target := []float64{float64(i % 2), 0}
		if i%20 == 0 {
			target[1] = 1
		}
		name := fmt.Sprint("s", i)
		d.Samples = append(d.Samples, Sample{Name: name, Group: name, Target: target})
	}
	if err := d.splitOff(0.2, 7); err != nil {
		t.Fatal(err)
	}
	rare := 0.0
	for _, s := range d.Subset(Val) {
		rare += s.Target[1]
	}
	if len(d.Subset(Val)) != 40 || rare != 2 {
		t.Errorf("%d validation samples, %v of the 10 rare ones; want 40 and 2", len(d.Subset(Val)), rare)
	}
}

// archive writes an .npz of three splits with 5, 2 and 3 volumes of 2x3x4 voxels; voxel j of row i is i*24+j.
func archive(t *testing.T, labels func(i int) uint8) string {
	t.Helper()
	arrays := map[string]any{}
	for split, n := range map[string]int{"train": 5, "val": 2, "test": 3} {
		im := make([][2][3][4]uint8, n)
		lb := make([][1]uint8, n)
		for i := range im {
			for j := range 24 {
				im[i][j/12][j/4%3][j%4] = uint8(i*24 + j)
			}
			lb[i][0] = labels(i)
		}
		switch n { // npyio writes arrays, not slices of arrays
		case 5:
			arrays[split+"_images.npy"], arrays[split+"_labels.npy"] = [5][2][3][4]uint8(im), [5][1]uint8(lb)
		case 2:
			arrays[split+"_images.npy"], arrays[split+"_labels.npy"] = [2][2][3][4]uint8(im), [2][1]uint8(lb)
		case 3:
			arrays[split+"_images.npy"], arrays[split+"_labels.npy"] = [3][2][3][4]uint8(im), [3][1]uint8(lb)
		}
	}
	file := filepath.Join(t.TempDir(), "set.npz")
	if err := npz.Write(file, arrays); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestMedMNIST(t *testing.T) {
	file := archive(t, func(i int) uint8 { return uint8(i % 2) })
	d, err := Open(config.Data{Format: "auto", Table: file, Task: Binary, Labels: []string{"hyperplasia"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c := len(d.Subset(Train)), len(d.Subset(Val)), len(d.Subset(Test)); a != 5 || b != 2 || c != 3 {
		t.Fatalf("splits %d, %d, %d, want 5, 2, 3", a, b, c)
	}
	s := d.Subset(Test)[1]
	if s.Name != "test_images[1]" || s.Index != 1 || s.Target[0] != 1 || s.Path != file {
		t.Errorf("sample %+v", s)
	}
	v, err := d.archived(s)
	if err != nil {
		t.Fatal(err)
	}
	if v.Size != [3]int{2, 3, 4} || v.At(1, 2, 3) != 47 || v.At(0, 1, 0) != 28 || v.Spacing != [3]float64{1, 1, 1} {
		t.Errorf("volume %+v", v)
	}
	if d, err = Open(config.Data{Table: file, Task: Multiclass}, 0); err != nil || !slices.Equal(d.Labels, []string{"0", "1"}) {
		t.Errorf("as multiclass: %v, %v", d, err)
	}

	for _, test := range []struct {
		name string
		c    config.Data
		want string
	}{
		{"class beyond the task", config.Data{Task: Binary}, "label 2"},
		{"too few names", config.Data{Task: Multiclass, Labels: []string{"a", "b"}}, "2 names"},
	} {
		test.c.Table = archive(t, func(i int) uint8 { return uint8(i % 3) })
		if _, err := Open(test.c, 0); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one that says %q", test.name, err, test.want)
		}
	}
}

// npzWith writes an archive of raw entries.
func npzWith(t *testing.T, entries map[string]string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bad.npz")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for name, body := range entries {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(body))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	return file
}

// npyHeader is the header of an array file, version 1.
func npyHeader(dict string) string {
	dict += "\n"
	return "\x93NUMPY\x01\x00" + string([]byte{byte(len(dict)), byte(len(dict) >> 8)}) + dict
}

func TestMedMNISTMalformed(t *testing.T) {
	labels := npyHeader("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1), }") + "\x00\x01"
	images := func(shape string) string {
		return npyHeader("{'descr': '|u1', 'fortran_order': False, 'shape': "+shape+", }") + strings.Repeat("x", 16)
	}
	for _, test := range []struct {
		name    string
		entries map[string]string
		want    string
	}{
		{"good but for its size", map[string]string{"train_images.npy": images("(2, 3, 2, 2)"), "train_labels.npy": labels}, "unexpected EOF"},
		{"larger than the entry", map[string]string{"train_images.npy": images("(2, 30, 20, 20)"), "train_labels.npy": labels}, "needs 24000 bytes"},
		{"huge", map[string]string{"train_images.npy": images("(2, 1000000, 1000000, 1000000)"), "train_labels.npy": labels}, "shape"},
		{"overflow", map[string]string{"train_images.npy": images("(9000000000, 9000000000, 9000000000, 2)"), "train_labels.npy": labels}, "more than memory"},
		{"negative", map[string]string{"train_images.npy": images("(2, -2, 2, 2)"), "train_labels.npy": labels}, "positive"},
		{"not volumes", map[string]string{"train_images.npy": images("(2, 4, 2)"), "train_labels.npy": labels}, "[n d h w]"},
		{"rows differ", map[string]string{"train_images.npy": images("(4, 1, 2, 2)"), "train_labels.npy": labels}, "one row for each of the 4"},
		{"no labels", map[string]string{"train_images.npy": images("(4, 1, 2, 2)")}, "train_labels"},
		{"no arrays", map[string]string{"readme.txt": "hello"}, "no samples"},
		{"header without line end", map[string]string{"train_images.npy": "\x93NUMPY\x01\x00\x04\x00abcd" + strings.Repeat("x", 16)}, "malformed"},
		{"header order", map[string]string{"train_images.npy": npyHeader("{'shape': (2,), 'fortran_order': False, 'descr': '|u1', }")}, "train_images"},
		{"header of 4 GiB", map[string]string{"train_images.npy": "\x93NUMPY\x02\x00\xff\xff\xff\xff" + strings.Repeat("x", 16)}, "too long"},
		{"too short", map[string]string{"train_images.npy": "\x93NUM"}, "train_images"},
		{"Fortran order", map[string]string{"train_images.npy": npyHeader("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2, 2, 2), }")}, "C order"},
		{"floats", map[string]string{"train_images.npy": npyHeader("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 1, 1), }") + strings.Repeat("x", 16)}, "uint8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Open(config.Data{Table: npzWith(t, test.entries), Task: Binary}, 0)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "bad.npz") {
				t.Errorf("error %v, want one that names the file and says %q", err, test.want)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "not.npz")
	write(t, file, "no zip")
	if _, err := Open(config.Data{Table: file, Task: Binary}, 0); err == nil {
		t.Error("a file that is no zip was accepted")
	}
}
