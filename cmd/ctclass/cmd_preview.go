package main

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/preview"
)

type previewOptions struct {
	config configFlags
	out    string
	show   preview.Options
}

func newPreviewCommand(app *app) *cobra.Command {
	var opts previewOptions
	cmd := &cobra.Command{
		Use:   "preview -c FILE -o PAGE",
		Short: "Show samples before and after augmentation",
		Long: `Preview prepares some scans of a data set as training would and writes one HTML page that shows them: as
preprocessing leaves them, and as data.augment and data.flip change them in the first epochs, with what was drawn.
The page needs no other file and no network. It holds names and pictures of the scans: treat it as they are treated.

A scan that cannot be used is shown with the reason; the exit code is then 4, or 3 when none could be used.`,
		Example: `  ctclass preview -c my.yaml -o samples.html
  ctclass preview -c my.yaml --scan case_0007 --epochs 8 -o case7.html
  ctclass preview -c my.yaml --set data.augment.elastic.p=1 -o elastic.html`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPreview(cmd.Context(), app, opts) },
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVarP(&opts.out, "output", "o", "", "HTML `file` to write")
	f.IntVar(&opts.show.Samples, "samples", 6, "number of scans at most, spread over the split")
	f.IntVar(&opts.show.Epochs, "epochs", 4, "epochs of augmentation to show")
	f.StringVar(&opts.show.Split, "split", "train", "split to take scans from: train, val or test")
	f.StringVar(&opts.show.Scan, "scan", "", "only scans whose name contains this `text`")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

func runPreview(ctx context.Context, app *app, opts previewOptions) error {
	if opts.show.Samples < 1 || opts.show.Epochs < 0 {
		return exitcode.Errorf(exitcode.Usage, "--samples must be at least 1 and --epochs at least 0")
	}
	if err := checkOutputFile("-o", opts.out); err != nil {
		return err
	}
	cfg, err := app.loadConfig(opts.config)
	if err != nil {
		return err
	}
	page, res, err := preview.Make(ctx, cfg, opts.show, app.progress)
	if err != nil {
		return err
	}
	if err := page.Write(opts.out); err != nil {
		return err
	}
	fmt.Fprintf(app.out, "%s: %s\n", english.Plural(res.Shown, "sample", ""), opts.out)
	for _, f := range res.Failed {
		app.log.Warn(f)
	}
	return failures(len(res.Failed), len(res.Failed)+res.Shown)
}
