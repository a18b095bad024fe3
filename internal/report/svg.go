package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"

	"github.com/ctclass/ctclass/internal/eval"
)

// The frame of a plot in units of its view box.
const (
	plotWidth, plotHeight = 300, 280
	plotLeft, plotRight   = 52, 12
	plotTop, plotBottom   = 12, 46
)

// plot draws curves in a frame. Colours are those of the page's style sheet, so that it follows light, dark and print.
type plot struct {
	b          strings.Builder
	x0, x1     float64 // range of the data
	y0, y1     float64
	name, desc string
	xLabel     func(x float64) string // of a tick
}

func newPlot(name, desc string, x0, x1, y0, y1 float64) *plot {
	return &plot{x0: x0, x1: x1, y0: y0, y1: y1, name: name, desc: desc, xLabel: tick}
}

func (p *plot) px(x float64) float64 {
	return plotLeft + (x-p.x0)/(p.x1-p.x0)*(plotWidth-plotLeft-plotRight)
}

func (p *plot) py(y float64) float64 {
	return plotHeight - plotBottom - (y-p.y0)/(p.y1-p.y0)*(plotHeight-plotTop-plotBottom)
}

// axes draws grid, ticks and the names of the axes.
func (p *plot) axes(xName, yName string, xTicks, yTicks []float64) {
	for _, t := range xTicks {
		x := p.px(t)
		fmt.Fprintf(&p.b, `<path class="grid" d="M%.1f %d V%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`,
			x, plotTop, plotHeight-plotBottom, x, plotHeight-plotBottom+16, html.EscapeString(p.xLabel(t)))
	}
	for _, t := range yTicks {
		y := p.py(t)
		fmt.Fprintf(&p.b, `<path class="grid" d="M%d %.1f H%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`,
			plotLeft, y, plotWidth-plotRight, plotLeft-6, y+4, tick(t))
	}
	fmt.Fprintf(&p.b, `<text class="axis" x="%d" y="%d" text-anchor="middle">%s</text>`, (plotLeft+plotWidth-plotRight)/2, plotHeight-8, html.EscapeString(xName))
	fmt.Fprintf(&p.b, `<text class="axis" transform="translate(13 %d) rotate(-90)" text-anchor="middle">%s</text>`, (plotTop+plotHeight-plotBottom)/2, html.EscapeString(yName))
}

func tick(t float64) string { return strconv.FormatFloat(t, 'g', 3, 64) }

// line draws a polyline of the given class.
func (p *plot) line(class string, points []eval.Point) {
	if len(points) == 0 {
		return
	}
	fmt.Fprintf(&p.b, `<path class="%s" d="`, class)
	for i, q := range points {
		command := "L"
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(&p.b, "%s%.1f %.1f", command, p.px(q.X), p.py(q.Y))
	}
	p.b.WriteString(`"/>`)
}

// dot draws a marker that says what it is.
func (p *plot) dot(class string, x, y, radius float64, title string) {
	fmt.Fprintf(&p.b, `<circle class="%s" cx="%.1f" cy="%.1f" r="%.1f"><title>%s</title></circle>`, class, p.px(x), p.py(y), radius, html.EscapeString(title))
}

// text writes beside a point, to its left where it lies in the right half.
func (p *plot) text(class string, x, y float64, s string) {
	anchor, dx := "start", 6.0
	if p.px(x) > plotWidth/2 {
		anchor, dx = "end", -6
	}
	fmt.Fprintf(&p.b, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, p.px(x)+dx, p.py(y)-6, anchor, html.EscapeString(s))
}

func (p *plot) svg() template.HTML {
	return template.HTML(fmt.Sprintf(`<svg class="plot" viewBox="0 0 %d %d" role="img" aria-label="%s"><title>%s</title><desc>%s</desc>%s</svg>`,
		plotWidth, plotHeight, html.EscapeString(p.name+". "+p.desc), html.EscapeString(p.name), html.EscapeString(p.desc), p.b.String()))
}

func halves() []float64 { return []float64{0, 0.25, 0.5, 0.75, 1} }

// thin leaves out points that would not be seen.
func thin(points []eval.Point) []eval.Point {
	const step = 1.0 / 400
	if len(points) < 400 {
		return points
	}
	out := points[:1:1]
	for i, q := range points[1:] {
		last := out[len(out)-1]
		if math.Abs(q.X-last.X) >= step || math.Abs(q.Y-last.Y) >= step || i == len(points)-2 {
			out = append(out, q)
		}
	}
	return out
}

// rocPlot draws the ROC curve with the point at which the model decides.
func rocPlot(label node, curve []eval.Point) template.HTML {
	p := newPlot("ROC curve of "+label.Text("name"), curveText(label, "auroc", "the area under it"), 0, 1, 0, 1)
	p.axes("1 − specificity", "sensitivity", halves(), halves())
	p.line("chance", []eval.Point{{X: 0, Y: 0}, {X: 1, Y: 1}})
	p.line("curve", thin(curve))
	sensitivity, ok1 := label.number("sensitivity")
	specificity, ok2 := label.number("specificity")
	if ok1 && ok2 && curve != nil {
		p.dot("decision", 1-specificity, sensitivity, 4.5, "where the model decides")
	}
	return p.svg()
}

