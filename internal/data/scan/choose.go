package scan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// All selects every CT volume.
const All = "all"

// Selection says which of several volumes is wanted.
type Selection struct {
	// Series is "" for the default rule, "largest" for the most voxels, All for every CT volume, else a
	// series UID, a UID as HashUID writes it, or a series number. Where a UID or number still leaves several volumes, the default rule
	// decides among them.
	Series string
}

// Choice is a volume that was chosen.
type Choice struct {
	Index int    // of the candidate in Contents.Candidates
	Why   string // the reason, in words for the user
}

// Select chooses the volumes to read: one, or with "all" every CT volume of two slices or more in the order of
// the default rule, whether it can be read or not; where there is none, as by default.
//
// The default rule wants the most plausible original axial CT volume. It compares, in this order:
// CT before other modalities (NIfTI counts as CT); 10 slices or more before 2 to 9 before a single image;
// axial before coronal and sagittal; original before derived; more slices; more voxels; the lower series
// number; then UID, acquisition number, phase, kernel and path. So of several reconstructions of one scan the
// thinnest wins, and of equally thin ones, which differ in kernel, the one that the scanner numbered first.
// Whether a candidate can be read plays no part: a scan that cannot be read must not be replaced quietly by a
// lesser one.
//
// It fails, naming the path, when there is nothing to choose from or no series of that name.
func (c *Contents) Select(sel Selection) ([]Choice, error) {
	if len(c.Candidates) == 0 {
		return nil, nothingFound(c.Path, c.Skipped)
	}
	all := make([]int, len(c.Candidates))
	for i := range all {
		all[i] = i
	}
	switch sel.Series {
	case "":
		return []Choice{c.byRule(all)}, nil
	case All:
		stacks := slices.DeleteFunc(slices.Clone(all), func(i int) bool {
			x := &c.Candidates[i]
			return !x.IsCT() || x.Size[0] < 2
		})
		if len(stacks) == 0 {
			return []Choice{c.byRule(all)}, nil
		}
		slices.SortStableFunc(stacks, c.compare)
		choices := make([]Choice, len(stacks))
		for i, s := range stacks {
			choices[i] = Choice{s, fmt.Sprintf("%d of %d CT volumes", i+1, len(stacks))}
		}
		return choices, nil
	case "largest":
		best := slices.MaxFunc(all, func(a, b int) int {
			return cmp.Or(cmp.Compare(voxels(c.Candidates[a]), voxels(c.Candidates[b])), -c.compare(a, b))
		})
		return []Choice{{best, fmt.Sprintf("the largest of %d volumes (%d voxels)", len(all), voxels(c.Candidates[best]))}}, nil
	}
	number, err := strconv.Atoi(sel.Series)
	isNumber := err == nil
	matching := slices.DeleteFunc(slices.Clone(all), func(i int) bool {
		x := &c.Candidates[i]
		return x.SeriesUID != sel.Series && HashUID(x.SeriesUID) != sel.Series && !(isNumber && x.Format == "dicom" && x.SeriesNumber == number)
	})
	if len(matching) == 0 {
		return nil, fmt.Errorf("%s: no series %s: found %s", c.Path, sel.Series, names(c.Candidates))
	}
	choice := c.byRule(matching)
	if why := "selected by series " + sel.Series; len(matching) == 1 {
		choice.Why = why
	} else {
		choice.Why = why + "; " + choice.Why
	}
	return []Choice{choice}, nil
}

// HashUID returns what stands for a UID where the UID itself should not: 32 hexadecimal digits of its SHA-256. It is
// empty for no UID.
func HashUID(uid string) string {
	if uid == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(uid))
	return hex.EncodeToString(sum[:16])
}

// Best returns which of some candidates the default rule of Select takes, and why. Their facts may come from a table:
// nothing is read.
func Best(candidates []Candidate) Choice {
	c := Contents{Candidates: slices.Clone(candidates)}
	all := make([]int, len(candidates))
	for i := range all {
		all[i] = i
		x := &c.Candidates[i]
		x.axial = x.axial || x.series == nil && len(x.Orientation) == 3 && strings.Contains("SI", x.Orientation[2:])
	}
	return c.byRule(all)
}

// byRule applies the default rule to some of the candidates and says what decided.
func (c *Contents) byRule(among []int) Choice {
	if len(among) == 1 {
		return Choice{among[0], "the only volume"}
	}
	sorted := slices.SortedStableFunc(slices.Values(among), c.compare)
	best, second := &c.Candidates[sorted[0]], &c.Candidates[sorted[1]]
	reason := "the first"
	for _, k := range criteria() {
		if k.compare(*best, *second) != 0 {
			reason = k.reason(*best)
			break
		}
	}
	why := fmt.Sprintf("%s of %d volumes; next: %s, %d slices", reason, len(among), second.Name(), second.Size[0])
	return Choice{sorted[0], why + best.otherwise(second)}
}

// otherwise says how the next volume differs from the chosen one where both show the same: in reconstruction
// or in time.
func (c *Candidate) otherwise(next *Candidate) string {
	if c.Format != "dicom" || next.Format != "dicom" || c.StudyUID != next.StudyUID {
		return ""
	}
	text := ""
	differ := func(what, here, there string) {
		if here != there {
			text += fmt.Sprintf(", %s %s instead of %s", what, cmp.Or(there, "not given"), cmp.Or(here, "not given"))
		}
	}
	differ("kernel", c.Kernel, next.Kernel)
	if c.SeriesUID == next.SeriesUID {
		differ("acquisition", strconv.Itoa(c.Acquisition), strconv.Itoa(next.Acquisition))
		differ("phase", strconv.Itoa(c.Phase), strconv.Itoa(next.Phase))
	}
	return text
}

// IsCT reports whether a volume is taken for CT; a NIfTI file does not say what it is.
func (c *Candidate) IsCT() bool { return c.Format == "nifti" || c.Modality == "CT" }

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
		{truth(func(c Candidate) bool { return c.IsCT() }), say("CT modality")},
		{
			func(a, b Candidate) int { return extent(b) - extent(a) },
			func(c Candidate) string { return fmt.Sprintf("a stack (%d slices)", c.Size[0]) },
		},
		{truth(func(c Candidate) bool { return c.axial }), say("axial slices")},
		{truth(func(c Candidate) bool { return !c.Derived }), say("original image")},
		{
			func(a, b Candidate) int { return b.Size[0] - a.Size[0] },
			func(c Candidate) string { return fmt.Sprintf("most slices (%d)", c.Size[0]) },
		},
		{func(a, b Candidate) int { return cmp.Compare(voxels(b), voxels(a)) }, say("most voxels")},
		{func(a, b Candidate) int { return cmp.Compare(a.SeriesNumber, b.SeriesNumber) }, say("lowest series number")},
		{func(a, b Candidate) int { return cmp.Compare(a.SeriesUID, b.SeriesUID) }, say("first series UID")},
		{func(a, b Candidate) int { return cmp.Compare(a.Acquisition, b.Acquisition) }, say("first acquisition")},
		{func(a, b Candidate) int { return cmp.Compare(a.Phase, b.Phase) }, say("first phase")},
		{func(a, b Candidate) int { return cmp.Compare(a.Kernel, b.Kernel) }, say("first kernel by name")},
		{func(a, b Candidate) int { return cmp.Compare(a.Path, b.Path) }, say("first path")},
	}
}

// compare orders candidates by the default rule, the best first.
func (c *Contents) compare(a, b int) int {
	for _, k := range criteria() {
		if d := k.compare(c.Candidates[a], c.Candidates[b]); d != 0 {
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
