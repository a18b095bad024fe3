package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

const includeDoc = "Another configuration file, or a list of them, read before this one: what this file says wins. " +
	"A relative path starts from the folder of this file."

const precedenceDoc = `Precedence: --set wins over environment variables, these over the file, the file over what it
includes, that over the defaults. Values of --set and of variables are YAML, but a text needs no
quotes and a list no brackets. A variable that is empty counts as not set. The options of an
architecture are set by CTCLASS_MODEL_OPTIONS_NAME.

`

// Explain returns the documentation of a key, of a section with all its keys, or of everything when key is
// empty. known gives the names that model.name and loss.name may have.
func Explain(key string, known Names) (string, error) {
	root := tree()
	def := Default()
	var b strings.Builder
	switch f := root.find(key); {
	case key == "":
		b.WriteString(precedenceDoc)
		b.WriteString("include\n")
		wrap(&b, includeDoc)
		for _, c := range root.all() {
			b.WriteByte('\n')
			c.explain(&b, &def, known)
		}
	case key == "include":
		b.WriteString("include\n")
		wrap(&b, includeDoc)
	case f == nil:
		return "", Problems{{Text: unknownKey(key, root)}}
	default:
		f.explain(&b, &def, known)
		for _, c := range f.all() {
			b.WriteByte('\n')
			c.explain(&b, &def, known)
		}
	}
	return b.String(), nil
}

func (f *field) explain(b *strings.Builder, def *Config, known Names) {
	fmt.Fprintln(b, f.key)
	wrap(b, f.doc.doc)
	if f.fields != nil {
		return
	}
	allowed := f.allowed()
	if names := known.of(f.key); len(names) > 0 {
		allowed = strings.Join(names, ", ")
	}
	wrap(b, "allowed: "+allowed)
	if f.doc.unit != "" {
		wrap(b, "unit: "+f.doc.unit)
	}
	wrap(b, "default: "+f.defaultText(def))
	wrap(b, "environment: "+f.env())
}

// defaultText is the default as it is written in YAML.
func (f *field) defaultText(def *Config) string {
	v := f.value(def)
	if v == nil {
		return "null"
	}
	if r := reflect.ValueOf(v); (r.Kind() == reflect.Slice || r.Kind() == reflect.Map) && r.Len() == 0 || v == "" {
		return "empty"
	}
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	n.Style = yaml.FlowStyle
	text, err := yaml.Marshal(&n)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(string(text))
}

// wrap writes text in lines of at most 100 letters, indented by two blanks.
func wrap(b *strings.Builder, text string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > 98 {
			fmt.Fprintln(b, "  "+line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	fmt.Fprintln(b, "  "+line)
}

// Marshal returns the configuration as YAML with every key written out; Load reads it back to an equal one.
func Marshal(c *Config) ([]byte, error) {
	var n yaml.Node
	if err := n.Encode(c); err != nil {
		return nil, fmt.Errorf("config: writing the settings: %w", err)
	}
	flowLists(&n)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&n); err != nil {
		return nil, fmt.Errorf("config: writing the settings: %w", err)
	}
	return b.Bytes(), nil
}

// flowLists writes lists on one line, as people do.
func flowLists(n *yaml.Node) {
	if n.Kind == yaml.SequenceNode {
		n.Style = yaml.FlowStyle
	}
	for _, c := range n.Content {
		flowLists(c)
	}
}
