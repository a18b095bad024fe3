package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/exitcode"
)

type splitOptions struct {
	config   configFlags
	out      string
	val      float64
	test     float64
	folds    int
	keepTest bool
	seed     int64
	force    bool
	json     bool
}

func newSplitCommand(app *app) *cobra.Command {
	var opts splitOptions
	cmd := &cobra.Command{
		Use:   "split -c FILE -o SPLITS.csv",
		Short: "Divide a data set into training, validation and test, or into folds",
		Long: `Split divides the data set that a configuration describes and writes who is where to a file, which
data.split_file then names. Patients (data.group_column) stay whole, and every part gets its share of each label, rare
ones first (iterative stratification, Sechidis et al. 2011, with patients for examples). Splits that the data set
brings are not looked at, but for its test split with --keep-test. The same data, shares and seed give the same file.

With --folds K the samples outside the test split are divided into K folds for cross-validation; data.fold then says
which one is for validation.`,
		Example: `  ctclass split -c my.yaml --val 0.1 --test 0.2 -o splits.csv
  ctclass split -c my.yaml --folds 5 --keep-test -o folds.csv
  ctclass train -c my.yaml --set data.split_file=folds.csv --set data.fold=1 --out fold1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.folds != 0 && cmd.Flags().Changed("val") {
				return exitcode.Errorf(exitcode.Usage, "--val and --folds exclude each other: the validation split is one of the folds")
			}
			return runSplit(cmd.Context(), app, opts)
		},
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVarP(&opts.out, "out", "o", "", "`file` for the splits (CSV)")
	f.Float64Var(&opts.val, "val", 0.2, "share of the samples for validation")
	f.Float64Var(&opts.test, "test", 0, "share of the samples for test")
	f.IntVar(&opts.folds, "folds", 0, "number of folds; 0: no folds but a validation split")
	f.BoolVar(&opts.keepTest, "keep-test", false, "leave the test split that the data set brings as it is")
	f.Int64Var(&opts.seed, "seed", -1, "seed of the draw; -1 takes train.seed")
	f.BoolVar(&opts.force, "force", false, "replace the file if it is there")
	f.BoolVar(&opts.json, "json", false, "print the sizes as JSON")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err) // only if the flag above had another name
	}
	return cmd
}

func runSplit(_ context.Context, app *app, opts splitOptions) error {
	cfg, err := app.loadConfig(opts.config)
	if err != nil {
		return err
	}
	if err := checkOutputFile("--out", opts.out); err != nil {
		return err
	}
	if _, err := os.Stat(opts.out); !errors.Is(err, fs.ErrNotExist) && !opts.force {
		return exitcode.Errorf(exitcode.Usage, "%s is there already, and models may have been trained with it: choose another file, or replace it with --force", opts.out)
	}
	if opts.keepTest && opts.test > 0 {
		return exitcode.Errorf(exitcode.Usage, "--keep-test and --test exclude each other")
	}
	seed := cfg.Train.Seed
	if opts.seed >= 0 {
		seed = uint64(opts.seed)
	}
	ds, err := openUndivided(cfg.Data, opts.keepTest)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	for _, w := range ds.Warnings {
		app.log.Warn(w)
	}
	val := opts.val
	if opts.folds != 0 {
		val = 0
	}
	// With folds this draws the test split only.
	if err := ds.Divide(val, opts.test, opts.keepTest, seed); err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	var folds []int
	if opts.folds != 0 {
		if folds, err = ds.Folds(opts.folds, seed); err != nil {
			return exitcode.Wrap(exitcode.Usage, err)
		}
	}
	if err := atomicfile.Write(opts.out, func(w io.Writer) error { return ds.WriteSplits(w, folds) }); err != nil {
		return err
	}
	return reportParts(app, opts, ds.Labels, partsOf(ds, folds, opts.folds))
}

// openUndivided opens a data set without the splits that it may bring; with keepTest its test split stays.
func openUndivided(c config.Data, keepTest bool) (*data.Dataset, error) {
	c.SplitFile, c.Fold, c.ValFraction = "", 0, 0
	if !keepTest {
		c.SplitColumn = ""
	}
	ds, err := data.Open(c, 0)
	if err == nil && keepTest && len(ds.Subset(data.Test)) == 0 {
		return nil, errors.New("--keep-test keeps the test split of the data set, but it brings none: name its column with data.split_column")
	}
	return ds, err
}

// part is what one split or fold holds.
type part struct {
	Name      string         `json:"name"`
	Samples   int            `json:"samples"`
	Patients  int            `json:"patients"`
	Positives map[string]int `json:"positives"` // by label, or samples by class
}

// partsOf counts the splits, or the folds and the test split.
func partsOf(ds *data.Dataset, folds []int, k int) []part {
	var names []string
	for f := range k {
		names = append(names, "fold "+strconv.Itoa(f+1))
	}
	if k == 0 {
		names = []string{data.Train, data.Val}
	}
	names = append(names, data.Test)
	parts := make([]part, len(names))
	patients := make([]map[string]bool, len(names))
	for i, name := range names {
		parts[i] = part{Name: name, Positives: map[string]int{}}
		patients[i] = map[string]bool{}
		for _, l := range ds.Labels {
			parts[i].Positives[l] = 0
		}
	}
	for i, s := range ds.Samples {
		at := len(parts) - 1
		switch {
		case folds != nil && folds[i] >= 0:
			at = folds[i]
		case folds == nil && s.Split != data.Test:
			at = map[string]int{data.Train: 0, data.Val: 1}[s.Split]
		}
		p := &parts[at]
		p.Samples++
		patients[at][s.Group] = true
		for k, v := range s.Target {
			switch {
			case math.IsNaN(v):
			case ds.Task == data.Multiclass:
				p.Positives[ds.Labels[int(v)]]++
			case v == 1:
				p.Positives[ds.Labels[k]]++
			}
		}
	}
	for i := range parts {
		parts[i].Patients = len(patients[i])
	}
	if parts[len(parts)-1].Samples == 0 {
		parts = parts[:len(parts)-1]
	}
	return parts
}

// reportParts shows what each part holds: a row for the samples, the patients and each label.
func reportParts(app *app, opts splitOptions, labels []string, parts []part) error {
	if opts.json {
		return printJSON(app.out, map[string]any{"file": opts.out, "parts": parts})
	}
	header := []string{""}
	for _, p := range parts {
		header = append(header, p.Name)
	}
	t := newTable(header, header[1:]...)
	row := func(name string, value func(p part) string) {
		cells := table.Row{name}
		for _, p := range parts {
			cells = append(cells, value(p))
		}
		t.AppendRow(cells)
	}
	row("samples", func(p part) string { return strconv.Itoa(p.Samples) })
	row("patients", func(p part) string { return strconv.Itoa(p.Patients) })
	for _, l := range labels {
		row(l, func(p part) string {
			return fmt.Sprintf("%d (%.1f%%)", p.Positives[l], 100*float64(p.Positives[l])/float64(max(1, p.Samples)))
		})
	}
	if err := printTable(app.out, t); err != nil {
		return err
	}
	_, err := fmt.Fprintf(app.out, "\nsplits: %s\n", opts.out)
	return err
}
