package config

import (
	"fmt"
	"math"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder turns YAML nodes into typed values and collects every problem on the way.
type decoder struct {
	at       func(*yaml.Node) string             // where a node was written
	set      func(n *yaml.Node, f *field, v any) // takes each value that is right
	problems Problems
	bad      map[string]bool // keys with a problem; nil: not recorded
}

func (d *decoder) problem(n *yaml.Node, key, format string, args ...any) {
	d.problems = append(d.problems, Problem{Where: d.at(n), Key: key, Text: fmt.Sprintf(format, args...)})
	if d.bad != nil && key != "" {
		d.bad[key] = true
	}
}

// section decodes a mapping into the keys of f. root is the field that suggestions are drawn from.
func (d *decoder) section(n *yaml.Node, f, root *field) {
	n = follow(n)
	if isNull(n) {
		return // a section with nothing in it
	}
	if n.Kind != yaml.MappingNode {
		d.problem(n, f.key, "got %s, allowed: %s", show(n), f.allowed())
		return
	}
	for key, value := range d.pairs(n, f.key) {
		if c := f.child(key.Value); c == nil {
			d.problem(key, "", "unknown key %q%s", join(f.key, key.Value), suggestKey(key.Value, f, root))
		} else if c.fields != nil {
			d.section(value, c, root)
		} else {
			d.leaf(value, c)
		}
	}
}

// pairs yields the keys and values of a mapping, and reports keys that are not plain text or come twice.
func (d *decoder) pairs(n *yaml.Node, prefix string) func(yield func(k, v *yaml.Node) bool) {
	return func(yield func(k, v *yaml.Node) bool) {
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			switch first, twice := seen[k.Value]; {
			case k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge":
				d.problem(k, prefix, "merge keys (<<) are not supported; include another file instead")
			case k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str":
				d.problem(k, prefix, "a key must be plain text, got %s", show(k))
			case twice:
				d.problem(k, "", "key %q is set twice; the first is in line %d", join(prefix, k.Value), first)
			default:
				seen[k.Value] = k.Line
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// leaf decodes one value, checks it against f's rule and hands it to set.
func (d *decoder) leaf(n *yaml.Node, f *field) {
	n = follow(n)
	if f.typ == reflect.TypeFor[map[string]any]() {
		if m, ok := d.options(n, f.key); ok {
			d.set(n, f, m)
		}
		return
	}
	if f.nullable() && isNull(n) {
		d.set(n, f, reflect.Zero(f.typ).Interface())
		return
	}
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	v, ok := decodeAs(n, t)
	if !ok || f.doc.rule != nil && !f.doc.rule.ok(v) {
		d.problem(n, f.key, "got %s, allowed: %s%s", show(n), f.allowed(), hint(n, f))
		return
	}
	d.set(n, f, v)
}

// hint helps with a wrong value: the nearest allowed text, or quotes where a text is wanted.
func hint(n *yaml.Node, f *field) string {
	words := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		words = n.Content
	}
	for _, w := range words {
		if w = follow(w); w.Kind != yaml.ScalarNode {
			continue
		}
		if r := f.doc.rule; r != nil {
			if s := DidYouMean(w.Value, r.enum); s != "" && !r.has(w.Value) {
				return s
			}
		}
		wantsText := f.typ.Kind() == reflect.String || f.typ == reflect.TypeFor[[]string]()
		if wantsText && w.ShortTag() != "!!str" && w.Value != "" && (f.doc.rule == nil || f.doc.rule.enum == nil) {
			return "; write text that looks like something else in quotes"
		}
	}
	return ""
}

// options decodes the free mapping model.options: the registry of models knows its keys.
func (d *decoder) options(n *yaml.Node, key string) (map[string]any, bool) {
	if isNull(n) {
		return nil, true
	}
	if n.Kind != yaml.MappingNode {
		d.problem(n, key, "got %s, allowed: a mapping of option names to values", show(n))
		return nil, false
	}
	before := len(d.problems)
	d.checkKeys(n, key)
	if len(d.problems) > before {
		return nil, false
	}
	m := map[string]any{}
	if err := n.Decode(&m); err != nil {
		d.problem(n, key, "cannot be read: %s", oneLine(err))
		return nil, false
	}
	for name, v := range m {
		clean, err := canonical(v)
		if err != nil {
			d.problem(n, join(key, name), "%v", err)
		}
		m[name] = clean
	}
	return m, len(d.problems) == before
}

// checkKeys looks for keys that come twice or are no text, in n and all below it.
func (d *decoder) checkKeys(n *yaml.Node, key string) {
	if n.Kind == yaml.SequenceNode {
		for _, e := range n.Content {
			d.checkKeys(e, key)
		}
	}
	if n.Kind == yaml.MappingNode {
		for k, v := range d.pairs(n, key) {
			d.checkKeys(v, join(key, k.Value))
		}
	}
}

// canonical brings an option's value into the form it has after writing and reading it as YAML or JSON:
// whole numbers are int, other numbers float64.
func canonical(v any) (any, error) {
	var err error
	switch x := v.(type) {
	case nil, bool, string, int:
		return v, nil
	case float64:
		switch {
		case !finite(x):
			return nil, fmt.Errorf("got %v, allowed: a finite number", x)
		case x == math.Trunc(x) && math.Abs(x) < 1<<31:
			return int(x), nil
		}
		return x, nil
	case []any:
		for i := range x {
			if x[i], err = canonical(x[i]); err != nil {
				return nil, err
			}
		}
		return x, nil
	case map[string]any:
		for k := range x {
			if x[k], err = canonical(x[k]); err != nil {
				return nil, err
			}
		}
		return x, nil
	}
	return nil, fmt.Errorf("got %v, allowed: text, a number, true or false, a list or a mapping; write text in quotes", v)
}

// decodeAs reads n as a value of type t; false when it is something else.
func decodeAs(n *yaml.Node, t reflect.Type) (any, bool) {
	n = follow(n)
	if t == reflect.TypeFor[Spacing]() {
		if n.Kind == yaml.ScalarNode {
			return Spacing{Keep: true}, n.Value == "keep"
		}
		mm, ok := decodeAs(n, reflect.TypeFor[[3]float64]())
		if !ok {
			return nil, false
		}
		return Spacing{MM: mm.([3]float64)}, true
	}
	if t == reflect.TypeFor[PosWeight]() {
		if n.Kind == yaml.ScalarNode {
			return PosWeight{Auto: true}, n.Value == "auto"
		}
		values, ok := decodeAs(n, reflect.TypeFor[[]float64]())
		if !ok {
			return nil, false
		}
		return PosWeight{Values: values.([]float64)}, true
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return decodeList(n, t)
	case reflect.Bool:
		return decodeScalar(n, t, "!!bool")
	case reflect.String:
		return decodeScalar(n, t, "!!str")
	case reflect.Float32, reflect.Float64:
		v, ok := decodeScalar(n, t, "!!int", "!!float")
		return v, ok && finite(reflect.ValueOf(v).Float())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return decodeScalar(n, t, "!!int")
	}
	return decodeYAML(n, t)
}

func decodeList(n *yaml.Node, t reflect.Type) (any, bool) {
	if n.Kind != yaml.SequenceNode || t.Kind() == reflect.Array && len(n.Content) != t.Len() {
		return nil, false
	}
	list := reflect.Zero(t) // an empty list is nil, so that it equals one that was never set
	if t.Kind() == reflect.Array {
		list = reflect.New(t).Elem()
	} else if len(n.Content) > 0 {
		list = reflect.MakeSlice(t, len(n.Content), len(n.Content))
	}
	for i, e := range n.Content {
		v, ok := decodeAs(e, t.Elem())
		if !ok {
			return nil, false
		}
		list.Index(i).Set(reflect.ValueOf(v).Convert(t.Elem()))
	}
	return list.Interface(), true
}

func decodeScalar(n *yaml.Node, t reflect.Type, tags ...string) (any, bool) {
	if n.Kind != yaml.ScalarNode {
		return nil, false
	}
	for _, tag := range tags {
		if n.ShortTag() == tag {
			return decodeYAML(n, t)
		}
	}
	return nil, false
}

func decodeYAML(n *yaml.Node, t reflect.Type) (any, bool) {
	v := reflect.New(t)
	if err := n.Decode(v.Interface()); err != nil {
		return nil, false
	}
	return v.Elem().Interface(), true
}

// follow returns the node that an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// show renders a node for a message: on one line, cut when long.
func show(n *yaml.Node) string {
	n = follow(n)
	var text string
	switch {
	case isNull(n):
		return "nothing"
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str":
		text = fmt.Sprintf("%q", n.Value)
	case n.Kind == yaml.ScalarNode:
		text = n.Value
	case n.Kind == yaml.SequenceNode && len(n.Content) <= 16:
		var parts []string
		for _, e := range n.Content {
			if e.Kind == yaml.ScalarNode {
				parts = append(parts, show(e))
			} else {
				parts = append(parts, "...")
			}
		}
		text = "[" + strings.Join(parts, ", ") + "]"
	case n.Kind == yaml.SequenceNode:
		return fmt.Sprintf("a list of %d values", len(n.Content))
	default:
		return "a mapping"
	}
	if r := []rune(text); len(r) > 80 {
		text = string(r[:77]) + "..."
	}
	return text
}

// suggestKey names the key that was probably meant by name, which section does not have: a near one in the
// section, or one of that or nearly that name elsewhere.
func suggestKey(name string, section, root *field) string {
	keys := map[string]string{} // name → first key of that name
	var near, elsewhere []string
	for _, c := range section.fields {
		near = append(near, c.name())
	}
	for _, c := range root.all() {
		if keys[c.name()] == "" {
			keys[c.name()] = c.key
			elsewhere = append(elsewhere, c.name())
		}
	}
	if n := nearest(name, near); n != "" {
		return fmt.Sprintf("; did you mean %q?", join(section.key, n))
	}
	if n := nearest(name, elsewhere); n != "" {
		return fmt.Sprintf("; did you mean %q?", keys[n])
	}
	return ""
}

// unknownKey says that no key has that dotted name, with a suggestion for its first part that is unknown.
func unknownKey(key string, root *field) string {
	section := root
	part, rest, _ := strings.Cut(key, ".")
	for c := section.child(part); c != nil && c.fields != nil && rest != ""; c = section.child(part) {
		section = c
		part, rest, _ = strings.Cut(rest, ".")
	}
	return fmt.Sprintf("unknown key %q%s", key, suggestKey(part, section, root))
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
