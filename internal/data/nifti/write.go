package nifti

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/volume"
)

// maxSkew is the largest deviation from right angles, in degrees, that a qform may hide.
const maxSkew = 0.05

// Write writes v as a NIfTI-1 file with voxels of type Int16 (HU rounded to the nearest whole number) or
// Float32, packed with gzip when path ends in .gz. The sform holds the affine in RAS; the qform repeats
// it, unless the axes are skewed, which no qform can express: then its code is 0. The file appears under
// its name only when it is complete; the same volume gives the same bytes.
//
// It fails for a volume that Validate refuses, a size above 32767, and with Int16 for HU that are not
// finite or outside -32768..32767.
func Write(path string, v *volume.Volume, dtype DType) error {
	if dtype != Int16 && dtype != Float32 {
		return fmt.Errorf("cannot write %s: voxels can be int16 or float32, not %s", path, dtype)
	}
	if err := v.Validate(); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	for axis, n := range v.Size {
		if n > math.MaxInt16 {
			return fmt.Errorf("cannot write %s: %d voxels along %c are more than a NIfTI-1 header can state (32767)", path, n, "dhw"[axis])
		}
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		if !strings.HasSuffix(strings.ToLower(path), ".gz") {
			return writeTo(w, v, dtype)
		}
		z := gzip.NewWriter(w)
		if err := writeTo(z, v, dtype); err != nil {
			return err
		}
		return z.Close()
	})
}

// writeTo writes header and voxels.
func writeTo(w io.Writer, v *volume.Volume, dtype DType) error {
	if _, err := w.Write(headerBytes(v, dtype)); err != nil {
		return err
	}
	return writeVoxels(w, v, dtype)
}

// writeVoxels writes the voxels in little-endian order.
func writeVoxels(w io.Writer, v *volume.Volume, dtype DType) error {
	_, size := dtype.describe()
	chunk := make([]byte, 0, chunkBytes)
	for i, x := range v.HU {
		if dtype == Float32 {
			chunk = binary.LittleEndian.AppendUint32(chunk, math.Float32bits(x))
		} else {
			r := math.RoundToEven(float64(x))
			if !(r >= math.MinInt16 && r <= math.MaxInt16) {
				return fmt.Errorf("voxel %d has %g HU, which int16 cannot hold; write float32", i, x)
			}
			chunk = binary.LittleEndian.AppendUint16(chunk, uint16(int16(r)))
		}
		if len(chunk)+size > cap(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return err
			}
			chunk = chunk[:0]
		}
	}
	_, err := w.Write(chunk)
	return err
}

// headerBytes returns the NIfTI-1 header with its empty extension flag, 352 bytes.
func headerBytes(v *volume.Volume, dtype DType) []byte {
	b := make([]byte, size1+4)
	little := binary.LittleEndian
	i16 := func(at, x int) { little.PutUint16(b[at:], uint16(int16(x))) }
	f32 := func(at int, x float64) { little.PutUint32(b[at:], math.Float32bits(float32(x))) }

	little.PutUint32(b, size1)
	_, size := dtype.describe()
	for i, n := range []int{3, v.Size[2], v.Size[1], v.Size[0], 1, 1, 1, 1} {
		i16(40+2*i, n)
	}
	i16(70, int(dtype))
	i16(72, 8*size)
	affine := volume.SwapLPS(v.Affine)
	qfac, quatern, qcode := qform(affine)
	spacing := volume.SpacingOf(affine)
	for i, x := range []float64{qfac, spacing[2], spacing[1], spacing[0], 1, 1, 1, 1} {
		f32(76+4*i, x)
	}
	f32(108, size1+4)
	f32(112, 1)
	b[123] = 2 // lengths in mm
	i16(252, qcode)
	i16(254, 1) // scanner coordinates
	for i := range 3 {
		f32(256+4*i, quatern[i])
		f32(268+4*i, affine[i][3])
		for j := range 4 {
			f32(280+16*i+4*j, affine[i][j])
		}
	}
	copy(b[344:], "n+1\x00")
	return b
}

// qform returns the rotation of a RAS affine as qfac and quaternion, and its code: 1, or 0 when the axes
// are not perpendicular.
func qform(affine [4][4]float64) (qfac float64, q [3]float64, code int) {
	if volume.Skew(affine) > maxSkew {
		return 1, q, 0
	}
	spacing := volume.SpacingOf(affine)
	var r [3][3]float64
	for i := range 3 {
		for j := range 3 {
			r[i][j] = affine[i][j] / spacing[2-j]
		}
	}
	det := r[0][0]*(r[1][1]*r[2][2]-r[1][2]*r[2][1]) -
		r[0][1]*(r[1][0]*r[2][2]-r[1][2]*r[2][0]) +
		r[0][2]*(r[1][0]*r[2][1]-r[1][1]*r[2][0])
	qfac = 1
	if det < 0 {
		qfac = -1
		for i := range 3 {
			r[i][2] = -r[i][2]
		}
	}
	return qfac, quaternion(r), 1
}
