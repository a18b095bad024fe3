package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/predict"
)

type calibrateOptions struct {
	config  configFlags
	model   string
	method  string
	points  []string
	split   string
	out     string
	threads int
	json    bool
}

func newCalibrateCommand(app *app) *cobra.Command {
	var opts calibrateOptions
	cmd := &cobra.Command{
		Use:   "calibrate MODEL|DIR",
		Short: "Fit probabilities and thresholds of a trained model on a split",
		Long: `Calibrate runs a model on the validation split, fits a calibration of its probabilities, chooses an operating
point (a threshold) of each label by each rule, and writes both into the model file, in place of what it held. Eval
and predict apply them from then on. The weights stay as they are. The keys eval.calibration and
eval.operating_points do the same at the end of training; they are the defaults of the flags.

Methods: temperature divides the logits by one number a label and changes no order; isotonic fits a monotone
function, which takes some hundred scans; none takes a calibration away.

Operating points, the first of which decides:
  youden             the largest sum of sensitivity and specificity
  sensitivity=0.95   the highest threshold with at least this sensitivity
  specificity=0.95   the lowest threshold with at least this specificity
  cost=1:5           the smallest total cost, when a false positive costs 1 and a false negative 5`,
		Example: `  ctclass calibrate run --method temperature --operating-point youden
  ctclass calibrate run --operating-point sensitivity=0.95 --operating-point youden -o calibrated.safetensors
  ctclass calibrate model.safetensors -c my.yaml --split val --method isotonic --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.model = args[0]
			return runCalibrate(cmd.Context(), app, opts)
		},
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVar(&opts.method, "method", "", "calibration: temperature, isotonic or none; the default is eval.calibration, or temperature where that is none")
	f.StringArrayVar(&opts.points, "operating-point", nil, "`rule` of an operating point; may be repeated; the default is eval.operating_points")
	f.StringVar(&opts.split, "split", "val", "split to fit on: train, val or test")
	f.StringVarP(&opts.out, "out", "o", "", "model `file` to write; the default is the model itself")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 takes train.threads")
	f.BoolVar(&opts.json, "json", false, "print one JSON object")
	return cmd
}

func runCalibrate(ctx context.Context, app *app, opts calibrateOptions) error {
	flags := opts.config
	if flags.path == "" {
		var err error
		if flags.path, err = runConfig(opts.model); err != nil {
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
	cfg.Eval.Split = opts.split
	if opts.out != "" {
		if err := checkOutputFile("-o", opts.out); err != nil {
			return err
		}
	}
	if opts.method == "" {
		if opts.method = cfg.Eval.Calibration; opts.method == predict.NoCalibration {
			opts.method = eval.Temperature
		}
	}
	if opts.points == nil {
		opts.points = cfg.Eval.OperatingPoints
	}
	res, err := predict.Calibrate(ctx, cfg, predict.CalibrateOptions{
		Model: opts.model, Method: opts.method, Points: opts.points, Out: opts.out,
	}, app.log, app.progress)
	if err != nil {
		return err
	}
	if opts.json {
		return printJSON(app.out, res)
	}
	return printCalibrated(app.out, res)
}

func printCalibrated(w io.Writer, r *predict.Calibrated) error {
	fmt.Fprintf(w, "%s, on %d samples of %s\n", r.Model, r.Samples, r.Split)
	if c := r.Calibration; c != nil {
		t := newTable([]string{"label", "calibration", "ECE before", "after", "Brier before", "after "}, "ECE before", "after", "Brier before", "after ")
		for k, l := range r.Labels {
			how := c.Method
			switch {
			case c.Method == eval.Isotonic:
				how = fmt.Sprintf("%s, %d points", how, len(c.Isotonic[k].X))
			default:
				how += " " + strconv.FormatFloat(c.Temperature[min(k, len(c.Temperature)-1)], 'f', 3, 64)
			}
			t.AppendRow([]any{l.Name, how, l.ECEBefore, l.ECEAfter, l.BrierBefore, l.BrierAfter})
		}
		if err := printTable(w, t); err != nil {
			return err
		}
		fmt.Fprintln(w, "Measured on the samples of the fit: on others it will be worse.")
	}
	if len(r.Points) == 0 {
		return nil
	}
	t := newTable([]string{"operating point", "label", "threshold", "sensitivity", "specificity"}, "threshold", "sensitivity", "specificity")
	for _, p := range r.Points {
		share := func(hits, misses int) string {
			return fmt.Sprintf("%.3f (%d of %d)", float64(hits)/float64(hits+misses), hits, hits+misses)
		}
		t.AppendRow([]any{p.Name, p.Label, strings.TrimSpace(fmt.Sprintf("%.4f", p.Threshold)), share(p.TP, p.FN), share(p.TN, p.FP)})
	}
	return printTable(w, t)
}
