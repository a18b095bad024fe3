package main

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/doctor"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/train"
)

type doctorOptions struct {
	config  configFlags
	full    bool
	threads int
	json    bool
}

func newDoctorCommand(app *app) *cobra.Command {
	var opts doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor -c FILE",
		Short: "Look for what would make a training fail or its result worthless",
		Long: `Doctor examines what a configuration describes before it is trained: scans that are missing, cannot be read
or look odd, labels without variance and how often each occurs in every split, patients and volumes in two splits,
volumes that are there twice, labels and parameters that get no gradient, windows that erase the scans, preprocessing
that cuts the body, the memory and the time that training will take. It reads some scans and trains a few steps on
them; --full reads all. What it finds is an error (training fails, or its result cannot be trusted), a warning or a
note. With errors the exit code is 2. Training itself begins with the part of it that reads no scans.`,
		Example: `  ctclass doctor -c my.yaml
  ctclass doctor -c my.yaml --full --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), app, opts) },
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&opts.full, "full", false, "read every scan")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 takes train.threads")
	f.BoolVar(&opts.json, "json", false, "print one JSON object, with every scan that a finding is about")
	return cmd
}

func runDoctor(ctx context.Context, app *app, opts doctorOptions) error {
	cfg, err := app.loadConfig(opts.config)
	if err != nil {
		return err
	}
	rep, err := train.Doctor(ctx, cfg, opts.full, train.Options{Threads: opts.threads, Progress: app.progress})
	if err != nil {
		return err
	}
	if opts.json {
		rep.Findings = orEmpty(rep.Findings)
		if err := printJSON(app.out, rep); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(app.out, "%s, %d examined\n", english.Plural(rep.Samples, "sample", ""), rep.Examined)
		for _, p := range rep.Prevalence {
			fmt.Fprintf(app.out, "%s: %s\n", p.Label, doctor.PrevalenceText(p))
		}
		for _, f := range rep.Findings {
			fmt.Fprintf(app.out, "%-8s %-11s %s\n", f.Severity, f.Check, f.Text)
		}
	}
	if n := len(rep.Errors()); n > 0 {
		return exitcode.Errorf(exitcode.Usage, "errors found: %d", n)
	}
	return nil
}
