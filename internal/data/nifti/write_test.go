package nifti

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/volume"
	"pgregory.net/rapid"
)

// oblique is a small volume turned about two axes, its third axis reversed when mirrored.
func oblique(turnZ, turnX float64, mirrored bool) *volume.Volume {
	c, s := math.Cos(turnZ), math.Sin(turnZ)
	z := [4][4]float64{{c, -s, 0, 0}, {s, c, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}
	c, s = math.Cos(turnX), math.Sin(turnX)
	x := [4][4]float64{{1, 0, 0, 0}, {0, c, -s, 0}, {0, s, c, 0}, {0, 0, 0, 1}}
	depth := 2.5
	if mirrored {
		depth = -depth
	}
	scale := [4][4]float64{{0.75, 0, 0, -120}, {0, 0.5, 0, 30}, {0, 0, depth, 900}, {0, 0, 0, 1}}
	hu := make([]float32, 24)
	for i := range hu {
		hu[i] = float32(i*37 - 400)
	}
	v, err := volume.FromAffine([3]int{4, 3, 2}, hu, volume.Mul(volume.Mul(z, x), scale))
	if err != nil {
		panic(err)
	}
	return v
}

func close4(a, b [4][4]float64, tolerance float64) bool {
	for i := range 4 {
		for j := range 4 {
			if math.Abs(a[i][j]-b[i][j]) > tolerance {
				return false
			}
		}
	}
	return true
}

// What is written comes back, and the qform alone says the same as the sform.
func TestWriteRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		v := oblique(
			rapid.Float64Range(-math.Pi, math.Pi).Draw(t, "z"),
			rapid.Float64Range(-math.Pi, math.Pi).Draw(t, "x"),
			rapid.Bool().Draw(t, "mirrored"))
		name := rapid.SampledFrom([]string{"x.nii", "x.nii.gz"}).Draw(t, "name")
		dtype := rapid.SampledFrom([]DType{Int16, Float32}).Draw(t, "dtype")
		path := filepath.Join(dir, name)
		if err := Write(path, v, dtype); err != nil {
			t.Fatal(err)
		}
		got, warnings, err := Read(path)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("error %v, warnings %q", err, warnings)
		}
		if got.Size != v.Size || !close4(got.Affine, v.Affine, 1e-4) {
			t.Fatalf("size %v affine %v, want %v %v", got.Size, got.Affine, v.Size, v.Affine)
		}
		for i := range v.HU {
			if got.HU[i] != v.HU[i] {
				t.Fatalf("voxel %d is %g, want %g", i, got.HU[i], v.HU[i])
			}
		}
		// Near a half turn a float32 quaternion fixes its first part only to about 3e-4 radians.
		header := headerBytes(v, dtype)
		header[254] = 0 // no sform
		h, err := readHeader(bytes.NewReader(header))
		if err != nil || h.Placement != "qform" || !close4(h.Affine, v.Affine, 5e-3) {
			t.Fatalf("qform (%s): %v, want %v, error %v", h.Placement, h.Affine, v.Affine, err)
		}
	})
}

func TestWriteSkewed(t *testing.T) {
	v := oblique(0, 0, false)
	v.Affine[1][2] = 0.7 // a tilted gantry
	v.Spacing = volume.SpacingOf(v.Affine)
	h, err := readHeader(bytes.NewReader(headerBytes(v, Int16)))
	if err != nil || h.Placement != "sform" || !close4(h.Affine, v.Affine, 1e-4) {
		t.Errorf("affine %v, error %v", h.Affine, err)
	}
	if code := headerBytes(v, Int16)[252]; code != 0 {
		t.Errorf("qform code %d for skewed axes, want 0", code)
	}
}

func TestWriteInt16Rounds(t *testing.T) {
	v := oblique(0, 0, false)
	copy(v.HU, []float32{-1024.4, 0.5, 1.5, -0.5, 32767.4, -32768.4})
	path := filepath.Join(t.TempDir(), "x.nii")
	if err := Write(path, v, Int16); err != nil {
		t.Fatal(err)
	}
	got, _, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float32{-1024, 0, 2, 0, 32767, -32768} {
		if got.HU[i] != want {
			t.Errorf("%g was written as %g, want %g", v.HU[i], got.HU[i], want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*volume.Volume)
		dtype DType
		want  string
	}{
		{"type", func(*volume.Volume) {}, Uint8, "not uint8"},
		{"too bright for int16", func(v *volume.Volume) { v.HU[5] = 40000 }, Int16, "voxel 5 has 40000 HU"},
		{"NaN in int16", func(v *volume.Volume) { v.HU[5] = float32(nan) }, Int16, "NaN HU"},
		{"unsound volume", func(v *volume.Volume) { v.HU = v.HU[1:] }, Int16, "23 voxels"},
		{"too long", func(v *volume.Volume) {
			v.Size, v.HU = [3]int{1, 1, 40000}, make([]float32, 40000)
		}, Int16, "40000 voxels along w"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := oblique(0, 0, false)
			tt.spoil(v)
			dir := t.TempDir()
			path := filepath.Join(dir, "x.nii.gz")
			if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := Write(path, v, tt.dtype)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if content, _ := os.ReadFile(path); string(content) != "before" {
				t.Error("the failed write changed the file")
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 1 {
				t.Errorf("the failed write left files behind: %v", entries)
			}
		})
	}
	if err := Write(filepath.Join(t.TempDir(), "none", "x.nii"), oblique(0, 0, false), Int16); err == nil {
		t.Error("writing into a missing folder succeeded")
	}
}

func TestWriteSameBytes(t *testing.T) {
	dir := t.TempDir()
	var first []byte
	for _, name := range []string{"a.nii.gz", "b.nii.gz"} {
		path := filepath.Join(dir, name)
		if err := Write(path, oblique(0.3, 0.1, true), Float32); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if content[0] != 0x1f || content[1] != 0x8b {
			t.Error("a .gz file is not gzip")
		}
		if first == nil {
			first = content
		} else if !bytes.Equal(first, content) {
			t.Error("two writes of one volume differ")
		}
	}
}
