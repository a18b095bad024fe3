package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/progress"
)

type predictOptions struct {
	model   string
	paths   []string
	json    bool
	csv     string
	series  string
	strict  bool
	threads int
	batch   int
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
(objects of name and probability), warnings and error (null where there is none), among others.`,
		Example: `  ctclass predict run scans/patient1
  ctclass predict run/best.safetensors scans --csv answers.csv
  ctclass predict run chest.nii.gz --json`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.model, opts.paths = args[0], args[1:]
			return runPredict(cmd.Context(), app, opts)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&opts.json, "json", false, "print a JSON object a line for each scan, as soon as it is there")
	f.StringVar(&opts.csv, "csv", "", "also write the answers to this CSV `file`")
	f.StringVar(&opts.series, "series", "", "series to take from each path: a series `UID or number`, \"largest\" or \"all\"")
	f.BoolVar(&opts.strict, "strict", false, "treat a scan with a warning as one that cannot be used")
	f.IntVar(&opts.threads, "threads", 0, "threads of the numeric kernels; 0 means all cores")
	f.IntVar(&opts.batch, "batch", 1, "scans that go through the network together; it changes no result")
	return cmd
}

func runPredict(ctx context.Context, app *app, opts predictOptions) error {
	if opts.batch < 1 {
		return exitcode.Errorf(exitcode.Usage, "--batch is %d, want at least 1", opts.batch)
	}
	if opts.threads < 0 {
		return exitcode.Errorf(exitcode.Usage, "--threads is %d, want 0 or more", opts.threads)
	}
	if opts.csv != "" {
		if err := checkOutputFile("--csv", opts.csv); err != nil {
			return err
		}
	}
	model, err := predict.Load(opts.model)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	var bar *progress.Bar
	p, err := predict.New(model, predict.Options{
		Threads: opts.threads, Batch: opts.batch, Series: opts.series, Strict: opts.strict,
		Found: func(n int) {
			if n > 1 && opts.series != scan.All { // all gives more answers than there are scans
				bar = app.progress.Start("scans", int64(n))
			}
		},
	})
	if err != nil {
		return err
	}
	defer p.Close()
	model.Tensors = nil // the weights are in place: the file's copy may go
	app.log.Debug("model ready", "file", model.Path, "architecture", model.Arch, "network MiB", p.Bytes()>>20)

	var results []predict.Result
	failed := 0
	var printErr error
	err = p.Run(ctx, opts.paths, func(r predict.Result) {
		if r.Error != "" {
			failed++
		}
		if opts.json && printErr == nil {
			printErr = printJSON(app.out, newPrediction(r))
		}
		results = append(results, r)
		bar.Add(1)
	})
	bar.Done()
	// What is there is shown and kept, also when the rest was interrupted.
	if printErr == nil && !opts.json {
		printErr = printPredictions(app.out, model.Labels, results)
	}
	if printErr != nil {
		return printErr
	}
	if opts.csv != "" {
		if err := writePredictionCSV(opts.csv, model.Labels, results); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return failures(failed, len(results))
}

// prediction is a result as --json prints it. Scripts rely on the first five keys.
type prediction struct {
	Path      string            `json:"path"`
	SeriesUID string            `json:"series_uid"` // "" for NIfTI
	Labels    []predictionLabel `json:"labels"`
	Warnings  []string          `json:"warnings"`
	Error     *string           `json:"error"`

	SeriesNumber      *int    `json:"series_number,omitempty"` // DICOM only
	SeriesDescription string  `json:"series_description,omitempty"`
	Chosen            string  `json:"chosen,omitempty"` // why this volume of the path
	Seconds           float64 `json:"seconds"`
}

type predictionLabel struct {
	Name        string  `json:"name"`
	Probability float64 `json:"probability"`
}

func newPrediction(r predict.Result) prediction {
	p := prediction{
		Path: r.Path, SeriesUID: r.SeriesUID, Labels: []predictionLabel{}, Warnings: orEmpty(r.Warnings),
		SeriesDescription: r.SeriesDescription, Chosen: r.Why, Seconds: math.Round(r.Elapsed.Seconds()*1000) / 1000,
	}
	for _, l := range r.Labels {
		p.Labels = append(p.Labels, predictionLabel(l))
	}
	if r.Error != "" {
		p.Error = &r.Error
	}
	if r.SeriesUID != "" {
		p.SeriesNumber = &r.SeriesNumber
	}
	return p
}

// maxLabelColumns is how many labels get a column each; more are listed below each other.
const maxLabelColumns = 6

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

// writePredictionCSV writes a line for each scan; the probabilities of a failed one are empty.
func writePredictionCSV(path string, labels []string, results []predict.Result) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		out := csv.NewWriter(w)
		lines := [][]string{append(append([]string{"path", "series_uid"}, labels...), "warnings", "error")}
		for _, r := range results {
			line := []string{r.Path, r.SeriesUID}
			for i := range labels {
				text := ""
				if r.Error == "" {
					text = strconv.FormatFloat(r.Labels[i].Probability, 'g', -1, 64)
				}
				line = append(line, text)
			}
			lines = append(lines, append(line, strings.Join(r.Warnings, "; "), r.Error))
		}
		return out.WriteAll(lines)
	})
}
