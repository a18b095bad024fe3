package nifti

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/ctclass/ctclass/internal/data/files"
	"github.com/ctclass/ctclass/internal/volume"
)

func TestReadTypes(t *testing.T) {
	tests := []struct {
		dtype  DType
		voxels any
		first  float64
	}{
		{Uint8, ramp(uint8(230)), 230},
		{Int8, ramp(int8(-12)), -12},
		{Int16, ramp(int16(-1010)), -1010},
		{Uint16, ramp(uint16(65500)), 65500},
		{Int32, ramp(int32(-70000)), -70000},
		{Uint32, ramp(uint32(4294967000)), 4294967000},
		{Int64, ramp(int64(-70000)), -70000},
		{Uint64, ramp(uint64(1 << 40)), 1 << 40},
		{Float32, ramp(float32(-0.5)), -0.5},
		{Float64, ramp(-1000.25), -1000.25},
	}
	for _, tt := range tests {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			for version := 1; version <= 2; version++ {
				for _, name := range []string{"x.nii", "x.nii.gz"} {
					t.Run(strings.Join([]string{tt.dtype.String(), order.String(), string(rune('0' + version)), name}, " "), func(t *testing.T) {
						f := ct(tt.dtype, tt.voxels)
						f.order, f.version = order, version
						content := f.bytes()
						if strings.HasSuffix(name, ".gz") {
							content = pack(content)
						}
						v, warnings, err := Read(save(t, name, content))
						if err != nil || len(warnings) > 0 {
							t.Fatalf("error %v, warnings %q", err, warnings)
						}
						if err := v.Validate(); err != nil {
							t.Fatal(err)
						}
						if v.Size != [3]int{4, 3, 2} || v.Spacing != [3]float64{3, 2, 1} {
							t.Errorf("size %v, spacing %v; want [4 3 2], [3 2 1]", v.Size, v.Spacing)
						}
						for i, x := range v.HU {
							if want := float32(tt.first + float64(i)); x != want {
								t.Fatalf("voxel %d is %g, want %g", i, x, want)
							}
						}
						want := [4][4]float64{{-1, 0, 0, 5}, {0, -2, 0, 6}, {0, 0, 3, -7}, {0, 0, 0, 1}}
						if v.Affine != want {
							t.Errorf("affine %v, want %v", v.Affine, want)
						}
					})
				}
			}
		}
	}
}

