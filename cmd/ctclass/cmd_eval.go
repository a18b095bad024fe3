package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/train"
)

type evalOptions struct {
	config  configFlags
	models  []string
	compare []string
	by      []string
	point   string
	split   string
	csv     string
	report  string
	noPage  bool
	threads int
	json    bool
}

func newEvalCommand(app *app) *cobra.Command {
	var opts evalOptions
	cmd := &cobra.Command{
		Use:   "eval MODEL|DIR...",
		Short: "Measure a trained model on a split of a data set",
		Long: `Eval runs a model on a split of a labelled data set and prints its metrics with their 95 % confidence intervals:
AUROC, AUPRC, Brier score and calibration error of the probabilities; sensitivity, specificity, PPV, NPV, F1 and
accuracy of the decisions; of each label, macro and micro. What the data do not define is "n/a", null with --json.

A run folder brings its own configuration; for a model file outside of one, -c says where the data are.
Preprocessing, task, labels, calibration and operating points are the model's own. Several models answer together
by the mean of their probabilities (eval.ensemble). --compare tests the difference to another model on the same
scans; given more than once, those models answer together too.

A report for people, with curves, pictures of the worst mistakes and everything that made it, is one HTML file: it goes
to the run folder as report.html when MODEL is one, or to the file of --report. Scans that were left out
(data.on_error: skip) are listed beside it in report.skipped.csv, or beside the file of --csv, and make the exit code 4.

Patients, not scans, are what the intervals count: see data.group_column. AUROC has DeLong's interval, shares have
Wilson's, everything else has the percentiles of resampled patients (eval.resamples).`,
		Example: `  ctclass eval run --split test
  ctclass eval run/best.safetensors -c my.yaml --json
  ctclass eval run --by sex --by scanner
  ctclass eval run1 run2 run3 --compare run4
  ctclass eval run --set eval.flip=w --operating-point sensitivity=0.95`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.models = args
			return runEval(cmd.Context(), app, opts)
		},
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVar(&opts.split, "split", "", "split to evaluate: train, val or test; the default is eval.split of the configuration")
	f.StringArrayVar(&opts.compare, "compare", nil, "`model` or run folder to compare with; may be repeated")
	f.StringArrayVar(&opts.by, "by", nil, "`column` of the table whose values make subgroups; may be repeated")
	f.StringVar(&opts.point, "operating-point", "", "operating `point` that decides; the default is the first one of each label")
	f.StringVar(&opts.report, "report", "", "write the report to this HTML `file`; the default is report.html in the run folder, if there is one")
	f.BoolVar(&opts.noPage, "no-report", false, "write no report")
	f.StringVar(&opts.csv, "csv", "", "also write the probabilities of each scan to this CSV `file`")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 takes train.threads")
	f.BoolVar(&opts.json, "json", false, "print one JSON object")
	return cmd
}

func runEval(ctx context.Context, app *app, opts evalOptions) error {
	flags := opts.config
	if flags.path == "" {
		var err error
		if flags.path, err = runConfig(opts.models[0]); err != nil {
			return err
		}
	}
	cfg, err := app.loadConfig(flags)
	if err != nil {
		return err
	}
	if opts.threads > 0 {
		cfg.Train.Threads = opts.threads
	}
	if opts.split != "" {
		cfg.Eval.Split = opts.split
	}
	if opts.by != nil {
		cfg.Eval.Subgroups = opts.by
	}
	for flag, path := range map[string]string{"--csv": opts.csv, "--report": opts.report} {
		if path != "" {
			if err := checkOutputFile(flag, path); err != nil {
				return err
			}
		}
	}
	if opts.noPage && opts.report != "" {
		return exitcode.Errorf(exitcode.Usage, "--report and --no-report exclude each other")
	}
	res, err := predict.Evaluate(ctx, cfg, predict.EvalOptions{Models: opts.models, Compare: opts.compare, Point: opts.point}, app.log, app.progress)
	if err != nil {
		return err
	}
	if opts.csv != "" {
		if err := writeCasesCSV(opts.csv, res); err != nil {
			return err
		}
	}
	if err := writeEvaluationReport(ctx, app, opts, cfg, res); err != nil {
		return err
	}
	if err := writeLeftOut(app, opts, res.LeftOut); err != nil {
		return err
	}
	if opts.json {
		text, err := res.JSON()
		if err != nil {
			return err
		}
		if _, err := app.out.Write(text); err != nil {
			return err
		}
	} else if err := printEvaluation(app.out, res); err != nil {
		return err
	}
	if n := len(res.LeftOut); n > 0 {
		return exitcode.Errorf(exitcode.SomeFailed, "%s could not be used: the metrics are those of the others", english.Plural(n, "scan", ""))
	}
	return nil
}

