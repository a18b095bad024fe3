package session

import (
	"github.com/ctclass/ctclass/internal/engine"
)

// Diagnose repeats the passes of a step that came to a value that is not finite, without changing anything, and
// returns the first such value and the micro-batch that it came in; nil when none comes again.
func (s *Session) Diagnose(batches []MicroBatch, step Step, sum bool) (found *engine.Anomaly, batch int, err error) {
	for i, b := range batches {
		p := s.train[len(b.IDs)]
		if err := s.set(p, b, s.scale(batches, sum)); err != nil {
			return nil, 0, err
		}
		if a := s.exec.Diagnose(p, s.runInfo(b, step, i == 0), "targets"); a != nil {
			return a, i, nil
		}
	}
	return nil, 0, nil
}

// scale is what the sum of the losses of all micro-batches is multiplied by.
func (s *Session) scale(batches []MicroBatch, sum bool) float64 {
	var count float64
	for _, b := range batches {
		count += s.opt.Training.Loss.Count(b.Targets)
	}
	if sum || count == 0 {
		return 1
	}
	return 1 / count
}

// set writes a micro-batch to the inputs of its program.
func (s *Session) set(p *engine.Program, b MicroBatch, scale float64) error {
	for name, v := range map[string][]float32{"x": b.X, "targets": b.Targets, "scale": {float32(scale)}} {
		if err := s.exec.SetInput(p, name, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) runInfo(b MicroBatch, step Step, first bool) *engine.RunInfo {
	return &engine.RunInfo{
		Seed: step.Seed, Epoch: uint64(step.Epoch), SampleIDs: b.IDs, LR: step.LR, Step: step.Number, First: first,
	}
}