func TestScaling(t *testing.T) {
	tests := []struct {
		name         string
		slope, inter float64
		want         float32 // of a stored 1000
		warns        bool
	}{
		{"none asked", 1, 0, 1000, false},
		{"slope and intercept", 0.5, -1024, -524, false},
		{"intercept alone", 1, -1024, -24, false},
		{"slope 0 ignores the intercept", 0, 55, 1000, false},
		{"slope NaN", nan, 55, 1000, false},
		{"slope infinite", inf, 55, 1000, false},
		{"negative slope", -1, 0, -1000, false},
		{"intercept NaN", 2, nan, 2000, true},
		// 0.1 as float32 is 0.100000001490116; times 1000 plus the float32 0.3 in double precision.
		{"rounded once", 0.1, 0.3, 100.30000150203705, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := ct(Int16, bytes.Repeat([]byte{0xe8, 0x03}, 24))
			f.slope, f.inter = tt.slope, tt.inter
			v, warnings, err := Read(save(t, "x.nii", f.bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if v.HU[0] != tt.want || (len(warnings) > 0) != tt.warns {
				t.Errorf("got %v with warnings %q, want %v", v.HU[0], warnings, tt.want)
			}
		})
	}
}

func TestPlacement(t *testing.T) {
	half := math.Sqrt(0.5)
	tests := []struct {
		name   string
		change func(*file)
		from   string
		ras    [3][4]float64
		warns  int
	}{
		{"sform", func(*file) {}, "sform", [3][4]float64{{1, 0, 0, -5}, {0, 2, 0, -6}, {0, 0, 3, -7}}, 0},
		{"sform before qform", func(f *file) { f.qform = 1 }, "sform", [3][4]float64{{1, 0, 0, -5}, {0, 2, 0, -6}, {0, 0, 3, -7}}, 0},
		{"identity quaternion", func(f *file) {
			f.sform, f.qform, f.qoffset = 0, 1, [3]float64{7, 8, 9}
		}, "qform", [3][4]float64{{1, 0, 0, 7}, {0, 2, 0, 8}, {0, 0, 3, 9}}, 0},
		{"qfac -1", func(f *file) {
			f.sform, f.qform, f.pixdim[0] = 0, 1, -1
		}, "qform", [3][4]float64{{1, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, -3, 0}}, 0},
		{"qfac 0 counts as 1", func(f *file) {
			f.sform, f.qform, f.pixdim[0] = 0, 1, 0
		}, "qform", [3][4]float64{{1, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 3, 0}}, 0},
		// A quarter turn about z takes i to +y and j to -x.
		{"quarter turn about z", func(f *file) {
			f.sform, f.qform, f.quatern = 0, 1, [3]float64{0, 0, half}
		}, "qform", [3][4]float64{{0, -2, 0, 0}, {1, 0, 0, 0}, {0, 0, 3, 0}}, 0},
		// A half turn about z: a = 0, as in most DICOM conversions.
		{"half turn about z", func(f *file) {
			f.sform, f.qform, f.quatern = 0, 1, [3]float64{0, 0, 1}
		}, "qform", [3][4]float64{{-1, 0, 0, 0}, {0, -2, 0, 0}, {0, 0, 3, 0}}, 0},
		{
			"neither: LAS, centred", func(f *file) { f.sform = 0 }, "none",
			[3][4]float64{{-1, 0, 0, 0.5}, {0, 2, 0, -2}, {0, 0, 3, -4.5}},
			1,
		},
		{
			"sform all zero", func(f *file) { f.srow = [3][4]float64{}; f.qform = 1 }, "qform",
			[3][4]float64{{1, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 3, 0}},
			1,
		},
		{
			"sform NaN, no qform", func(f *file) { f.srow[0][3] = nan }, "none",
			[3][4]float64{{-1, 0, 0, 0.5}, {0, 2, 0, -2}, {0, 0, 3, -4.5}},
			2,
		},
		{
			"zero voxel size", func(f *file) { f.sform = 0; f.qform = 1; f.pixdim[2] = 0 }, "qform",
			[3][4]float64{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 3, 0}},
			1,
		},
		{"metres", func(f *file) {
			f.units = 1
			f.srow = [3][4]float64{{0.001, 0, 0, -0.005}, {0, 0.002, 0, 0}, {0, 0, 0.003, 0}}
		}, "sform", [3][4]float64{{1, 0, 0, -5}, {0, 2, 0, 0}, {0, 0, 3, 0}}, 1},
		{
			"seconds do not matter", func(f *file) { f.units = 2 | 8 }, "sform",
			[3][4]float64{{1, 0, 0, -5}, {0, 2, 0, -6}, {0, 0, 3, -7}},
			0,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := ct(Int16, ramp(int16(0)))
			tt.change(&f)
			path := save(t, "x.nii", f.bytes())
			info, err := Header(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Placement != tt.from || len(info.Warnings) != tt.warns {
				t.Errorf("placed by %s with warnings %q; want %s and %d", info.Placement, info.Warnings, tt.from, tt.warns)
			}
			got := volume.SwapLPS(info.Affine)
			for i := range 3 {
				for j := range 4 {
					if math.Abs(got[i][j]-tt.ras[i][j]) > 1e-6 {
						t.Fatalf("affine (RAS) %v, want %v", got, tt.ras)
					}
				}
			}
			if _, warnings, err := Read(path); err != nil || len(warnings) != tt.warns {
				t.Errorf("Read: error %v, warnings %q", err, warnings)
			}
		})
	}
}

