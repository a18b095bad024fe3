package dicom

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
	"github.com/ctclass/ctclass/internal/data/files"
)

// inMemory is a folder of files in memory.
type inMemory map[string][]byte

type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }

func (m inMemory) Open(path string) (files.File, error) {
	if content, ok := m[path]; ok {
		return memoryFile{bytes.NewReader(content)}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (m inMemory) Has(path string) bool { return m[path] != nil }

// headersFrom makes up to 24 headers, eight bytes each, of slices that differ in place and attributes.
func headersFrom(t *testing.T, b []byte) []Header {
	pixels := []int16{0, 100, 200, 300, 400, 500}
	content := dicomtest.Slice("1.2.3.4", 1, 0, 2, 3, pixels).Bytes()
	folder := inMemory{}
	var headers []Header
	for len(b) >= 8 && len(headers) < 24 {
		path := "f" + strconv.Itoa(len(headers))
		folder[path] = content
		h, err := ReadHeaderIn(folder, path)
		if err != nil {
			t.Fatal(err)
		}
		// Small whole numbers make coincidences likely, the flags of the last byte odd values possible.
		h.Position = [3]float64{float64(int8(b[0])) / 4, float64(int8(b[1])) / 4, float64(int16(binary.LittleEndian.Uint16(b[2:]))) / 8}
		h.InstanceNumber, h.SOPInstanceUID = int(b[4]), "i"+strconv.Itoa(int(b[4]%32))
		h.AcquisitionNumber, h.TemporalPosition = int(b[5]&3), int(b[5]>>2&1)
		h.SeriesUID += strconv.Itoa(int(b[5] >> 3 & 1))
		h.Kernel = []string{"", "B30", "B70"}[b[5]>>4%3]
		h.HasSliceLocation, h.SliceLocation = b[6]&1 > 0, float64(b[4])*2
		h.HasPosition, h.HasOrientation = b[6]&6 != 6, b[6]&24 != 24
		h.SpacingBetween, h.SliceThickness = float64(b[6]>>5&1), float64(b[6]>>6)
		switch b[7] % 16 {
		case 1:
			h.Orientation = [6]float64{0, 1, 0, 0, 0, -1}
		case 2:
			h.Orientation = [6]float64{1, 0, 0, 0, math.Cos(0.3), math.Sin(0.3)}
		case 3:
			h.PixelSpacing = [2]float64{}
		case 4:
			h.PixelSpacing = [2]float64{1e-4, 1}
		case 5:
			h.PixelSpacing[0] = 900
		case 6:
			h.Position[2] *= 1e7
		case 7:
			h.Position[0] = 1e9
		case 8:
			h.Modality = "MR"
		case 9:
			h.ImageType = []string{"ORIGINAL", "PRIMARY", "LOCALIZER"}
		case 10:
			h.Slope = 0
		case 11:
			h.SOPInstanceUID = ""
		case 12:
			h.Intercept, h.Slope = 5, -2
		}
		headers = append(headers, h)
		b = b[8:]
	}
	return headers
}

// FuzzBuild groups slices of any place and kind. No file is lost, the result does not depend on their order,
// and what is read is a sound volume of no more voxels than the slices account for.
func FuzzBuild(f *testing.F) {
	regular, gap, tilt := []byte{}, []byte{}, []byte{}
	for i := range byte(6) {
		regular = append(regular, 0, 0, 16*i, 0, i, 0, 0, 0)
		tilt = append(tilt, 0, 4*i, 16*i, 0, i, 0, 0, 0)
		if i != 3 {
			gap = append(gap, 0, 0, 16*i, 0, i, 0, 0, 0)
		}
	}
	f.Add(regular)
	f.Add(gap)
	f.Add(tilt)
	f.Add(slices.Concat(regular, gap, tilt))
	f.Add(bytes.Repeat([]byte{0, 0, 8, 0, 1, 0, 6, 0}, 4))
	f.Fuzz(func(t *testing.T, content []byte) {
		headers := headersFrom(t, content)
		series, rejected := Group(headers)
		backwards := slices.Clone(headers)
		slices.Reverse(backwards)
		again, rejectedAgain := Group(backwards)
		if len(again) != len(series) || !reflect.DeepEqual(rejected, rejectedAgain) {
			t.Fatalf("%d series and %d rejected, backwards %d and %d", len(series), len(rejected), len(again), len(rejectedAgain))
		}
		count := len(rejected)
		for i := range series {
			s := &series[i]
			if len(s.Slices) == 0 || s.Size() != again[i].Size() || s.Affine() != again[i].Affine() || !slices.Equal(s.Warnings, again[i].Warnings) {
				t.Fatalf("series %d depends on the order: %v %q, %v %q", i, s.Size(), s.Warnings, again[i].Size(), again[i].Warnings)
			}
			count += len(s.Slices) + len(s.duplicates)
			for _, w := range s.Warnings {
				if n, rest, _ := strings.Cut(w, " "); strings.HasPrefix(rest, "copies of slices") {
					copies, err := strconv.Atoi(n)
					if err != nil {
						t.Fatal(err)
					}
					count += copies
				}
			}
			for _, asStored := range []bool{false, true} {
				v, _, err := s.Read(asStored)
				if err != nil {
					continue
				}
				if err := v.Validate(); err != nil {
					t.Fatalf("an unsound volume: %v", err)
				}
				if most := 8 * 6 * len(s.Slices); v.Voxels() > most || asStored && v.Voxels() != 6*len(s.Slices) {
					t.Fatalf("%d slices became %v voxels", len(s.Slices), v.Size)
				}
			}
		}
		if count != len(headers) {
			t.Fatalf("%d files, of which %d are accounted for", len(headers), count)
		}
	})
}
