// Package tracking shows the course of a run in other programs: TensorBoard reads event files from the run
// folder, an MLflow server is told over HTTP.
package tracking

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/ctclass/ctclass/internal/config"
)

// TensorBoardFolder is the folder of a run folder that TensorBoard reads.
const TensorBoardFolder = "tensorboard"

// Scalar is a measure at some step.
type Scalar struct {
	Name  string // parts separated by /, such as val/auroc
	Value float64
}

// Run says what is tracked.
type Run struct {
	Dir    string            // run folder
	Name   string            // shown where the configuration names none
	Step   int               // optimiser steps done before: measures of later steps replace what was logged
	Params map[string]string // what the run was started with
	Tags   map[string]string
}

// The ends of a run.
const (
	Finished    = "finished"
	Failed      = "failed"
	Interrupted = "interrupted"
)

// sink is one place that measures go to.
type sink interface {
	log(step int, values []Scalar) error
	close(end string) error
}

// Tracker passes measures on to the places that the configuration names. A nil Tracker drops them.
type Tracker struct {
	sinks []sink
	lg    *slog.Logger
}

// Open prepares tracking as c says. An MLflow server that cannot be reached is an error here and only a warning
// later: a run does not end because of it.
func Open(ctx context.Context, c config.Output, r Run, lg *slog.Logger) (*Tracker, error) {
	t := &Tracker{lg: lg}
	if c.TensorBoard {
		w, err := createEvents(filepath.Join(r.Dir, TensorBoardFolder), r.Step)
		if err != nil {
			return nil, err
		}
		t.sinks = append(t.sinks, w)
	}
	if c.MLflow.URI != "" {
		s, err := openMLflow(ctx, c.MLflow, r, lg, os.LookupEnv)
		if err != nil {
			return nil, errors.Join(err, t.Close(Failed))
		}
		t.sinks = append(t.sinks, s)
	}
	return t, nil
}

// Log passes measures on. What cannot be written is a warning, once for each place.
func (t *Tracker) Log(step int, values []Scalar) {
	if t == nil {
		return
	}
	kept := t.sinks[:0]
	for _, s := range t.sinks {
		if err := s.log(step, values); err != nil {
			t.lg.Warn("tracking stops, the run goes on", "reason", err)
			_ = s.close(Failed) // it has failed already
			continue
		}
		kept = append(kept, s)
	}
	t.sinks = kept
}

// Close passes on what is left and how the run ended.
func (t *Tracker) Close(end string) error {
	if t == nil {
		return nil
	}
	var errs []error
	for _, s := range t.sinks {
		errs = append(errs, s.close(end))
	}
	t.sinks = nil
	return errors.Join(errs...)
}