func TestShapes(t *testing.T) {
	tests := []struct {
		name  string
		dim   []int64
		shape [3]int
		err   string
	}{
		{"3D", []int64{3, 2, 3, 4}, [3]int{4, 3, 2}, ""},
		{"one slice", []int64{2, 4, 6}, [3]int{1, 6, 4}, ""},
		{"sizes beyond dim[0] do not count", []int64{3, 2, 3, 4, 9, 9}, [3]int{4, 3, 2}, ""},
		{"4D with one volume", []int64{4, 2, 3, 4, 1}, [3]int{4, 3, 2}, ""},
		{"7D of ones", []int64{7, 2, 3, 4, 1, 1, 1, 1}, [3]int{4, 3, 2}, ""},
		{"two volumes", []int64{4, 2, 3, 2, 2}, [3]int{}, "2 volumes"},
		{"vectors", []int64{5, 2, 3, 1, 1, 4}, [3]int{}, "4 volumes"},
		{"zero size", []int64{3, 2, 0, 4}, [3]int{}, "size 0 for dimension 2"},
		{"negative size", []int64{3, 2, 3, -4}, [3]int{}, "size -4 for dimension 3"},
		{"no dimensions", []int64{0, 2, 3, 4}, [3]int{}, "0 dimensions"},
		{"eight dimensions", []int64{8, 2, 3, 4}, [3]int{}, "8 dimensions"},
		{"too much for the file", []int64{3, 2, 3, 5}, [3]int{}, "more than the file"},
		{"huge", []int64{3, 32767, 32767, 32767}, [3]int{}, "more than the file"},
		{"beyond int", []int64{7, 32767, 32767, 32767, 32767, 32767, 1, 1}, [3]int{}, "more than can be addressed"},
		{"many volumes of many voxels", []int64{4, 32767, 32767, 32767, 32767}, [3]int{}, "more than can be addressed"},
	}
	for _, tt := range tests {
		for version := 1; version <= 2; version++ {
			t.Run(tt.name, func(t *testing.T) {
				f := ct(Int16, ramp(int16(0)))
				f.dim, f.version = tt.dim, version
				v, _, err := Read(save(t, "x.nii", f.bytes()))
				if tt.err != "" {
					wantError(t, err, tt.err)
				} else if err != nil || v.Size != tt.shape {
					t.Errorf("error %v", err)
				}
			})
		}
	}
	f := ct(Int16, ramp(int16(0)))
	f.version, f.dim = 2, []int64{3, math.MaxInt64, math.MaxInt64, 2}
	_, _, err := Read(save(t, "x.nii", f.bytes()))
	wantError(t, err, "more voxels than can be addressed")
}

// wantError demands one sentence that names the file and holds want.
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line with the file and %q", err, want)
	}
}

func TestRefused(t *testing.T) {
	good := ct(Int16, ramp(int16(0))).bytes()
	with := func(change func(*file)) []byte {
		f := ct(Int16, ramp(int16(0)))
		change(&f)
		return f.bytes()
	}
	packed := pack(good)
	flipped := bytes.Clone(packed)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	tests := []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "empty"},
		{"short", good[:100], "100 bytes, too few"},
		{"cut in the voxels", good[:len(good)-1], "more than the file"},
		{"cut NIfTI-2 header", with(func(f *file) { f.version = 2 })[:400], "cut short"},
		{"text", []byte(strings.Repeat("hello world ", 40)), "no NIfTI file"},
		{"gzip of text", pack([]byte(strings.Repeat("hello world ", 40))), "no NIfTI file"},
		{"Analyze", with(func(f *file) { f.magic = "\x00\x00\x00\x00" }), "Analyze"},
		{"line ends converted", with(func(f *file) { f.version = 2; f.magic = "n+2\x00\n\x1a\n\x00" }), "transferred as text"},
		{"RGB", with(func(f *file) { f.dtype = 128 }), "RGB24"},
		{"RGBA", with(func(f *file) { f.dtype = 2304 }), "RGBA32"},
		{"complex", with(func(f *file) { f.dtype = 32 }), "complex"},
		{"bits", with(func(f *file) { f.dtype = 1 }), "1-bit"},
		{"float128", with(func(f *file) { f.dtype = 1536 }), "float128"},
		{"unknown type", with(func(f *file) { f.dtype = 77 }), "unknown datatype 77"},
		{"offset in the header", with(func(f *file) { f.offset = 300 }), "byte 300"},
		{"offset negative", with(func(f *file) { f.offset = -1 }), "byte -1"},
		{"offset NaN", with(func(f *file) { f.offset = nan }), "byte NaN"},
		{"offset after the end", with(func(f *file) { f.offset = 1e9 }), "more than the file"},
		{"voxel size beyond reason", with(func(f *file) { f.sform = 0; f.pixdim[1] = 1e30 }), "cannot be placed"},
		{"gzip cut in the voxels", packed[:len(packed)-20], "cut or damaged"},
		{"gzip cut in the checksum", packed[:len(packed)-3], "damaged or cut"},
		{"gzip checksum wrong", flipped, "damaged or cut"},
		{"gzip header cut", packed[:5], "gzip data are damaged"},
		{"gzip with fewer voxels than claimed", pack(good[:len(good)-2]), "cut or damaged"},
		{"gzip claims far too much", pack(with(func(f *file) { f.dim = []int64{3, 32767, 32767, 32767} })), "more than the file"},
		{"all NaN", with(func(f *file) {
			f.dtype, f.voxels = int(Float32), bytes.Repeat([]byte{0, 0, 0xc0, 0x7f}, 24)
		}), "no voxel has a finite value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, _, err := Read(save(t, "x.nii", tt.content))
			wantError(t, err, tt.want)
			if v != nil {
				t.Error("a volume came with the error")
			}
		})
	}
	if _, _, err := Read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("reading a folder: %v", err)
	}
	if _, _, err := Read(filepath.Join(t.TempDir(), "none.nii")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a missing file: %v", err)
	}
}

