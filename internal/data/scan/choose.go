package scan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Selection says which of several volumes is wanted.
type Selection struct {
	// Series is "" for the default rule, "largest" for the most voxels, else a series UID, or a series
	// number. Where a UID or number still leaves several volumes, the default rule decides among them.
	Series string
}

// Choose picks a candidate and returns it with the reason, in words for the user.
//
// The default rule wants the most plausible original axial CT volume. It compares, in this order:
// CT before other modalities (NIfTI counts as CT); 10 slices or more before 2 to 9 before a single image;
// axial before coronal and sagittal; original before derived; more slices; more voxels; the lower series
// number; then UID, acquisition number and path. Whether a candidate can be read plays no part: a scan that
// cannot be read must not be replaced quietly by a lesser one.
func Choose(candidates []Candidate, sel Selection) (Candidate, string, error) {
	if len(candidates) == 0 {
		return Candidate{}, "", errors.New("no CT volume found")
	}
	switch sel.Series {
	case "":
		best, why := byRule(candidates)
		return best, why, nil
	case "largest":
		best := slices.MaxFunc(candidates, func(a, b Candidate) int {
			return cmp.Or(cmp.Compare(voxels(a), voxels(b)), -compare(a, b))
		})
		return best, fmt.Sprintf("the largest of %d volumes (%d voxels)", len(candidates), voxels(best)), nil
	}
	number, err := strconv.Atoi(sel.Series)
	isNumber := err == nil
	var matching []Candidate
	for _, c := range candidates {
		if c.SeriesUID == sel.Series || isNumber && c.Format == "dicom" && c.SeriesNumber == number {
			matching = append(matching, c)
		}
	}
	if len(matching) == 0 {
		return Candidate{}, "", fmt.Errorf("no series %s: found %s", sel.Series, names(candidates))
	}
	best, why := byRule(matching)
	if len(matching) == 1 {
		why = "selected by series " + sel.Series
	} else {
		why = "selected by series " + sel.Series + "; " + why
	}
	return best, why, nil
}

// byRule applies the default rule and says what decided.
func byRule(candidates []Candidate) (Candidate, string) {
	if len(candidates) == 1 {
		return candidates[0], "the only volume"
	}
	sorted := slices.SortedStableFunc(slices.Values(candidates), compare)
	best, second := sorted[0], sorted[1]
	reason := "the first"
	for _, c := range criteria() {
		if c.compare(best, second) != 0 {
			reason = c.reason(best)
			break
		}
	}
	return best, fmt.Sprintf("%s of %d volumes; next: %s, %d slices", reason, len(candidates), second.Name(), second.Size[0])
}

// criterion is one step of the default rule: negative when a comes first.
type criterion struct {
	compare func(a, b Candidate) int
	reason  func(best Candidate) string
}

func criteria() []criterion {
	say := func(text string) func(Candidate) string { return func(Candidate) string { return text } }
	truth := func(f func(Candidate) bool) func(a, b Candidate) int {
		return func(a, b Candidate) int { return rank(f(b)) - rank(f(a)) }
	}
	return []criterion{
		{truth(func(c Candidate) bool { return c.Format == "nifti" || c.Modality == "CT" }), say("CT modality")},
		{func(a, b Candidate) int { return extent(b) - extent(a) },
			func(c Candidate) string { return fmt.Sprintf("a stack (%d slices)", c.Size[0]) }},
		{truth(func(c Candidate) bool { return c.axial }), say("axial slices")},
		{truth(func(c Candidate) bool { return !c.Derived }), say("original image")},
		{func(a, b Candidate) int { return b.Size[0] - a.Size[0] },
			func(c Candidate) string { return fmt.Sprintf("most slices (%d)", c.Size[0]) }},
		{func(a, b Candidate) int { return cmp.Compare(voxels(b), voxels(a)) }, say("most voxels")},
		{func(a, b Candidate) int { return cmp.Compare(a.SeriesNumber, b.SeriesNumber) }, say("lowest series number")},
		{func(a, b Candidate) int { return cmp.Compare(a.SeriesUID, b.SeriesUID) }, say("first series UID")},
		{func(a, b Candidate) int { return cmp.Compare(a.Acquisition, b.Acquisition) }, say("first acquisition")},
		{func(a, b Candidate) int { return cmp.Compare(a.Kernel, b.Kernel) }, say("first kernel by name")},
		{func(a, b Candidate) int { return cmp.Compare(a.Path, b.Path) }, say("first path")},
	}
}

// compare orders candidates by the default rule, the best first.
func compare(a, b Candidate) int {
	for _, c := range criteria() {
		if d := c.compare(a, b); d != 0 {
			return d
		}
	}
	return 0
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// extent tells full stacks, short ones and single images apart.
func extent(c Candidate) int {
	switch {
	case c.Size[0] >= 10:
		return 2
	case c.Size[0] >= 2:
		return 1
	}
	return 0
}

func voxels(c Candidate) int64 {
	return int64(c.Size[0]) * int64(c.Size[1]) * int64(c.Size[2])
}

// names lists candidates for an error message, ten at most.
func names(candidates []Candidate) string {
	var list []string
	for i := range candidates {
		if i == 10 {
			list = append(list, fmt.Sprintf("and %d more", len(candidates)-i))
			break
		}
		list = append(list, candidates[i].Name())
	}
	return strings.Join(list, ", ")
}