// prPlot draws precision over recall as the steps whose area is the average precision.
func prPlot(label node, curve []eval.Point) template.HTML {
	p := newPlot("Precision and recall of "+label.Text("name"), curveText(label, "auprc", "the area under it"), 0, 1, 0, 1)
	p.axes("recall (sensitivity)", "precision (PPV)", halves(), halves())
	valid, _ := label.number("valid")
	positive, _ := label.number("positive")
	if curve != nil {
		p.line("chance", []eval.Point{{X: 0, Y: positive / valid}, {X: 1, Y: positive / valid}})
	}
	var steps []eval.Point
	before := 0.0
	for _, q := range thin(curve) {
		steps = append(steps, eval.Point{X: before, Y: q.Y}, q)
		before = q.X
	}
	p.line("curve", steps)
	sensitivity, ok1 := label.number("sensitivity")
	ppv, ok2 := label.number("ppv")
	if ok1 && ok2 && curve != nil {
		p.dot("decision", sensitivity, ppv, 4.5, "where the model decides")
	}
	return p.svg()
}

// reliabilityPlot draws observed over predicted shares; the area of a point is that of its samples.
func reliabilityPlot(label node) template.HTML {
	p := newPlot("Calibration of "+label.Text("name"), curveText(label, "ece", "the expected calibration error"), 0, 1, 0, 1)
	p.axes("predicted probability", "observed share", halves(), halves())
	p.line("chance", []eval.Point{{X: 0, Y: 0}, {X: 1, Y: 1}})
	valid, _ := label.number("valid")
	var line []eval.Point
	for _, b := range label.Each("reliability") {
		x, _ := b.number("probability")
		y, _ := b.number("observed")
		line = append(line, eval.Point{X: x, Y: y})
	}
	p.line("curve", line)
	for i, b := range label.Each("reliability") {
		n, _ := b.number("samples")
		p.dot("bin", line[i].X, line[i].Y, 2+9*math.Sqrt(n/valid), "samples: "+strconv.Itoa(int(n)))
	}
	return p.svg()
}

// curveText says in words what a curve comes to, for those who do not see it.
func curveText(label node, measure, what string) string {
	x, ok := label.number(measure)
	if !ok {
		return "Not defined by these data."
	}
	return fmt.Sprintf("%s is %.3f.", strings.ToUpper(what[:1])+what[1:], x)
}

// interval draws a measure from 0 to 1 and its interval as a line with a dot, for a table's cell.
func interval(n node, measure string) template.HTML {
	x, ok := n.number(measure)
	if !ok {
		return ""
	}
	const width, height = 120, 16
	at := func(x float64) float64 { return 4 + x*(width-8) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="mini" viewBox="0 0 %d %d" aria-hidden="true"><path class="grid" d="M4 8H%d M%.1f 2V14"/>`, width, height, width-4, at(0.5))
	low, ok1 := n.number("intervals", measure, "low")
	high, ok2 := n.number("intervals", measure, "high")
	if ok1 && ok2 {
		fmt.Fprintf(&b, `<path class="bar" d="M%.1f 8H%.1f"/>`, at(low), at(high))
	}
	fmt.Fprintf(&b, `<circle class="bin" cx="%.1f" cy="8" r="3.5"/></svg>`, at(x))
	return template.HTML(b.String())
}

// Epoch is what the training history says about one epoch; NaN: nothing.
type Epoch struct {
	Epoch              int
	TrainLoss, ValLoss float64
	ValAUROC           float64
	Best               bool
}

// historyPlots draw the losses and the AUROC of the validation over the epochs.
func historyPlots(history []Epoch) []template.HTML {
	if len(history) == 0 {
		return nil
	}
	var train, val, auroc []eval.Point
	top := 0.0
	for _, e := range history {
		x := float64(e.Epoch)
		for to, y := range map[*[]eval.Point]float64{&train: e.TrainLoss, &val: e.ValLoss} {
			if !math.IsNaN(y) && !math.IsInf(y, 0) {
				*to = append(*to, eval.Point{X: x, Y: y})
				top = max(top, y)
			}
		}
		if !math.IsNaN(e.ValAUROC) {
			auroc = append(auroc, eval.Point{X: x, Y: e.ValAUROC})
		}
	}
	first, last := float64(history[0].Epoch), float64(history[len(history)-1].Epoch)
	if last == first {
		last++
	}
	top = roundUp(top)
	losses := newPlot("Loss over the training", "One line for the training, one for the validation samples.", first, last, 0, top)
	losses.axes("epoch", "loss", epochTicks(first, last), []float64{0, top / 4, top / 2, top * 3 / 4, top})
	losses.line("curve", train)
	losses.line("second", val)
	out := []template.HTML{losses.svg()}
	if len(auroc) == 0 {
		return out
	}
	areas := newPlot("AUROC over the training", "Mean over the labels, on the validation samples.", first, last, 0, 1)
	areas.axes("epoch", "validation AUROC", epochTicks(first, last), halves())
	areas.line("curve", auroc)
	best := -1
	for i, e := range history {
		if e.Best {
			best = i
		}
	}
	if best >= 0 && !math.IsNaN(history[best].ValAUROC) {
		areas.dot("decision", float64(history[best].Epoch), history[best].ValAUROC, 4.5, "the best model")
		areas.text("second-name", float64(history[best].Epoch), history[best].ValAUROC, "best")
	}
	return append(out, areas.svg())
}

// roundUp returns the next of 1, 2, 4, 8 times a power of ten, at least 1e-9.
func roundUp(x float64) float64 {
	x = max(x, 1e-9)
	power := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 4, 8} {
		if x <= m*power {
			return m * power
		}
	}
	return 10 * power
}

// epochTicks are up to six whole numbers.
func epochTicks(first, last float64) []float64 {
	step := math.Ceil((last - first) / 5)
	var out []float64
	for x := first; x <= last; x += max(step, 1) {
		out = append(out, x)
	}
	return out
}