func TestWhereVoxelsStart(t *testing.T) {
	for _, version := range []int{1, 2} {
		f := ct(Int16, ramp(int16(100)))
		f.version, f.extension = version, make([]byte, 32)
		f.extension[0], f.extension[4] = 32, 6
		f.offset = map[int]float64{1: 352 + 32, 2: 544 + 32}[version]
		for _, content := range [][]byte{f.bytes(), pack(f.bytes())} {
			v, _, err := Read(save(t, "x.nii", content))
			if err != nil || v.HU[0] != 100 || v.HU[23] != 123 {
				t.Errorf("version %d: error %v", version, err)
			}
		}
	}
}

func TestGzipForms(t *testing.T) {
	plain := ct(Int16, ramp(int16(100))).bytes()
	tests := []struct {
		name, file string
		content    []byte
	}{
		{"several members", "x.nii.gz", pack(plain[:200], plain[200:360], plain[360:])},
		{"zeros after the end", "x.nii.gz", append(pack(plain), make([]byte, 64)...)},
		{"plain content under .gz", "x.nii.gz", plain},
		{"packed content under .nii", "x.nii", pack(plain)},
		{"more data than voxels", "x.nii.gz", pack(append(bytes.Clone(plain), 1, 2, 3))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, warnings, err := Read(save(t, tt.file, tt.content))
			if err != nil || len(warnings) > 0 || v.HU[23] != 123 {
				t.Errorf("error %v, warnings %q", err, warnings)
			}
		})
	}
}

func TestPairs(t *testing.T) {
	f := ct(Int16, ramp(int16(100)))
	f.magic = "ni1\x00"
	shifted := f
	shifted.offset = 16
	second := f
	second.version, second.magic = 2, "ni2\x00\r\n\x1a\n"
	voxels := f.voxelBytes()
	tests := []struct {
		name                  string
		header, image, ask    string
		headerBytes, imgBytes []byte
		want                  string
	}{
		{"by header", "x.hdr", "x.img", "x.hdr", f.bytes(), voxels, ""},
		{"by image", "x.hdr", "x.img", "x.img", f.bytes(), voxels, ""},
		{"NIfTI-2", "x.hdr", "x.img", "x.img", second.bytes(), voxels, ""},
		{"with an offset", "x.hdr", "x.img", "x.hdr", shifted.bytes(), append(make([]byte, 16), voxels...), ""},
		{"both packed, by header", "x.hdr.gz", "x.img.gz", "x.hdr.gz", pack(f.bytes()), pack(voxels), ""},
		{"both packed, by image", "x.hdr.gz", "x.img.gz", "x.img.gz", pack(f.bytes()), pack(voxels), ""},
		{"only the image packed", "x.hdr", "x.img.gz", "x.hdr", f.bytes(), pack(voxels), ""},
		{"upper case", "x.HDR", "x.IMG", "x.HDR", f.bytes(), voxels, ""},
		{"no image", "x.hdr", "y.img", "x.hdr", f.bytes(), voxels, "image file is missing"},
		{"no header", "y.hdr", "x.img", "x.img", f.bytes(), voxels, "x.hdr"},
		{"image cut", "x.hdr", "x.img", "x.hdr", f.bytes(), voxels[:40], "more than the file"},
		{"image empty", "x.hdr", "x.img", "x.hdr", f.bytes(), nil, "empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range map[string][]byte{tt.header: tt.headerBytes, tt.image: tt.imgBytes} {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			v, _, err := Read(filepath.Join(dir, tt.ask))
			if tt.want != "" {
				wantError(t, err, tt.want)
				return
			}
			if err != nil || v.HU[0] != 100 || v.HU[23] != 123 {
				t.Errorf("error %v", err)
			}
			if info, err := Header(filepath.Join(dir, tt.ask)); err != nil || info.Shape != v.Size {
				t.Errorf("Header: %v, error %v", info.Shape, err)
			}
		})
	}
}

