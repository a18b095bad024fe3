package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/cache"
	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/volume"
)

// digestsOf is the cache version that the digests below belong to.
const digestsOf = 2

// The entries of a cache are not told apart by the program that made them, only by cache.Version. So whatever changes
// the voxels of a sample, in reading or in preprocessing, be it a rounding, must raise it.
func TestCacheVersionFollowsVoxels(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the last bits of resampling weights may differ on other processors")
	}
	if cache.Version != digestsOf {
		t.Fatalf("cache.Version is %d and the digests here are those of %d: set digestsOf and put in the new digests", cache.Version, digestsOf)
	}
	dir := t.TempDir()
	const d, h, w = 21, 40, 37
	bytesOf, seed := make([]float32, d*h*w), uint32(1)
	for z := range d {
		pixels := make([]int16, h*w)
		for i := range pixels {
			seed = seed*1664525 + 1013904223 // Numerical Recipes' generator
			pixels[i] = int16(seed >> 21)    // 0 to 2047
			if y, x := i/w, i%w; y < 6 || x < 5 || x > 30 {
				pixels[i] = 0 // air around the body
			}
			bytesOf[z*h*w+i] = float32(pixels[i]) - 1024
		}
		dicomtest.Slice("1.2.9", z+1, 1.5*float64(z), h, w, pixels).Write(t, filepath.Join(dir, "series"), "slice-"+string(rune('a'+z)))
	}
	oblique, err := volume.FromAffine([3]int{d, h, w}, bytesOf, [4][4]float64{{0, 0.1, 2, 5}, {-0.8, 0, 0, 0}, {0, 0.7, 0.1, -3}, {0, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := nifti.Write(filepath.Join(dir, "oblique.nii.gz"), oblique, nifti.Int16); err != nil {
		t.Fatal(err)
	}
	with := func(f func(p *config.Preprocess)) config.Preprocess {
		p := config.Default().Preprocess
		p.ShapeDHW = [3]int{16, 20, 18}
		f(&p)
		return p
	}
	spaced := config.Spacing{MM: [3]float64{2, 1.1, 1.3}}
	for _, tt := range []struct {
		name, path string
		p          config.Preprocess
		want       string
	}{
		{"resize", "series", with(func(*config.Preprocess) {}), "24560fce7f3b5ce0"},
		{"resize an oblique file", "oblique.nii.gz", with(func(*config.Preprocess) {}), "a5c03a494fd2c085"},
		{"crop and pad", "oblique.nii.gz", with(func(p *config.Preprocess) { p.Fit, p.SpacingMM = "crop_pad", spaced }), "8f6f349c73b21efc"},
		{"windows", "series", with(func(p *config.Preprocess) { p.HUWindows = [][2]float64{{-1000, 400}, {-160, 240}} }), "425ef1446f2e40a3"},
		{"gaussian", "series", with(func(p *config.Preprocess) { p.Antialias = "gaussian" }), "1e7cd6d1b90a4b5c"},
		{"no filter", "series", with(func(p *config.Preprocess) { p.Antialias = "none" }), "3334e3e53304e5d3"},
		{"no filter, fewer planes", "series", with(func(p *config.Preprocess) { p.Antialias, p.ShapeDHW = "none", [3]int{9, 20, 18} }), "2926e4806df8614f"},
		{"nearest, as it is", "oblique.nii.gz", with(func(p *config.Preprocess) { p.Interpolation, p.Intensity = "nearest", "raw" }), "eed693ec555c2b7c"},
		{"body", "series", with(func(p *config.Preprocess) { p.Crop, p.CropMarginMM = "body", 1 }), "979b20f4dc9dead8"},
		{"recipe", "series", with(func(p *config.Preprocess) { p.Recipe, p.SpacingMM = "ct_rate_classifier", spaced }), "072292ec8c2c73a2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, _, err := (&Dataset{}).OpenVolume(Sample{Path: filepath.Join(dir, tt.path)})
			if err != nil {
				t.Fatal(err)
			}
			r, _, err := preprocess.Apply(v, tt.p)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := binary.Write(&b, binary.LittleEndian, r.Data); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(b.Bytes())
			if got := hex.EncodeToString(sum[:8]); got != tt.want {
				t.Errorf("the voxels have the digest %s, not %s: what is read or preprocessed has changed, so cache.Version must be raised", got, tt.want)
			}
		})
	}
}
