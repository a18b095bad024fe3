package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/volume"
)

// patient holds what identifies a patient, planted where hospitals' files have it.
func patient() map[uint32]dicomtest.Value {
	return map[uint32]dicomtest.Value{
		0x00080050: {VR: "SH", Data: "ACC-55501"}, 0x00080080: {VR: "LO", Data: "Secret Hospital"},
		0x00080090: {VR: "PN", Data: "Referrer^Doctor"}, 0x00100010: {VR: "PN", Data: "Zorrowitz^Quentin"},
		0x00100020: {VR: "LO", Data: "PID-998877"}, 0x00100030: {VR: "DA", Data: "19430517"},
		0x00100040: {VR: "CS", Data: "O"}, 0x00101000: {VR: "LO", Data: "OTHER-4711"},
		0x00101010: {VR: "AS", Data: "077Y"}, 0x00101040: {VR: "LO", Data: "Hidden Street 7"},
	}
}

func secrets() []string {
	return []string{"ACC-55501", "Secret Hospital", "Referrer", "Zorrowitz", "Quentin", "PID-998877", "19430517", "OTHER-4711", "077Y", "Hidden Street"}
}

// patientSeries writes a series of n slices of rows x columns noise around tissue and air, in four encodings.
func patientSeries(t testing.TB, dir, uid string, n, rows, columns int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		p := make([]int16, rows*columns)
		for k := range p {
			p[k] = int16(24 + 1040*(k/columns%2) + r.IntN(50))
		}
		f := dicomtest.Slice(uid, i+1, 2*float64(i), rows, columns, p)
		f.Syntax = []string{dicomtest.Explicit, dicomtest.Implicit, dicomtest.BigEndian, dicomtest.Deflated}[i%4]
		for tag, v := range patient() {
			f.Elements[tag] = v
		}
		f.Write(t, dir, fmt.Sprintf("IM%04d", i))
	}
}

// ran is the end of a process.
type ran struct {
	code        int
	out, errs   []byte
	peakMiB     int // on Linux
	secretsSeen string
}

// program runs ctclass in the working folder.
func program(t *testing.T, args ...string) ran {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ctclass", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Run() // the exit code says how it ended
	r := ran{code: cmd.ProcessState.ExitCode(), out: out.Bytes(), errs: errs.Bytes()}
	if runtime.GOOS == "linux" {
		r.peakMiB = int(reflect.ValueOf(cmd.ProcessState.SysUsage()).Elem().FieldByName("Maxrss").Int() >> 10)
	}
	for _, s := range secrets() {
		if bytes.Contains(r.out, []byte(s)) || bytes.Contains(r.errs, []byte(s)) {
			r.secretsSeen += " " + s
		}
	}
	if r.secretsSeen != "" {
		t.Errorf("%v shows%s:\n%s%s", args, r.secretsSeen, r.out, r.errs)
	}
	if bytes.Contains(r.errs, []byte("internal error")) || bytes.Contains(r.out, []byte("internal error")) || bytes.Contains(r.errs, []byte("goroutine ")) {
		t.Errorf("%v: a fault:\n%s%s", args, r.out, r.errs)
	}
	return r
}

// tinyRun trains a model for one epoch on DICOM series of one patient each and returns the run's folder.
func tinyRun(t *testing.T) string {
	t.Helper()
	table := "path,nodule,who\n"
	for i := range 4 {
		patientSeries(t, filepath.Join("train", fmt.Sprintf("case%d", i)), fmt.Sprintf("1.2.%d", i+1), 12, 16, 16)
		table += fmt.Sprintf("case%d,%d,p%d\n", i, i%2, i)
	}
	if err := os.WriteFile(filepath.Join("train", "labels.csv"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"train", "--out", "run", "--set", "data.table=train/labels.csv", "--set", "data.labels=nodule",
		"--set", "data.group_column=who", "--set", "train.epochs=1", "--set", "train.batch_size=2", "--set", "data.val_fraction=0.5",
	}, tinyModel()...)
	if r := program(t, args...); r.code != 0 {
		t.Fatalf("training: %s%s", r.out, r.errs)
	}
	return "run"
}

