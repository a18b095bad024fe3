package phantom

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/volume"
)

// coarse is a chest of few voxels.
var coarse = Options{Seed: 8, Case: 2, Size: [3]int{26, 42, 48}, SpacingMM: [3]float64{10, 7.25, 7}}

func texts(t *testing.T, set dicom.Dataset, want tag.Tag) []string {
	t.Helper()
	e, err := set.FindElementByTag(want)
	if err != nil {
		t.Fatalf("%v: %v", want, err)
	}
	return dicom.MustGetStrings(e.Value)
}

func numbers(t *testing.T, set dicom.Dataset, want tag.Tag) []float64 {
	t.Helper()
	var out []float64
	for _, s := range texts(t, set, want) {
		x, err := strconv.ParseFloat(s, 64)
		if err != nil || len(s) > 16 {
			t.Fatalf("%v: %q is no decimal string", want, s)
		}
		out = append(out, x)
	}
	return out
}

// Read back by the parser of a DICOM library, every voxel is where the affine says, with its HU.
func TestDICOMRoundTrip(t *testing.T) {
	v := generate(t, coarse).Volume
	// The same volume with axes that point elsewhere: rows to the head, columns to the right,
	// slices to the back.
	turned := &volume.Volume{Size: v.Size, HU: v.HU, Spacing: v.Spacing, Affine: [4][4]float64{
		{0, -v.Spacing[1], 0, 100.5}, {0, 0, v.Spacing[0], -80}, {v.Spacing[2], 0, 0, 17.25}, {0, 0, 0, 1},
	}}
	for name, v := range map[string]*volume.Volume{"canonical": v, "turned": turned} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "series")
			if err := WriteDICOM(dir, v, SeriesInfo{Seed: 8, Case: 2, PatientID: "P00002"}); err != nil {
				t.Fatal(err)
			}
			files, err := os.ReadDir(dir)
			if err != nil || len(files) != v.Size[0] {
				t.Fatalf("%d files for %d slices (%v)", len(files), v.Size[0], err)
			}
			instances := map[string]bool{}
			var series []string
			for i, file := range files {
				set, err := dicom.ParseFile(filepath.Join(dir, file.Name()), nil)
				if err != nil {
					t.Fatal(err)
				}
				instances[texts(t, set, tag.SOPInstanceUID)[0]] = true
				series = append(series, texts(t, set, tag.SeriesInstanceUID)[0])
				if got := texts(t, set, tag.InstanceNumber)[0]; got != strconv.Itoa(i+1) {
					t.Errorf("%s has instance number %s", file.Name(), got)
				}
				d := v.Size[0] - 1 - i
				position, direction := numbers(t, set, tag.ImagePositionPatient), numbers(t, set, tag.ImageOrientationPatient)
				steps := numbers(t, set, tag.PixelSpacing)
				slope, intercept := numbers(t, set, tag.RescaleSlope)[0], numbers(t, set, tag.RescaleIntercept)[0]
				e, err := set.FindElementByTag(tag.PixelData)
				if err != nil {
					t.Fatal(err)
				}
				frame, err := dicom.MustGetPixelDataInfo(e.Value).Frames[0].GetNativeFrame()
				if err != nil {
					t.Fatal(err)
				}
				pixels := frame.RawDataSlice().([]uint16)
				if frame.Rows() != v.Size[1] || frame.Cols() != v.Size[2] {
					t.Fatalf("slice of %d x %d", frame.Rows(), frame.Cols())
				}
				for h := range v.Size[1] {
					for w := range v.Size[2] {
						if got := float64(pixels[h*v.Size[2]+w])*slope + intercept; got != float64(v.At(d, h, w)) {
							t.Fatalf("voxel %d %d %d: got %v, want %v", d, h, w, got, v.At(d, h, w))
						}
					}
				}
				// Equation C.7.6.2.1-1 of the standard for the far corner of the slice.
				h, w := float64(v.Size[1]-1), float64(v.Size[2]-1)
				want := volume.Transform(v.Affine, w, h, float64(d))
				for axis := range 3 {
					got := position[axis] + direction[axis]*steps[1]*w + direction[3+axis]*steps[0]*h
					if math.Abs(got-want[axis]) > 1e-6 {
						t.Errorf("slice %d: far corner at %v on axis %d, want %v", d, got, axis, want[axis])
					}
				}
			}
			if len(instances) != len(files) || len(slices.Compact(series)) != 1 {
				t.Errorf("%d instances in %d files of series %v", len(instances), len(files), series)
			}
			for uid := range instances {
				if len(uid) > 64 || !strings.HasPrefix(uid, "2.25.") {
					t.Errorf("UID %s", uid)
				}
			}
		})
	}
}

