package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/phantom"
)

type phantomOptions struct {
	out     string
	cases   int
	seed    uint64
	format  string
	size    string
	spacing string
	nodules int
}

func newPhantomCommand(app *app) *cobra.Command {
	var opts phantomOptions
	cmd := &cobra.Command{
		Use:   "phantom --out DIR",
		Short: "Make synthetic chest CT scans with findings",
		Long: `Phantom fills a folder with synthetic chest CT scans, as DICOM series or NIfTI files, and writes labels.csv:
a row for each scan with its path, patient, split (train, val, test) and whether each finding is there. boxes.csv
says where each finding is. It is data for trying out and testing, free of patients; the same seed makes the same
files.`,
		Example: `  ctclass phantom --out phantoms --cases 20
  ctclass phantom --out phantoms --cases 200 --seed 7 --format nifti --size 96,128,128 --spacing 3.5,2.5,2.5`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPhantom(cmd.Context(), app, opts) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.out, "out", "", "`folder` for the scans and labels.csv")
	f.IntVar(&opts.cases, "cases", 10, "number of scans")
	f.Uint64Var(&opts.seed, "seed", 0, "seed: another one makes other scans")
	f.StringVar(&opts.format, "format", string(phantom.DICOM), "dicom (a folder for each scan) or nifti (a .nii.gz file for each)")
	f.StringVar(&opts.size, "size", "64,96,96", "voxels along `D,H,W` (slices, rows, columns)")
	f.StringVar(&opts.spacing, "spacing", "5,3.5,3.5", "voxel spacing in mm along `d,h,w`")
	f.IntVar(&opts.nodules, "nodules", 0, "nodules of a scan that has some; 0 draws two to five")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err) // only if the flag above had another name
	}
	return cmd
}

func runPhantom(ctx context.Context, app *app, opts phantomOptions) error {
	size, err := parseSizes(opts.size)
	if err != nil {
		return exitcode.Errorf(exitcode.Usage, "--size: %w", err)
	}
	spacing, err := parseLengths(opts.spacing)
	if err != nil {
		return exitcode.Errorf(exitcode.Usage, "--spacing: %w", err)
	}
	table := filepath.Join(opts.out, "labels.csv")
	if _, err := os.Stat(table); err == nil {
		return exitcode.Errorf(exitcode.Usage, "%s is there already: choose another folder with --out, or remove it", table)
	}
	// A first case in memory shows whether the options can work, before anything is written.
	if _, err := phantom.Generate(phantom.Options{Seed: opts.seed, Size: size, SpacingMM: spacing, Nodules: opts.nodules}); err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	if opts.cases < 1 || opts.format != string(phantom.DICOM) && opts.format != string(phantom.NIfTI) {
		return exitcode.Errorf(exitcode.Usage, "--cases %d --format %s cannot be made: want at least 1 case, format dicom or nifti", opts.cases, opts.format)
	}
	bar := app.progress.Start("phantoms", int64(opts.cases))
	defer bar.Done()
	made := 0
	err = phantom.WriteDataset(ctx, opts.out, phantom.DatasetOptions{
		Seed: opts.seed, Cases: opts.cases, Format: phantom.Format(opts.format), Size: size, SpacingMM: spacing, Nodules: opts.nodules,
		Progress: func(done int) {
			bar.Add(done - made)
			made = done
		},
	})
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return exitcode.Wrap(exitcode.Usage, err) // --out cannot be written
		}
		return err
	}
	bar.Done()
	_, err = fmt.Fprintf(app.out, "%s and %s\n", english.Plural(opts.cases, "scan", ""), table)
	return err
}
