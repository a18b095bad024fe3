package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/explain"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/progress"
)

type predictOptions struct {
	model   string
	paths   []string
	json    bool
	csv     string
	jsonl   string
	resume  bool
	series  string
	strict  bool
	threads int
	batch   int
	explain predict.Explain
}

func newPredictCommand(app *app) *cobra.Command {
	var opts predictOptions
	cmd := &cobra.Command{
		Use:   "predict MODEL PATH...",
		Short: "Apply a trained model to scans",
		Long: `Predict applies a model to CT scans and prints the probability of each label.

MODEL is a model file or the folder of a training run. A PATH is a folder with DICOM files, a NIfTI file, a
zip or tar archive of such files, a DICOMDIR, or a folder of many scans. Of a folder with several series of one
study the most plausible axial CT series is taken; "ctclass inspect PATH" shows what was found and why it was
chosen. --series takes another one, or with "all" every CT series of two slices or more, which gives an answer
each.

A scan that cannot be read gets its line with the reason and the others go on: the exit code is then 4, or 3
when no scan could be used. With --strict that goes for a scan with a warning too: missing slices, values that
are not HU, damaged files among its slices, doubtful geometry. With --json each line is an object with the keys path, series_uid, labels
(objects of name and probability), warnings and error (null where there is none), among others.

--csv and --jsonl write the answers to files too, each answer as soon as it is there. A run that was interrupted
goes on with them where it stopped with --resume: paths that have their answer, be it a failure, are left out, and
no line is lost or doubled. Probabilities of equal runs are equal to the last digit.

--explain writes, for each label that is explained, a heat map as NIfTI on the voxels of the scan (it opens over the
scan in 3D Slicer or ITK-SNAP) and as a picture of the slices through its peak. Values are shares of the peak, from
0 to 1: they show where, not how sure. The methods: gradcam (convolutional networks; a feature map weighted by
the label's gradient; --explain-layer takes another one than the deepest of at most 8 voxels a cell), hirescam
(the same element by element), attention (vision transformers; attention weighted by its gradient) and occlusion
(masks one box after another; slow, for a cross-check).`,
		Example: `  ctclass predict run scans/patient1
  ctclass predict run/best.safetensors scans --csv answers.csv
  ctclass predict run/best.safetensors scans --csv answers.csv --resume
  ctclass predict run chest.nii.gz --json
  ctclass predict run chest.nii.gz --explain why --explain-label nodule`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.model, opts.paths = args[0], args[1:]
			return runPredict(cmd.Context(), app, opts)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&opts.json, "json", false, "print a JSON object a line for each scan, as soon as it is there")
	f.StringVar(&opts.csv, "csv", "", "also write the answers to this CSV `file`")
	f.StringVar(&opts.jsonl, "jsonl", "", "also write the answers to this `file`, in the lines of --json")
	f.BoolVar(&opts.resume, "resume", false, "go on with the files of --csv and --jsonl: leave out the scans that they answer for")
	f.StringVar(&opts.series, "series", "", "series to take from each path: a series `UID or number`, \"largest\" or \"all\"")
	f.BoolVar(&opts.strict, "strict", false, "treat a scan with a warning as one that cannot be used")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 means all cores")
	f.IntVar(&opts.batch, "batch", 1, "scans that go through the network together; it changes no result")
	f.StringVar(&opts.explain.Dir, "explain", "", "`folder` for heat maps that show where the answers come from")
	f.StringVar(&opts.explain.Label, "explain-label", predict.ExplainFound, "`labels` to explain: names separated by commas, or \"all\"; by default those found, else the most probable one")
	f.StringVar(&opts.explain.Method, "explain-method", "", "`method`: "+strings.Join(explain.Methods(), ", ")+"; by default attention for vision transformers, gradcam for others")
	f.StringVar(&opts.explain.Layer, "explain-layer", "", "`layer` whose feature map gradcam and hirescam read, such as layer2 or features.norm5")
	return cmd
}

// check says what is wrong with the flags before the work.
func (o predictOptions) check() error {
	if o.batch < 1 {
		return exitcode.Errorf(exitcode.Usage, "--batch is %d, want at least 1", o.batch)
	}
	if o.threads < 0 {
		return exitcode.Errorf(exitcode.Usage, "--threads is %d, want 0 or more", o.threads)
	}
	for flag, path := range map[string]string{"--csv": o.csv, "--jsonl": o.jsonl} {
		if path != "" {
			if err := checkOutputFile(flag, path); err != nil {
				return err
			}
		}
	}
	if o.resume && o.csv == "" && o.jsonl == "" {
		return exitcode.Errorf(exitcode.Usage, "--resume needs the file of answers to go on with: --csv or --jsonl")
	}
	if o.explain.Dir == "" && (o.explain.Label != "" || o.explain.Method != "" || o.explain.Layer != "") {
		return exitcode.Errorf(exitcode.Usage, "--explain-label, --explain-method and --explain-layer need a folder for the heat maps: --explain DIR")
	}
	return nil
}

