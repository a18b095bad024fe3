package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/train"
)

type benchOptions struct {
	config  configFlags
	mode    string
	steps   int
	warmUp  int
	threads int
	profile bool
	json    bool
}

func newBenchCommand(app *app) *cobra.Command {
	var opts benchOptions
	cmd := &cobra.Command{
		Use:   "bench -c FILE --mode train|infer",
		Short: "Time a training or inference step on random input",
		Long: `Bench times the steady state of a training or inference step on random input of the configured shape,
and compares the memory that was promised for the whole process with what it took. It needs no data set.

With --profile it also tells where the time goes, by kind of operation and by layer, beside what the machine can do
at most on as many threads: matrix products in the first cache, and reading memory. Operations are counted as the
definition of a convolution has them: a faster algorithm than the direct one can pass the ceiling.`,
		Example: `  ctclass bench --mode train --set preprocess.shape_dhw=64,64,64
  ctclass bench -c my.yaml --mode infer --steps 20 --json
  ctclass bench --mode train --profile`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBench(cmd.Context(), app, opts) },
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVar(&opts.mode, "mode", "train", "what to time: train or infer")
	f.IntVar(&opts.steps, "steps", 10, "steps to time")
	f.IntVar(&opts.warmUp, "warm-up", 2, "steps before them that are not counted")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 takes train.threads")
	f.BoolVar(&opts.profile, "profile", false, "tell where the time goes")
	f.BoolVar(&opts.json, "json", false, "print one JSON object")
	return cmd
}

func runBench(ctx context.Context, app *app, opts benchOptions) error {
	if opts.mode != "train" && opts.mode != "infer" {
		return exitcode.Errorf(exitcode.Usage, "--mode %q is not known, allowed: train, infer", opts.mode)
	}
	if opts.steps < 1 {
		return exitcode.Errorf(exitcode.Usage, "--steps is %d, want at least 1", opts.steps)
	}
	if opts.warmUp < 0 {
		return exitcode.Errorf(exitcode.Usage, "--warm-up is %d, want at least 0", opts.warmUp)
	}
	cfg, err := app.loadConfig(opts.config)
	if err != nil {
		return err
	}
	if opts.threads > 0 {
		cfg.Train.Threads = opts.threads
	}
	b, err := train.Bench(ctx, cfg, train.BenchOptions{
		Training: opts.mode == "train", Steps: opts.steps, WarmUp: opts.warmUp, Profile: opts.profile,
	}, app.progress, app.log)
	if err != nil {
		return err
	}
	if opts.json {
		return json.NewEncoder(app.out).Encode(b)
	}
	fmt.Fprintf(app.out, "%s %s, batch %d of %d×%d×%d voxels, %s\n",
		b.Model, b.Mode, b.Batch, b.ShapeDHW[0], b.ShapeDHW[1], b.ShapeDHW[2], english.Plural(b.Threads, "thread", ""))
	fmt.Fprintf(app.out, "step    %.1f ms (median; %.1f to %.1f), %.2f samples/s\n", b.MedianMS, b.MinMS, b.MaxMS, b.SamplesPerS)
	fmt.Fprintf(app.out, "memory  %d MiB at most were promised", b.PromisedPeakBytes>>20)
	if b.MeasuredPeakBytes > 0 {
		fmt.Fprintf(app.out, ", %d MiB were taken", b.MeasuredPeakBytes>>20)
	}
	fmt.Fprintf(app.out, "; arena %d MiB\n", b.ArenaBytes>>20)
	if b.Profile != nil {
		return printProfile(app, b.Profile)
	}
	return nil
}

// profileLayers is the number of layers that the text shows.
const profileLayers = 25

func printProfile(app *app, p *train.Profile) error {
	fmt.Fprintf(app.out, "\nceilings  %.0f GFLOP/s in matrix products, %.1f GB/s from memory\n\n", p.Ceilings.GFLOPS, p.Ceilings.GBPS)
	show := func(what string, rows []train.ProfileRow) error {
		t := newTable([]string{what, "calls", "ms", "share", "GFLOP/s", "GB/s"}, "calls", "ms", "share", "GFLOP/s", "GB/s")
		for _, r := range rows {
			flops := ""
			if r.GFLOPS >= 0.05 {
				flops = fmt.Sprintf("%.1f", r.GFLOPS)
			}
			name := strings.TrimSpace(r.Layer + " " + r.Kind)
			t.AppendRow(table.Row{name, r.Calls, fmt.Sprintf("%.2f", r.MS), fmt.Sprintf("%.1f%%", 100*r.Share), flops, fmt.Sprintf("%.1f", r.GBPS)})
		}
		return printTable(app.out, t)
	}
	if err := show("operation", p.Kinds); err != nil {
		return err
	}
	fmt.Fprintln(app.out)
	return show("layer", p.Layers[:min(len(p.Layers), profileLayers)])
}
