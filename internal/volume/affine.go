package volume

import (
	"fmt"
	"math"
)

// Mul returns the matrix product a·b: the map that applies b first, then a.
func Mul(a, b [4][4]float64) [4][4]float64 {
	var c [4][4]float64
	for i := range 4 {
		for j := range 4 {
			for k := range 4 {
				c[i][j] += a[i][k] * b[k][j]
			}
		}
	}
	return c
}

// Inverse returns the inverse of an affine map that CheckAffine accepts.
func Inverse(a [4][4]float64) [4][4]float64 {
	var c [3][3]float64 // cofactors, transposed
	for i := range 3 {
		for j := range 3 {
			r, s := (j+1)%3, (j+2)%3
			p, q := (i+1)%3, (i+2)%3
			c[i][j] = a[r][p]*a[s][q] - a[r][q]*a[s][p]
		}
	}
	det := a[0][0]*c[0][0] + a[0][1]*c[1][0] + a[0][2]*c[2][0]
	m := [4][4]float64{3: {3: 1}}
	for i := range 3 {
		for j := range 3 {
			m[i][j] = c[i][j] / det
			m[i][3] -= m[i][j] * a[j][3]
		}
	}
	return m
}

// Transform maps the point (x, y, z) with the affine map a. With a volume's Affine the point is the
// voxel index (w, h, d), fractions allowed, and the result the patient position in mm, LPS.
func Transform(a [4][4]float64, x, y, z float64) [3]float64 {
	var p [3]float64
	for i := range 3 {
		p[i] = a[i][0]*x + a[i][1]*y + a[i][2]*z + a[i][3]
	}
	return p
}

// SwapLPS turns an affine to LPS coordinates into one to RAS coordinates, and the other way round:
// both negate x and y.
func SwapLPS(a [4][4]float64) [4][4]float64 {
	for j := range 4 {
		// Adding zero keeps a plain 0 from turning into -0.
		a[0][j] = 0 - a[0][j]
		a[1][j] = 0 - a[1][j]
	}
	return a
}

// SpacingOf returns the distances in mm between neighbouring voxel centres along d, h, w:
// the lengths of the affine's third, second and first column.
func SpacingOf(affine [4][4]float64) [3]float64 {
	var s [3]float64
	for axis := range 3 {
		c := column(affine, axis)
		s[axis] = math.Hypot(math.Hypot(c[0], c[1]), c[2])
	}
	return s
}

// FromAffine makes a volume of the given size (D, H, W) whose Spacing follows from the affine.
// It keeps hu, without a copy. It fails as Validate does.
func FromAffine(size [3]int, hu []float32, affine [4][4]float64) (*Volume, error) {
	v := &Volume{Size: size, HU: hu, Spacing: SpacingOf(affine), Affine: affine}
	if err := v.Validate(); err != nil {
		return nil, err
	}
	return v, nil
}

// CheckAffine reports why an affine cannot place a volume: entries that are not finite, a last row
// other than 0 0 0 1, a column without length, or columns that lie in one plane.
func CheckAffine(affine [4][4]float64) error {
	for _, row := range affine {
		for _, x := range row {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return fmt.Errorf("the affine holds a value that is not finite: %v", affine)
			}
		}
	}
	if affine[3] != [4]float64{0, 0, 0, 1} {
		return fmt.Errorf("the affine's last row is %v, want 0 0 0 1", affine[3])
	}
	spacing := SpacingOf(affine)
	var unit [3][3]float64
	for axis, s := range spacing {
		// Beyond these bounds squares and products leave the range of float64.
		if s < 1e-9 || s > 1e9 {
			return fmt.Errorf("the affine gives a voxel spacing of %g mm along %c", s, "dhw"[axis])
		}
		c := column(affine, axis)
		unit[axis] = [3]float64{c[0] / s, c[1] / s, c[2] / s}
	}
	if math.Abs(dot(cross(unit[0], unit[1]), unit[2])) < 1e-4 {
		return fmt.Errorf("the affine's three voxel directions lie in one plane: %v", affine)
	}
	return nil
}

// Skew returns the largest deviation from a right angle between two voxel axes, in degrees:
// 0 for an ordinary volume, the gantry angle for a tilted stack.
func Skew(affine [4][4]float64) float64 {
	worst := 0.0
	for a := range 3 {
		for b := range a {
			ca, cb := column(affine, a), column(affine, b)
			cos := dot(ca, cb) / math.Sqrt(dot(ca, ca)*dot(cb, cb))
			worst = max(worst, math.Asin(min(1, math.Abs(cos))))
		}
	}
	return worst * 180 / math.Pi
}

// column returns the world step of one voxel along an array axis (0 d, 1 h, 2 w).
func column(affine [4][4]float64, axis int) [3]float64 {
	j := 2 - axis
	return [3]float64{affine[0][j], affine[1][j], affine[2][j]}
}

func dot(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

func cross(a, b [3]float64) [3]float64 {
	return [3]float64{a[1]*b[2] - a[2]*b[1], a[2]*b[0] - a[0]*b[2], a[0]*b[1] - a[1]*b[0]}
}