func TestNotFinite(t *testing.T) {
	voxels := ramp(-1000.5)
	voxels[3], voxels[7], voxels[9], voxels[11] = nan, inf, -inf, 1e300 // beyond float32
	v, warnings, err := Read(save(t, "x.nii", ct(Float64, voxels).bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "4 of 24") {
		t.Errorf("warnings %q, want one about 4 of 24 voxels", warnings)
	}
	for _, i := range []int{3, 7, 9, 11} {
		if v.HU[i] != -1000.5 {
			t.Errorf("voxel %d is %g, want the minimum -1000.5", i, v.HU[i])
		}
	}
	if v.HU[8] != -992.5 {
		t.Errorf("voxel 8 is %g, want -992.5", v.HU[8])
	}
}

// TestInChunks reads more and less than is converted on a second goroutine.
func TestInChunks(t *testing.T) {
	stored := make([]byte, besideFrom+3*chunkBytes+1000)
	for i := range stored {
		stored[i] = byte(i * i >> 8)
	}
	tests := []struct {
		name    string
		content []byte
		n       int
		second  bool
	}{
		{"large packed", pack(stored), len(stored), true},
		{"least packed on two", pack(stored), besideFrom, true},
		{"small packed", pack(stored), besideFrom - 1, false},
		{"large plain", stored, len(stored), false},
		{"nothing", pack(stored), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := open(files.Disk{}, save(t, "x.nii", tt.content))
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			var got []byte
			before, second := runtime.NumGoroutine(), false
			err = s.inChunks(int64(tt.n), func(chunk []byte) {
				second = second || runtime.NumGoroutine() > before
				got = append(got, chunk...)
			})
			if err != nil || !bytes.Equal(got, stored[:tt.n]) {
				t.Errorf("got %d bytes, equal %t, error %v", len(got), bytes.Equal(got, stored[:tt.n]), err)
			}
			if second != tt.second {
				t.Errorf("on a second goroutine: %t, want %t", second, tt.second)
			}
		})
	}
}

