package crossval

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/ctclass/ctclass/internal/eval"
)

// WriteTable prints the measures of each fold, their mean and standard deviation, those of the pooled predictions
// with their 95 % intervals, and the AUROC of each label.
func (r *Result) WriteTable(w io.Writer) error {
	t := newTable()
	t.AppendHeader(table.Row{"fold", "held out", "AUROC", "AUPRC", "F1", "accuracy", "sensitivity", "specificity", "best epoch"})
	row := func(name string, n any, m eval.Metrics, accuracy eval.Score, best any) table.Row {
		return table.Row{name, n, m.AUROC, m.AUPRC, m.F1, accuracy, m.Sensitivity, m.Specificity, best}
	}
	for _, f := range r.Folds {
		accuracy, err := f.Report.Metric("accuracy")
		if err != nil {
			return err
		}
		t.AppendRow(row(fmt.Sprint(f.Fold), f.Samples, f.Report.Macro.Metrics, accuracy, f.BestEpoch))
	}
	t.AppendSeparator()
	t.AppendRow(row("mean", "", r.Mean, r.Mean.Accuracy, ""))
	t.AppendRow(row("± sd", "", r.SD, r.SD.Accuracy, ""))
	accuracy, err := r.Pooled.Metric("accuracy")
	if err != nil {
		return err
	}
	t.AppendRow(row("pooled", r.Pooled.Samples, r.Pooled.Macro.Metrics, accuracy, ""))
	if _, err := fmt.Fprintf(w, "%s\nby the models of the last epoch; the best epoch was chosen on the fold itself\n", t.Render()); err != nil {
		return err
	}
	if v, ok := r.Pooled.Macro.Intervals["auroc"]; ok {
		if _, err := fmt.Fprintf(w, "pooled AUROC %s, 95 %% interval %.3f to %.3f\n", r.Pooled.Macro.AUROC, v.Low, v.High); err != nil {
			return err
		}
	}
	if len(r.Pooled.Labels) < 2 {
		return nil
	}
	t = newTable()
	t.AppendHeader(table.Row{"label", "positive", "AUROC: mean ± sd", "pooled"})
	for i, l := range r.Pooled.Labels {
		var values []eval.Metrics
		for _, f := range r.Folds {
			values = append(values, f.Report.Labels[i].Metrics)
		}
		mean, sd := eval.Combine(values, meanOf), eval.Combine(values, deviation)
		t.AppendRow(table.Row{l.Name, fmt.Sprintf("%d of %d", l.Positive, l.Valid), fmt.Sprintf("%s ± %s", mean.AUROC, sd.AUROC), l.AUROC})
	}
	_, err = fmt.Fprintf(w, "%s\n", t.Render())
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
