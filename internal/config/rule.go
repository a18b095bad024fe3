package config

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rule says which values of a key's type are allowed. One rule serves the check of a value, the text that
// says what is allowed, and the JSON schema.
type rule struct {
	text   string // completes "allowed: "
	ok     func(v any) bool
	enum   []string // the allowed texts, for suggestions
	elem   bool     // text speaks of the elements of a list
	schema func(*schemaNode)
}

// has says whether name is one of the allowed texts.
func (r *rule) has(name string) bool { return slices.Contains(r.enum, name) }

func oneOf(names ...string) *rule {
	return &rule{
		text:   strings.Join(names, ", "),
		ok:     func(v any) bool { return slices.Contains(names, v.(string)) },
		enum:   names,
		schema: func(s *schemaNode) { s.Enum = names },
	}
}

func notEmpty() *rule {
	return &rule{
		text:   "text that is not empty",
		ok:     func(v any) bool { return strings.TrimSpace(v.(string)) != "" },
		schema: func(s *schemaNode) { s.MinLength = ptr(1) },
	}
}

// expression takes a regular expression, or nothing.
func expression() *rule {
	return &rule{
		text: "a regular expression of Go (RE2), or nothing",
		ok: func(v any) bool {
			_, err := regexp.Compile(v.(string))
			return err == nil
		},
	}
}

func whole(lo, hi int) *rule {
	return &rule{
		text: fmt.Sprintf("a whole number from %d to %d", lo, hi),
		ok:   func(v any) bool { n := v.(int); return n >= lo && n <= hi },
		schema: func(s *schemaNode) {
			s.Minimum, s.Maximum = ptr(float64(lo)), ptr(float64(hi))
		},
	}
}

func atLeast(lo float64) *rule {
	return &rule{
		text:   "a number of at least " + number(lo),
		ok:     func(v any) bool { x := v.(float64); return x >= lo && finite(x) },
		schema: func(s *schemaNode) { s.Minimum = ptr(lo) },
	}
}

func above(lo float64) *rule {
	return &rule{
		text:   "a number above " + number(lo),
		ok:     func(v any) bool { x := v.(float64); return x > lo && finite(x) },
		schema: func(s *schemaNode) { s.ExclusiveMinimum = ptr(lo) },
	}
}

// within allows lo < x < hi, and the ends that are included.
func within(lo, hi float64, withLo, withHi bool) *rule {
	text := fmt.Sprintf("a number between %s and %s", number(lo), number(hi))
	switch {
	case withLo && withHi:
		text += ", both included"
	case withLo:
		text += fmt.Sprintf(", %s included", number(lo))
	case withHi:
		text += fmt.Sprintf(", %s included", number(hi))
	default:
		text += ", both excluded"
	}
	return &rule{
		text: text,
		ok: func(v any) bool {
			x := v.(float64)
			return x > lo && x < hi || withLo && x == lo || withHi && x == hi
		},
		schema: func(s *schemaNode) {
			if s.Minimum = ptr(lo); !withLo {
				s.Minimum, s.ExclusiveMinimum = nil, ptr(lo)
			}
			if s.Maximum = ptr(hi); !withHi {
				s.Maximum, s.ExclusiveMaximum = nil, ptr(hi)
			}
		},
	}
}

// zeroOrFrom allows 0 and everything from lo on.
func zeroOrFrom(lo float64) *rule {
	return &rule{
		text: fmt.Sprintf("0, or a number of at least %s", number(lo)),
		ok:   func(v any) bool { x := v.(float64); return x == 0 || x >= lo && finite(x) },
		schema: func(s *schemaNode) {
			s.Type = nil
			s.AnyOf = []*schemaNode{{Const: 0}, {Type: "number", Minimum: ptr(lo)}}
		},
	}
}

// each applies r to every element of a list or array; unique forbids equal elements.
func each(r *rule, unique bool) *rule {
	out := &rule{
		text: "each " + r.text,
		ok: func(v any) bool {
			seen := map[any]bool{}
			for i := range reflect.ValueOf(v).Len() {
				e := reflect.ValueOf(v).Index(i).Interface()
				if !r.ok(e) || unique && seen[e] {
					return false
				}
				seen[e] = true
			}
			return true
		},
		schema: func(s *schemaNode) {
			if r.schema != nil {
				r.schema(s.Items)
			}
			s.UniqueItems = unique
		},
	}
	if out.elem = r.enum == nil; !out.elem {
		out.text, out.enum = "a list of "+r.text, r.enum
	}
	if unique {
		out.text += ", none twice"
	}
	return out
}

// ascending allows two finite numbers, the first below the second.
func ascending() *rule {
	return &rule{
		text: "two numbers, the first below the second",
		ok: func(v any) bool {
			p := v.([2]float64)
			return p[0] < p[1] && finite(p[0]) && finite(p[1])
		},
	}
}

// ordered allows two numbers from lo to hi, the first not above the second.
func ordered(lo, hi float64) *rule {
	return &rule{
		text: fmt.Sprintf("two numbers from %s to %s, the first not above the second", number(lo), number(hi)),
		ok: func(v any) bool {
			p := v.([2]float64)
			return lo <= p[0] && p[0] <= p[1] && p[1] <= hi
		},
	}
}

func spacingRule() *rule {
	return &rule{
		text: "keep, or three numbers above 0 for d, h, w",
		ok: func(v any) bool {
			s := v.(Spacing)
			if s.Keep {
				return s.MM == [3]float64{}
			}
			for _, x := range s.MM {
				if !(x > 0) || !finite(x) {
					return false
				}
			}
			return true
		},
	}
}

func posWeightRule() *rule {
	one := above(0)
	return &rule{
		text: "auto, or a list of numbers above 0",
		ok: func(v any) bool {
			w := v.(PosWeight)
			for _, x := range w.Values {
				if !one.ok(x) {
					return false
				}
			}
			return !w.Auto || len(w.Values) == 0
		},
	}
}

// operatingPoint allows the rules that eval.ParseRule reads.
func operatingPoint() *rule {
	const pattern = `^(youden|(sensitivity|specificity)=(0?\.[0-9]+|1)|cost=[0-9]*\.?[0-9]+:[0-9]*\.?[0-9]+)$`
	re := regexp.MustCompile(pattern)
	return &rule{
		text:   "youden, sensitivity=SHARE, specificity=SHARE or cost=FP:FN (sensitivity=0.95, cost=1:5)",
		ok:     func(v any) bool { return re.MatchString(v.(string)) },
		schema: func(s *schemaNode) { s.Pattern = pattern },
	}
}

func byteSize() *rule {
	return &rule{
		text: byteSizeText + ", or empty",
		ok: func(v any) bool {
			if v == "" {
				return true
			}
			_, err := ParseBytes(v.(string))
			return err == nil
		},
	}
}

func memoryBudget() *rule {
	return &rule{
		text: budgetText,
		ok: func(v any) bool {
			_, err := ParseBudget(v.(string))
			return err == nil
		},
	}
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

func ptr[T any](v T) *T { return &v }