// What identifies a patient appears in no output, log, model file, picture or export.
func TestPatientDataStayInside(t *testing.T) {
	t.Chdir(t.TempDir())
	run := tinyRun(t)
	patientSeries(t, "scan", "1.3", 12, 16, 16)
	// Damaged in the middle of the patient's name, in the geometry, and cut.
	whole, err := os.ReadFile(filepath.Join("scan", "IM0000"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"cut in the name": whole[:bytes.Index(whole, []byte("Zorrowitz"))+4],
		"long name":       bytes.Replace(whole, []byte("PN\x12\x00Zorrowitz"), []byte("PN\xff\xffZorrowitz"), 1),
		"wrong position":  bytes.Replace(whole, []byte(`-10\20\0`), []byte(`x10\20\0`), 1),
		"cut pixels":      whole[:len(whole)-100],
	} {
		if bytes.Equal(content, whole) {
			t.Fatalf("%s: nothing was damaged", name)
		}
		if err := os.WriteFile(filepath.Join("scan", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program(t, "inspect", "scan")
	program(t, "inspect", "scan", "--json", "--series", "all")
	program(t, "predict", run, "scan", "--log-level", "debug")
	program(t, "predict", run, "train", "--json", "--csv", "answers.csv", "--strict")
	for _, args := range [][]string{
		{"inspect", "train/case0", "--png", "pictures", "--export", "x.nii"},
		{"inspect", "train/case0", "--export", "y.nii.gz", "--as-stored"},
		{"eval", run, "--split", "val"},
	} {
		if r := program(t, args...); r.code != 0 {
			t.Errorf("%v: %s%s", args, r.out, r.errs)
		}
	}
	files := 0
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path, "train"+string(filepath.Separator)) || strings.HasPrefix(path, "scan") {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		for _, s := range secrets() {
			if bytes.Contains(content, []byte(s)) {
				t.Errorf("%s holds %s", path, s)
			}
		}
		return err
	})
	if err != nil || files < 8 {
		t.Errorf("%d files were looked at: %v", files, err)
	}
}

// mutate damages a copy of a file in one to four places.
func mutate(r *rand.Rand, content []byte) []byte {
	b := bytes.Clone(content)
	for range 1 + r.IntN(4) {
		if len(b) == 0 {
			break
		}
		// Headers come first and are short: half the damage goes there.
		at := r.IntN(len(b))
		if r.IntN(2) == 0 {
			at = r.IntN(min(len(b), 2000))
		}
		switch r.IntN(6) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = byte(r.IntN(256))
		case 2:
			b = b[:at]
		case 3:
			clear(b[at:min(len(b), at+1+r.IntN(64))])
		case 4:
			b = append(b[:at:at], b[min(len(b), at+1+r.IntN(16)):]...)
		case 5:
			if at+4 <= len(b) {
				binary.LittleEndian.PutUint32(b[at:], []uint32{0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 1 << 24}[r.IntN(4)])
			}
		}
	}
	return b
}

// A folder of a thousand damaged files: inspect and predict come to an end without a fault, each damaged file
// is listed once with its reason, and the memory depends on the volumes alone.
func TestThousandDamagedFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Chdir(t.TempDir())
	run := tinyRun(t)
	patientSeries(t, "self", "1.4", 24, 64, 64)
	hu := make([]float32, 24*32*32)
	for i := range hu {
		hu[i] = float32(-1000 + i%1500)
	}
	v, err := volume.FromAffine([3]int{24, 32, 32}, hu, [4][4]float64{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 2, 0}, {0, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"v.nii", "w.nii.gz"} {
		if err := nifti.Write(filepath.Join("self", name), v, nifti.Int16); err != nil {
			t.Fatal(err)
		}
	}
	sources := map[string][]string{"self": {"self"}}
	if dir := os.Getenv("CTCLASS_TESTDATA"); dir != "" {
		sources["real"] = []string{
			filepath.Join(dir, "dicom", "cornerstone_ct_15_syntaxes"), filepath.Join(dir, "dicom", "derived_cthead64"),
			filepath.Join(dir, "dicom", "enhanced_perfusion_2frames"), filepath.Join(dir, "dicom", "chest_rider_jpeglossless"),
			filepath.Join(dir, "nifti", "derived_body"), filepath.Join(dir, "dicom", "pydicom"),
		}
	}
	for name, folders := range sources {
		t.Run(name, func(t *testing.T) {
			var originals []string
			for _, f := range folders {
				err := filepath.WalkDir(f, func(path string, d fs.DirEntry, err error) error {
					if err == nil && d.Type().IsRegular() && filepath.Ext(path) != ".json" {
						originals = append(originals, path)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			r := rand.New(rand.NewPCG(7, 11))
			r.Shuffle(len(originals), func(i, j int) { originals[i], originals[j] = originals[j], originals[i] })
			damaged := filepath.Join(t.TempDir(), "damaged")
			few := filepath.Join(t.TempDir(), "few")
			for i := range 1000 {
				from := originals[i%len(originals)]
				content, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				content = mutate(r, content)
				for _, dir := range []string{damaged, few} {
					if dir == few && i >= 100 {
						break
					}
					if err := os.MkdirAll(dir, 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d_%s", i, filepath.Base(from))), content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			little := program(t, "inspect", few, "--json")
			got := program(t, "inspect", damaged, "--json")
			if got.code != 0 && got.code != 3 {
				t.Fatalf("inspect: code %d: %s", got.code, got.errs)
			}
			checkListed(t, got.out, damaged)
			all := program(t, "inspect", damaged, "--series", "all")
			answer := program(t, "predict", run, damaged, "--json", "--series", "all")
			for what, p := range map[string]ran{"inspect all": all, "predict all": answer} {
				if p.code != 0 && p.code != 3 && p.code != 4 {
					t.Errorf("%s: code %d: %s", what, p.code, p.errs)
				}
			}
			t.Logf("peak memory: inspect of 100 files %d MiB, of 1000 %d MiB, of all volumes %d MiB, predict %d MiB",
				little.peakMiB, got.peakMiB, all.peakMiB, answer.peakMiB)
			if got.peakMiB > 400 || all.peakMiB > 600 || answer.peakMiB > 600 {
				t.Errorf("memory: inspect %d MiB, all %d MiB, predict %d MiB", got.peakMiB, all.peakMiB, answer.peakMiB)
			}
		})
	}
}

// checkListed wants every file of the folder either in a volume or among the skipped, and each damaged one once.
func checkListed(t *testing.T, out []byte, dir string) {
	t.Helper()
	skipped, volumes, seen := 0, 0, make(map[string]bool)
	for line := range bytes.Lines(out) {
		var scan struct {
			Volumes []struct{ Path string }
			Skipped []struct {
				Reason, Example string
				Files           int
				Damaged         bool
				Paths           []string
			}
		}
		if err := json.Unmarshal(line, &scan); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		volumes += len(scan.Volumes)
		for _, g := range scan.Skipped {
			skipped += g.Files
			if g.Reason == "" || strings.Contains(g.Reason, "\n") || g.Damaged && len(g.Paths) == 0 {
				t.Errorf("%+v is no reason", g)
			}
			for _, p := range g.Paths {
				if seen[p] {
					t.Errorf("%s is listed twice", p)
				}
				if _, err := os.Stat(p); err != nil || filepath.Dir(p) != dir {
					t.Errorf("%s is no file of the folder", p)
				}
				seen[p] = true
			}
		}
	}
	if volumes == 0 || len(seen) < 100 || skipped > 1000 {
		t.Errorf("%d volumes, %d skipped files, %d of them damaged", volumes, skipped, len(seen))
	}
	t.Logf("%d volumes, %d skipped files, %d of them damaged", volumes, skipped, len(seen))
}
