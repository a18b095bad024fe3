package config

import (
	"fmt"
	"reflect"
	"strings"
)

// field is one key of a configuration struct, or a section with keys of its own.
type field struct {
	key    string // dotted; "" for the whole configuration
	typ    reflect.Type
	index  []int // path of the struct field from the root, for reflect's FieldByIndex
	doc    keyDoc
	fields []*field // nil for a key that holds a value
}

// tree returns the keys of Config with their documentation.
func tree() *field {
	docs := map[string]keyDoc{}
	for _, d := range keyDocs() {
		docs[d.key] = d
	}
	t := reflect.TypeFor[Config]()
	return &field{typ: t, fields: structFields(t, "", nil, docs)}
}

func structFields(t reflect.Type, prefix string, index []int, docs map[string]keyDoc) []*field {
	var out []*field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, flags, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		at := append(append([]int(nil), index...), i)
		if sf.Type.Kind() == reflect.Struct && flags == "inline" {
			out = append(out, structFields(sf.Type, prefix, at, docs)...)
			continue
		}
		if !sf.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = strings.ToLower(sf.Name)
		}
		f := &field{key: join(prefix, name), typ: sf.Type, index: at}
		f.doc = docs[f.key]
		if sf.Type.Kind() == reflect.Struct && !isValue(sf.Type) {
			f.fields = structFields(sf.Type, f.key, at, docs)
		}
		out = append(out, f)
	}
	return out
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// isValue says whether a struct type is the value of one key rather than a section.
func isValue(t reflect.Type) bool {
	return t == reflect.TypeFor[Spacing]() || t == reflect.TypeFor[PosWeight]()
}

// name is the last part of the key.
func (f *field) name() string { return f.key[strings.LastIndexByte(f.key, '.')+1:] }

// child returns the direct key of that name, or nil.
func (f *field) child(name string) *field {
	for _, c := range f.fields {
		if c.name() == name {
			return c
		}
	}
	return nil
}

// all returns f's keys and sections at every depth, in order of declaration.
func (f *field) all() []*field {
	var out []*field
	for _, c := range f.fields {
		out = append(append(out, c), c.all()...)
	}
	return out
}

// leaves returns the keys below f that hold values.
func (f *field) leaves() []*field {
	var out []*field
	for _, c := range f.all() {
		if c.fields == nil {
			out = append(out, c)
		}
	}
	return out
}

// find returns the key or section of that dotted name, or nil.
func (f *field) find(key string) *field {
	for _, c := range f.all() {
		if c.key == key {
			return c
		}
	}
	return nil
}

// value returns f's value in c; pointers are followed, and a nil one gives nil.
func (f *field) value(c *Config) any {
	v := reflect.ValueOf(c).Elem().FieldByIndex(f.index)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	return v.Interface()
}

// nullable says whether null is a value of f: it leaves the choice to the architecture.
func (f *field) nullable() bool {
	return f.typ.Kind() == reflect.Pointer || f.typ.Kind() == reflect.Map
}

// env is the environment variable that sets f.
func (f *field) env() string {
	return "CTCLASS_" + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
}

// allowed says which values f takes.
func (f *field) allowed() string {
	text := typeText(f.typ)
	if f.fields != nil {
		var names []string
		for _, c := range f.fields {
			names = append(names, c.name())
		}
		text = "a mapping with the keys " + strings.Join(names, ", ")
	}
	switch r := f.doc.rule; {
	case r == nil:
	case r.elem:
		text += ", " + r.text
	default:
		text = r.text
	}
	if f.typ.Kind() == reflect.Pointer {
		text += ", or null"
	}
	return text
}

// typeText names a type in the words of a configuration's author.
func typeText(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeText(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number of at least 0"
	case reflect.Slice:
		return "a list of " + plural(t.Elem())
	case reflect.Array:
		return fmt.Sprintf("a list of %d %s", t.Len(), plural(t.Elem()))
	}
	if t == reflect.TypeFor[Spacing]() {
		return spacingRule().text
	}
	if t == reflect.TypeFor[PosWeight]() {
		return posWeightRule().text
	}
	return "a mapping of names to values"
}

func plural(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "texts"
	case reflect.Float32, reflect.Float64:
		return "numbers"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "lists"
	case reflect.Map, reflect.Struct:
		return "mappings"
	}
	return "whole numbers"
}
