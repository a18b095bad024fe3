package tune

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/report"
)

// The files of the folder of a study, beside a folder for each trial.
const (
	BestFile   = "best.yaml"  // the base with the best trial's settings
	TrialsFile = "trials.csv" // all trials
	PageFile   = "study.html" // plots
)

// Summary is how far a study is.
type Summary struct {
	Dir    string   `json:"dir"`
	Metric string   `json:"metric"`
	Stages int      `json:"stages"`
	Wanted int      `json:"trials_wanted"`
	Trials []Result `json:"trials"`
	// Best is the number of the best trial of the latest stage that one has finished; 0: none.
	Best int `json:"best"`

	value *float64 // of the best trial
	study *Study
	lower bool
}

// Result is what a trial has come to.
type Result struct {
	Trial    int               `json:"trial"` // from 1
	Stage    int               `json:"stage"` // the last one that it has begun, from 1
	State    string            `json:"state"` // in that stage: done, ended, running, waiting, failed
	Values   []*float64        `json:"values"`
	Settings map[string]string `json:"settings"`
	Dir      string            `json:"dir"` // run folder of the last stage
	Reason   string            `json:"reason,omitempty"`

	numbers []float64 // of the settings, as the sampler sees them
}

// summarize sums a study up and leaves its files.
func summarize(ctx context.Context, t *store, base *config.Config, load Loader) (*Summary, error) {
	trials, err := readTrials(ctx, t.db)
	if err != nil {
		return nil, err
	}
	s := &Summary{
		Dir: t.study.Dir, Metric: base.Train.Monitor, Stages: len(t.study.Stages), Wanted: t.study.Trials,
		Trials: []Result{}, study: t.study, lower: t.lower,
	}
	var best *job
	for i, tr := range trials {
		last := tr.jobs[len(tr.jobs)-1]
		r := Result{
			Trial: i + 1, Stage: last.Stage + 1, State: last.State, Reason: last.Reason, Settings: map[string]string{},
			Dir: t.study.folder(last), numbers: tr.values,
		}
		if last.State == running && !t.works(last) {
			r.State = waiting // for another worker: its own is gone
		}
		for k := range t.study.Space {
			r.Settings[t.study.Space[k].Key] = t.study.Space[k].text(tr.values[k])
		}
		for k := range tr.jobs {
			j := &tr.jobs[k]
			r.Values = append(r.Values, j.Value)
			if j.State == done && j.Value != nil && (best == nil || j.Stage > best.Stage || j.Stage == best.Stage && t.compare(*j, *best) < 0) {
				best, s.Best, s.value = j, i+1, j.Value
			}
		}
		s.Trials = append(s.Trials, r)
	}
	if s.Best > 0 {
		if err := s.writeBest(load, trials[s.Best-1].values); err != nil {
			return nil, err
		}
	}
	if err := atomicfile.Write(filepath.Join(s.Dir, TrialsFile), s.writeTrials); err != nil {
		return nil, err
	}
	return s, report.WriteStudy(filepath.Join(s.Dir, PageFile), s.page())
}

// writeBest leaves the configuration of the best trial, with all data and all epochs.
func (s *Summary) writeBest(load Loader, values []float64) error {
	var sets []string
	for i := range s.study.Space {
		sets = append(sets, s.study.Space[i].set(values[i]))
	}
	c, err := load(s.study.Base, sets)
	if err != nil {
		return err
	}
	c.Output.Dir = filepath.Join(s.Dir, "best")
	raw, err := config.Marshal(c)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(s.Dir, BestFile), raw)
}

func (s *Summary) writeTrials(w io.Writer) error {
	t := csv.NewWriter(w)
	header := []string{"trial", "stage", "state"}
	for i := range s.Stages {
		header = append(header, fmt.Sprintf("%s_stage_%d", s.Metric, i+1))
	}
	for _, p := range s.study.Space {
		header = append(header, p.Key)
	}
	if err := t.Write(header); err != nil {
		return err
	}
	for _, r := range s.Trials {
		row := []string{strconv.Itoa(r.Trial), strconv.Itoa(r.Stage), r.State}
		for i := range s.Stages {
			cell := ""
			if i < len(r.Values) && r.Values[i] != nil {
				cell = strconv.FormatFloat(*r.Values[i], 'g', 9, 64)
			}
			row = append(row, cell)
		}
		for _, p := range s.study.Space {
			row = append(row, r.Settings[p.Key])
		}
		if err := t.Write(row); err != nil {
			return err
		}
	}
	t.Flush()
	return t.Error()
}

// WriteTable prints the trials and the settings of the best one.
func (s *Summary) WriteTable(w io.Writer) error {
	t := table.NewWriter()
	style := table.StyleRounded
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	header := table.Row{"trial", "state"}
	for i := range s.Stages {
		name := s.Metric
		if s.Stages > 1 {
			name += fmt.Sprintf(", stage %d", i+1)
		}
		header = append(header, name)
	}
	for _, p := range s.study.Space {
		header = append(header, p.Key)
	}
	t.AppendHeader(header)
	for _, r := range s.Trials {
		mark := ""
		if r.Trial == s.Best {
			mark = " ★"
		}
		row := table.Row{strconv.Itoa(r.Trial) + mark, r.State}
		for i := range s.Stages {
			cell := ""
			if i < len(r.Values) {
				cell = valueText(r.Values[i])
			}
			row = append(row, cell)
		}
		for _, p := range s.study.Space {
			row = append(row, r.Settings[p.Key])
		}
		t.AppendRow(row)
	}
	if _, err := fmt.Fprintf(w, "%s\n", t.Render()); err != nil {
		return err
	}
	if s.Best == 0 {
		_, err := fmt.Fprintf(w, "%d of %d trials begun, none is done\n", len(s.Trials), s.Wanted)
		return err
	}
	_, err := fmt.Fprintf(w, "%d of %d trials begun; %s: %s\n", len(s.Trials), s.Wanted, s.bestText(), filepath.Join(s.Dir, BestFile))
	return err
}

// bestText names the best trial, its value and its settings.
func (s *Summary) bestText() string {
	best := s.Trials[s.Best-1]
	text := fmt.Sprintf("best: trial %d, %s %s,", s.Best, s.Metric, valueText(s.value))
	for _, p := range s.study.Space {
		text += " " + p.Key + "=" + best.Settings[p.Key]
	}
	return text
}

// page lays the study out for its plots.
func (s *Summary) page() *report.Study {
	p := &report.Study{
		Title: "Study " + filepath.Base(s.Dir), Metric: s.Metric, Lower: s.lower, Stages: s.Stages,
		Facts: []string{fmt.Sprintf("%d of %d trials begun", len(s.Trials), s.Wanted)},
	}
	if s.Best > 0 {
		p.Facts = append(p.Facts, s.bestText())
	}
	for i := range s.study.Space {
		param := &s.study.Space[i]
		d := param.dimension()
		axis := report.Axis{Name: param.Key, Low: d.low, High: d.high, Log: d.log}
		for c := range d.choices {
			axis.Choices = append(axis.Choices, param.text(float64(c)))
		}
		p.Axes = append(p.Axes, axis)
	}
	for _, r := range s.Trials {
		p.Trials = append(p.Trials, report.Trial{Number: r.Trial, State: r.State, Values: r.Values, At: r.numbers, Best: r.Trial == s.Best})
	}
	return p
}
