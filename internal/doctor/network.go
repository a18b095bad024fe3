package doctor

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"
)

// Probe is what a few training steps on real scans told about the network.
type Probe struct {
	Untouched  []string // trained parameters that no step has changed
	Trained    int      // parameters that are trained
	Step       float64  // seconds of a training step
	Steps      int      // of an epoch
	Validation float64  // seconds of the forward passes of a validation
	Planned    int64    // bytes of the process
	Available  int64    // bytes that the machine has left; 0: unknown
	Diverged   bool     // the loss or a gradient of a step was no finite number
}

// Network judges a probe. read says how long reading a scan takes, samples how many an epoch and its validation
// read, and workers how many read at a time.
func (r *Report) Network(p Probe, read ScanTimes, samples, workers int) {
	if len(p.Untouched) > 0 {
		severity := Warning
		if len(p.Untouched) == p.Trained {
			severity = Error
		}
		r.add(severity, CheckGradients, p.Untouched, "%s of %d that are trained get no gradient", english.Plural(len(p.Untouched), "parameter", ""), p.Trained)
	}
	if p.Diverged {
		r.Add(Warning, CheckGradients, "the loss or a gradient was not a finite number after a few steps")
	}
	r.PlannedBytes, r.AvailableBytes = p.Planned, p.Available
	switch {
	case p.Available > 0 && p.Planned > p.Available:
		r.Add(Error, CheckMemory, "the run will take %s, but the machine has only %s left: set memory.budget, or lower train.batch_size or preprocess.shape_dhw", gib(p.Planned), gib(p.Available))
	case p.Available > 0:
		r.Add(Note, CheckMemory, "the run will take %s of the %s that the machine has left", gib(p.Planned), gib(p.Available))
	default:
		r.Add(Note, CheckMemory, "the run will take %s", gib(p.Planned))
	}
	compute := p.Step*float64(p.Steps) + p.Validation
	reading := read.Seconds * float64(samples) / float64(max(1, workers))
	r.SecondsPerEpoch = max(compute, reading)
	text := fmt.Sprintf("an epoch of %s will take about %s: %s of computing, %s of reading by %s beside it",
		english.Plural(p.Steps, "step", ""), duration(r.SecondsPerEpoch), duration(compute), duration(reading), english.Plural(workers, "worker", ""))
	if reading > compute {
		text += "; reading is slower, until the scans are cached: see data.workers and data.cache"
	}
	r.Add(Note, CheckTime, "%s", text)
}

func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func gib(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }
