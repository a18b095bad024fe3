package scan

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/volume"
)

// benchData makes, or finds, the scans that are timed: dicom/ with uncompressed slices of 512 x 512, and nifti/
// with four .nii.gz of 512 x 512 x 64. They lie in $CTCLASS_BENCH_DIR, where bench/scan_peers.py reads them too,
// or in a temporary folder. $CTCLASS_BENCH_SLICES is the number of slices, 200 by default.
func benchData(b *testing.B) (dicomDir string, niftis []string) {
	b.Helper()
	dir := os.Getenv("CTCLASS_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	n := 200
	if s := os.Getenv("CTCLASS_BENCH_SLICES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 2 {
			b.Fatalf("CTCLASS_BENCH_SLICES is %q, want a number from 2 on", s)
		}
	}
	// A body of 40 HU in air with scanner noise: what matters to gzip is the noise.
	const size = 512
	noise := uint32(1)
	voxel := func(x, y int) int16 {
		noise = noise*1664525 + 1013904223
		v := int16(noise>>27) - 16
		if dx, dy := x-size/2, y-size/2; dx*dx+dy*dy < 200*200 {
			return 40 + v
		}
		return -1000 + v
	}
	dicomDir = filepath.Join(dir, "dicom")
	if list, _ := os.ReadDir(dicomDir); len(list) != n {
		os.RemoveAll(dicomDir)
		p := make([]int16, size*size)
		for k := range n {
			for i := range p {
				p[i] = voxel(i%size, i/size) + 1024
			}
			f := dicomtest.Slice("1.2.3.4", k+1, float64(k), size, size, p)
			f.Set(0x00280004, "CS", "MONOCHROME2").Write(b, dicomDir, fmt.Sprintf("IM%04d", k))
		}
	}
	for i := range 4 {
		path := filepath.Join(dir, "nifti", fmt.Sprintf("v%d.nii.gz", i))
		niftis = append(niftis, path)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		hu := make([]float32, 64*size*size)
		for i := range hu {
			hu[i] = float32(voxel(i%size, i/size%size))
		}
		v, err := volume.FromAffine([3]int{64, size, size}, hu, [4][4]float64{{0.7, 0, 0, 0}, {0, 0.7, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}})
		if err != nil {
			b.Fatal(err)
		}
		if err := nifti.Write(path, v, nifti.Int16); err != nil {
			b.Fatal(err)
		}
	}
	return dicomDir, niftis
}

// BenchmarkCompressed times folders dicom-NAME of $CTCLASS_BENCH_DIR: series that somebody compressed.
func BenchmarkCompressed(b *testing.B) {
	folders, _ := filepath.Glob(filepath.Join(os.Getenv("CTCLASS_BENCH_DIR"), "dicom-*"))
	if os.Getenv("CTCLASS_BENCH_DIR") == "" || len(folders) == 0 {
		b.Skip("CTCLASS_BENCH_DIR names no folder with compressed series dicom-NAME")
	}
	for _, dir := range folders {
		b.Run(filepath.Base(dir), func(b *testing.B) {
			for range b.N {
				if _, _, err := Load(dir, Selection{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	dir, niftis := benchData(b)
	load := func(b *testing.B, path string) {
		v, _, err := Load(path, Selection{})
		if err != nil {
			b.Error(err)
			return
		}
		b.SetBytes(2 * int64(v.Voxels()))
	}
	b.Run("dicom", func(b *testing.B) {
		for b.Loop() {
			load(b, dir)
		}
	})
	b.Run("nifti.gz/one", func(b *testing.B) {
		for b.Loop() {
			load(b, niftis[0])
		}
	})
	b.Run("nifti.gz/folder", func(b *testing.B) { // each file on its own goroutine, as a loader's workers do
		for b.Loop() {
			var wg sync.WaitGroup
			for _, path := range niftis {
				wg.Go(func() {
					if _, _, err := Load(path, Selection{}); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
		}
	})
}