func runPredict(ctx context.Context, app *app, opts predictOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	model, err := predict.Load(opts.model)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	var bar *progress.Bar
	var journal *predict.Journal
	settings := predict.Options{
		Threads: opts.threads, Batch: opts.batch, Series: opts.series, Strict: opts.strict,
		Found: func(n int) {
			if n > 1 && opts.series != scan.All { // all gives more answers than there are scans
				bar = app.progress.Start("scans", int64(n))
			}
		},
	}
	if opts.explain.Dir != "" {
		settings.Explain = &opts.explain
	}
	if opts.resume {
		settings.Skip = func(path string) bool { return journal.Done[path] }
	}
	p, err := predict.New(model, settings)
	if err != nil {
		return err
	}
	defer p.Close()
	if journal, err = predict.OpenJournal(model, opts.csv, opts.jsonl, opts.resume, opts.series == scan.All); err != nil {
		return err
	}
	defer journal.Close()
	model.Tensors = nil // the weights are in place: the file's copy may go
	app.log.Debug("model ready", "file", model.Path, "architecture", model.Arch, "network MiB", p.Bytes()>>20)
	if opts.resume {
		app.log.Info("resuming", "answers kept", journal.Answers)
	}

	table := &predictionTable{out: app.out, labels: model.Labels}
	failed, all := journal.Failed, journal.Answers
	err = p.Run(ctx, opts.paths, func(r predict.Result) error {
		defer bar.Add(1)
		all++
		if r.Error != "" {
			failed++
		}
		if err := journal.Append(r); err != nil {
			return err
		}
		if opts.json {
			return model.WriteJSON(app.out, r)
		}
		return table.add(r)
	})
	bar.Done()
	// What is there is shown, also when the rest was interrupted.
	if printErr := table.flush(); printErr != nil && err == nil {
		err = printErr
	}
	if err != nil {
		return err
	}
	if err := journal.Close(); err != nil {
		return err
	}
	return failures(failed, all)
}

// maxLabelColumns is how many labels get a column each; more are listed below each other.
const maxLabelColumns = 6

// tablePage is how many scans a table shows: of thousands of scans the first are shown before the last are read,
// and none are kept.
const tablePage = 100

// predictionTable prints results in tables of a page each.
type predictionTable struct {
	out    io.Writer
	labels []string
	page   []predict.Result
}

func (t *predictionTable) add(r predict.Result) error {
	if t.page = append(t.page, r); len(t.page) < tablePage {
		return nil
	}
	return t.flush()
}

func (t *predictionTable) flush() error {
	err := printPredictions(t.out, t.labels, t.page)
	t.page = t.page[:0]
	return err
}

// printPredictions shows the probabilities as a table and, below it, what there is to say about each scan.
func printPredictions(w io.Writer, labels []string, results []predict.Result) error {
	if len(results) == 0 {
		return nil
	}
	var t table.Writer
	if len(labels) <= maxLabelColumns {
		t = newTable(append([]string{"scan", "series"}, labels...), labels...)
		for _, r := range results {
			row := table.Row{r.Path, seriesName(r)}
			for i := range labels {
				row = append(row, probabilityText(r, i))
			}
			t.AppendRow(row)
		}
	} else {
		t = newTable([]string{"scan", "series", "label", "probability"}, "probability")
		for _, r := range results {
			scan, series := r.Path, seriesName(r)
			if r.Error != "" {
				t.AppendRow(table.Row{scan, series, "", probabilityText(r, 0)})
				continue
			}
			for i, name := range labels {
				t.AppendRow(table.Row{scan, series, name, probabilityText(r, i)})
				scan, series = "", "" // once is enough
			}
		}
	}
	if err := printTable(w, t); err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range results {
		var notes []string
		if r.Error != "" {
			notes = append(notes, "failed: "+r.Error)
		}
		for _, text := range r.Warnings {
			notes = append(notes, "warning: "+text)
		}
		if r.Why != "" && r.Why != "the only volume" {
			notes = append(notes, "chosen: "+r.Why)
		}
		for _, x := range r.Explanations {
			notes = append(notes, fmt.Sprintf("%s of %s: %s, %s", x.Method, x.Label, x.NIfTI, x.PNG))
		}
		if len(notes) > 0 {
			fmt.Fprintf(&b, "\n%s\n  %s\n", r.Path, strings.Join(notes, "\n  "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func probabilityText(r predict.Result, i int) string {
	if r.Error != "" {
		return "failed"
	}
	return fmt.Sprintf("%.4f", r.Labels[i].Probability)
}

// seriesName names the series that was used, as its description and number in the viewer.
func seriesName(r predict.Result) string {
	if r.SeriesUID == "" {
		return "-"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", r.SeriesNumber, r.SeriesDescription))
}
