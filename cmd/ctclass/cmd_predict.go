package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/explain"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/runs"
)

type predictOptions struct {
	models    []string
	paths     []string
	flip      []string
	mean      string
	point     string
	json      bool
	csv       string
	jsonl     string
	resume    bool
	series    string
	strict    bool
	threads   int
	precision string
	batch     int
	explain   predict.Explain
	sr, sc    string
}

func newPredictCommand(app *app) *cobra.Command {
	opts := predictDefaults()
	cmd := &cobra.Command{
		Use:   "predict MODEL... PATH...",
		Short: "Apply a trained model, or several, to scans",
		Long: `Predict applies a model to CT scans and prints the probability of each label. A + marks labels that are present:
whose probability reaches the label's threshold, that of the model's operating point or else 0.5.

MODEL is a model file or the folder of a training run; several ones answer together by the mean of their
probabilities. With --flip a scan is answered for as it is and mirrored, and the mean counts. A PATH is a folder with DICOM files, a NIfTI file, a
zip or tar archive of such files, a DICOMDIR, or a folder of many scans. Of a folder with several series of one
study the most plausible axial CT series is taken; "ctclass inspect PATH" shows what was found and why it was
chosen. --series takes another one, or with "all" every CT series of two slices or more, which gives an answer
each.

A scan that cannot be read gets its line with the reason and the others go on: the exit code is then 4, or 3
when no scan could be used. With --strict that goes for a scan with a warning too: missing slices, values that
are not HU, damaged files among its slices, doubtful geometry. With --json each line is an object with
the keys path, series_uid, labels (objects of name, probability and decision), warnings and error (null where there
is none), among others. Probabilities are calibrated where the model has a calibration.

--csv and --jsonl write the answers to files too, each answer as soon as it is there. A run that was interrupted
goes on with them where it stopped with --resume: paths that have their answer, be it a failure, are left out, and
no line is lost or doubled. Probabilities of equal runs are equal to the last digit.

--explain writes, for each label that is explained, a heat map as NIfTI on the voxels of the scan (it opens over the
scan in 3D Slicer or ITK-SNAP) and as a picture of the slices through its peak. Values are shares of the peak, from
0 to 1: they show where, not how sure. The methods: gradcam (convolutional networks; a feature map weighted by
the label's gradient; --explain-layer takes another one than the deepest of at most 8 voxels a cell), hirescam
(the same element by element), attention (vision transformers; attention weighted by its gradient) and occlusion
(masks one box after another; slow, for a cross-check). Of several models the first one is explained.

--sr writes a DICOM Structured Report of each DICOM series' answers, --sc a Secondary Capture of each heat map's
picture. They join the patient's study, so they hold what identifies the patient: name, ID, birth date and sex,
accession number and study are those of the series. Nothing else that ctclass writes does.`,
		Example: `  ctclass predict run scans/patient1
  ctclass predict run/best.safetensors scans --csv answers.csv
  ctclass predict run/best.safetensors scans --csv answers.csv --resume
  ctclass predict run1 run2 run3 chest.nii.gz --flip w --json
  ctclass predict run chest.nii.gz --explain why --explain-label nodule
  ctclass predict run /data/study-17 --sr reports --sc pictures`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n := countModels(args)
			opts.models, opts.paths = args[:n], args[n:]
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
	f.StringVar(&opts.precision, "precision", opts.precision, "of the network: "+config.FP32+", or "+config.BF16+", which takes less memory and for vision transformers less time; probabilities differ a little")
	f.IntVar(&opts.batch, "batch", opts.batch, "scans that go through the network together; it changes no result")
	f.StringSliceVar(&opts.flip, "flip", nil, "`axes` (d, h, w) along which scans are mirrored too (test-time augmentation)")
	f.StringVar(&opts.mean, "mean", opts.mean, "what several models average: "+predict.MeanProbabilities+" or "+predict.MeanLogits)
	f.StringVar(&opts.point, "point", "", "operating point whose thresholds decide, such as youden; by default the first one of each label")
	f.StringVar(&opts.explain.Dir, "explain", "", "`folder` for heat maps that show where the answers come from")
	f.StringVar(&opts.explain.Label, "explain-label", predict.ExplainFound, "`labels` to explain: names separated by commas, or \"all\"; by default those found, else the most probable one")
	f.StringVar(&opts.explain.Method, "explain-method", "", "`method`: "+strings.Join(explain.Methods(), ", ")+"; by default attention for vision transformers, gradcam for others")
	f.StringVar(&opts.explain.Layer, "explain-layer", "", "`layer` whose feature map gradcam and hirescam read, such as layer2 or features.norm5")
	f.StringVar(&opts.sr, "sr", "", "`folder` for DICOM Structured Reports, which identify the patient")
	f.StringVar(&opts.sc, "sc", "", "`folder` for DICOM Secondary Captures of the heat maps, which identify the patient")
	return cmd
}

// predictDefaults are the options where nothing else is said.
func predictDefaults() predictOptions {
	return predictOptions{batch: 1, mean: predict.MeanProbabilities, precision: config.FP32}
}

// countModels returns how many of the arguments name models: the first one, and those behind it that are model files
// or folders of runs, which no scan is; the last one is a path.
func countModels(args []string) int {
	n := 1
	for n < len(args)-1 && predict.IsModel(args[n]) {
		n++
	}
	return n
}

// check says what is wrong with the flags before the work.
func (o predictOptions) check() error {
	if o.mean != predict.MeanProbabilities && o.mean != predict.MeanLogits {
		return exitcode.Errorf(exitcode.Usage, "--mean is %q, allowed: %s, %s", o.mean, predict.MeanProbabilities, predict.MeanLogits)
	}
	if o.batch < 1 {
		return exitcode.Errorf(exitcode.Usage, "--batch is %d, want at least 1", o.batch)
	}
	if o.threads < 0 {
		return exitcode.Errorf(exitcode.Usage, "--threads is %d, want 0 or more", o.threads)
	}
	if o.precision != config.FP32 && o.precision != config.BF16 {
		return exitcode.Errorf(exitcode.Usage, "--precision is %q, allowed: %s, %s", o.precision, config.FP32, config.BF16)
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
	if o.explain.Dir == "" && o.sc == "" && (o.explain.Label != "" || o.explain.Method != "" || o.explain.Layer != "") {
		return exitcode.Errorf(exitcode.Usage, "--explain-label, --explain-method and --explain-layer need a folder for the heat maps: --explain DIR or --sc DIR")
	}
	return nil
}

func runPredict(ctx context.Context, app *app, opts predictOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	flip, err := predict.ParseAxes(opts.flip)
	if err != nil {
		return exitcode.Errorf(exitcode.Usage, "--flip: %w", err)
	}
	var models []*predict.Model
	for _, path := range opts.models {
		m, err := predict.Load(path)
		if err != nil {
			return exitcode.Wrap(exitcode.Usage, err)
		}
		models = append(models, m)
	}
	var bar *progress.Bar
	var journal *predict.Journal
	settings := predict.Options{
		Threads: opts.threads, Batch: opts.batch, Series: opts.series, Strict: opts.strict,
		Flip: flip, Mean: opts.mean, Half: opts.precision == config.BF16, Point: opts.point,
		Found: func(n int) {
			if n > 1 && opts.series != scan.All { // all gives more answers than there are scans
				bar = app.progress.Start("scans", int64(n))
			}
		},
	}
	if opts.explain.Dir != "" || opts.sc != "" {
		settings.Explain = &opts.explain
	}
	if opts.sr != "" || opts.sc != "" {
		settings.Documents = &predict.Documents{Reports: opts.sr, Captures: opts.sc, Version: runs.Version(), Now: time.Now}
	}
	if opts.resume {
		settings.Skip = func(path string) bool { return journal.Done[path] }
	}
	p, err := predict.New(models, settings)
	if err != nil {
		return err
	}
	defer p.Close()
	if journal, err = p.OpenJournal(opts.csv, opts.jsonl, opts.resume, opts.series == scan.All); err != nil {
		return err
	}
	defer journal.Close()
	for _, m := range models {
		m.Tensors = nil // the weights are in place: the file's copy may go
		app.log.Debug("model ready", "file", m.Path, "architecture", m.Arch)
	}
	for _, w := range p.Warnings() {
		app.log.Warn(w)
	}
	if opts.resume {
		app.log.Info("resuming", "answers kept", journal.Answers)
	}

	table := &predictionTable{out: app.out, p: p}
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
			return p.WriteJSON(app.out, r)
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
	out  io.Writer
	p    *predict.Predictor
	page []predict.Result
}

func (t *predictionTable) add(r predict.Result) error {
	if t.page = append(t.page, r); len(t.page) < tablePage {
		return nil
	}
	return t.flush()
}

func (t *predictionTable) flush() error {
	err := printPredictions(t.out, t.p, t.page)
	t.page = t.page[:0]
	return err
}

// printPredictions shows the probabilities as a table and, below it, what there is to say about each scan.
func printPredictions(w io.Writer, p *predict.Predictor, results []predict.Result) error {
	labels := p.Labels()
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
	b.WriteString(thresholdText(p))
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
		for _, path := range append(slices.Clone(r.Captures), r.Report) {
			if path != "" {
				notes = append(notes, "DICOM: "+path)
			}
		}
		if len(notes) > 0 {
			fmt.Fprintf(&b, "\n%s\n  %s\n", r.Path, strings.Join(notes, "\n  "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// thresholdText says what a + means.
func thresholdText(p *predict.Predictor) string {
	if p.Multiclass() {
		return "+ the class of the highest probability\n"
	}
	var parts []string
	same := true
	for i, t := range p.Thresholds() {
		text := fmt.Sprintf("%.4g", t.Value)
		if t.Point != "" {
			text += " (" + t.Point + ")"
		}
		same = same && t == p.Thresholds()[0]
		if parts = append(parts, p.Labels()[i]+" "+text); same && i == len(p.Labels())-1 {
			parts = []string{text}
		}
	}
	return "+ present, from a probability of " + strings.Join(parts, ", ") + "\n"
}

func probabilityText(r predict.Result, i int) string {
	if r.Error != "" {
		return "failed"
	}
	mark := " "
	if r.Labels[i].Present {
		mark = "+"
	}
	return fmt.Sprintf("%.4f%s", r.Labels[i].Probability, mark)
}

// seriesName names the series that was used, as its description and number in the viewer.
func seriesName(r predict.Result) string {
	if r.SeriesUID == "" {
		return "-"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", r.SeriesNumber, r.SeriesDescription))
}
