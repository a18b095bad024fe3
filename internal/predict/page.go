package predict

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"strings"
	"time"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/report"
	"github.com/ctclass/ctclass/internal/runs"
)

// ReportFile is the report of an evaluation in a run folder.
const ReportFile = "report.html"

// JSON is the evaluation as `ctclass eval --json` prints it, on one line.
func (e *Evaluation) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(e)
	return b.Bytes(), err
}

// WriteReport writes the evaluation as an HTML page. It reads the scans of the worst mistakes once more, for their
// pictures; one that cannot be read goes without. c is the configuration that the evaluation was made with.
func (e *Evaluation) WriteReport(ctx context.Context, path string, c *config.Config) error {
	raw, err := e.JSON()
	if err != nil {
		return err
	}
	history, err := report.ParseHistory(e.loaded[0].History)
	if err != nil {
		return fmt.Errorf("%s: %w", e.Model, err)
	}
	text, err := config.Marshal(c)
	if err != nil {
		return err
	}
	page := &report.Page{
		Evaluation: raw, Curves: eval.LabelCurves(e.cases), History: history, Config: string(text), Facts: e.facts(),
	}
	for _, m := range e.Mistakes {
		if err := ctx.Err(); err != nil {
			return err
		}
		page.Pictures = append(page.Pictures, e.picture(m))
	}
	return report.WritePage(path, page)
}

// picture draws the scan of a mistake in the window that the model sees; nil when it cannot be read.
func (e *Evaluation) picture(m eval.Mistake) (picture image.Image) {
	defer func() {
		if recover() != nil { // a damaged scan costs its picture only
			picture = nil
		}
	}()
	v, _, err := e.ds.OpenVolume(e.samples[m.Sample])
	if err != nil {
		return nil
	}
	hu := [2]float64{-1000, 400}
	switch p := e.loaded[0].Preprocess; {
	case p.Intensity == "window":
		hu = p.Windows()[0]
	case len(v.HU) > 0:
		low, high := v.HU[0], v.HU[0]
		for _, x := range v.HU {
			low, high = min(low, x), max(high, x)
		}
		hu = [2]float64{float64(low), float64(high)}
	}
	drawn, err := report.Thumbnail(v, hu)
	if err != nil {
		return nil
	}
	return drawn
}

// facts say what made the evaluation.
func (e *Evaluation) facts() []report.Fact {
	s := runs.NewSession(e.device, e.threads, 0, 0)
	list := []report.Fact{
		{Name: "Made", Text: s.Started.Format(time.RFC3339)},
		{Name: "ctclass", Text: s.Version},
		{Name: "System", Text: strings.TrimSuffix(fmt.Sprintf("%s, %d cores, %s", s.System, s.Cores, s.CPU), ", ")},
		{Name: "Device", Text: fmt.Sprintf("%s, %d threads", s.Device, s.Threads)},
		{Name: "Go", Text: s.Go},
	}
	if s.Host != "" {
		list = append(list, report.Fact{Name: "Host", Text: s.Host})
	}
	return list
}
