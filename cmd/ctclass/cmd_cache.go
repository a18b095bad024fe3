package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/data/cache"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/train"
)

type cacheOptions struct {
	config        configFlags
	dir           string // "": that of the configuration
	json          bool
	remove        bool
	size          string
	unusedDays    int
	all           bool
	otherVersions bool
	splits        []string
}

func newCacheCommand(app *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "cache",
		Short: "Look after the cache of preprocessed scans",
		Long: `The cache keeps preprocessed scans on disk, so that later epochs, runs and other processes need not read and
resample them again. data.cache.dir turns it on. An entry is named by what it is made from: the scan's files (their
size, time of change and content) and every setting of preprocessing, so that it can never be out of date; no name
tells anything about a patient. Entries are written in one step and carry a checksum: a damaged one is made again.
Several processes may share one cache.`,
		Example: `  ctclass cache warm -c my.yaml --set data.cache.dir=/scratch/ctclass`,
	})
	cmd.AddCommand(newCacheStatusCommand(app), newCacheVerifyCommand(app), newCachePruneCommand(app), newCacheWarmCommand(app))
	return cmd
}

// cacheCommand completes a command about the cache in a folder, given itself or by a configuration.
func cacheCommand(app *app, cmd *cobra.Command, opts *cacheOptions, run func(ctx context.Context, app *app, opts cacheOptions) error) *cobra.Command {
	cmd.Args = cobra.MaximumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			opts.dir = args[0]
		}
		return run(cmd.Context(), app, *opts)
	}
	opts.config.add(cmd)
	cmd.Flags().BoolVar(&opts.json, "json", false, "print the result as JSON")
	return cmd
}

// cacheDir returns the folder of the cache and the limit that the configuration sets.
func (a *app) cacheDir(opts cacheOptions) (dir, size string, err error) {
	c, err := a.loadConfig(opts.config)
	if err != nil {
		return "", "", err
	}
	dir, size = opts.dir, c.Data.Cache.Size
	if dir == "" {
		dir = c.Data.Cache.Dir
	}
	if dir == "" {
		return "", "", exitcode.Errorf(exitcode.Usage, "no cache is named: give its folder, or a configuration with data.cache.dir")
	}
	return dir, size, nil
}

func newCacheStatusCommand(app *app) *cobra.Command {
	var opts cacheOptions
	return cacheCommand(app, &cobra.Command{
		Use:   "status [DIR]",
		Short: "Show what a cache holds",
		Example: `  ctclass cache status -c my.yaml
  ctclass cache status /scratch/ctclass --json`,
	}, &opts, runCacheStatus)
}

func runCacheStatus(_ context.Context, app *app, opts cacheOptions) error {
	dir, size, err := app.cacheDir(opts)
	if err != nil {
		return err
	}
	s, err := cache.Look(dir)
	if err != nil {
		return exitcode.Wrap(exitcode.NoInput, err)
	}
	s.OtherVersions = orEmpty(s.OtherVersions)
	if opts.json {
		return printJSON(app.out, s)
	}
	var kinds []string
	for _, k := range []cache.Storage{cache.Int16, cache.Float16, cache.Float32} {
		if n := s.Encodings[string(k)]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, k))
		}
	}
	w := app.out
	fmt.Fprintf(w, "cache       %s (version %d)\n", s.Dir, s.Version)
	fmt.Fprintf(w, "entries     %d", s.Entries)
	if len(kinds) > 0 {
		fmt.Fprintf(w, " (%s)", strings.Join(kinds, ", "))
	}
	fmt.Fprintf(w, "\nsize        %s", bytesText(s.Bytes))
	if size != "" {
		fmt.Fprintf(w, " of %s", size)
	}
	if s.Values > 0 {
		fmt.Fprintf(w, ", %.2f bytes a voxel", float64(s.Bytes)/float64(s.Values))
	}
	fmt.Fprintln(w)
	if s.Entries > 0 {
		fmt.Fprintf(w, "last used   %s to %s\n", s.LeastRecent.Format(time.DateTime), s.MostRecent.Format(time.DateTime))
	}
	if s.Unreadable > 0 {
		fmt.Fprintf(w, "unreadable  %d: `ctclass cache verify` names them\n", s.Unreadable)
	}
	if s.Leftovers > 0 {
		fmt.Fprintf(w, "unfinished  %d temporary files of writers, at work or interrupted\n", s.Leftovers)
	}
	if len(s.OtherVersions) > 0 {
		fmt.Fprintf(w, "ignored     entries of another version: %s\n", strings.Join(s.OtherVersions, ", "))
	}
	return nil
}

