package nifti

import "math"

// The affines here map the NIfTI voxel index (i, j, k, 1) = (w, h, d, 1) to RAS coordinates, as the
// standard defines them ("method 1, 2 and 3" of nifti1.h).

// zooms returns the voxel sizes along i, j, k with unusable values replaced by 1.
func (raw *rawHeader) zooms() [3]float64 {
	var z [3]float64
	for i := range 3 {
		z[i] = math.Abs(raw.pixdim[i+1])
		if z[i] == 0 || !finite(z[i]) {
			z[i] = 1
		}
	}
	return z
}

// baseAffine is the fallback of a file that carries no orientation: radiological storage (i grows to the
// left) with the origin at the volume's centre. shape is D, H, W.
func (raw *rawHeader) baseAffine(shape [3]int) [4][4]float64 {
	a := [4][4]float64{3: {3: 1}}
	for i, z := range raw.zooms() {
		a[i][i] = z
		a[i][3] = -z * float64(shape[2-i]-1) / 2
	}
	a[0][0], a[0][3] = -a[0][0], -a[0][3]
	return a
}

// sformAffine is the affine stored row by row.
func (raw *rawHeader) sformAffine() [4][4]float64 {
	return [4][4]float64{raw.srow[0], raw.srow[1], raw.srow[2], {0, 0, 0, 1}}
}

// qformAffine builds the affine from the unit quaternion a + bi + cj + dk, of which b, c, d are stored,
// the voxel sizes and qfac = pixdim[0], which turns the third axis when it is negative.
func (raw *rawHeader) qformAffine() [4][4]float64 {
	b, c, d := raw.quatern[0], raw.quatern[1], raw.quatern[2]
	a := 1 - (b*b + c*c + d*d)
	if a < 1e-7 { // a half turn; rounding may have left b, c, d a little longer than 1
		n := 1 / math.Sqrt(b*b+c*c+d*d)
		a, b, c, d = 0, b*n, c*n, d*n
	} else {
		a = math.Sqrt(a)
	}
	rotation := [3][3]float64{
		{a*a + b*b - c*c - d*d, 2 * (b*c - a*d), 2 * (b*d + a*c)},
		{2 * (b*c + a*d), a*a + c*c - b*b - d*d, 2 * (c*d - a*b)},
		{2 * (b*d - a*c), 2 * (c*d + a*b), a*a + d*d - b*b - c*c},
	}
	z := raw.zooms()
	if raw.pixdim[0] < 0 {
		z[2] = -z[2]
	}
	affine := [4][4]float64{3: {3: 1}}
	for i := range 3 {
		for j := range 3 {
			affine[i][j] = rotation[i][j] * z[j]
		}
		affine[i][3] = raw.qoffset[i]
	}
	return affine
}

// quaternion returns b, c, d of the rotation with a >= 0. r must be a proper rotation.
func quaternion(r [3][3]float64) [3]float64 {
	// Each of 4a², 4b², 4c², 4d²; the largest is divided by, so that no cancellation harms the others.
	squares := [4]float64{
		1 + r[0][0] + r[1][1] + r[2][2],
		1 + r[0][0] - r[1][1] - r[2][2],
		1 - r[0][0] + r[1][1] - r[2][2],
		1 - r[0][0] - r[1][1] + r[2][2],
	}
	best := 0
	for i, s := range squares {
		if s > squares[best] {
			best = i
		}
	}
	products := [4][4]float64{
		{squares[0], r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]},
		{r[2][1] - r[1][2], squares[1], r[1][0] + r[0][1], r[0][2] + r[2][0]},
		{r[0][2] - r[2][0], r[1][0] + r[0][1], squares[2], r[2][1] + r[1][2]},
		{r[1][0] - r[0][1], r[0][2] + r[2][0], r[2][1] + r[1][2], squares[3]},
	}
	scale := 1 / (2 * math.Sqrt(squares[best]))
	if products[best][0] < 0 {
		scale = -scale
	}
	q := products[best]
	return [3]float64{q[1] * scale, q[2] * scale, q[3] * scale}
}
