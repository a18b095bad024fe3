package predict

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/session"
)

// The means that combine the probabilities of several models.
const (
	MeanProbabilities = "probabilities" // the arithmetic mean
	MeanLogits        = "logits"        // the mean of log-odds, or of log-probabilities in the multiclass task
)

// EnsembleOptions say how models answer together.
type EnsembleOptions struct {
	Batch int     // samples at a time; 0: one
	Flip  [3]bool // axes d, h, w of test-time augmentation, see Views
	Mean  string  // of several models: MeanProbabilities (also "") or MeanLogits
	// Probe is the diagnostic program of the first model, see session.Options; nil: none.
	Probe func(logits *graph.Value) (session.Probe, error)
}

// Ensemble is one model or several ones for the same labels, ready to run. What a model calibrates comes before the
// mean over the models.
type Ensemble struct {
	Task   string
	Labels []string
	// Inputs are the different ways in which the models want a volume to be prepared.
	Inputs []config.Preprocess

	opt     EnsembleOptions
	members []member
}

type member struct {
	model *Model
	sess  *session.Session
	views *Views
	input int // index in Inputs
}

// StartEnsemble brings models into memory, all at once. Close gives the memory back.
func StartEnsemble(dev engine.Device, models []*Model, opt EnsembleOptions) (*Ensemble, error) {
	opt.Batch = max(1, opt.Batch)
	e := &Ensemble{opt: opt}
	if err := CheckEnsemble(models); err != nil {
		return nil, err
	}
	e.Task, e.Labels = models[0].Task, models[0].Labels
	for at, m := range models {
		probe := opt.Probe
		if at > 0 {
			probe = nil
		}
		s, err := m.start(dev, opt.Batch, probe)
		if err != nil {
			e.Close()
			return nil, err
		}
		i := slices.IndexFunc(e.Inputs, func(p config.Preprocess) bool { return reflect.DeepEqual(p, m.Preprocess) })
		if i < 0 {
			i = len(e.Inputs)
			e.Inputs = append(e.Inputs, m.Preprocess)
		}
		e.members = append(e.members, member{m, s, NewViews(s, m, opt.Flip), i})
	}
	return e, nil
}

// Close gives the memory back.
func (e *Ensemble) Close() {
	for _, m := range e.members {
		m.sess.Close()
	}
}

// Bytes returns the memory that the networks hold.
func (e *Ensemble) Bytes() int64 {
	var n int64
	for _, m := range e.members {
		n += m.sess.Bytes()
	}
	return n
}

// Probabilities answers for n samples, at most the batch: x holds for each of Inputs the samples (n, C, D, H, W), the
// result [n][labels] is calibrated. A sample's result does not depend on the others. x is changed and changed back.
func (e *Ensemble) Probabilities(x [][]float32, n int) ([][]float64, error) {
	p, _, err := e.answer(x, n)
	return p, err
}

// Calibrates reports whether any of the models has a calibration.
func (e *Ensemble) Calibrates() bool {
	return slices.ContainsFunc(e.members, func(m member) bool { return m.model.Calibration != nil })
}

// answer is Probabilities, with what they are without calibration.
func (e *Ensemble) answer(x [][]float32, n int) (calibrated, own [][]float64, err error) {
	each, plain := make([][][]float64, len(e.members)), make([][][]float64, len(e.members))
	for i, m := range e.members {
		logits, err := m.views.Logits(x[m.input], n)
		if err != nil {
			return nil, nil, err
		}
		z := rows(logits, n)
		each[i] = m.model.Calibration.Probabilities(e.Task, z)
		plain[i] = (*eval.Calibration)(nil).Probabilities(e.Task, z)
	}
	return Combine(e.Task, e.opt.Mean, each), Combine(e.Task, e.opt.Mean, plain), nil
}

// CheckEnsemble returns an error unless all models are for the same task and labels.
func CheckEnsemble(models []*Model) error {
	for _, m := range models[1:] {
		if m.Task != models[0].Task || !slices.Equal(m.Labels, models[0].Labels) {
			return fmt.Errorf("%s is for %s %s, %s for %s %s: models that answer together need the same labels in the same order",
				models[0].Path, models[0].Task, strings.Join(models[0].Labels, ", "), m.Path, m.Task, strings.Join(m.Labels, ", "))
		}
	}
	return nil
}

