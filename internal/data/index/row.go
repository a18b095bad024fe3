package index

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ctclass/ctclass/internal/data/scan"
)

// SeriesColumn is the column that tells the series of a path, for data.series_column.
const SeriesColumn = "series"

const pathColumn = "path"

// row is what an index says about one series, or one NIfTI file. Its JSON form goes into the journal.
type row struct {
	Path        string // as walked; of a series the folder of its files, or the file or archive that holds all of it
	Format      string
	Series      string // UID or its hash
	Study       string
	Patient     uint64 // see scan.Candidate; numbered in the table
	Modality    string
	Number      int
	Description string
	Kernel      string
	Size        [3]int
	Spacing     [3]float64
	Thickness   float64
	Orientation string
	Derived     bool
	ImageType   string
	Syntax      string
	Stacks      int // volumes that the series holds
	Err         string
	Warnings    []string
}

// columns lists the columns of the table in order, and what a row has in them; patient is the patient's number.
func columns() []column {
	text := func(get func(r *row) string) func(r *row, patient string) string {
		return func(r *row, _ string) string { return get(r) }
	}
	// number leaves what is not known empty.
	number := func(x float64) string {
		if x == 0 {
			return ""
		}
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	list := []column{
		{pathColumn, text(func(r *row) string { return filepath.ToSlash(r.Path) })},
		{SeriesColumn, text(func(r *row) string { return r.Series })},
		{"study", text(func(r *row) string { return r.Study })},
		{"patient", func(_ *row, patient string) string { return patient }},
		{"format", text(func(r *row) string { return r.Format })},
		{"modality", text(func(r *row) string { return r.Modality })},
		{"series_number", text(func(r *row) string { return number(float64(r.Number)) })},
		{"description", text(func(r *row) string { return r.Description })},
		{"kernel", text(func(r *row) string { return r.Kernel })},
	}
	for i, axis := range []string{"d", "h", "w"} {
		list = append(list, column{"size_" + axis, text(func(r *row) string { return strconv.Itoa(r.Size[i]) })})
	}
	for i, axis := range []string{"d", "h", "w"} {
		list = append(list, column{"spacing_" + axis, text(func(r *row) string { return number(round(r.Spacing[i])) })})
	}
	return append(list,
		column{"thickness", text(func(r *row) string { return number(r.Thickness) })},
		column{"orientation", text(func(r *row) string { return r.Orientation })},
		column{"derived", text(func(r *row) string { return map[bool]string{false: "0", true: "1"}[r.Derived] })},
		column{"image_type", text(func(r *row) string { return r.ImageType })},
		column{"transfer_syntax", text(func(r *row) string { return r.Syntax })},
		column{"stacks", text(func(r *row) string { return strconv.Itoa(r.Stacks) })},
		column{"error", text(func(r *row) string { return r.Err })},
		column{"warnings", text(func(r *row) string { return strings.Join(r.Warnings, "; ") })},
	)
}

type column struct {
	name  string
	value func(r *row, patient string) string
}

// round takes the noise of the computation off a spacing in mm.
func round(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', 6, 64), 64)
	if err != nil {
		return x
	}
	return y
}

// Candidate returns the facts of an index's row by which the default rule chooses, see [scan.Best]. cell returns
// what the row has in a column, and false where the table has no such column.
func Candidate(cell func(column string) (string, bool)) (c scan.Candidate, ok bool) {
	numbers := func(name string) int {
		text, there := cell(name)
		ok = ok && there
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0
		}
		return n
	}
	text := func(name string) string {
		s, there := cell(name)
		ok = ok && there
		return s
	}
	ok = true
	c = scan.Candidate{
		Path: text(pathColumn), Format: text("format"), SeriesUID: text(SeriesColumn), Modality: text("modality"),
		SeriesNumber: numbers("series_number"), Kernel: text("kernel"), Orientation: text("orientation"),
		Derived: text("derived") == "1", Size: [3]int{numbers("size_d"), numbers("size_h"), numbers("size_w")},
	}
	return c, ok
}

// rowsOf turns the volumes of a folder or an archive into rows, one for each series and each NIfTI file. Where a series
// holds several stacks, the row is about the one that is read when nothing else is said.
func rowsOf(c *scan.Contents, plain bool) []row {
	uid := scan.HashUID
	if plain {
		uid = func(s string) string { return s }
	}
	bySeries := map[string][]int{}
	var order []string
	for i := range c.Candidates {
		x := &c.Candidates[i]
		key := x.Format + "\x00" + x.SeriesUID
		if x.Format == "nifti" {
			key += x.Path
		}
		if bySeries[key] == nil {
			order = append(order, key)
		}
		bySeries[key] = append(bySeries[key], i)
	}
	var rows []row
	for _, key := range order {
		among := bySeries[key]
		stacks := make([]scan.Candidate, len(among))
		for k, i := range among {
			stacks[k] = c.Candidates[i]
		}
		choice := scan.Best(stacks)
		x := &stacks[choice.Index]
		r := row{
			Path: x.Path, Format: x.Format, Series: uid(x.SeriesUID), Study: uid(x.StudyUID), Patient: x.Patient,
			Modality: x.Modality, Number: x.SeriesNumber, Description: x.Description, Kernel: x.Kernel, Size: x.Size,
			Spacing: x.Spacing, Thickness: x.SliceThickness, Orientation: x.Orientation, Derived: x.Derived,
			ImageType: x.ImageType, Syntax: x.TransferSyntax, Stacks: len(stacks), Warnings: slices.Clone(x.Warnings),
		}
		if r.Patient == 0 && x.StudyUID != "" { // no ID: every study is a patient of its own
			sum := sha256.Sum256([]byte("study " + x.StudyUID))
			r.Patient = binary.LittleEndian.Uint64(sum[:])
		}
		if x.Err != nil {
			r.Err = x.Err.Error()
		}
		if len(stacks) > 1 {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the series holds %d volumes, this is about one of them: %s", len(stacks), choice.Why))
		}
		rows = append(rows, r)
	}
	return rows
}

func compareRows(a, b row) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Series, b.Series))
}