func newCacheVerifyCommand(app *app) *cobra.Command {
	var opts cacheOptions
	cmd := cacheCommand(app, &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Read every entry of a cache and name the damaged ones",
		Long: `Verify reads and unpacks every entry and checks its checksum. It ends with code 4 when entries are damaged. They
do no harm: the next run that needs them makes them again.`,
		Example: `  ctclass cache verify -c my.yaml
  ctclass cache verify /scratch/ctclass --remove`,
	}, &opts, runCacheVerify)
	cmd.Flags().BoolVar(&opts.remove, "remove", false, "remove the damaged entries")
	return cmd
}

func runCacheVerify(ctx context.Context, app *app, opts cacheOptions) error {
	dir, _, err := app.cacheDir(opts)
	if err != nil {
		return err
	}
	bar := app.progress.Start("verifying", 0)
	damage, total, err := cache.Verify(ctx, dir, func(n int) { bar = app.progress.Start("verifying", int64(n)) }, func() { bar.Add(1) })
	bar.Done()
	if err != nil {
		if ctx.Err() == nil {
			err = exitcode.Wrap(exitcode.NoInput, err)
		}
		return err
	}
	removed := 0
	for _, d := range damage {
		if !opts.json {
			fmt.Fprintf(app.out, "%s: %s\n", d.Path, d.Reason)
		}
		if opts.remove {
			if err := os.Remove(d.Path); err != nil {
				return err
			}
			removed++
		}
	}
	if opts.json {
		if err := printJSON(app.out, map[string]any{"dir": dir, "entries": total, "damaged": orEmpty(damage), "removed": removed}); err != nil {
			return err
		}
	}
	if len(damage) > 0 {
		what := "they are made again when they are needed"
		if opts.remove {
			what = "they were removed"
		}
		return exitcode.Errorf(exitcode.SomeFailed, "%d of %d entries are damaged: %s", len(damage), total, what)
	}
	if !opts.json {
		fmt.Fprintf(app.out, "%d entries, all sound\n", total)
	}
	return nil
}

func newCachePruneCommand(app *app) *cobra.Command {
	var opts cacheOptions
	cmd := cacheCommand(app, &cobra.Command{
		Use:   "prune [DIR]",
		Short: "Remove entries from a cache",
		Long: `Prune removes the entries that were not used for longest, until the others fit into --size (without it, into
data.cache.size), those that were not used for --unused-days, and what interrupted writers left behind. It touches only
files that the cache has made, and may run while others use the cache.`,
		Example: `  ctclass cache prune -c my.yaml
  ctclass cache prune /scratch/ctclass --size 20GiB
  ctclass cache prune /scratch/ctclass --unused-days 30`,
	}, &opts, runCachePrune)
	f := cmd.Flags()
	f.StringVar(&opts.size, "size", "", "`size` that may stay, such as 20GiB")
	f.IntVar(&opts.unusedDays, "unused-days", 0, "remove what was not used for so many days")
	f.BoolVar(&opts.all, "all", false, "remove every entry")
	f.BoolVar(&opts.otherVersions, "other-versions", false, "remove entries of other versions of ctclass")
	return cmd
}

func runCachePrune(ctx context.Context, app *app, opts cacheOptions) error {
	dir, size, err := app.cacheDir(opts)
	if err != nil {
		return err
	}
	o := cache.PruneOptions{Limit: -1, Unused: time.Duration(opts.unusedDays) * 24 * time.Hour, OtherVersions: opts.otherVersions}
	if opts.size != "" {
		size = opts.size
	}
	switch {
	case opts.unusedDays < 0:
		return exitcode.Errorf(exitcode.Usage, "--unused-days is %d: want a number of days", opts.unusedDays)
	case opts.all:
		o.Limit = 0
	case size != "":
		if o.Limit, err = config.ParseBytes(size); err != nil {
			return exitcode.Errorf(exitcode.Usage, "--size: %w", err)
		}
	case opts.unusedDays == 0 && !opts.otherVersions:
		return exitcode.Errorf(exitcode.Usage, "nothing says what to remove: give --size, --unused-days, --all or --other-versions, or set data.cache.size")
	}
	done, err := cache.Prune(ctx, dir, o)
	if err != nil {
		if ctx.Err() == nil {
			err = exitcode.Wrap(exitcode.NoInput, err)
		}
		return err
	}
	if opts.json {
		return printJSON(app.out, done)
	}
	fmt.Fprintf(app.out, "removed %d entries, %d unfinished files and %d other versions; %s are left\n", done.Entries, done.Leftovers, done.Versions, bytesText(done.Left))
	return nil
}

