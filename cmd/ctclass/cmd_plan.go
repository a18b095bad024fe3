package main

import (
	"context"
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/memplan"
	"github.com/ctclass/ctclass/internal/train"
)

type planOptions struct {
	config  configFlags
	budget  string
	threads int
	rate    float64
	svg     string
	json    bool
}

func newPlanCommand(app *app) *cobra.Command {
	var opts planOptions
	cmd := &cobra.Command{
		Use:   "plan -c FILE",
		Short: "Tell the memory that a training will take, and what other choices would",
		Long: `Plan makes the memory plan of a training without training: where the bytes of the whole process go, at which
instruction of the step they are most, what recomputation costs, the same without memory savers, with the manual ones
and with other budgets, and the largest batch and volume that the budget allows.

The promise is the one that train logs and keeps. With the data set at hand it counts scans of the size of the training
split's first one, as train does; otherwise scans of 400×512×512 voxels, and no cache of samples.

Seconds come from the rates of a step of the same network on a small volume, which plan times, or from the operations
a second that --rate states.

A budget that cannot be met ends with exit code 5, after the table of the smallest plan.`,
		Example: `  ctclass plan -c my.yaml
  ctclass plan -c my.yaml --budget 8GiB --svg step.svg
  ctclass plan -c my.yaml --budget 50% --set train.batch_size=4 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPlan(cmd.Context(), app, opts) },
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVar(&opts.budget, "budget", "", "most memory of the process, such as 8GiB, 50%, auto or none; the default is memory.budget of the configuration")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 takes train.threads")
	f.Float64Var(&opts.rate, "rate", 0, "operations a second to reckon with, in `GFLOP/s`; 0 measures it")
	f.StringVar(&opts.svg, "svg", "", "draw memory over the step into a `FILE`")
	f.BoolVar(&opts.json, "json", false, "print one JSON object")
	return cmd
}

func runPlan(ctx context.Context, app *app, opts planOptions) error {
	if opts.rate < 0 {
		return exitcode.Errorf(exitcode.Usage, "--rate is %g, want GFLOP/s above 0", opts.rate)
	}
	if opts.svg != "" {
		if err := checkOutputFile("--svg", opts.svg); err != nil {
			return err
		}
	}
	cfg, err := app.loadConfig(opts.config)
	if err != nil {
		return err
	}
	if opts.budget != "" {
		if _, err := config.ParseBudget(opts.budget); err != nil {
			return exitcode.Errorf(exitcode.Usage, "--budget: %w", err)
		}
		cfg.Memory.Budget = opts.budget
	}
	if opts.threads > 0 {
		cfg.Train.Threads = opts.threads
	}
	r, err := train.PlanMemory(ctx, cfg, opts.rate, app.log, app.progress)
	if err != nil {
		return err
	}
	if opts.svg != "" {
		if err := atomicfile.WriteBytes(opts.svg, r.SVG()); err != nil {
			return err
		}
	}
	if opts.json {
		err = printJSON(app.out, r)
	} else {
		err = printPlan(app, r)
	}
	if err != nil {
		return err
	}
	return r.Refusal
}

func printPlan(app *app, r *memplan.Report) error {
	out := app.out
	fmt.Fprintf(out, "%s, training with batches of %d of %s voxels\n", r.Model, r.Batch, triple(r.ShapeDHW))
	limit := "no budget"
	if r.BudgetBytes > 0 {
		limit = fmt.Sprintf("budget %s MiB", mebibytes(r.BudgetBytes))
	}
	if !r.Fits {
		limit += ", which the smallest plan below does not meet"
	}
	fmt.Fprintf(out, "%s MiB at the peak of the whole process (%s)\nfor %s\n\n", mebibytes(r.PromisedPeakBytes), limit, r.Data)
	t := newTable([]string{"where the bytes go", "MiB", "share"}, "MiB", "share")
	for _, part := range r.Parts {
		t.AppendRow(table.Row{part.Name, fmt.Sprintf("%.1f", float64(part.Bytes)/(1<<20)), fmt.Sprintf("%.1f%%", 100*float64(part.Bytes)/float64(r.PromisedPeakBytes))})
	}
	if err := printTable(out, t); err != nil {
		return err
	}
	p := r.Peak
	fmt.Fprintf(out, "\nThe peak is at instruction %d of %d of the %s program: %s %s, %s.\n\n", p.Step, p.Steps, p.Program, p.Layer, p.Kind, p.Phase)

	t = newTable([]string{"choice", "MiB", "more operations", "s a step", "of them recomputing", "fits"}, "MiB", "more operations", "s a step", "of them recomputing")
	for _, c := range r.Choices {
		fits := "yes"
		if !c.Fits {
			fits = "no"
		}
		t.AppendRow(table.Row{
			c.Name, mebibytes(c.PromisedPeakBytes), fmt.Sprintf("%.1f%%", 100*c.AddedFLOP),
			fmt.Sprintf("%.2f", c.StepSeconds), fmt.Sprintf("%.2f", c.AddedSeconds), fits,
		})
	}
	if err := printTable(out, t); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nA step is %.1f GFLOP without recomputation, reckoned at %.1f GFLOP/s and\n%.1f GB/s where there is nothing to multiply (%s).\nThe choices are without a cache of samples, which takes what is left.\n",
		r.GFLOP, r.Rate.GFLOPS, r.Rate.GBPS, r.Rate.Source)
	if r.BudgetBytes > 0 {
		batch, shape := "none", "none"
		if r.LargestBatch > 0 {
			batch = fmt.Sprint(r.LargestBatch)
		}
		if r.LargestBatch == memplan.MostBatch {
			batch += " or more"
		}
		if r.LargestShapeDHW[0] > 0 {
			shape = triple(r.LargestShapeDHW)
		}
		fmt.Fprintf(out, "The largest batch that fits: %s; the largest volume of about these proportions: %s.\n", batch, shape)
	}
	return nil
}
