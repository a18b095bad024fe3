package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

const (
	maxFileBytes = 1 << 20 // a configuration is a page or two
	maxFiles     = 64      // with all that it includes
	optionsKey   = "model.options"
	optionsEnv   = "CTCLASS_MODEL_OPTIONS_"
)

// Source says where a configuration comes from. What is named later wins over what is named before it:
// defaults, included files, the file, the environment, Sets.
type Source struct {
	Path    string   // YAML file; empty: none
	Sets    []string // "key=value", the key dotted, the value YAML
	Environ []string // "NAME=value" as in os.Environ; CTCLASS_TRAIN_EPOCHS sets train.epochs
	Known   Names    // the names that model.name and loss.name may have
}

// Load reads the configuration file at path, if any, with overrides from environ and sets. It checks all but
// the names of models and losses; see Source for these.
func Load(path string, sets, environ []string) (*Config, error) {
	return Source{Path: path, Sets: sets, Environ: environ}.Load()
}

// Load reads and checks the configuration. An error about what the configuration says is of type Problems
// and holds every problem that was found.
func (s Source) Load() (*Config, error) {
	l := &loader{root: tree(), merged: viper.New(), where: map[string]string{}, bad: map[string]bool{}}
	def := Default()
	for _, f := range l.root.leaves() {
		if v := f.value(&def); v != nil && f.key != optionsKey {
			l.merged.SetDefault(f.key, v)
		}
	}
	if s.Path != "" {
		l.file(s.Path, nil, Problem{Key: "config file"})
	}
	l.environment(s.Environ)
	for _, kv := range s.Sets {
		l.override(kv)
	}

	var c Config
	err := l.merged.UnmarshalExact(&c, func(dc *mapstructure.DecoderConfig) {
		dc.TagName, dc.WeaklyTypedInput, dc.DecodeHook = "yaml", false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("config: merging the settings: %w", err)
	}
	c.Model.Options = l.options
	for _, p := range append(checkNames(&c, s.Known), crossCheck(&c)...) {
		if !slices.ContainsFunc(p.keys, func(k string) bool { return l.bad[k] }) {
			p.Where = l.where[p.keys[0]]
			l.problems = append(l.problems, p.Problem)
		}
	}
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return &c, nil
}

// loader merges the layers of a configuration, lowest first.
type loader struct {
	root     *field
	merged   *viper.Viper
	options  map[string]any    // model.options: viper would put its keys into lower case
	where    map[string]string // key → where its value was written
	bad      map[string]bool   // keys with a problem
	problems Problems
	files    int
}

// file merges the file at path, after the files that it includes. stack holds the files on the way to it,
// asked the place that named it.
func (l *loader) file(path string, stack []string, asked Problem) {
	fail := func(format string, args ...any) {
		asked.Text = fmt.Sprintf(format, args...)
		l.problems = append(l.problems, asked)
	}
	id := path
	if abs, err := filepath.Abs(path); err == nil {
		id = abs
	}
	if real, err := filepath.EvalSymlinks(id); err == nil {
		id = real
	}
	if slices.Contains(stack, id) {
		fail("%s includes itself (%s)", path, strings.Join(append(stack, id), " > "))
		return
	}
	if l.files++; l.files > maxFiles {
		if l.files == maxFiles+1 {
			fail("more than %d files are included", maxFiles)
		}
		return
	}
	text, err := readFile(path)
	if err != nil {
		fail("%v", err)
		return
	}
	doc, err := parse(text)
	if err != nil {
		l.problems = append(l.problems, yamlProblem(path, err))
		return
	}
	if doc == nil {
		return
	}
	if doc.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(doc.Content); i += 2 {
			if k := doc.Content[i]; k.Value == "include" && k.Kind == yaml.ScalarNode {
				l.include(doc.Content[i+1], path, append(stack, id))
				doc.Content = slices.Delete(slices.Clone(doc.Content), i, i+2)
				break
			}
		}
	}
	l.layer(doc, l.root, func(n *yaml.Node) string { return fmt.Sprintf("%s:%d", path, n.Line) })
}

