package eval

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// WriteTable prints the report as text tables: what the probabilities are worth, then what the decisions are worth, a
// row a label and the averages when there is more than one label; then the confusion table of a multiclass task.
func (r *Report) WriteTable(w io.Writer) error {
	probabilities := newTable("label", "n", "positive", "AUROC", "AUPRC", "Brier", "ECE")
	decisions := newTable("label", "from", "sensitivity", "specificity", "PPV", "NPV", "F1", "accuracy", "bal. acc.", "TP", "FP", "TN", "FN")
	add := func(name string, m *Metrics, x Extras, n, positive, from any, c *Counts) {
		probabilities.AppendRow(append(table.Row{name, n, positive}, cells(m, x.Intervals, "auroc", "auprc", "brier", "ece")...))
		row := append(table.Row{name, from}, cells(m, x.Intervals, "sensitivity", "specificity", "ppv", "npv")...)
		row = append(row, m.F1, m.Accuracy, m.BalancedAccuracy)
		if c == nil {
			row = append(row, "", "", "", "")
		} else {
			row = append(row, c.TP, c.FP, c.TN, c.FN)
		}
		decisions.AppendRow(row)
	}
	for i := range r.Labels {
		l := &r.Labels[i]
		from := "" // the highest
		if r.Task != Multiclass {
			from = strings.TrimSpace(l.Threshold.String() + " " + l.Point)
		}
		add(l.Name, &l.Metrics, l.Extras, l.Valid, l.Positive, from, &l.Counts)
	}
	if len(r.Labels) > 1 {
		probabilities.AppendSeparator()
		decisions.AppendSeparator()
		add("macro", &r.Macro.Metrics, r.Macro.Extras, "", "", "", nil)
		c := &r.Micro.Counts
		add("micro", &r.Micro.Metrics, r.Micro.Extras, c.all(), c.TP+c.FN, "", c)
	}
	rule := "predicted: a label whose probability is at least the number in the column from"
	if r.Task == Multiclass {
		rule = "predicted: the class of the highest probability"
	}
	lines := []string{fmt.Sprintf("%d samples; %s", r.Samples, rule)}
	if r.Patients > 0 {
		lines[0] = fmt.Sprintf("%d samples of %d patients; %s", r.Samples, r.Patients, rule)
	}
	if len(r.Macro.Intervals) > 0 {
		lines = append(lines, "in brackets: 95 % confidence interval"+r.resamplesText())
	}
	for i := range r.Labels {
		if l := &r.Labels[i]; l.Note != "" {
			lines = append(lines, l.Name+": "+l.Note)
		}
	}
	if _, err := fmt.Fprintf(w, "%s\n%s\n%s\n", probabilities.Render(), decisions.Render(), strings.Join(lines, "\n")); err != nil {
		return err
	}
	if r.Confusion == nil {
		return nil
	}
	head := []string{"true \\ predicted"}
	for _, l := range r.Labels {
		head = append(head, l.Name)
	}
	t := newTable(head...)
	for c, counts := range r.Confusion {
		row := table.Row{r.Labels[c].Name}
		for _, n := range counts {
			row = append(row, n)
		}
		t.AppendRow(row)
	}
	_, err := fmt.Fprintf(w, "%s\n", t.Render())
	return err
}

// resamplesText names the resamples, if there are any.
func (r *Report) resamplesText() string {
	if r.Resamples == 0 {
		return ""
	}
	return fmt.Sprintf(" (where patients are resampled: %d times, seed %d)", r.Resamples, r.Seed)
}

// cells are measures with their intervals.
func cells(m *Metrics, v Intervals, names ...string) table.Row {
	var row table.Row
	for _, f := range fields() {
		for i, name := range names {
			if f.name != name {
				continue
			}
			for len(row) <= i {
				row = append(row, nil)
			}
			row[i] = f.at(m).String() + v.text(name)
		}
	}
	return row
}

// text returns an interval in brackets, with a blank in front; nothing where there is none.
func (v Intervals) text(name string) string {
	i, ok := v[name]
	if !ok {
		return ""
	}
	return fmt.Sprintf(" [%s, %s]", i.Low, i.High)
}

// WriteTable prints the comparison as a text table.
func (c *Comparison) WriteTable(w io.Writer) error {
	t := newTable("label", "measure", "first", "second", "difference", "p")
	add := func(name string, d Differences) {
		for _, f := range fields() {
			x, ok := d[f.name]
			if !ok {
				continue
			}
			p := x.P.String()
			if x.P.Defined() && x.P < 0.001 {
				p = "<0.001"
			}
			t.AppendRow(table.Row{name, f.name, x.First, x.Second, fmt.Sprintf("%+.3f [%+.3f, %+.3f]", float64(x.Difference), float64(x.Low), float64(x.High)), p})
			name = ""
		}
		t.AppendSeparator()
	}
	for _, l := range c.Labels {
		add(l.Name, l.Differences)
	}
	if len(c.Labels) > 1 {
		add("macro", c.Macro)
		add("micro", c.Micro)
	}
	_, err := fmt.Fprintf(w, "%s\n", strings.ReplaceAll(t.Render(), "[NaN, NaN]", "[n/a]"))
	return err
}

// newTable returns a table that prints headers as they are written here, all columns but the first to the right.
func newTable(header ...string) table.Writer {
	t := table.NewWriter()
	style := table.StyleRounded
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	var row table.Row
	var right []table.ColumnConfig // empty cells would turn whole columns to the left
	for i, h := range header {
		row = append(row, h)
		if i > 0 {
			right = append(right, table.ColumnConfig{Number: i + 1, Align: text.AlignRight})
		}
	}
	t.SetColumnConfigs(right)
	t.AppendHeader(row)
	return t
}