func TestDICOMRefuses(t *testing.T) {
	v := generate(t, coarse).Volume
	v.HU[5] = 3072
	if err := WriteDICOM(t.TempDir(), v, SeriesInfo{}); err == nil || !strings.Contains(err.Error(), "3072") {
		t.Errorf("a value beyond 12 bits: got %v", err)
	}
	v.HU[5] = float32(math.NaN())
	if err := WriteDICOM(t.TempDir(), v, SeriesInfo{}); err == nil {
		t.Error("a voxel that is no number was written")
	}
	v.HU[5] = 0
	v.Affine[0][1] = 3
	if err := WriteDICOM(t.TempDir(), v, SeriesInfo{}); err == nil {
		t.Error("a skewed volume was written")
	}
}

// tree returns the content of all files under dir by relative path.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		out[path] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDataset(t *testing.T) {
	opt := DatasetOptions{Seed: 4, Cases: 10, Size: coarse.Size, SpacingMM: coarse.SpacingMM}
	for _, format := range []Format{DICOM, NIfTI} {
		t.Run(string(format), func(t *testing.T) {
			var trees []map[string][]byte
			for _, workers := range []int{1, 3} {
				dir := t.TempDir()
				opt := opt
				opt.Format, opt.Workers = format, workers
				calls := 0
				opt.Progress = func(done int) {
					if calls++; done != calls {
						t.Errorf("progress %d at call %d", done, calls)
					}
				}
				if err := WriteDataset(t.Context(), dir, opt); err != nil {
					t.Fatal(err)
				}
				if calls != opt.Cases {
					t.Errorf("%d calls of progress", calls)
				}
				trees = append(trees, tree(t, dir))
			}
			if len(trees[0]) != len(trees[1]) {
				t.Fatalf("%d files with one worker, %d with three", len(trees[0]), len(trees[1]))
			}
			for path, b := range trees[0] {
				if !bytes.Equal(b, trees[1][path]) {
					t.Errorf("%s depends on the number of workers", path)
				}
			}
			rows, err := csv.NewReader(bytes.NewReader(trees[0]["labels.csv"])).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(rows[0], ","); got != "path,patient,split,nodule,effusion,consolidation,calcification" {
				t.Errorf("header %s", got)
			}
			count := map[string]int{}
			for i, row := range rows[1:] {
				count[row[2]]++
				c := generate(t, Options{Seed: 4, Case: i, Size: opt.Size, SpacingMM: opt.SpacingMM})
				for f, present := range c.Labels {
					if (row[3+f] == "1") != present {
						t.Errorf("case %d: %v is %s in the table, %v in the phantom", i, Finding(f), row[3+f], present)
					}
				}
				file := row[0]
				if format == DICOM {
					file += "/IM0001.dcm"
				}
				if _, ok := trees[0][file]; !ok {
					t.Errorf("the table names %s, which is not there", file)
				}
			}
			if count["train"] != 6 || count["val"] != 2 || count["test"] != 2 {
				t.Errorf("splits %v", count)
			}
		})
	}
}

func TestDatasetNIfTIVoxels(t *testing.T) {
	dir := t.TempDir()
	if err := WriteDataset(t.Context(), dir, DatasetOptions{Seed: 8, Cases: 3, Format: NIfTI, Size: coarse.Size, SpacingMM: coarse.SpacingMM}); err != nil {
		t.Fatal(err)
	}
	want := generate(t, coarse).Volume
	path := filepath.Join(dir, "again.nii")
	if err := nifti.Write(path, want, nifti.Int16); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, hu := range want.HU {
		if got := int16(binary.LittleEndian.Uint16(raw[352+2*i:])); float32(got) != hu {
			t.Fatalf("voxel %d: %d in the file, %v in the phantom", i, got, hu)
		}
	}
}

func TestDatasetStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	opt := DatasetOptions{Cases: 40, Format: NIfTI, Size: coarse.Size, SpacingMM: coarse.SpacingMM, Workers: 2}
	opt.Progress = func(done int) {
		if done == 3 {
			cancel()
		}
	}
	err := WriteDataset(ctx, dir, opt)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the cancellation", err)
	}
	if files := tree(t, dir); len(files) > 5 || files["labels.csv"] != nil {
		t.Errorf("%d files, table %v", len(files), files["labels.csv"] != nil)
	}

	// A case that cannot be written names itself; no table appears.
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "case_00001"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	opt.Format, opt.Cases, opt.Progress = DICOM, 3, nil
	if err := WriteDataset(t.Context(), dir, opt); err == nil || !strings.Contains(err.Error(), "case 1") {
		t.Errorf("got %v, want an error about case 1", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "labels.csv")); err == nil {
		t.Error("a table was written")
	}

	for _, bad := range []DatasetOptions{{Cases: 0, Format: DICOM}, {Cases: 1, Format: "png"}, {Cases: 1, Format: DICOM, SpacingMM: [3]float64{1, 1, 1}}} {
		if err := WriteDataset(t.Context(), t.TempDir(), bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
