package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/train"
)

type evalOptions struct {
	config  configFlags
	model   string
	split   string
	threads int
	json    bool
}

func newEvalCommand(app *app) *cobra.Command {
	var opts evalOptions
	cmd := &cobra.Command{
		Use:   "eval MODEL|DIR",
		Short: "Measure a trained model on a split of a data set",
		Long: `Eval runs a model on a split of a labelled data set and prints its metrics: AUROC, AUPRC, F1, accuracy,
sensitivity and specificity of each label, macro and micro. A run folder brings its own configuration; for
a model file outside of one, -c says where the data are. Preprocessing, task and labels are the model's own.`,
		Example: `  ctclass eval run --split test
  ctclass eval run/best.safetensors -c my.yaml --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.model = args[0]
			return runEval(cmd.Context(), app, opts)
		},
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVar(&opts.split, "split", "", "split to evaluate: train, val or test; the default is eval.split of the configuration")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 takes train.threads")
	f.BoolVar(&opts.json, "json", false, "print one JSON object")
	return cmd
}

func runEval(ctx context.Context, app *app, opts evalOptions) error {
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
	if opts.split != "" {
		cfg.Eval.Split = opts.split
	}
	res, err := predict.Evaluate(ctx, cfg, opts.model, app.log, app.progress)
	if err != nil {
		return err
	}
	if opts.json {
		enc := json.NewEncoder(app.out)
		return enc.Encode(res)
	}
	fmt.Fprintf(app.out, "%s on %s: %d samples\n", res.Model, res.Split, res.Samples)
	return res.WriteTable(app.out)
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
