// Package crossval trains a model for each fold of a data set and measures them on what they were not trained on.
package crossval

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/train"
)

// The files of the folder of a cross-validation, beside a run folder for each fold.
const (
	FoldsFile       = "folds.csv"       // who is in which fold, as data.split_file takes it
	PredictionsFile = "out_of_fold.csv" // every sample by the model that did not see it
	ResultFile      = "folds.json"      // Result
)

// Result is what a cross-validation comes to. Every measure is that of the model after the last epoch: the best
// epoch was chosen on the fold itself, and would look better than it is.
type Result struct {
	Dir    string       `json:"dir"`
	Folds  []Fold       `json:"folds"`
	Mean   eval.Metrics `json:"mean"` // over the folds that define a measure, of their macro averages
	SD     eval.Metrics `json:"sd"`   // with n-1; undefined for one fold
	Pooled *eval.Report `json:"pooled"`
}

// Fold is the result of one fold.
type Fold struct {
	Fold    int          `json:"fold"` // from 1
	Dir     string       `json:"dir"`
	Samples int          `json:"samples"` // held out
	Report  *eval.Report `json:"report"`  // of the held-out samples, by the model of the last epoch
	// Best and BestEpoch are train.monitor of the best epoch; the fold itself has chosen it.
	Best      eval.Score `json:"best_chosen_on_fold"`
	BestEpoch int        `json:"best_epoch"`
}

// Run trains on all folds but one, for each of k folds in turn. The run of fold i goes to the folder fold-i of
// opt.Dir, and is one as any other; with opt.Resume finished ones are kept and an unfinished one goes on. The test
// split of the data set, if it has one, takes no part.
func Run(ctx context.Context, c *config.Config, k int, opt train.Options) (*Result, error) {
	if opt.MaxSteps > 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "a cut-short run is no fold: --max-steps and --folds exclude each other")
	}
	if c.Data.SplitFile != "" || c.Data.Fold > 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "data.split_file says who is validated on already: leave it empty, or train its folds one by one with data.fold")
	}
	if c.Data.Fraction > 0 && c.Data.Fraction < 1 {
		return nil, exitcode.Errorf(exitcode.Usage, "data.fraction %v and --folds exclude each other: every sample belongs to a fold", c.Data.Fraction)
	}
	if c.Train.EarlyStop.Patience > 0 {
		opt.Log.Warn("train.early_stop looks at the fold that the model is measured on: the result is somewhat too good")
	}
	ds, err := data.Open(c.Data, c.Train.Seed)
	if err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	folds, err := ds.Folds(k, c.Train.Seed)
	if err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	if err := writeFolds(opt, ds, folds); err != nil {
		return nil, err
	}
	res := &Result{Dir: opt.Dir}
	all := &eval.Cases{Task: ds.Task, Labels: ds.Labels}
	var of []int // fold of each of all
	for f := range k {
		cfg := *c
		cfg.Data.SplitFile, cfg.Data.Fold = filepath.Join(opt.Dir, FoldsFile), f+1
		fold, cases, err := runFold(ctx, &cfg, f, k, opt)
		if err != nil {
			return nil, fmt.Errorf("fold %d of %d: %w", f+1, k, err)
		}
		res.Folds = append(res.Folds, fold)
		all.Names, all.Patients = append(all.Names, cases.Names...), append(all.Patients, cases.Patients...)
		all.Prob, all.Target = append(all.Prob, cases.Prob...), append(all.Target, cases.Target...)
		of = append(of, slices.Repeat([]int{f}, len(cases.Prob))...)
	}
	res.Mean, res.SD = spread(res.Folds)
	if res.Pooled, err = eval.Analyze(all, eval.Options{
		Thresholds: eval.Thresholds(nil, all.Labels, "", c.Eval.Threshold), Fallback: c.Eval.Threshold,
		Resamples: resamples, Seed: c.Train.Seed,
	}); err != nil {
		return nil, err
	}
	return res, write(opt.Dir, res, all, of)
}

// resamples is the number of resamples of the patients behind the intervals of the pooled measures.
const resamples = 1000

// writeFolds writes who is in which fold, or makes sure that a resumed cross-validation has the same folds.
func writeFolds(opt train.Options, ds *data.Dataset, folds []int) error {
	var b bytes.Buffer
	if err := ds.WriteSplits(&b, folds); err != nil {
		return err
	}
	path := filepath.Join(opt.Dir, FoldsFile)
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(opt.Dir, 0o755); err != nil {
			return fmt.Errorf("cannot make the folder of the folds: %w", err)
		}
		return atomicfile.WriteBytes(path, b.Bytes())
	case err != nil:
		return err
	case !opt.Resume:
		return exitcode.Errorf(exitcode.Usage, "%s holds a cross-validation already: continue it with --resume, or choose another folder with --out", opt.Dir)
	case !bytes.Equal(old, b.Bytes()):
		return exitcode.Errorf(exitcode.Usage, "cannot resume %s: it was started with other data, another number of folds or another seed", opt.Dir)
	}
	return nil
}