func newCacheWarmCommand(app *app) *cobra.Command {
	var opts cacheOptions
	cmd := &cobra.Command{
		Use:   "warm -c FILE",
		Short: "Preprocess all scans of a data set into the cache",
		Long: `Warm reads and preprocesses every scan of the data set that is not in the cache yet, so that training never waits
for one. Several processes, on several machines that share the folder, may warm one cache: they begin at different
scans. A scan that cannot be read is named and left out; warm then ends with code 4.`,
		Example: `  ctclass cache warm -c my.yaml
  ctclass cache warm -c my.yaml --split train,val --set data.workers=8`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runCacheWarm(cmd.Context(), app, opts) },
	}
	opts.config.add(cmd)
	cmd.Flags().StringSliceVar(&opts.splits, "split", nil, "`splits` to read (train, val, test); without it all")
	cmd.Flags().BoolVar(&opts.json, "json", false, "print the counts as JSON")
	return cmd
}

func runCacheWarm(ctx context.Context, app *app, opts cacheOptions) error {
	if _, _, err := app.cacheDir(opts); err != nil {
		return err
	}
	cfg, err := app.loadConfig(opts.config)
	if err != nil {
		return err
	}
	ds, err := data.Open(cfg.Data, cfg.Train.Seed)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	for _, w := range ds.Warnings {
		app.log.Warn(w)
	}
	if err := ds.OpenCache(cfg.Data.Cache, func(text string) { app.log.Warn(text) }); err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	samples := ds.Samples
	if len(opts.splits) > 0 {
		samples = nil
		for _, name := range opts.splits {
			if name != data.Train && name != data.Val && name != data.Test {
				return exitcode.Errorf(exitcode.Usage, "unknown split %q, allowed: train, val, test", name)
			}
			samples = append(samples, ds.Subset(name)...)
		}
		if len(samples) == 0 {
			return exitcode.Errorf(exitcode.NoInput, "%s has no samples in the split %s", cfg.Data.Table, strings.Join(opts.splits, ", "))
		}
	}
	l, err := train.EvalLoader(cfg, ds, samples, train.Threads(cfg.Train.Threads), 0, nil)
	if err != nil {
		return err
	}
	bar := app.progress.Start("warming the cache", int64(len(samples)))
	defer bar.Done()
	var made, was, failed int
	// Processes begin at different scans; where does not change what is made.
	err = l.Warm(ctx, os.Getpid()*7919%len(samples), func(w data.Warmed) {
		switch {
		case w.Err != nil:
			failed++
			app.log.Warn("left out", "scan", w.Sample.Name, "reason", w.Err)
		case w.Was:
			was++
		default:
			made++
		}
		bar.Add(1)
	})
	bar.Done()
	if err != nil {
		return err
	}
	missing := len(samples) - made - was - failed
	if opts.json {
		if err := printJSON(app.out, map[string]int{"scans": len(samples), "made": made, "there": was, "failed": failed, "not_stored": missing}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(app.out, "%s: %d made, %d were there, %d failed, %d not stored\n", english.Plural(len(samples), "scan", ""), made, was, failed, missing)
	}
	if missing > 0 {
		return exitcode.Errorf(exitcode.SomeFailed, "%d of %d scans are not in the cache", missing+failed, len(samples))
	}
	return failures(failed, len(samples))
}

// bytesText shows a number of bytes in a unit that suits it.
func bytesText(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	x, u := float64(n), 0
	for x >= 1000 && u < len(units)-1 {
		x /= 1000
		u++
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", x, units[u])
}
