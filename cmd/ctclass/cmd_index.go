package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/data/index"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/progress"
)

type indexOptions struct {
	dir       string
	out       string
	plainUIDs bool
	jobs      int
	force     bool
	json      bool
}

func newIndexCommand(app *app) *cobra.Command {
	var opts indexOptions
	cmd := &cobra.Command{
		Use:   "index DIR -o TABLE.csv",
		Short: "Make a table of all scans in an archive",
		Long: `Index walks a folder of any size, reads the header of every file, and writes a table with a row for each series and
each NIfTI file: its path, its series and study, the patient (a number), geometry, kernel, what is unusual about it, and
why it cannot be used, if so. Scans in zip and tar archives are listed too. The table is a data set table as it is once
it has columns of labels; data.index joins it with a table of labels by a key instead.

UIDs are written as hashes unless --plain-uids is given; data.join_key and data.series_column take either. Of the
patient nothing but a number is kept. Descriptions and paths are written as they are: they may name patients.

An index that was interrupted goes on where it was when the same command is given again. Files that cannot be read are
listed in TABLE.skipped.csv, and index then ends with code 4.`,
		Example: `  ctclass index /archive -o archive.csv
  ctclass index /archive -o archive.csv --plain-uids --jobs 32`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.dir = args[0]
			return runIndex(cmd.Context(), app, opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.out, "out", "o", "", "`file` for the table (CSV)")
	f.BoolVar(&opts.plainUIDs, "plain-uids", false, "write UIDs as they are, not their hashes")
	f.IntVar(&opts.jobs, "jobs", 0, "files that are read at the same time; 0: twice as many as processors, at least 8")
	f.BoolVar(&opts.force, "force", false, "replace the table if it is there")
	f.BoolVar(&opts.json, "json", false, "print the summary as JSON")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err) // only if the flag above had another name
	}
	return cmd
}

func runIndex(ctx context.Context, app *app, opts indexOptions) error {
	if opts.jobs < 0 {
		return exitcode.Errorf(exitcode.Usage, "--jobs is %d: want a number of files", opts.jobs)
	}
	if err := checkOutputFile("--out", opts.out); err != nil {
		return err
	}
	if _, err := os.Stat(opts.out); err == nil && !opts.force {
		return exitcode.Errorf(exitcode.Usage, "%s is there already: choose another file, or replace it with --force", opts.out)
	}
	if info, err := os.Stat(opts.dir); err != nil || !info.IsDir() {
		return exitcode.Errorf(exitcode.Usage, "%s is not a folder that can be read", opts.dir)
	}
	if _, err := os.Stat(index.JournalOf(opts.out)); err == nil {
		app.log.Info("going on with an unfinished index", "file", index.JournalOf(opts.out))
	}
	bar := &growingBar{reporter: app.progress, title: "indexing"}
	s, err := index.Build(ctx, index.Options{
		Dir: opts.dir, Table: opts.out, PlainUIDs: opts.plainUIDs, Jobs: opts.jobs, Found: bar.grow, Done: bar.add,
	})
	bar.done()
	if err != nil {
		if ctx.Err() != nil {
			app.log.Warn("interrupted: the same command goes on from here", "file", index.JournalOf(opts.out))
			return ctx.Err()
		}
		var path *fs.PathError
		if errors.As(err, &path) {
			return exitcode.Wrap(exitcode.Usage, err)
		}
		return err
	}
	if s.Series == 0 {
		return exitcode.Errorf(exitcode.NoInput, "%s holds no scans in %d files; %s is empty", opts.dir, s.Files, opts.out)
	}
	if s.Patients == 1 && s.Studies > 1 {
		app.log.Warn("all studies name the same patient: the patient column cannot tell patients apart", "studies", s.Studies)
	}
	if opts.json {
		if err := printJSON(app.out, s); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(app.out, "%d series of %d studies and %d patients in %d files: %s\n", s.Series, s.Studies, s.Patients, s.Files, s.Table)
		if s.Other > 0 {
			fmt.Fprintf(app.out, "%d files are no scans\n", s.Other)
		}
		if s.Failed > 0 {
			fmt.Fprintf(app.out, "%d series cannot be used: see the column error\n", s.Failed)
		}
	}
	if s.Damaged > 0 {
		return exitcode.Errorf(exitcode.SomeFailed, "%d files or folders cannot be read: %s lists them", s.Damaged, s.Skipped)
	}
	return nil
}

// growingBar is a progress bar of a job whose size shows as it goes on.
type growingBar struct {
	reporter *progress.Reporter
	title    string
	mu       sync.Mutex
	bar      *progress.Bar
	started  bool
}

func (g *growingBar) grow(n int) {
	if n == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.started {
		g.bar.Grow(n)
		return
	}
	g.started = true
	g.bar = g.reporter.Start(g.title, int64(n))
}

func (g *growingBar) add(n int) { g.bar.Add(n) }

func (g *growingBar) done() { g.bar.Done() }
