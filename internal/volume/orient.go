package volume

import (
	"fmt"
	"math"
	"strings"
)

// Canonical is the orientation code that ctclass works in.
const Canonical = "LPS"

// directions holds, for each world axis x, y, z, the letters of its positive and negative direction.
var directions = [3][2]byte{{'L', 'R'}, {'P', 'A'}, {'S', 'I'}}

// Axes says how an array in another orientation is read from a stored one. For output axis a (0 d, 1 h,
// 2 w), Stored[a] is the stored axis it runs along and Flip[a] whether it runs against the stored index.
type Axes struct {
	Stored [3]int
	Flip   [3]bool
}

// Orientation returns the volume's orientation code: for w, h and d in that order, the letter of the
// patient direction (L, R, P, A, S or I) closest to the one in which the index grows.
func Orientation(v *Volume) string { return OrientationOf(v.Affine) }

// OrientationOf returns the orientation code of an affine to LPS coordinates, see Orientation.
func OrientationOf(affine [4][4]float64) string {
	world := closestWorld(affine)
	var code [3]byte
	for axis := range 3 {
		sign := 0
		if column(affine, axis)[world[axis]] < 0 {
			sign = 1
		}
		code[2-axis] = directions[world[axis]][sign]
	}
	return string(code[:])
}

// AxesTo returns how a volume with this affine is read in the orientation of code ("LPS", "RAS", ...).
// It fails when code does not name one direction of each world axis.
func AxesTo(affine [4][4]float64, code string) (Axes, error) {
	want, wantNegative, err := parseCode(code)
	if err != nil {
		return Axes{}, err
	}
	world := closestWorld(affine)
	var ax Axes
	for out := range 3 {
		for stored := range 3 {
			if world[stored] != want[out] {
				continue
			}
			ax.Stored[out] = stored
			ax.Flip[out] = (column(affine, stored)[want[out]] < 0) != wantNegative[out]
		}
	}
	return ax, nil
}

// Identity reports whether the axes leave an array as it is.
func (a Axes) Identity() bool {
	return a.Stored == [3]int{0, 1, 2} && a.Flip == [3]bool{}
}

// IndexMap returns the map from an output index (w, h, d, 1) to the stored index (w, h, d, 1) of an
// array of the stored size (D, H, W).
func (a Axes) IndexMap(storedSize [3]int) [4][4]float64 {
	var m [4][4]float64
	m[3][3] = 1
	for out, stored := range a.Stored {
		row, col := 2-stored, 2-out
		m[row][col] = 1
		if a.Flip[out] {
			m[row][col] = -1
			m[row][3] = float64(storedSize[stored] - 1)
		}
	}
	return m
}

// Reorient returns the volume with its axes permuted and flipped so that its orientation is code. No
// voxel is interpolated: an oblique volume gets the closest axes and stays oblique. The result is v
// itself when nothing changes; otherwise it is one copy, and v is left alone.
func Reorient(v *Volume, code string) (*Volume, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	axes, err := AxesTo(v.Affine, code)
	if err != nil {
		return nil, err
	}
	if axes.Identity() {
		return v, nil
	}
	strides := [3]int{v.Size[1] * v.Size[2], v.Size[2], 1}
	out := &Volume{HU: make([]float32, len(v.HU)), Affine: Mul(v.Affine, axes.IndexMap(v.Size))}
	var step [3]int
	first := 0
	for a, stored := range axes.Stored {
		out.Size[a] = v.Size[stored]
		out.Spacing[a] = v.Spacing[stored]
		step[a] = strides[stored]
		if axes.Flip[a] {
			first += (v.Size[stored] - 1) * strides[stored]
			step[a] = -step[a]
		}
	}
	i := 0
	for d := range out.Size[0] {
		for h := range out.Size[1] {
			from := first + d*step[0] + h*step[1]
			row := out.HU[i : i+out.Size[2]]
			if step[2] == 1 {
				copy(row, v.HU[from:])
			} else {
				for w := range row {
					row[w] = v.HU[from]
					from += step[2]
				}
			}
			i += len(row)
		}
	}
	return out, nil
}

// CanonicalRAS returns the volume in the voxel order closest to RAS (w to the right, h to anterior, d to
// the head), the canonical order of NIfTI tools. The Affine stays one to LPS coordinates.
func CanonicalRAS(v *Volume) (*Volume, error) { return Reorient(v, "RAS") }

// parseCode returns, for output axes d, h, w, the world axis (0 x, 1 y, 2 z) and whether it runs in the
// negative direction.
func parseCode(code string) (world [3]int, negative [3]bool, err error) {
	fail := func() error {
		return fmt.Errorf("orientation %q is not a code: it needs one letter each of L/R, P/A and S/I, such as LPS", code)
	}
	if len(code) != 3 {
		return world, negative, fail()
	}
	seen := [3]bool{}
	for i := range 3 {
		found := false
		for w, letters := range directions {
			sign := strings.IndexByte(string(letters[:]), code[i])
			if sign < 0 || seen[w] {
				continue
			}
			world[2-i], negative[2-i] = w, sign == 1
			seen[w], found = true, true
		}
		if !found {
			return world, negative, fail()
		}
	}
	return world, negative, nil
}

// closestWorld assigns to each array axis d, h, w its own world axis so that the sum of the absolute
// direction cosines is largest. At a tie (45 degrees) the earlier permutation stays.
func closestWorld(affine [4][4]float64) [3]int {
	permutations := [6][3]int{{2, 1, 0}, {1, 2, 0}, {2, 0, 1}, {0, 1, 2}, {1, 0, 2}, {0, 2, 1}}
	spacing := SpacingOf(affine)
	best, bestSum := permutations[0], math.Inf(-1)
	for _, p := range permutations {
		sum := 0.0
		for axis, world := range p {
			sum += math.Abs(column(affine, axis)[world]) / spacing[axis]
		}
		if sum > bestSum+1e-9 {
			best, bestSum = p, sum
		}
	}
	return best
}

// Obliquity returns the largest angle in degrees between a voxel axis and the patient axis it is closest to.
func Obliquity(affine [4][4]float64) float64 {
	world := closestWorld(affine)
	spacing := SpacingOf(affine)
	worst := 0.0
	for axis := range 3 {
		cos := math.Abs(column(affine, axis)[world[axis]]) / spacing[axis]
		worst = max(worst, math.Acos(min(1, cos)))
	}
	return worst * 180 / math.Pi
}
