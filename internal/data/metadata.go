package data

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ctclass/ctclass/internal/volume"
)

// The columns of CT-RATE's metadata table that are used.
const (
	slopeColumn     = "RescaleSlope"
	interceptColumn = "RescaleIntercept"
	xyColumn        = "XYSpacing"
	zColumn         = "ZSpacing"
)

// facts are what a metadata table says about a scan and its file does not.
type facts struct {
	slope, intercept float64    // HU = stored value * slope + intercept
	spacing          [3]float64 // mm between slices, rows, columns
}

// readMetadata reads the rows of d's samples in a table with the columns of CT-RATE's metadata: VolumeName,
// RescaleSlope, RescaleIntercept, XYSpacing (one number, or two in brackets) and ZSpacing. A sample is found by
// its file's name, with or without .nii.gz.
func (d *Dataset) readMetadata(file string) error {
	t, err := readTables(file)
	if err != nil {
		return err
	}
	cols := make([]int, 5)
	for i, name := range []string{ctrateColumn, slopeColumn, interceptColumn, xyColumn, zColumn} {
		if cols[i], err = t.column(name, "data.metadata"); err != nil {
			return err
		}
	}
	rows := make(map[string]int, len(t.rows))
	for i, row := range t.rows {
		name := volumeName(row[cols[0]])
		if first, ok := rows[name]; ok {
			return fmt.Errorf("%s name the same scan %s: keep one", t.both(first, i), row[cols[0]])
		}
		rows[name] = i
	}
	d.metadata = make(map[uint64]facts, len(d.Samples))
	for _, s := range d.Samples {
		i, ok := rows[volumeName(filepath.Base(s.Path))]
		if !ok {
			return fmt.Errorf("%s has no row for the scan %s: the slope, intercept and spacing of every scan are wanted, or set data.metadata to nothing", file, s.Name)
		}
		f, err := t.facts(i, cols)
		if err != nil {
			return err
		}
		d.metadata[s.ID] = f
	}
	return nil
}

// volumeName is a file's name without its endings.
func volumeName(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".nii")
}

// facts reads a row of a metadata table; cols are the columns of name, slope, intercept, xy and z spacing.
func (t *table) facts(row int, cols []int) (facts, error) {
	number := func(col int, want string, ok func(float64) bool) (float64, error) {
		x, err := strconv.ParseFloat(t.rows[row][col], 64)
		if err != nil || math.IsInf(x, 0) || !ok(x) {
			return 0, t.cellError(row, col, want)
		}
		return x, nil
	}
	length := func(x float64) bool { return x > 1e-3 && x < 1e3 }
	var f facts
	var err error
	if f.slope, err = number(cols[1], "a slope: a number other than 0", func(x float64) bool { return x != 0 }); err != nil {
		return f, err
	}
	if f.intercept, err = number(cols[2], "an intercept: a number", func(x float64) bool { return x == x }); err != nil {
		return f, err
	}
	if f.spacing[0], err = number(cols[4], "a spacing in mm", length); err != nil {
		return f, err
	}
	parts := strings.FieldsFunc(t.rows[row][cols[3]], func(r rune) bool { return strings.ContainsRune(`[](),\ `, r) })
	if len(parts) == 1 {
		parts = append(parts, parts[0])
	}
	for i, p := range parts {
		x, err := strconv.ParseFloat(p, 64)
		if err != nil || !length(x) || len(parts) != 2 {
			parts = nil
			break
		}
		f.spacing[1+i] = x
	}
	if parts == nil {
		return f, t.cellError(row, cols[3], "one or two spacings in mm")
	}
	return f, nil
}

// apply rescales a volume that was read without its slope and intercept, and gives it its spacing. The
// spacings go to the axes by direction: head to feet, front to back, left to right.
func (f facts) apply(v *volume.Volume) (*volume.Volume, error) {
	for i, x := range v.HU {
		// The conversion keeps the product from being fused with the sum, as everywhere HU are made.
		v.HU[i] = float32(float64(float64(x)*f.slope) + f.intercept)
	}
	affine := v.Affine
	for i, letter := range volume.OrientationOf(v.Affine) { // w, h, d
		axis := slices.IndexFunc([]string{"SI", "PA", "LR"}, func(pair string) bool { return strings.ContainsRune(pair, letter) })
		scale := f.spacing[axis] / v.Spacing[2-i]
		for row := range 3 {
			affine[row][i] *= scale
		}
	}
	return volume.FromAffine(v.Size, v.HU, affine)
}
