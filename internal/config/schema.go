package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// schemaNode is one schema of JSON Schema 2020-12, as far as the configuration needs it.
type schemaNode struct {
	Schema      string        `json:"$schema,omitempty"`
	Title       string        `json:"title,omitempty"`
	Description string        `json:"description,omitempty"`
	Type        any           `json:"type,omitempty"` // a name, or two for a value that may be null
	Enum        []string      `json:"enum,omitempty"`
	Const       any           `json:"const,omitempty"`
	AnyOf       []*schemaNode `json:"anyOf,omitempty"`

	Minimum          *float64 `json:"minimum,omitempty"`
	Maximum          *float64 `json:"maximum,omitempty"`
	ExclusiveMinimum *float64 `json:"exclusiveMinimum,omitempty"`
	ExclusiveMaximum *float64 `json:"exclusiveMaximum,omitempty"`
	MinLength        *int     `json:"minLength,omitempty"`
	Pattern          string   `json:"pattern,omitempty"`

	Items       *schemaNode `json:"items,omitempty"`
	MinItems    *int        `json:"minItems,omitempty"`
	MaxItems    *int        `json:"maxItems,omitempty"`
	UniqueItems bool        `json:"uniqueItems,omitempty"`

	Properties           properties `json:"properties,omitempty"`
	AdditionalProperties *bool      `json:"additionalProperties,omitempty"`
	Default              any        `json:"default,omitempty"`
}

// properties keeps the order in which the keys are declared.
type properties []property

type property struct {
	name   string
	schema *schemaNode
}

// MarshalJSON writes the properties as one JSON object.
func (ps properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, p := range ps {
		b.WriteByte("{,"[min(i, 1)])
		name, err := json.Marshal(p.name)
		if err != nil {
			return nil, err
		}
		schema, err := json.Marshal(p.schema)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s:%s", name, schema)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Schema returns the JSON schema (2020-12) of a configuration file, indented. known gives the names that
// model.name and loss.name may have.
func Schema(known Names) ([]byte, error) {
	def := Default()
	root := tree()
	s := sectionSchema(root, &def, known)
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", "ctclass configuration"
	s.Properties = append(properties{{"include", &schemaNode{
		Description: includeDoc,
		AnyOf:       []*schemaNode{{Type: "string"}, {Type: "array", Items: &schemaNode{Type: "string"}}},
	}}}, s.Properties...)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("config: writing the schema: %w", err)
	}
	return out.Bytes(), nil
}

func sectionSchema(f *field, def *Config, known Names) *schemaNode {
	s := &schemaNode{Type: []string{"object", "null"}, Description: f.doc.doc, AdditionalProperties: ptr(false)}
	for _, c := range f.fields {
		var cs *schemaNode
		if c.fields != nil {
			cs = sectionSchema(c, def, known)
		} else {
			cs = leafSchema(c, def, known)
		}
		s.Properties = append(s.Properties, property{c.name(), cs})
	}
	return s
}

func leafSchema(f *field, def *Config, known Names) *schemaNode {
	s := typeSchema(f.typ)
	s.Description = f.doc.doc
	if f.doc.unit != "" {
		s.Description += " Unit: " + f.doc.unit + "."
	}
	if f.doc.rule != nil && f.doc.rule.schema != nil {
		f.doc.rule.schema(s)
	}
	if names := known.of(f.key); len(names) > 0 {
		s.Enum = names
	}
	switch v := f.value(def).(type) {
	case nil, map[string]any:
	case Spacing:
		s.Default = "keep"
	case PosWeight:
		s.Default = []any{}
	case []string, []float64, []int:
		s.Default = []any{}
	default:
		s.Default = v
	}
	return s
}

func typeSchema(t reflect.Type) *schemaNode {
	switch t.Kind() {
	case reflect.Pointer:
		s := typeSchema(t.Elem())
		s.Type = []any{s.Type, "null"}
		return s
	case reflect.Bool:
		return &schemaNode{Type: "boolean"}
	case reflect.String:
		return &schemaNode{Type: "string"}
	case reflect.Float64:
		return &schemaNode{Type: "number"}
	case reflect.Int:
		return &schemaNode{Type: "integer"}
	case reflect.Uint64:
		return &schemaNode{Type: "integer", Minimum: ptr(0.0)}
	case reflect.Slice:
		return &schemaNode{Type: "array", Items: typeSchema(t.Elem())}
	case reflect.Array:
		return &schemaNode{Type: "array", Items: typeSchema(t.Elem()), MinItems: ptr(t.Len()), MaxItems: ptr(t.Len())}
	}
	if t == reflect.TypeFor[Spacing]() {
		mm := typeSchema(reflect.TypeFor[[3]float64]())
		mm.Items.ExclusiveMinimum = ptr(0.0)
		return &schemaNode{AnyOf: []*schemaNode{{Const: "keep"}, mm}}
	}
	if t == reflect.TypeFor[PosWeight]() {
		values := typeSchema(reflect.TypeFor[[]float64]())
		values.Items.ExclusiveMinimum = ptr(0.0)
		return &schemaNode{AnyOf: []*schemaNode{{Const: "auto"}, values}}
	}
	return &schemaNode{Type: []string{"object", "null"}}
}