// reportPath is where the report goes; empty: there is none.
func (o *evalOptions) reportPath() string {
	if o.noPage || o.report != "" {
		return o.report
	}
	if info, err := os.Stat(o.models[0]); err == nil && info.IsDir() {
		return filepath.Join(o.models[0], predict.ReportFile)
	}
	return ""
}

// writeLeftOut lists the scans that were left out beside the table of the scans, or else beside the report; without
// either they are in the warnings only. A list of an earlier evaluation would mislead.
func writeLeftOut(app *app, opts evalOptions, list []data.LeftOut) error {
	path := cmp.Or(opts.csv, opts.reportPath())
	if path == "" {
		return nil
	}
	path = strings.TrimSuffix(path, filepath.Ext(path)) + ".skipped.csv"
	if len(list) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	err := data.WriteLeftOut(path, list)
	if err != nil && opts.csv == "" && opts.report == "" { // another's run folder, as for the report
		app.log.Warn("no list of the scans left out in the run folder", "reason", err)
		return nil
	}
	if err == nil {
		app.log.Warn("scans were left out", "scans", len(list), "list", path)
	}
	return err
}

// writeEvaluationReport writes the report where it was asked for, or into the run folder. A run folder that cannot be
// written to, such as another's, is no reason to lose the results.
func writeEvaluationReport(ctx context.Context, app *app, opts evalOptions, cfg *config.Config, e *predict.Evaluation) error {
	path := opts.reportPath()
	if path == "" {
		return nil
	}
	err := e.WriteReport(ctx, path, cfg)
	if err != nil && opts.report == "" && ctx.Err() == nil {
		app.log.Warn("no report in the run folder", "reason", err)
		return nil
	}
	if err == nil {
		app.log.Info("report written", "file", path)
	}
	return err
}

// printEvaluation shows an evaluation as text.
func printEvaluation(w io.Writer, e *predict.Evaluation) error {
	fmt.Fprintf(w, "%s on %s\n", modelList(e.Models, e.Ensemble), e.Split)
	if len(e.Flips) > 0 {
		fmt.Fprintf(w, "mean over flips along %s\n", strings.Join(e.Flips, ", "))
	}
	if err := e.WriteTable(w); err != nil {
		return err
	}
	for _, g := range e.Subgroups {
		fmt.Fprintf(w, "\n%s = %s\n", g.Column, g.Value)
		if err := g.WriteTable(w); err != nil {
			return err
		}
	}
	if c := e.Comparison; c != nil {
		fmt.Fprintf(w, "\ncompared with %s\n", modelList(c.Models, "mean"))
		return c.WriteTable(w)
	}
	return nil
}

// modelList names the models that answer together.
func modelList(models []predict.ModelInfo, mean string) string {
	var names []string
	for _, m := range models {
		name := m.Path
		if m.Calibration != nil {
			name += " (calibrated: " + m.Calibration.Method + ")"
		}
		names = append(names, name)
	}
	if len(names) == 1 {
		return names[0]
	}
	return "mean " + mean + " of " + strings.Join(names, ", ")
}

// writeCasesCSV writes a line for each scan: what it is, what is true and what the model says.
func writeCasesCSV(path string, e *predict.Evaluation) error {
	c := e.Cases()
	return atomicfile.Write(path, func(w io.Writer) error {
		out := csv.NewWriter(w)
		head := []string{"name", "patient"}
		for _, label := range c.Labels {
			head = append(head, label+" truth", label+" probability")
		}
		out.Write(head)
		for i := range c.Prob {
			line := []string{c.Names[i], c.Patients[i]}
			for k, p := range c.Prob[i] {
				truth := ""
				if t := c.Truth(i, k); !math.IsNaN(t) {
					truth = strconv.Itoa(int(t))
				}
				line = append(line, truth, strconv.FormatFloat(p, 'g', -1, 64))
			}
			out.Write(line)
		}
		out.Flush()
		return out.Error()
	})
}

// runConfig finds the configuration of the run that a model or run folder belongs to.
func runConfig(model string) (string, error) {
	info, err := os.Stat(model)
	if err != nil {
		return "", exitcode.Errorf(exitcode.Usage, "cannot read the model: %w", err)
	}
	dirs := []string{filepath.Dir(model), filepath.Dir(filepath.Dir(model))}
	if info.IsDir() {
		dirs = []string{model}
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, train.ConfigFile)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", exitcode.Errorf(exitcode.Usage, "%s does not lie in a run folder: name the data set with -c FILE", model)
}
