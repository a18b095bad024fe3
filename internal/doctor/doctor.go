// Package doctor finds what makes a training fail, or its result worthless, before it is trained: in the labels,
// the splits, the scans, the preprocessing, the loss and the network. It is told the facts and judges them; package
// train gathers those of the network.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // training would fail, or teach nothing, or its result could not be trusted
	Warning Severity = "warning" // worth a look
	Note    Severity = "note"    // good to know
)

// The checks, by the names that findings carry.
const (
	CheckFiles      = "files"      // scans that are not there
	CheckScans      = "scans"      // scans that cannot be read, or look odd
	CheckLabels     = "labels"     // labels without variance, prevalence of the splits
	CheckLeakage    = "leakage"    // patients or volumes in two splits
	CheckDuplicates = "duplicates" // volumes that are there twice within a split
	CheckLoss       = "loss"       // labels that get no gradient, or almost none
	CheckIntensity  = "intensity"  // windows that erase what is in the scans
	CheckCrop       = "crop"       // preprocessing that cuts the body
	CheckGradients  = "gradients"  // parameters that get no gradient
	CheckMemory     = "memory"
	CheckTime       = "time"
	CheckSettings   = "settings" // what cannot be trained at all
)

// Finding is one thing that was found.
type Finding struct {
	Severity Severity `json:"severity"`
	Check    string   `json:"check"`
	Text     string   `json:"text"`
	// Subjects are the scans, patients, labels or parameters that it is about, all of them.
	Subjects []string `json:"subjects,omitempty"`
}

// Report is the result of an examination.
type Report struct {
	Findings []Finding `json:"findings"`
	Samples  int       `json:"samples"` // of the data set
	Examined int       `json:"examined"`
	// Prevalence has a row for each label.
	Prevalence []Prevalence `json:"prevalence"`

	PlannedBytes    int64   `json:"memory_planned_bytes,omitempty"`
	AvailableBytes  int64   `json:"memory_available_bytes,omitempty"`
	SecondsPerEpoch float64 `json:"seconds_per_epoch,omitempty"` // an estimate

	told map[string]bool // duplicates that are among the findings
}

// Prevalence is how often a label occurs in each split.
type Prevalence struct {
	Label  string                `json:"label"`
	Splits map[string]Proportion `json:"splits"`
}

// Proportion counts the samples that have a label among those where it is known.
type Proportion struct {
	Positive int `json:"positive"`
	Known    int `json:"known"`
}

func (p Proportion) share() float64 { return float64(p.Positive) / float64(max(1, p.Known)) }

// add notes a finding about subjects, which its text lists as far as there is room for them.
func (r *Report) add(s Severity, check string, subjects []string, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(subjects) > 0 {
		text += ": " + shortList(subjects)
	}
	r.Findings = append(r.Findings, Finding{s, check, text, subjects})
}

// Add notes a finding.
func (r *Report) Add(s Severity, check, format string, args ...any) {
	r.add(s, check, nil, format, args...)
}

// Errors returns the findings that are errors.
func (r *Report) Errors() []Finding {
	var list []Finding
	for _, f := range r.Findings {
		if f.Severity == Error {
			list = append(list, f)
		}
	}
	return list
}

// Sort puts the worst findings first.
func (r *Report) Sort() {
	rank := map[Severity]int{Error: 0, Warning: 1, Note: 2}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
}

// shortList joins the first of some names.
func shortList(names []string) string {
	const shown = 5
	if len(names) > shown {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
	}
	return strings.Join(names, ", ")
}