func (l *loader) include(n *yaml.Node, path string, stack []string) {
	asked := Problem{Where: fmt.Sprintf("%s:%d", path, n.Line), Key: "include"}
	n = follow(n)
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	for _, e := range list {
		e = follow(e)
		if e.Kind != yaml.ScalarNode || e.ShortTag() != "!!str" || e.Value == "" {
			asked.Text = fmt.Sprintf("got %s, allowed: the path of a file, or a list of paths", show(e))
			l.problems = append(l.problems, asked)
			continue
		}
		other := e.Value
		if !filepath.IsAbs(other) {
			other = filepath.Join(filepath.Dir(path), other)
		}
		l.file(other, stack, asked)
	}
}

// layer checks the values below n, which belongs to f, and lays them over what was merged before.
func (l *loader) layer(n *yaml.Node, f *field, at func(*yaml.Node) string) {
	values := map[string]any{}
	d := &decoder{bad: l.bad, at: at}
	d.set = func(n *yaml.Node, f *field, v any) {
		l.where[f.key] = at(n)
		if m, ok := v.(map[string]any); ok {
			l.mergeOptions(m)
			return
		}
		put(values, strings.Split(f.key, "."), v)
	}
	if f.fields != nil {
		d.section(n, f, l.root)
	} else {
		d.leaf(n, f)
	}
	l.problems = append(l.problems, d.problems...)
	// MergeConfigMap fails only on a map that it cannot copy, which these are not.
	if err := l.merged.MergeConfigMap(values); err != nil {
		l.problems = append(l.problems, Problem{Where: at(n), Text: err.Error()})
	}
}

// mergeOptions lays m over the options; nil drops them.
func (l *loader) mergeOptions(m map[string]any) {
	if m == nil {
		l.options = nil
		return
	}
	if len(m) == 0 {
		return
	}
	if l.options == nil {
		l.options = map[string]any{}
	}
	overlay(l.options, m)
}

func overlay(dst, src map[string]any) {
	for k, v := range src {
		if v == nil { // null takes back what an included file set
			delete(dst, k)
			continue
		}
		below, ok := dst[k].(map[string]any)
		if m, isMap := v.(map[string]any); ok && isMap {
			overlay(below, m)
			continue
		}
		dst[k] = v
	}
}

func put(m map[string]any, path []string, v any) {
	for _, name := range path[:len(path)-1] {
		if _, ok := m[name].(map[string]any); !ok {
			m[name] = map[string]any{}
		}
		m = m[name].(map[string]any)
	}
	m[path[len(path)-1]] = v
}

// override applies one "key=value" of --set.
func (l *loader) override(kv string) {
	where := "--set " + kv
	key, value, found := strings.Cut(kv, "=")
	key = strings.TrimSpace(key)
	if !found || key == "" {
		l.problems = append(l.problems, Problem{Where: where, Text: "write --set key=value, such as --set train.epochs=5"})
		return
	}
	if name, isOption := strings.CutPrefix(key, optionsKey+"."); isOption {
		l.option(where, name, value)
		return
	}
	f := l.root.find(key)
	if f == nil {
		l.problems = append(l.problems, Problem{Where: where, Text: unknownKey(key, l.root)})
		return
	}
	l.text(where, f, value)
}

// option applies one option of the architecture, whose name may be dotted.
func (l *loader) option(where, name, value string) {
	n, err := valueNode(value)
	if err != nil {
		l.problems = append(l.problems, Problem{Where: where, Key: optionsKey + "." + name, Text: err.Error()})
		return
	}
	for _, part := range slices.Backward(strings.Split(name, ".")) {
		n = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{textNode(part), n}}
	}
	l.layer(n, l.root.find(optionsKey), func(*yaml.Node) string { return where })
}