// Combine returns the mean of the probabilities [model][n][labels] of several models. The mean of logits takes
// probabilities of at least 1e-6 from 0 and 1, so that no model overrules all others.
func Combine(task, mean string, each [][][]float64) [][]float64 {
	if len(each) == 1 {
		return each[0]
	}
	const edge = 1e-6
	out := make([][]float64, len(each[0]))
	for i := range out {
		sums := make([]float64, len(each[0][i]))
		for _, model := range each {
			for k, p := range model[i] {
				switch {
				case mean != MeanLogits:
				case task == eval.Multiclass:
					p = math.Log(max(p, edge))
				default:
					p = min(max(p, edge), 1-edge)
					p = math.Log(p / (1 - p))
				}
				sums[k] += p
			}
		}
		for k := range sums {
			sums[k] /= float64(len(each))
		}
		if mean == MeanLogits {
			sums = eval.Activate(task, sums)
		}
		out[i] = sums
	}
	return out
}

// Thresholds returns the threshold of each label for one model or several: one model brings its operating points
// (the one of the given name, or the first of each label for ""), several ones have none in common.
func Thresholds(models []*Model, point string, fallback float64) []eval.Threshold {
	var points []eval.OperatingPoint
	if len(models) == 1 {
		points = models[0].OperatingPoints
	}
	return eval.Thresholds(points, models[0].Labels, point, fallback)
}

// CalibrationWarning says why a model's calibration may not hold for the given flips; "" when it does.
func CalibrationWarning(m *Model, flip [3]bool) string {
	c := m.Calibration
	if c == nil || slices.Equal(c.Origin.Flips, AxisNames(flip)) {
		return ""
	}
	name := func(axes []string) string {
		if len(axes) == 0 {
			return "none"
		}
		return strings.Join(axes, ", ")
	}
	return fmt.Sprintf("%s was calibrated with other flips (%s) than are averaged now (%s): its probabilities may be off",
		m.Path, name(c.Origin.Flips), name(AxisNames(flip)))
}

// axisNames are the axes as the configuration names them.
const axisNames = "dhw"

// AxisNames names the axes that are set.
func AxisNames(flip [3]bool) []string {
	var names []string
	for a, on := range flip {
		if on {
			names = append(names, axisNames[a:a+1])
		}
	}
	return names
}

// ParseAxes is the inverse of AxisNames.
func ParseAxes(names []string) (flip [3]bool, err error) {
	for _, name := range names {
		a := strings.Index(axisNames, name)
		if len(name) != 1 || a < 0 {
			return flip, fmt.Errorf("unknown axis %q, allowed: d, h, w", name)
		}
		flip[a] = true
	}
	return flip, nil
}

// Views is a session with test-time augmentation: its logits are the mean over the sample as it is and flipped along
// every combination of some axes, in a fixed order.
type Views struct {
	sess  *session.Session
	shape [3]int // d, h, w
	flips [][3]bool
}

// NewViews returns the views of a session of m; without axes there is one, the sample as it is.
func NewViews(s *session.Session, m *Model, flip [3]bool) *Views {
	v := &Views{sess: s, shape: m.Preprocess.ShapeDHW}
	for bits := range 8 {
		var axes [3]bool
		wanted := true
		for a := range axes {
			axes[a] = bits>>a&1 == 1
			wanted = wanted && (flip[a] || !axes[a])
		}
		if wanted {
			v.flips = append(v.flips, axes)
		}
	}
	return v
}

// Logits is that of the session, averaged. x is flipped and flipped back.
func (v *Views) Logits(x []float32, n int) ([]float32, error) {
	if len(v.flips) == 1 {
		return v.sess.Logits(x, n)
	}
	var sums []float64
	for _, axes := range v.flips {
		v.flip(x, axes)
		logits, err := v.sess.Logits(x, n)
		v.flip(x, axes)
		if err != nil {
			return nil, err
		}
		if sums == nil {
			sums = make([]float64, len(logits))
		}
		for i, z := range logits {
			sums[i] += float64(z)
		}
	}
	mean := make([]float32, len(sums))
	for i, s := range sums {
		mean[i] = float32(s / float64(len(v.flips)))
	}
	return mean, nil
}

// flip flips every channel of every sample.
func (v *Views) flip(x []float32, axes [3]bool) {
	if axes == [3]bool{} {
		return
	}
	for volume := range slices.Chunk(x, v.shape[0]*v.shape[1]*v.shape[2]) {
		preprocess.Flip(volume, v.shape, axes)
	}
}

// rows cuts logits into one row a sample.
func rows(logits []float32, n int) [][]float64 {
	out := make([][]float64, n)
	for i := range out {
		for _, z := range logits[i*len(logits)/n:][:len(logits)/n] {
			out[i] = append(out[i], float64(z))
		}
	}
	return out
}
