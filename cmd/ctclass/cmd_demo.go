package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/configs"
	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/phantom"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/train"
)

type demoOptions struct {
	out     string
	cases   int
	threads int
}

func newDemoCommand(app *app) *cobra.Command {
	var opts demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole way on synthetic scans: make, train, evaluate, predict",
		Long: `Demo makes synthetic chest CT scans with known findings, trains a small network on them, evaluates it on
scans that it has not seen, with a report for the browser (report.html), and predicts one more from a DICOM
folder. It takes a few minutes and leaves everything in a folder to look at; started again in the same folder
it goes on where it stopped.`,
		Example: `  ctclass demo
  ctclass demo --out /tmp/demo --cases 400`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), app, opts) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.out, "out", "ctclass-demo", "`folder` to work in")
	f.IntVar(&opts.cases, "cases", 400, "synthetic scans to make")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 means all cores")
	return cmd
}

// demoSeed is that of the demo's scans; the extra scan is one behind them.
const demoSeed = 1

func runDemo(ctx context.Context, app *app, opts demoOptions) error {
	if opts.cases < 20 {
		return exitcode.Errorf(exitcode.Usage, "--cases is %d, want at least 20: three fifths are for training", opts.cases)
	}
	step := func(format string, args ...any) { fmt.Fprintf(app.out, "\n"+format+"\n", args...) }
	scans, run, folder := filepath.Join(opts.out, "scans"), filepath.Join(opts.out, "run"), filepath.Join(opts.out, "one-more-scan")

	step("1. Making %d synthetic chest CT scans in %s", opts.cases, scans)
	if err := demoScans(ctx, app, scans, opts.cases); err != nil {
		return err
	}
	truth, err := demoSeries(folder, opts.cases)
	if err != nil {
		return err
	}

	step("2. Training a small ResNet on three fifths of them (the run folder is %s)", run)
	cfg, err := demoConfig(app, opts.out, scans)
	if err != nil {
		return err
	}
	res, err := train.Run(ctx, cfg, train.Options{Dir: run, Resume: true, GoOn: "give the same command again", Threads: opts.threads, Log: app.log, Progress: app.progress})
	if err != nil {
		return err
	}

	step("3. Evaluating it on the test scans, which it has not seen")
	ev, err := predict.Evaluate(ctx, cfg, predict.EvalOptions{Models: []string{res.ModelPath}}, app.log, app.progress)
	if err != nil {
		return err
	}
	if err := ev.WriteTable(app.out); err != nil {
		return err
	}
	report := filepath.Join(run, predict.ReportFile)
	if err := ev.WriteReport(ctx, report, cfg); err != nil {
		return err
	}
	fmt.Fprintf(app.out, "curves, calibration and the scans that it got wrong: %s (for a browser)\n", report)

	step("4. Predicting the DICOM series in %s", folder)
	fmt.Fprintf(app.out, "present in truth: %s\n", truth)
	answer := predictDefaults()
	answer.models, answer.paths, answer.threads = []string{res.ModelPath}, []string{folder}, opts.threads
	if err := runPredict(ctx, app, answer); err != nil {
		return err
	}
	step(`Everything lies in %s. Next, try:
  ctclass predict %s %s --json
  ctclass inspect %s
  ctclass eval %s --split val
  ctclass calibrate %s --method temperature --operating-point youden
and, for scans of your own, copy %s and change its data section.`,
		opts.out, res.ModelPath, folder, folder, run, run, filepath.Join(opts.out, "config.yaml"))
	return nil
}

// demoScans makes the data set unless it is there already.
func demoScans(ctx context.Context, app *app, dir string, cases int) error {
	if _, err := os.Stat(filepath.Join(dir, "labels.csv")); err == nil {
		fmt.Fprintln(app.out, "they are there already")
		return nil
	}
	bar := app.progress.Start("phantoms", int64(cases))
	defer bar.Done()
	done := 0
	return phantom.WriteDataset(ctx, dir, phantom.DatasetOptions{
		Seed: demoSeed, Cases: cases, Format: phantom.NIfTI,
		Progress: func(n int) { bar.Add(n - done); done = n },
	})
}

// demoSeries writes one more case as a DICOM series, the first from the given number on that has at least two
// findings, and returns these.
func demoSeries(dir string, number int) (string, error) {
	for ; ; number++ {
		c, err := phantom.Generate(phantom.Options{Seed: demoSeed, Case: number})
		if err != nil {
			return "", err
		}
		var present []string
		for i, name := range phantom.Findings() {
			if c.Labels[i] {
				present = append(present, name)
			}
		}
		if len(present) >= 2 {
			return strings.Join(present, ", "), phantom.WriteDICOM(dir, c.Volume, phantom.SeriesInfo{Seed: demoSeed, Case: number})
		}
	}
}

// demoConfig writes the quickstart configuration into the demo's folder and loads it from there.
func demoConfig(app *app, out, scans string) (*config.Config, error) {
	path := filepath.Join(out, "config.yaml")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := atomicfile.WriteBytes(path, configs.Quickstart); err != nil {
			return nil, err
		}
	}
	c, err := app.loadConfig(configFlags{path: path, sets: []string{"data.table=" + filepath.Join(scans, "labels.csv")}})
	if err != nil {
		return nil, err
	}
	c.Output.Dir = filepath.Join(out, "run")
	return c, nil
}
