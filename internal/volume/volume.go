// Package volume holds the CT volume: voxels in Hounsfield units with their place in the patient.
//
// Conventions used everywhere in ctclass:
//
//   - Arrays are indexed [d][h][w], w fastest: d counts slices, h rows, w columns ("D, H, W order").
//   - World coordinates are the patient coordinates of DICOM, in mm: +x to the patient's left (L),
//     +y to posterior (P), +z to the head (S). NIfTI's RAS world differs by the sign of x and y.
//   - An orientation code names, for w, h, d in that order, the patient direction in which the index
//     grows. "LPS" is the canonical one: w grows to the left, h to posterior, d to the head.
package volume

// Volume is one CT volume.
type Volume struct {
	// Size is the number of voxels along d, h, w.
	Size [3]int
	// HU holds the voxels in Hounsfield units, len = Size[0]*Size[1]*Size[2], index (d*Size[1]+h)*Size[2]+w.
	HU []float32
	// Spacing is the distance between neighbouring voxel centres along d, h, w, in mm.
	Spacing [3]float64
	// Affine maps the homogeneous voxel index (w, h, d, 1) to patient coordinates (x, y, z, 1) in mm, LPS.
	Affine [4][4]float64
}

// At returns the voxel at slice d, row h, column w.
func (v *Volume) At(d, h, w int) float32 {
	return v.HU[(d*v.Size[1]+h)*v.Size[2]+w]
}

// Voxels returns the number of voxels.
func (v *Volume) Voxels() int { return v.Size[0] * v.Size[1] * v.Size[2] }
