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
	Model             string        `json:"model"`            // Model.ID
	Explanations      []Explanation `json:"explanations,omitempty"`
	Seconds           float64       `json:"seconds"`
	Timing            Timing        `json:"timing"` // the parts of Seconds
}

// RecordLabel is the probability of one finding or class.
type RecordLabel struct {
	Name        string  `json:"name"`
	Probability float64 `json:"probability"`
}

// Timing is the time of a scan in seconds. Reading goes on while another scan computes.
type Timing struct {
	Reading   float64 `json:"reading"`
	Computing float64 `json:"computing"`
}

// Record returns the result of the model in the form of JSON lines.
func (m *Model) Record(r Result) Record {
	seconds := func(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
	p := Record{
		Path: r.Path, SeriesUID: r.SeriesUID, Labels: []RecordLabel{}, Warnings: append([]string{}, r.Warnings...),
		SeriesDescription: r.SeriesDescription, Chosen: r.Why, Model: m.ID, Explanations: r.Explanations,
		Seconds: seconds(r.Reading + r.Computing), Timing: Timing{seconds(r.Reading), seconds(r.Computing)},
	}
	for _, l := range r.Labels {
		p.Labels = append(p.Labels, RecordLabel(l))
	}
	if r.Error != "" {
		p.Error = &r.Error
	}
	if r.SeriesUID != "" {
		p.SeriesNumber = &r.SeriesNumber
	}
	return p
}

// WriteJSON writes a result as one line.
func (m *Model) WriteJSON(w io.Writer, r Result) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(m.Record(r))
}

// csvHeader names the columns of a CSV file of the model's answers.
func (m *Model) csvHeader() []string {
	columns := []string{"path", "series_uid"}
	columns = append(columns, m.Labels...)
	return append(columns, "model", "warnings", "error")
}

// csvLine returns a result's line; what a failed scan lacks is empty. It has no times: equal runs give equal files.
func (m *Model) csvLine(r Result) []string {
	line := []string{r.Path, r.SeriesUID}
	for i := range m.Labels {
		text := ""
		if r.Error == "" {
			text = strconv.FormatFloat(r.Labels[i].Probability, 'g', -1, 64)
		}
		line = append(line, text)
	}
	return append(line, m.ID, strings.Join(r.Warnings, "; "), r.Error)
}

func csvText(lines ...[]string) ([]byte, error) {
	var b strings.Builder
	w := csv.NewWriter(&b)
	if err := w.WriteAll(lines); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}
