package eval

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// WriteTable prints the report as a text table: a row a label, then the averages when there is
// more than one label, then the confusion table of a multiclass task.
func (r *Report) WriteTable(w io.Writer) error {
	t := newTable()
	var right []table.ColumnConfig // empty cells would turn whole columns to the left
	for column := 2; column <= 16; column++ {
		right = append(right, table.ColumnConfig{Number: column, Align: text.AlignRight})
	}
	t.SetColumnConfigs(right)
	t.AppendHeader(table.Row{"label", "n", "positive", "AUROC", "AUPRC", "F1", "accuracy", "bal. acc.", "sensitivity", "specificity", "PPV", "NPV", "TP", "FP", "TN", "FN"})
	for i := range r.Labels {
		l := &r.Labels[i]
		t.AppendRow(row(&l.Metrics, l.Name, l.Valid, l.Positive, &l.Counts))
	}
	if len(r.Labels) > 1 {
		t.AppendSeparator()
		t.AppendRow(row(&r.Macro.Metrics, "macro", "", "", nil))
		c := &r.Micro.Counts
		t.AppendRow(row(&r.Micro.Metrics, "micro", c.TP+c.FP+c.TN+c.FN, c.TP+c.FN, c))
	}
	rule := fmt.Sprintf("predicted from a probability of %v", float64(r.Threshold))
	if r.Task == Multiclass {
		rule = "predicted: the class of the highest probability"
	}
	if _, err := fmt.Fprintf(w, "%s\n%d samples; %s\n", t.Render(), r.Samples, rule); err != nil {
		return err
	}
	if r.Confusion == nil {
		return nil
	}
	t = newTable()
	head := table.Row{"true \\ predicted"}
	for _, l := range r.Labels {
		head = append(head, l.Name)
	}
	t.AppendHeader(head)
	for c, counts := range r.Confusion {
		cells := table.Row{r.Labels[c].Name}
		for _, n := range counts {
			cells = append(cells, n)
		}
		t.AppendRow(cells)
	}
	_, err := fmt.Fprintf(w, "%s\n", t.Render())
	return err
}

// newTable returns a table that prints headers as they are written here.
func newTable() table.Writer {
	t := table.NewWriter()
	style := table.StyleRounded
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	return t
}

// row lays out one row of the main table; c is nil where counts make no sense.
func row(m *Metrics, name string, valid, positive any, c *Counts) table.Row {
	cells := table.Row{name, valid, positive}
	for _, f := range fields() {
		cells = append(cells, *f.at(m))
	}
	if c == nil {
		return append(cells, "", "", "", "")
	}
	return append(cells, c.TP, c.FP, c.TN, c.FN)
}
