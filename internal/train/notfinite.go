package train

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/session"
)

// notFinite deals with a step whose loss or gradients are not finite numbers, for which cause stands: it says where
// they first appeared, and in which scans. With train.on_nan skip the step is left out, otherwise the error ends
// the run.
func (r *run) notFinite(b *data.Batch, micro []session.MicroBatch, step session.Step, cause error) error {
	where := "it did not appear again when the step was repeated"
	found, batch, err := r.sess.Diagnose(micro, step, r.cfg.Loss.Reduction == "sum")
	if err != nil {
		return err
	}
	if found != nil {
		where = describe(found)
		if names := places(b, found.Samples, batch*r.cfg.Train.BatchSize); names != "" {
			where += " of " + names
		}
	}
	if r.cfg.Train.OnNaN == "skip" {
		r.Log.Warn("a step is left out", "step", r.at.Step+1, "why", cause, "where", where, "scans", scans(b.Samples))
		return nil
	}
	return fmt.Errorf("step %d: %w; %s: lower train.optimizer.lr, set train.clip_norm, or leave such steps out with train.on_nan: skip; its scans: %s",
		r.at.Step+1, cause, where, scans(b.Samples))
}

// describe says what is not finite and where in the network it is.
func describe(a *engine.Anomaly) string {
	what := "an infinity"
	if a.NaN {
		what = "NaN"
	}
	switch a.Role {
	case graph.Input:
		return fmt.Sprintf("there is %s in the input", what)
	case graph.Parameter, graph.Buffer:
		return fmt.Sprintf("there is %s in %s itself", what, a.Name)
	}
	direction := "forward"
	if a.Backward {
		direction = "backward"
	}
	name := a.Name
	if name == "" {
		name = "the network"
	}
	return fmt.Sprintf("%s first appeared in %s (%s, %s)", what, name, a.Kind, direction)
}

// places names the scans of a batch at the given places behind from.
func places(b *data.Batch, at []int, from int) string {
	var list []data.Sample
	for _, i := range at {
		if from+i < len(b.Samples) && len(at) < len(b.Samples) {
			list = append(list, b.Samples[from+i])
		}
	}
	return scans(list)
}

// scans lists the names of samples.
func scans(samples []data.Sample) string {
	var names []string
	for _, s := range samples {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// isNotFinite reports whether a step came to values that are not finite.
func isNotFinite(err error) bool {
	return errors.Is(err, session.ErrDiverged) || errors.Is(err, session.ErrGradient)
}
