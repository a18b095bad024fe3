package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/tune"
)

type tuneOptions struct {
	study   string
	sets    []string
	out     string
	trials  int
	threads int
	status  bool
	json    bool
}

const tuneLong = `Tune looks for good settings: it trains with settings that a study proposes, on little data and few epochs
first, and goes on with those that do well. The study is a YAML file:

  base: my.yaml               # the configuration; relative to this file
  dir: tuning                 # folder of the study, or --out
  trials: 30                  # settings to try
  stages:                     # what a trial goes through; without them one stage with everything
    - {fraction: 0.2, epochs: 5}   # of the training patients
    - {fraction: 0.5, epochs: 10}
    - {}                      # all of them, epochs as the base says
  keep: 0.33                  # share of the trials of a stage that go on to the next
  median: true                # end a run that is worse than half of the others at the same epoch
  seed: 1
  space:
    - {key: train.optimizer.lr, low: 1.0e-4, high: 1.0e-2, log: true}
    - {key: train.batch_size, values: [2, 4, 8]}
    - {key: model.dropout, low: 0, high: 0.5, step: 0.1}

Trials are judged by train.monitor of the base on the validation split; the test split takes no part. The first ten
settings are drawn at random, the others by a tree-structured Parzen estimator from what the trials before have come
to. The study lies in study.db, a SQLite file: the same command resumes it, and several processes that are given the
same study work on it side by side. Its folder also gets trials.csv, study.html with plots, best.yaml (the base with
the best settings) and a run folder for each stage of each trial.`

func newTuneCommand(app *app) *cobra.Command {
	var opts tuneOptions
	cmd := &cobra.Command{
		Use:   "tune -c STUDY",
		Short: "Look for good settings",
		Long:  tuneLong,
		Example: `  ctclass tune -c study.yaml
  ctclass tune -c study.yaml --trials 60 --set train.threads=1 & ctclass tune -c study.yaml --trials 60 --set train.threads=1
  ctclass tune -c study.yaml --status`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runTune(cmd.Context(), app, opts) },
	}
	f := cmd.Flags()
	f.StringVarP(&opts.study, "config", "c", "", "study `FILE` (YAML)")
	f.StringArrayVar(&opts.sets, "set", nil, "set `key=value` over the base configuration; may be repeated")
	f.StringVar(&opts.out, "out", "", "`folder` of the study; the default is its dir")
	f.IntVar(&opts.trials, "trials", 0, "settings to try; 0 takes the study's")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 takes train.threads")
	f.BoolVar(&opts.status, "status", false, "show how far the study is and do nothing")
	f.BoolVar(&opts.json, "json", false, "print the result as one JSON object")
	return cmd
}

func runTune(ctx context.Context, app *app, opts tuneOptions) error {
	if opts.study == "" {
		return exitcode.Errorf(exitcode.Usage, "name the study with -c (see \"ctclass tune --help\")")
	}
	s, err := tune.Load(opts.study)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	if opts.out != "" {
		s.Dir = opts.out
	}
	if opts.trials > 0 {
		s.Trials = opts.trials
	}
	run := tune.Options{
		Threads: opts.threads, Log: app.log, Progress: app.progress,
		Load: func(path string, sets []string) (*config.Config, error) {
			return app.loadConfig(configFlags{path: path, sets: append(append([]string{}, opts.sets...), sets...)})
		},
	}
	work := tune.Run
	if opts.status {
		work = tune.Look
	}
	sum, err := work(ctx, s, run)
	if err != nil {
		return err
	}
	if opts.json {
		return printJSON(app.out, sum)
	}
	return sum.WriteTable(app.out)
}
