package doctor

import (
	"fmt"
	"math"
	"strings"

	"github.com/dustin/go-humanize/english"

	"github.com/ctclass/ctclass/internal/data"
)

// splits are the splits in the order of reports.
func splits() []string { return []string{data.Train, data.Val, data.Test} }

// Faults judges what opening the data set came upon.
func (r *Report) Faults(faults []data.Fault) {
	var gone, leaks []string
	for _, f := range faults {
		switch f.Kind {
		case data.FaultMissing:
			gone = append(gone, f.Subject)
		case data.FaultLeak:
			leaks = append(leaks, f.Subject)
		}
	}
	if len(gone) > 0 {
		r.add(Error, CheckFiles, gone, "%s of the table cannot be found (correct data.root or the table, or set data.on_error to skip)", english.Plural(len(gone), "scan", ""))
	}
	if len(leaks) > 0 {
		r.add(Error, CheckLeakage, leaks, "%s in more than one split: what is learnt about them is tested on them", english.Plural(len(leaks), "patient", ""))
	}
}

// Labels judges how often the labels occur in each split.
func (r *Report) Labels(ds *data.Dataset) {
	r.Samples = len(ds.Samples)
	for c, name := range ds.Labels {
		p := Prevalence{Label: name, Splits: map[string]Proportion{}}
		if ds.Task == data.Binary && c > 0 {
			break
		}
		for _, s := range ds.Samples {
			n := p.Splits[s.Split]
			switch y, known := target(ds.Task, s, c); {
			case !known:
			case y:
				n.Positive++
				n.Known++
			default:
				n.Known++
			}
			p.Splits[s.Split] = n
		}
		r.Prevalence = append(r.Prevalence, p)
	}
	r.constant()
	r.unlike()
}

// target says whether a sample has label c, and whether that is known.
func target(task string, s data.Sample, c int) (has, known bool) {
	if task == data.Multiclass {
		return s.Target[0] == float64(c), !math.IsNaN(s.Target[0])
	}
	return s.Target[c] == 1, !math.IsNaN(s.Target[c])
}

// constant finds labels that have one value only.
func (r *Report) constant() {
	learnable := 0
	for _, split := range splits() {
		var none, all, unknown []string
		for _, p := range r.Prevalence {
			n, present := p.Splits[split]
			switch {
			case !present:
			case n.Known == 0:
				unknown = append(unknown, p.Label)
			case n.Positive == 0:
				none = append(none, p.Label)
			case n.Positive == n.Known:
				all = append(all, p.Label)
			case split == data.Train:
				learnable++
			}
		}
		consequence, severity := "AUROC is not defined there", Warning
		if split == data.Train {
			consequence = "nothing about them can be learnt"
			if learnable == 0 {
				severity = Error
			}
		}
		for _, f := range []struct {
			labels []string
			what   string
		}{{none, "without a positive sample"}, {all, "without a negative sample"}, {unknown, "without a known value"}} {
			if len(f.labels) > 0 {
				r.add(severity, CheckLabels, f.labels, "labels %s in the split %s (%s)", f.what, split, consequence)
			}
		}
	}
}

// unlike finds labels that are much rarer or more frequent in one split than in training.
func (r *Report) unlike() {
	for _, p := range r.Prevalence {
		a := p.Splits[data.Train]
		for _, split := range []string{data.Val, data.Test} {
			b := p.Splits[split]
			if a.Known == 0 || b.Known == 0 {
				continue
			}
			pa, pb := a.share(), b.share()
			pool := float64(a.Positive+b.Positive) / float64(a.Known+b.Known)
			se := math.Sqrt(pool * (1 - pool) * (1/float64(a.Known) + 1/float64(b.Known)))
			// 3.3 standard errors happen by chance once in a thousand; a small difference is no matter.
			if d := math.Abs(pa - pb); se > 0 && d/se > 3.3 && d > 0.05 {
				r.add(Warning, CheckLabels, nil, "label %s is in %.0f%% of the split %s, but in %.0f%% of train: were the splits drawn from the same patients?",
					p.Label, 100*pb, split, 100*pa)
			}
		}
	}
}

// PrevalenceText says how often a label occurs in each split.
func PrevalenceText(p Prevalence) string {
	var parts []string
	for _, split := range splits() {
		if n, ok := p.Splits[split]; ok {
			parts = append(parts, fmt.Sprintf("%s %d/%d (%.1f%%)", split, n.Positive, n.Known, 100*n.share()))
		}
	}
	return strings.Join(parts, ", ")
}