// runFold trains on all folds but fold f and returns the predictions for it.
func runFold(ctx context.Context, c *config.Config, f, k int, opt train.Options) (Fold, *eval.Cases, error) {
	fold := Fold{Fold: f + 1, Dir: filepath.Join(opt.Dir, fmt.Sprintf("fold-%d", f+1))}
	lg := opt.Log.With("fold", fmt.Sprintf("%d/%d", f+1, k))
	opt.Dir, opt.Log, c.Output.Dir = fold.Dir, lg, fold.Dir
	if _, err := os.Stat(fold.Dir); errors.Is(err, fs.ErrNotExist) {
		opt.Resume = false
	}
	run, err := train.Run(ctx, c, opt)
	if err != nil {
		return fold, nil, err
	}
	fold.Best, fold.BestEpoch = run.Best, run.BestEpoch
	ev, err := heldOut(ctx, c, run.LastPath, opt)
	if err != nil {
		return fold, nil, err
	}
	fold.Samples, fold.Report = len(ev.Samples), ev.Report
	cases := &eval.Cases{Target: ev.Targets}
	for i, s := range ev.Samples {
		cases.Prob = append(cases.Prob, eval.Activate(ev.Report.Task, ev.Logits[i]))
		cases.Names, cases.Patients = append(cases.Names, s.Name), append(cases.Patients, s.Group)
	}
	lg.Info("fold done", "held out", fold.Samples, "auroc", ev.Report.Macro.AUROC.String())
	return fold, cases, nil
}

// heldOut evaluates a model file on the validation split.
func heldOut(ctx context.Context, c *config.Config, path string, opt train.Options) (*train.Evaluation, error) {
	m, err := predict.Load(path)
	if err != nil {
		return nil, err
	}
	ds, err := data.Open(c.Data, c.Train.Seed)
	if err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	threads := opt.Threads
	if threads == 0 {
		threads = train.Threads(c.Train.Threads)
	}
	dev, err := train.OpenDevice(c, threads)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	sess, err := m.Start(dev, train.EvalBatch(c))
	if err != nil {
		return nil, err
	}
	defer sess.Close()
	samples := ds.Subset(data.Val)
	l, err := train.EvalLoader(c, ds, samples, dev.Threads(), 0, func(data.Sample, string) {}) // training has warned
	if err != nil {
		return nil, err
	}
	bar := opt.Progress.Start("evaluating", int64(len(samples)))
	defer bar.Done()
	return train.Evaluate(ctx, sess, l, ds.Task, ds.Labels, c.Eval.Threshold, nil, bar.Add)
}

// spread returns the mean and the standard deviation of each measure's macro average over the folds.
func spread(folds []Fold) (mean, sd eval.Metrics) {
	var values []eval.Metrics
	for _, f := range folds {
		m := f.Report.Macro.Metrics
		m.Accuracy, _ = f.Report.Metric("accuracy") // of the multiclass task: the share of right answers
		values = append(values, m)
	}
	mean = eval.Combine(values, meanOf)
	return mean, eval.Combine(values, deviation)
}

func meanOf(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x)) // 0/0 is NaN: undefined
}

// deviation is the standard deviation of a sample, of two values or more.
func deviation(x []float64) float64 {
	if len(x) < 2 {
		return math.NaN()
	}
	mean, sum := meanOf(x), 0.0
	for _, v := range x {
		sum += (v - mean) * (v - mean)
	}
	return math.Sqrt(sum / float64(len(x)-1))
}

// write leaves the result and the predictions in the folder.
func write(dir string, res *Result, all *eval.Cases, of []int) error {
	raw, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(filepath.Join(dir, ResultFile), append(raw, '\n')); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, PredictionsFile), func(w io.Writer) error {
		t := csv.NewWriter(w)
		header := []string{"sample", "patient", "fold"}
		targets := all.Labels
		if all.Task == data.Multiclass {
			targets = []string{"class"}
		}
		header = append(header, targets...)
		for _, l := range all.Labels {
			header = append(header, "p("+l+")")
		}
		if err := t.Write(header); err != nil {
			return err
		}
		for i := range all.Prob {
			row := []string{all.Names[i], all.Patients[i], strconv.Itoa(of[i] + 1)}
			for _, v := range all.Target[i] {
				switch {
				case math.IsNaN(v):
					row = append(row, "")
				case all.Task == data.Multiclass:
					row = append(row, all.Labels[int(v)])
				default:
					row = append(row, strconv.FormatFloat(v, 'g', -1, 64))
				}
			}
			for _, p := range all.Prob[i] {
				row = append(row, strconv.FormatFloat(p, 'g', 9, 64))
			}
			if err := t.Write(row); err != nil {
				return err
			}
		}
		t.Flush()
		return t.Error()
	})
}