// environment applies the variables that name a key. A variable that nearly names one is a problem: it was
// meant to set something.
func (l *loader) environment(environ []string) {
	vars := map[string]*field{}
	var names []string
	for _, f := range l.root.leaves() {
		vars[f.env()] = f
		names = append(names, f.env())
	}
	environ = slices.Clone(environ)
	slices.Sort(environ)
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		where := "environment " + name
		if value == "" {
			continue // set to nothing is the same as not set
		}
		if f := vars[name]; f != nil {
			l.text(where, f, value)
		} else if option, ok := strings.CutPrefix(name, optionsEnv); ok && option != "" {
			l.option(where, strings.ToLower(option), value)
		} else if l.meantAsKey(name, names) {
			l.problems = append(l.problems, Problem{Where: where, Text: "sets no key of the configuration" + DidYouMean(name, names)})
		}
	}
}

// meantAsKey says whether a variable's name starts with that of a section, or is one or two letters off a key.
func (l *loader) meantAsKey(name string, known []string) bool {
	return slices.ContainsFunc(l.root.fields, func(f *field) bool { return strings.HasPrefix(name, f.env()+"_") }) ||
		slices.ContainsFunc(known, func(k string) bool { return editDistance(name, k) <= 2 })
}

// text applies a value that was given as text outside a file: YAML, but a text needs no quotes and a list no
// brackets.
func (l *loader) text(where string, f *field, value string) {
	at := func(*yaml.Node) string { return where }
	n, err := valueNode(value)
	quoted := err == nil && n.Kind == yaml.ScalarNode && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0
	switch {
	case !utf8.ValidString(value):
		l.problems = append(l.problems, Problem{Where: where, Key: f.key, Text: "the value is not valid UTF-8"})
		return
	case f.typ.Kind() == reflect.String && !quoted:
		n, err = textNode(value), nil
	case isList(f.typ, value) && (err != nil || n.Kind != yaml.SequenceNode):
		n, err = valueNode("[" + value + "]")
	}
	if err != nil {
		l.problems = append(l.problems, Problem{Where: where, Key: f.key, Text: err.Error()})
		l.bad[f.key] = true
		return
	}
	l.layer(n, f, at)
}

// isList says whether a text without brackets is meant as a list: 64,64,64 is one where three numbers belong.
func isList(t reflect.Type, value string) bool {
	if t == reflect.TypeFor[PosWeight]() {
		return strings.Trim(value, " '\"") != "auto"
	}
	return t.Kind() == reflect.Slice || (t.Kind() == reflect.Array || t == reflect.TypeFor[Spacing]()) && strings.Contains(value, ",")
}

func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// valueNode parses one YAML value; nothing at all is null.
func valueNode(value string) (*yaml.Node, error) {
	n, err := parse([]byte(value))
	if err != nil {
		return nil, fmt.Errorf("%q is not valid YAML: %s", value, yamlLine.ReplaceAllString(oneLine(err), ""))
	}
	if n == nil {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, nil
	}
	return n, nil
}

// parse returns the top node of a YAML document, nil when it is empty.
func parse(text []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := dec.Decode(&next); err == nil {
		return nil, fmt.Errorf("line %d: a second document starts here; a configuration is one document", next.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return doc.Content[0], nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than 1 MiB and no configuration", path)
	}
	return text, nil
}

var (
	yamlLine = regexp.MustCompile(`^(yaml: )?(line (\d+): )?`)
	// yaml.v3 counts lines from 0 in the errors of its parser and from 1 in those of its scanner.
	yamlParserError = regexp.MustCompile(`^did not find expected (key|node content|'-' indicator|',' or|<document start>)`)
)

// yamlProblem moves the line number of a YAML error to where the other problems have it.
func yamlProblem(path string, err error) Problem {
	text := oneLine(err)
	m := yamlLine.FindStringSubmatch(text)
	where := path
	text = text[len(m[0]):]
	if line, err := strconv.Atoi(m[3]); err == nil {
		if yamlParserError.MatchString(text) {
			line++
		}
		where += fmt.Sprintf(":%d", line)
	}
	return Problem{Where: where, Text: "not valid YAML: " + text}
}
