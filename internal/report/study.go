package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strconv"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/eval"
)

// Study is a search for good settings, for one page of plots.
type Study struct {
	Title  string
	Facts  []string
	Metric string
	Lower  bool // a small value is the good one
	Stages int
	Axes   []Axis
	Trials []Trial
}

// Axis is a setting that is varied: a range, or choices numbered from 0.
type Axis struct {
	Name      string
	Low, High float64
	Log       bool
	Choices   []string
}

// Trial is a point of a study.
type Trial struct {
	Number int
	State  string
	Values []*float64 // by stage; nil where a stage has none
	At     []float64  // one an axis
	Best   bool
}

//go:embed study.html
var studyText string

// WriteStudy writes the page of a study to a file.
func WriteStudy(path string, s *Study) error {
	t, err := template.New("study").Funcs(template.FuncMap{"history": s.history, "slices": s.slices}).Parse(studyText)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return fmt.Errorf("cannot make the page %s: %w", path, err)
	}
	return atomicfile.WriteBytes(path, b.Bytes())
}

// value returns the value of the last stage that has one.
func (t *Trial) value() (v float64, stage int, ok bool) {
	for i, x := range t.Values {
		if x != nil {
			v, stage, ok = *x, i+1, true
		}
	}
	return v, stage, ok
}

// Reached returns the value of the last stage that has one, with the stage where there are several.
func (s *Study) Reached(t Trial) string {
	v, stage, ok := t.value()
	if !ok {
		return ""
	}
	text := strconv.FormatFloat(v, 'f', 4, 64)
	if s.Stages > 1 {
		text += fmt.Sprintf(" (stage %d)", stage)
	}
	return text
}

// Setting shows what a trial has for an axis.
func (s *Study) Setting(t Trial, axis int) string {
	a, x := s.Axes[axis], t.At[axis]
	if len(a.Choices) > 0 {
		return a.Choices[int(x)]
	}
	return strconv.FormatFloat(x, 'g', 6, 64)
}

// history draws the trials' values in their order, and the best so far of those that reached the last stage.
func (s *Study) history() []template.HTML {
	low, high, ok := s.span()
	if !ok {
		return nil
	}
	p := newPlot("Values over the trials", "A dot for each trial, a line for the best so far.", 0.5, math.Max(2, float64(len(s.Trials)))+0.5, low, high)
	var xTicks []float64
	for n := 1; n <= len(s.Trials); n += max(1, (len(s.Trials)+5)/6) {
		xTicks = append(xTicks, float64(n))
	}
	p.axes("trial", s.Metric, xTicks, ticks(low, high))
	var line []eval.Point
	best := math.NaN()
	for i := range s.Trials {
		t := &s.Trials[i]
		v, stage, ok := t.value()
		if ok && stage == s.Stages && !(best <= v && s.Lower || best >= v && !s.Lower) {
			if !math.IsNaN(best) {
				line = append(line, eval.Point{X: float64(t.Number), Y: best})
			}
			best = v
			line = append(line, eval.Point{X: float64(t.Number), Y: best})
		}
	}
	if n := len(s.Trials); len(line) > 0 {
		line = append(line, eval.Point{X: float64(n), Y: best})
	}
	p.line("curve", line)
	for i := range s.Trials {
		s.mark(p, &s.Trials[i], float64(s.Trials[i].Number))
	}
	return []template.HTML{p.svg()}
}

// slices draws the values over each setting.
func (s *Study) slices() []template.HTML {
	low, high, ok := s.span()
	if !ok {
		return nil
	}
	var list []template.HTML
	for a, axis := range s.Axes {
		at := func(x float64) float64 { return x }
		p := newPlot(s.Metric+" over "+axis.Name, "A dot for each trial.", axis.Low, axis.High, low, high)
		var xTicks []float64
		switch {
		case len(axis.Choices) > 0:
			p.x0, p.x1 = -0.5, float64(len(axis.Choices))-0.5
			for c := range axis.Choices {
				xTicks = append(xTicks, float64(c))
			}
			p.xLabel = func(x float64) string { return shorten(axis.Choices[int(x)], choiceWidth/len(axis.Choices)) }
		case axis.Log:
			at = math.Log10
			p.x0, p.x1 = math.Log10(axis.Low), math.Log10(axis.High)
			xTicks = logTicks(axis.Low, axis.High)
			p.xLabel = func(x float64) string { return tick(math.Pow(10, x)) }
		default:
			xTicks = ticks(axis.Low, axis.High)
		}
		p.axes(axis.Name, s.Metric, xTicks, ticks(low, high))
		for i := range s.Trials {
			s.mark(p, &s.Trials[i], at(s.Trials[i].At[a]))
		}
		list = append(list, p.svg())
	}
	return list
}

// mark draws a trial at x.
func (s *Study) mark(p *plot, t *Trial, x float64) {
	v, stage, ok := t.value()
	if !ok {
		return
	}
	class := "early"
	switch {
	case t.Best:
		class = "decision"
	case stage == s.Stages && t.State == "done":
		class = "bin"
	}
	p.dot(class, x, v, 4, fmt.Sprintf("trial %d, stage %d, %s: %s", t.Number, stage, t.State, strconv.FormatFloat(v, 'g', 4, 64)))
}

// span is the range of the values with some room around it.
func (s *Study) span() (low, high float64, ok bool) {
	low, high = math.Inf(1), math.Inf(-1)
	for i := range s.Trials {
		if v, _, ok := s.Trials[i].value(); ok {
			low, high = min(low, v), max(high, v)
		}
	}
	if low > high {
		return 0, 0, false
	}
	room := max(0.05*(high-low), 1e-3*math.Abs(high), 1e-9)
	return low - room, high + room, true
}

// ticks returns up to six round numbers between low and high.
func ticks(low, high float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/2)))
	for _, m := range []float64{1, 2, 5, 10} {
		if (high-low)/(step*m) <= 5 {
			step *= m
			break
		}
	}
	var list []float64
	for k := math.Ceil(low/step - 1e-9); k*step <= high+1e-9*step && len(list) < 12; k++ {
		list = append(list, math.Round(k*step*1e9)/1e9+0) // and no -0
	}
	return list
}

// logTicks returns the places, as logarithms to base 10, of round numbers between low and high, which are above 0.
func logTicks(low, high float64) []float64 {
	const most = 6
	first, last := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	for _, round := range [][]float64{{1, 2, 5}, {1, 3}, {1}} {
		var list []float64
		step := math.Ceil((last - first) / most) // decades
		if len(round) > 1 {
			step = 1
		}
		for decade := first; decade <= last; decade += step {
			for _, m := range round {
				if x := m * math.Pow(10, decade); x >= low*(1-1e-9) && x <= high*(1+1e-9) {
					list = append(list, math.Log10(x))
				}
			}
		}
		if len(list) <= most || len(round) == 1 {
			return list
		}
	}
	return nil
}

// choiceWidth is about the number of letters that fit below a plot.
const choiceWidth = 40

// shorten cuts a text to n letters, of which the last says so.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > max(n, 2) {
		return string(r[:max(n, 2)-1]) + "…"
	}
	return s
}
