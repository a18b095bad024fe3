package predict

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// Record is a Result as JSON lines hold it. Scripts rely on the first five keys and on name and probability of the
// labels.
type Record struct {
	Path      string        `json:"path"`
	SeriesUID string        `json:"series_uid"` // "" for NIfTI
	Labels    []RecordLabel `json:"labels"`
	Warnings  []string      `json:"warnings"`
	Error     *string       `json:"error"`

	SeriesNumber      *int          `json:"series_number,omitempty"` // DICOM only
	SeriesDescription string        `json:"series_description,omitempty"`
	Chosen            string        `json:"chosen,omitempty"` // why this volume of the path
	Model             string        `json:"model"`            // Predictor.ID
	Explanations      []Explanation `json:"explanations,omitempty"`
	Report            string        `json:"structured_report,omitempty"`
	Captures          []string      `json:"secondary_captures,omitempty"`
	Seconds           float64       `json:"seconds"`
	Timing            Timing        `json:"timing"` // the parts of Seconds
}

// RecordLabel is the answer for one finding or class.
type RecordLabel struct {
	Name         string   `json:"name"`
	Probability  float64  `json:"probability"`            // calibrated, where the model has a calibration
	Uncalibrated *float64 `json:"uncalibrated,omitempty"` // with a calibration: what it was made of
	Threshold    *float64 `json:"threshold,omitempty"`    // not in the multiclass task
	Point        string   `json:"operating_point,omitempty"`
	Decision     string   `json:"decision"` // present or absent
}

// Timing is the time of a scan in seconds. Reading goes on while another scan computes.
type Timing struct {
	Reading   float64 `json:"reading"`
	Computing float64 `json:"computing"`
}

// Record returns a result in the form of JSON lines.
func (p *Predictor) Record(r Result) Record {
	seconds := func(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
	out := Record{
		Path: r.Path, SeriesUID: r.SeriesUID, Labels: []RecordLabel{}, Warnings: append([]string{}, r.Warnings...),
		SeriesDescription: r.SeriesDescription, Chosen: r.Why, Model: p.ID(), Explanations: r.Explanations, Report: r.Report, Captures: r.Captures,
		Seconds: seconds(r.Reading + r.Computing), Timing: Timing{seconds(r.Reading), seconds(r.Computing)},
	}
	for i, l := range r.Labels {
		label := RecordLabel{Name: l.Name, Probability: l.Probability, Decision: decision(l)}
		if p.ensemble.Calibrates() {
			label.Uncalibrated = &l.Uncalibrated
		}
		if !p.Multiclass() {
			label.Threshold, label.Point = &p.thresholds[i].Value, p.thresholds[i].Point
		}
		out.Labels = append(out.Labels, label)
	}
	if r.Error != "" {
		out.Error = &r.Error
	}
	if r.SeriesUID != "" {
		out.SeriesNumber = &r.SeriesNumber
	}
	return out
}

func decision(l Label) string {
	if l.Present {
		return "present"
	}
	return "absent"
}

// WriteJSON writes a result as one line.
func (p *Predictor) WriteJSON(w io.Writer, r Result) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(p.Record(r))
}

// csvHeader names the columns of a CSV file of answers: the probabilities first, then what belongs to them.
func (p *Predictor) csvHeader() []string {
	columns := append([]string{"path", "series_uid"}, p.Labels()...)
	for _, c := range p.csvColumns() {
		for _, name := range p.Labels() {
			columns = append(columns, name+"_"+c.name)
		}
	}
	return append(columns, "series_number", "series_description", "model", "warnings", "error")
}

// csvColumn is a column that each label has.
type csvColumn struct {
	name  string
	value func(i int, l Label) string
}

func (p *Predictor) csvColumns() []csvColumn {
	var columns []csvColumn
	if p.ensemble.Calibrates() {
		columns = append(columns, csvColumn{"uncalibrated", func(_ int, l Label) string { return number(l.Uncalibrated) }})
	}
	if !p.Multiclass() {
		columns = append(columns, csvColumn{"threshold", func(i int, _ Label) string { return number(p.thresholds[i].Value) }})
	}
	return append(columns, csvColumn{"decision", func(_ int, l Label) string { return decision(l) }})
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// csvLine returns a result's line; what a failed scan lacks is empty. It has no times: equal runs give equal files.
func (p *Predictor) csvLine(r Result) []string {
	line := []string{r.Path, r.SeriesUID}
	columns := append([]csvColumn{{"", func(_ int, l Label) string { return number(l.Probability) }}}, p.csvColumns()...)
	for _, c := range columns {
		for i := range p.Labels() {
			text := ""
			if r.Error == "" {
				text = c.value(i, r.Labels[i])
			}
			line = append(line, text)
		}
	}
	series := ""
	if r.SeriesUID != "" {
		series = strconv.Itoa(r.SeriesNumber)
	}
	return append(line, series, r.SeriesDescription, p.ID(), strings.Join(r.Warnings, "; "), r.Error)
}

func csvText(lines ...[]string) ([]byte, error) {
	var b strings.Builder
	w := csv.NewWriter(&b)
	if err := w.WriteAll(lines); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}
