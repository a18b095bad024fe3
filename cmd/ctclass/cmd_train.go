package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/crossval"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/train"
)

type trainOptions struct {
	config   configFlags
	out      string
	resume   bool
	threads  int
	maxSteps int
	folds    int
	noDoctor bool
	json     bool
}

func newTrainCommand(app *app) *cobra.Command {
	var opts trainOptions
	cmd := &cobra.Command{
		Use:   "train -c FILE",
		Short: "Train a classifier",
		Long: `Train trains the network that a configuration describes and leaves a run folder:
config.yaml (the resolved configuration), environment.json (versions, machine, IDs of configuration and
data), status.json, history.jsonl (a line a step and an epoch), tensorboard/ (the same for TensorBoard),
best.safetensors (the model of the best validation), last/ (everything to resume) and log.

A run that was interrupted, killed or out of disk continues with --resume and ends in the same model as one that was not. SIGINT
and SIGTERM save the state and end with exit code 130; a second one ends at once. Between epochs the state is saved
every train.save_every_minutes. A step that comes to NaN or an infinity ends the run with its scans and the layer where it
began, or is left out (train.on_nan: skip).

With --folds K the samples outside the test split are divided by patient into K folds that are alike in every label,
and a model is trained for each on the others. The folder then holds a run folder for each fold (fold-1, …), folds.csv,
out_of_fold.csv (every sample by the model that did not see it) and folds.json; the measures are those of the last
epochs. An interrupted cross-validation continues with --resume.`,
		Example: `  ctclass train -c configs/quickstart.yaml --out run
  ctclass train -c my.yaml --set train.epochs=20 --set model.name=resnet34_3d --out run34
  ctclass train -c my.yaml --out run --resume
  ctclass train -c my.yaml --folds 5 --out cv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runTrain(cmd.Context(), app, opts) },
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVar(&opts.out, "out", "", "run `folder`; the default is output.dir of the configuration")
	f.BoolVar(&opts.resume, "resume", false, "continue the run in the folder")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 takes train.threads")
	f.IntVar(&opts.maxSteps, "max-steps", 0, "stop after this many optimiser steps; 0 means all")
	f.IntVar(&opts.folds, "folds", 0, "cross-validation with this many folds; 0 means none")
	f.BoolVar(&opts.noDoctor, "no-doctor", false, "train without the look at labels, splits and loss before the start")
	f.BoolVar(&opts.json, "json", false, "print the result as one JSON object")
	return cmd
}

func runTrain(ctx context.Context, app *app, opts trainOptions) error {
	cfg, err := app.loadConfig(opts.config)
	if err != nil {
		return err
	}
	if opts.out != "" {
		cfg.Output.Dir = opts.out
	}
	run := train.Options{
		Dir: cfg.Output.Dir, Resume: opts.resume, Threads: opts.threads, MaxSteps: opts.maxSteps,
		NoDoctor: opts.noDoctor, Log: app.log, Progress: app.progress,
	}
	if opts.folds != 0 {
		res, err := crossval.Run(ctx, cfg, opts.folds, run)
		if err != nil {
			return err
		}
		if opts.json {
			return printJSON(app.out, res)
		}
		return res.WriteTable(app.out)
	}
	res, err := train.Run(ctx, cfg, run)
	if err != nil {
		return err
	}
	if err := calibrateTrained(ctx, app, *cfg, opts.threads, res); err != nil {
		return err
	}
	if opts.json {
		return printJSON(app.out, res)
	}
	if res.BestEpoch > 0 {
		fmt.Fprintf(app.out, "%s; best validation %s %s in epoch %d\n", english.Plural(res.Steps, "step", ""), cfg.Train.Monitor, res.Best, res.BestEpoch)
	} else {
		fmt.Fprintf(app.out, "%s\n", english.Plural(res.Steps, "step", ""))
	}
	if res.Skipped > 0 {
		fmt.Fprintf(app.out, "left out %s: %s\n", english.Plural(res.Skipped, "scan", ""), filepath.Join(cfg.Output.Dir, "skipped.csv"))
	}
	fmt.Fprintf(app.out, "model: %s\n", res.ModelPath)
	return nil
}

// calibrateTrained fits calibration and operating points of a finished run on its validation split, where they are asked
// for.
func calibrateTrained(ctx context.Context, app *app, cfg config.Config, threads int, res *train.Result) error {
	switch {
	case !res.Finished || cfg.Eval.Calibration == predict.NoCalibration && len(cfg.Eval.OperatingPoints) == 0:
		return nil
	case res.BestEpoch == 0:
		app.log.Warn("no calibration and no operating points, because there are no validation samples")
		return nil
	}
	if threads > 0 {
		cfg.Train.Threads = threads
	}
	cfg.Eval.Split = data.Val
	done, err := predict.Calibrate(ctx, &cfg, predict.CalibrateOptions{
		Model: res.ModelPath, Method: cfg.Eval.Calibration, Points: cfg.Eval.OperatingPoints,
	}, app.log, app.progress)
	if err != nil {
		return err
	}
	app.log.Info("calibrated", "method", cfg.Eval.Calibration, "operating points", cfg.Eval.OperatingPoints, "samples of the validation split", done.Samples)
	return nil
}
