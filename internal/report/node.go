package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"strconv"
	"strings"
)

// node is a value within the JSON of an evaluation, with the path that leads to it (a JSON pointer). Every number of
// the page is a node, so that it is one of `ctclass eval --json`; the page's elements name the path.
type node struct {
	path string
	v    any // map[string]any, []any, json.Number, string, bool, or nil for null and what is not there
}

func parseNode(text []byte) (node, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return node{"", v}, err
}

// At follows keys (text) and indices (int).
func (n node) At(keys ...any) node {
	for _, k := range keys {
		n.path += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(fmt.Sprint(k))
		switch v := n.v.(type) {
		case map[string]any:
			n.v = v[fmt.Sprint(k)]
		case []any:
			if i, ok := k.(int); ok && i < len(v) {
				n.v = v[i]
			} else {
				n.v = nil
			}
		default:
			n.v = nil
		}
	}
	return n
}

// Each returns the elements of a list.
func (n node) Each(keys ...any) []node {
	n = n.At(keys...)
	list, _ := n.v.([]any)
	out := make([]node, len(list))
	for i := range list {
		out[i] = n.At(i)
	}
	return out
}

// Has reports whether there is something other than null, an empty list or an empty text.
func (n node) Has(keys ...any) bool {
	switch v := n.At(keys...).v.(type) {
	case nil:
		return false
	case []any:
		return len(v) > 0
	case string:
		return v != ""
	}
	return true
}

// Text is the text of a string; the template escapes it.
func (n node) Text(keys ...any) string {
	s, _ := n.At(keys...).v.(string)
	return s
}

// Is reports whether a value is true.
func (n node) Is(keys ...any) bool {
	b, _ := n.At(keys...).v.(bool)
	return b
}

// number returns a number; ok is false where there is none.
func (n node) number(keys ...any) (x float64, ok bool) {
	s, ok := n.At(keys...).v.(json.Number)
	if !ok {
		return 0, false
	}
	x, err := s.Float64()
	return x, err == nil
}

// element is a number as it is shown, with its full value and its place in the JSON.
func (n node) element(text string) template.HTML {
	return template.HTML(fmt.Sprintf(`<data value="%s" data-path="%s">%s</data>`,
		html.EscapeString(fmt.Sprint(n.v)), html.EscapeString(n.path), html.EscapeString(text)))
}

const undefined = template.HTML(`<abbr title="not defined by these data">n/a</abbr>`)

// Num shows a measure with three decimals, or that it is not defined.
func (n node) Num(keys ...any) template.HTML {
	n = n.At(keys...)
	x, ok := n.number()
	if !ok {
		return undefined
	}
	return n.element(minus(strconv.FormatFloat(x, 'f', 3, 64)))
}

// Int shows a whole number.
func (n node) Int(keys ...any) template.HTML {
	n = n.At(keys...)
	if _, ok := n.number(); !ok {
		return undefined
	}
	return n.element(fmt.Sprint(n.v))
}

// Signed shows a difference with its sign.
func (n node) Signed(keys ...any) template.HTML {
	n = n.At(keys...)
	x, ok := n.number()
	if !ok {
		return undefined
	}
	if x == 0 {
		return n.element("0.000")
	}
	return n.element(minus(fmt.Sprintf("%+.3f", x)))
}

// P shows a p-value.
func (n node) P(keys ...any) template.HTML {
	n = n.At(keys...)
	x, ok := n.number()
	if !ok {
		return undefined
	}
	if x < 0.001 {
		return n.element("< 0.001")
	}
	return n.element(strconv.FormatFloat(x, 'f', 3, 64))
}

// CI shows the interval of a measure in brackets; nothing where there is none.
func (n node) CI(measure string) template.HTML {
	v := n.At("intervals", measure)
	if !v.Has() {
		return ""
	}
	return `<span class="ci">(` + v.Num("low") + "–" + v.Num("high") + ")</span>"
}

// With shows a measure and its interval.
func (n node) With(measure string) template.HTML { return n.Num(measure) + " " + n.CI(measure) }

// minus puts a minus sign where a hyphen stands.
func minus(s string) string { return strings.Replace(s, "-", "−", 1) }
