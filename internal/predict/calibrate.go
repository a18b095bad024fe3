package predict

import (
	"context"
	"log/slog"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/progress"
)

// NoCalibration is the method that leaves a model's own probabilities.
const NoCalibration = "none"

// CalibrateOptions say what goes into a model file.
type CalibrateOptions struct {
	Model  string
	Method string   // eval.Temperature, eval.Isotonic or NoCalibration
	Points []string // rules of the operating points, see eval.ParseRule
	Out    string   // file to write; "": the model file itself
}

// Calibrated is what Calibrate has done. The measures are those of the samples that it was done on: they say little
// about others.
type Calibrated struct {
	Model       string                `json:"model"` // the file written
	Split       string                `json:"split"`
	Samples     int                   `json:"samples"`
	Calibration *eval.Calibration     `json:"calibration"` // null: none
	Points      []eval.OperatingPoint `json:"operating_points"`
	Labels      []CalibratedLabel     `json:"labels"`
	Warnings    []string              `json:"warnings"`
}

// CalibratedLabel tells what the calibration has done to a label.
type CalibratedLabel struct {
	Name        string     `json:"name"`
	ECEBefore   eval.Score `json:"ece_before"`
	ECEAfter    eval.Score `json:"ece_after"`
	BrierBefore eval.Score `json:"brier_before"`
	BrierAfter  eval.Score `json:"brier_after"`
}

// Calibrate fits a calibration and chooses operating points on the split c.Eval.Split of the data set that c
// describes and writes them into the model file, in place of what it held. The weights stay as they are.
func Calibrate(ctx context.Context, c *config.Config, opt CalibrateOptions, log *slog.Logger, report *progress.Reporter) (*Calibrated, error) {
	var rules []eval.Rule
	for _, text := range opt.Points {
		rule, err := eval.ParseRule(text)
		if err != nil {
			return nil, exitcode.Wrap(exitcode.Usage, err)
		}
		rules = append(rules, rule)
	}
	switch opt.Method {
	case NoCalibration, eval.Temperature, eval.Isotonic:
	default:
		return nil, exitcode.Errorf(exitcode.Usage, "the method of calibration is %q, allowed: %s, %s, %s", opt.Method, NoCalibration, eval.Temperature, eval.Isotonic)
	}
	r, err := openEvaluation(c, []string{opt.Model}, log, report)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	m := r.models[0]
	logits, err := r.logits(ctx)
	if err != nil {
		return nil, err
	}
	if r.split == data.Train {
		r.warn("calibrating on the training split: the model knows these samples, its probabilities will be too certain elsewhere")
	}
	origin := eval.Origin{Split: r.split, Samples: len(r.kept), Flips: AxisNames(r.flip), DataFingerprint: r.ds.Fingerprint()}
	m.Calibration = nil
	before := r.cases(m.Calibration.Probabilities(m.Task, logits[0]))
	if opt.Method != NoCalibration {
		var warnings []string
		if m.Calibration, warnings, err = eval.Calibrate(opt.Method, m.Task, m.Labels, logits[0], r.targets); err != nil {
			return nil, err
		}
		m.Calibration.Origin = origin
		for _, w := range warnings {
			r.warn(w)
		}
	}
	after := r.cases(m.Calibration.Probabilities(m.Task, logits[0]))
	points, warnings, err := eval.ChoosePoints(after, rules)
	if err != nil {
		return nil, err
	}
	for i := range points {
		points[i].Origin = origin
	}
	if len(rules) > 0 {
		for _, w := range warnings {
			r.warn(w)
		}
	}
	m.OperatingPoints = points
	res := &Calibrated{
		Model: m.Path, Split: r.split, Samples: len(r.kept), Calibration: m.Calibration, Points: append([]eval.OperatingPoint{}, points...),
		Warnings: append([]string{}, r.warnings...),
	}
	if opt.Out != "" {
		res.Model = opt.Out
	}
	if res.Labels, err = compareCalibration(before, after, c.Eval.Threshold); err != nil {
		return nil, err
	}
	return res, modelfile.Save(res.Model, m.Model)
}

func compareCalibration(before, after *eval.Cases, threshold float64) ([]CalibratedLabel, error) {
	x, err := eval.Compute(before.Task, before.Labels, before.Prob, before.Target, threshold)
	if err != nil {
		return nil, err
	}
	y, err := eval.Compute(after.Task, after.Labels, after.Prob, after.Target, threshold)
	if err != nil {
		return nil, err
	}
	var out []CalibratedLabel
	for k, l := range x.Labels {
		out = append(out, CalibratedLabel{l.Name, l.ECE, y.Labels[k].ECE, l.Brier, y.Labels[k].Brier})
	}
	return out, nil
}
