package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/kerneltable"
	"github.com/ctclass/ctclass/internal/train"
)

type tuneKernelsOptions struct {
	config  configFlags
	out     string
	threads int
	rounds  int
	json    bool
}

func newTuneKernelsCommand(app *app) *cobra.Command {
	var opts tuneKernelsOptions
	cmd := &cobra.Command{
		Use:   "tune-kernels -c FILE",
		Short: "Measure which convolution algorithms are the fastest on this machine",
		Long: `Tune-kernels measures for every convolution of a configuration's network, at its shape and batch, which of the
numerically close algorithms is the fastest on this machine: forward, by the input and by the weights. It needs no
data set. An algorithm takes the place of the usual one where it is faster by a twentieth at least.

The choices are added to the table of this machine in the user's cache folder, or to --out. Training, bench and eval
take them with train.kernels: tuned, or the path of a table. A run keeps its table in its folder, kernels.json, goes on
with it, and is repeated by naming that file. Let nothing else run meanwhile.`,
		Example: `  ctclass tune-kernels -c my.yaml
  ctclass train -c my.yaml --set train.kernels=tuned
  ctclass tune-kernels -c my.yaml --out kernels.json
  ctclass bench -c my.yaml --set train.kernels=kernels.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runTuneKernels(cmd.Context(), app, opts) },
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVar(&opts.out, "out", "", "table to write, or to add to; default: that of this machine in the user's cache folder")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 takes train.threads")
	f.IntVar(&opts.rounds, "rounds", 5, "measurements of each algorithm, of which the fastest counts")
	f.BoolVar(&opts.json, "json", false, "print one JSON object")
	return cmd
}

func runTuneKernels(ctx context.Context, app *app, opts tuneKernelsOptions) error {
	if opts.rounds < 1 {
		return exitcode.Errorf(exitcode.Usage, "--rounds is %d, want at least 1", opts.rounds)
	}
	cfg, err := app.loadConfig(opts.config)
	if err != nil {
		return err
	}
	if opts.threads > 0 {
		cfg.Train.Threads = opts.threads
	}
	isa := kernels.Best()
	path := opts.out
	if path == "" {
		if path, err = kerneltable.CachePath(isa); err != nil {
			return err
		}
	}
	t, err := kerneltable.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t = kerneltable.New(isa)
	case err != nil:
		return exitcode.Wrap(exitcode.Usage, err)
	case t.ISA != isa.String():
		return exitcode.Errorf(exitcode.Usage, "%s was measured with %s, this machine runs %s: choose another file with --out", path, t.ISA, isa)
	}
	times, err := train.TuneKernels(ctx, cfg, opts.rounds, t, app.progress)
	if err != nil {
		return err
	}
	if err := t.Write(path); err != nil {
		return err
	}
	if opts.json {
		return json.NewEncoder(app.out).Encode(map[string]any{"table": path, "id": t.ID(), "measured": times})
	}
	return printKernelTimes(app, path, times)
}

func printKernelTimes(app *app, path string, times []train.KernelTimes) error {
	algorithms := []kernels.Algorithm{kernels.Direct, kernels.Winograd2, kernels.Winograd4}
	head, changed := []string{"convolution", "pass"}, 0
	for _, a := range algorithms {
		head = append(head, a.String()+" ms")
	}
	t := newTable(append(head, "usual", "chosen"), head[2:]...)
	for _, r := range times {
		row := table.Row{r.Convolution, r.Pass}
		for _, a := range algorithms {
			ms, ok := r.MS[a]
			if !ok {
				row = append(row, "–")
				continue
			}
			row = append(row, fmt.Sprintf("%.3f", ms))
		}
		if r.Chosen != r.Usual {
			changed++
		}
		t.AppendRow(append(row, r.Usual.String(), r.Chosen.String()))
	}
	if err := printTable(app.out, t); err != nil {
		return err
	}
	_, err := fmt.Fprintf(app.out, "\n%d of %d choices differ from the usual ones; table %s\n", changed, len(times), path)
	return err
}
