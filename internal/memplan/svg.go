package memplan

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/ctclass/ctclass/internal/engine"
)

// The frame of the picture in pixels.
const (
	svgWidth, svgHeight = 960, 520
	svgLeft, svgRight   = 76, 196
	svgTop, svgBottom   = 56, 56
)

// band is a layer of the picture: what is there all the time below, the arena's parts above.
type band struct {
	name, colour string
	bytes        func(m *engine.Moment) int64
}

func (r *Report) bands() []band {
	var state, beside int64
	arena := map[string]bool{"gaps in the arena": true}
	for _, part := range engine.Parts() {
		arena[part.String()] = true
	}
	for _, part := range r.Parts {
		switch {
		case arena[part.Name]:
		case strings.HasPrefix(part.Name, "weights"), strings.HasPrefix(part.Name, "running"), strings.HasPrefix(part.Name, "optimiser"),
			strings.HasPrefix(part.Name, "moving"), strings.HasPrefix(part.Name, "accumulated"):
			state += part.Bytes
		default:
			beside += part.Bytes
		}
	}
	always := func(n int64) func(*engine.Moment) int64 { return func(*engine.Moment) int64 { return n } }
	list := []band{
		{"reading, runtime, inputs", "#9aa5b1", always(beside)},
		{"weights and optimiser", "#52606d", always(state)},
	}
	for i, colour := range []string{"#2f80c2", "#7cc4f0", "#e0803c", "#f2c35b", "#7aa95c"} {
		part := engine.Parts()[i]
		list = append(list, band{part.String(), colour, func(m *engine.Moment) int64 { return m.Bytes[part] }})
	}
	return list
}

// SVG draws the memory of the process over the instructions of a training step.
func (r *Report) SVG() []byte {
	line := r.Timeline
	top := float64(max(r.PromisedPeakBytes, 1)) * 1.08
	unit, name := 1<<20, "MiB"
	if top > 4<<30 {
		unit, name = 1<<30, "GiB"
	}
	n := len(line)
	px := func(i int) float64 { return svgLeft + float64(i)/float64(max(n, 1))*(svgWidth-svgLeft-svgRight) }
	py := func(bytes float64) float64 {
		return svgHeight - svgBottom - bytes/top*(svgHeight-svgTop-svgBottom)
	}
	var b strings.Builder
	title := fmt.Sprintf("Memory of a training step: %s, batch %d of %d×%d×%d voxels", r.Model, r.Batch, r.ShapeDHW[0], r.ShapeDHW[1], r.ShapeDHW[2])
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="sans-serif" font-size="12">`,
		svgWidth, svgHeight, svgWidth, svgHeight)
	fmt.Fprintf(&b, "\n<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", html.EscapeString(title))
	fmt.Fprintf(&b, `<text x="%d" y="24" font-size="15" font-weight="bold">%s</text>`+"\n", svgLeft, html.EscapeString(title))
	step := roundStep(top / float64(unit) / 6)
	for v := 0.0; v*float64(unit) <= top; v += step {
		y := py(v * float64(unit))
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#e4e7eb"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n", svgLeft, y, svgWidth-svgRight, svgLeft-8, y+4, v)
	}
	fmt.Fprintf(&b, `<text transform="translate(20 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (svgTop+svgHeight-svgBottom)/2, name)

	below := make([]int64, n)
	bands := r.bands()
	for k, band := range bands {
		var up, down strings.Builder
		seen := false
		for i := range line {
			bytes := band.bytes(&line[i])
			seen = seen || bytes > 0
			fmt.Fprintf(&up, "L%.1f %.1fH%.1f", px(i), py(float64(below[i]+bytes)), px(i+1))
			j := n - 1 - i
			fmt.Fprintf(&down, "L%.1f %.1fH%.1f", px(j+1), py(float64(below[j])), px(j))
		}
		for i := range line {
			below[i] += band.bytes(&line[i])
		}
		if !seen {
			continue
		}
		fmt.Fprintf(&b, `<path fill="%s" d="M%s%sZ"><title>%s</title></path>`+"\n", band.colour, up.String()[1:], down.String(), band.name)
		y := svgHeight - svgBottom - 22*(k+1)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="12" height="12" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			svgWidth-svgRight+14, y, band.colour, svgWidth-svgRight+32, y+10, band.name)
	}
	level := func(bytes int64, colour, text string) {
		y := py(float64(bytes))
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="%s" stroke-dasharray="6 4"/><text x="%d" y="%.1f" fill="%s">%s</text>`+"\n",
			svgLeft, y, svgWidth-svgRight, colour, svgWidth-svgRight+6, y+4, colour, text)
	}
	level(r.PromisedPeakBytes, "#b42318", "promised: "+mebibytes(r.PromisedPeakBytes))
	if r.BudgetBytes > 0 && float64(r.BudgetBytes) < top && math.Abs(py(float64(r.BudgetBytes))-py(float64(r.PromisedPeakBytes))) > 14 {
		level(r.BudgetBytes, "#52606d", "budget: "+mebibytes(r.BudgetBytes))
	}
	turn, peak := 0, 0
	for i := range line {
		if line[i].Backward && turn == 0 {
			turn = i
		}
		if line[i].Total() > line[peak].Total() {
			peak = i
		}
	}
	if n > 0 {
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#1f2933" stroke-dasharray="2 3"/>`, px(turn), svgTop, svgHeight-svgBottom)
		for _, part := range []struct {
			from, to int
			text     string
		}{{0, turn, "forward"}, {turn, n, "backward"}} {
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", (px(part.from)+px(part.to))/2, svgHeight-svgBottom+20, part.text)
		}
		m, x, anchor := &line[peak], px(peak), "start"
		if x > svgLeft+(svgWidth-svgLeft-svgRight)*2/3 {
			anchor = "end"
		}
		y := py(float64(below[peak]))
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4" fill="#b42318"/><text x="%.1f" y="%d" text-anchor="%s" fill="#b42318">peak of the step: %s %s</text>`+"\n",
			x, y, x, svgTop-8, anchor, html.EscapeString(m.Layer), html.EscapeString(m.Kind))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%d instructions</text>`+"\n</svg>\n", (svgLeft+svgWidth-svgRight)/2, svgHeight-14, n)
	return []byte(b.String())
}

// roundStep returns the next of 1, 2 and 5 times a power of ten.
func roundStep(x float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(x)))
	for _, f := range []float64{1, 2, 5} {
		if f*p >= x {
			return f * p
		}
	}
	return 10 * p
}
