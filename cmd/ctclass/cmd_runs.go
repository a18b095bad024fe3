package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/runs"
)

type runsOptions struct {
	dir  string
	json bool
}

func newRunsCommand(app *app) *cobra.Command {
	var opts runsOptions
	cmd := &cobra.Command{
		Use:   "runs DIR",
		Short: "Compare the training runs below a folder",
		Long: `Runs lists the run folders at and below DIR, the oldest first: how far each is, its best validation, the
first digits of the IDs of its configuration and its data, and the settings in which the runs differ. Two runs with
the same two IDs have the same result. A run is running, finished, interrupted (it can be resumed), failed, or
killed: its process ended without a word, and it can be resumed too.`,
		Example: `  ctclass runs .
  ctclass runs experiments --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.dir = args[0]
			return runRuns(cmd.Context(), app, opts)
		},
	}
	cmd.Flags().BoolVar(&opts.json, "json", false, "print one JSON object a run, with every setting that differs")
	return cmd
}

func runRuns(_ context.Context, app *app, opts runsOptions) error {
	list, err := runs.Find(opts.dir)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	if len(list) == 0 {
		return exitcode.Errorf(exitcode.NoInput, "there is no run folder in %s", opts.dir)
	}
	if opts.json {
		for _, r := range list {
			if err := printJSON(app.out, r); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable([]string{"run", "state", "epochs", "steps", "best", "train loss", "config", "data", "differs in"}, "epochs", "steps", "train loss")
	for _, r := range list {
		name, err := filepath.Rel(opts.dir, r.Dir)
		if err != nil || name == "." {
			name = r.Dir
		}
		best, loss := "", ""
		if r.Best != nil {
			best = fmt.Sprintf("%s %s (epoch %d)", r.Monitor, shortNumber(*r.Best), r.BestEpoch)
		} else if r.BestEpoch > 0 {
			best = fmt.Sprintf("epoch %d", r.BestEpoch)
		}
		if r.TrainLoss != nil {
			loss = shortNumber(*r.TrainLoss)
		}
		t.AppendRow(table.Row{
			name, r.State, of(r.Epoch, r.Epochs), of(r.Step, r.Steps), best, loss,
			runs.ShortID(r.ConfigID), runs.ShortID(r.DataID), differences(r.Differs),
		})
	}
	return printTable(app.out, t)
}

// of shows how much of all is done; all is 0 where it is not known.
func of(done, all int) string {
	if all == 0 {
		return strconv.Itoa(done)
	}
	return fmt.Sprintf("%d/%d", done, all)
}

// shortNumber shows a measure with four digits.
func shortNumber(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// maxShown bounds the settings of a row; --json has all.
const maxShown = 6

func differences(settings map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		if len(parts) == maxShown {
			parts = append(parts, fmt.Sprintf("and %d more", len(settings)-maxShown))
			break
		}
		parts = append(parts, fmt.Sprintf("%s=%s", k, settings[k]))
	}
	return strings.Join(parts, " ")
}