// TestLarge reads files of several chunks: the same voxels packed and plain, and faults in their middle.
func TestLarge(t *testing.T) {
	f := ct(Int16, nil)
	f.dim, f.slope, f.inter, f.order = []int64{3, 512, 512, 5}, 0.3, -7.1, binary.BigEndian
	stored := make([]int16, 512*512*5)
	noise := uint32(1)
	for i := range stored {
		noise = noise*1664525 + 1013904223
		stored[i] = int16(noise >> 22)
	}
	f.voxels = stored
	plain := f.bytes()
	packed := pack(plain)
	want, _, err := Read(save(t, "x.nii", plain))
	if err != nil {
		t.Fatal(err)
	}
	damaged, unsummed := bytes.Clone(packed), bytes.Clone(packed)
	copy(damaged[len(packed)/2:], bytes.Repeat([]byte{0xff}, 64))
	unsummed[len(packed)-6] ^= 1
	tests := []struct {
		name    string
		content []byte
		err     string
	}{
		{"sound", packed, ""},
		{"several members", pack(plain[:1<<20], plain[1<<20:]), ""},
		{"cut in the middle", packed[:len(packed)/2], "the voxels cannot be read to their end (2621440 bytes from byte 352 on); the file is cut or damaged: unexpected EOF"},
		{"damaged in the middle", damaged, "the file is cut or damaged: flate: corrupt input"},
		{"a voxel short", pack(plain[:len(plain)-2]), "the file is cut or damaged: unexpected EOF"},
		{"wrong checksum", unsummed, "the gzip data are damaged or cut: gzip: invalid checksum"},
		{"wrong checksum in the middle", append(unsummed[:len(unsummed):len(unsummed)], packed...), "the gzip data are damaged or cut: gzip: invalid checksum"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, _, err := Read(save(t, "x.nii.gz", tt.content))
			if tt.err != "" {
				wantError(t, err, tt.err)
			} else if err != nil || !slices.Equal(v.HU, want.HU) {
				t.Errorf("error %v, or other voxels than the plain file's", err)
			}
			goleak.VerifyNone(t)
		})
	}
	for _, fault := range []any{errors.New("the disk is gone"), "a fault of the decoder"} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			defer goleak.VerifyNone(t)
			defer func() {
				if r := recover(); r != nil && r != fault {
					t.Errorf("panic %v, want %v", r, fault)
				}
			}()
			_, _, err := ReadIn(faulty{fault: fault, after: len(packed) / 2}, save(t, "x.nii.gz", packed))
			if cause, ok := fault.(error); !ok || !errors.Is(err, cause) {
				t.Errorf("error %v, want %v", err, fault)
			}
		})
	}
}

// faulty are files that fail after some bytes: with an error, or with a panic over anything else.
type faulty struct {
	files.Disk
	fault any
	after int
}

func (f faulty) Open(path string) (files.File, error) {
	file, err := f.Disk.Open(path)
	return &faultyFile{file, f}, err
}

type faultyFile struct {
	files.File
	faulty
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if f.after == 0 {
		if err, ok := f.fault.(error); ok {
			return 0, err
		}
		panic(f.fault)
	}
	n, err := f.File.Read(p[:min(len(p), f.after)])
	f.after -= n
	return n, err
}

func TestGrow(t *testing.T) {
	hu := []float32{1, 2}
	hu = grow(hu[:2:2], 1, 10)
	if cap(hu) != 4 || hu[1] != 2 {
		t.Errorf("capacity %d, want 4", cap(hu))
	}
	if hu = grow(hu[:4], 3, 7); cap(hu) != 7 {
		t.Errorf("capacity %d, want the limit 7", cap(hu))
	}
}

// FuzzRead reads arbitrary bytes as a single file and as both files of a pair. Whatever they are, there is
// either a sound volume or an error, and no memory beyond what the bytes can account for.
func FuzzRead(f *testing.F) {
	base := ct(Int16, ramp(int16(-7)))
	big := ct(Float32, ramp(float32(0.5)))
	big.order, big.version = binary.BigEndian, 2
	quat := ct(Uint8, ramp(uint8(0)))
	quat.sform, quat.qform, quat.quatern = 0, 1, [3]float64{0.5, 0.5, 0.5}
	pair := ct(Int8, nil)
	pair.magic = "ni1\x00"
	for _, seed := range [][]byte{base.bytes(), big.bytes(), quat.bytes(), pair.bytes(), pack(base.bytes()), pack(big.bytes()), {}, {0x1f, 0x8b}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		for _, name := range []string{"x.nii", "p.hdr", "p.img"} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"x.nii", "p.img"} {
			v, _, err := Read(filepath.Join(dir, name))
			if err != nil {
				if v != nil || !strings.Contains(err.Error(), name) {
					t.Fatalf("volume %v with error %v", v, err)
				}
				continue
			}
			if err := v.Validate(); err != nil {
				t.Fatal(err)
			}
			if s := volume.HUStats(v); s.NaN > 0 || s.Inf > 0 {
				t.Fatalf("voxels that are not finite: %+v", s)
			}
			info, err := Header(filepath.Join(dir, name))
			if err != nil || info.Shape != v.Size || info.Affine != v.Affine {
				t.Fatalf("header %+v differs from the volume, error %v", info, err)
			}
		}
	})
}
