package config

import (
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// DecodeOptions decodes model.options into the struct that into points to. Its fields are named by their yaml
// tags; fields that m does not name keep their values, so that into can hold the defaults. Whole numbers serve
// where a number is wanted. The error names every unknown option, with the one that was probably meant, and
// every value of a wrong type; it is of type Problems. Ranges are the caller's to check.
func DecodeOptions(m map[string]any, into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() || target.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("config: options cannot be decoded into %T, a pointer to a struct is needed", into)
	}
	var n yaml.Node
	if err := n.Encode(m); err != nil {
		return fmt.Errorf("%s: %w", optionsKey, err)
	}
	target = target.Elem()
	root := &field{key: optionsKey, typ: target.Type()}
	if root.fields = structFields(target.Type(), optionsKey, nil, nil); len(root.fields) == 0 && len(m) > 0 {
		return Problems{{Key: optionsKey, Text: "this architecture has no options"}}
	}
	d := &decoder{at: func(*yaml.Node) string { return "" }}
	d.set = func(_ *yaml.Node, f *field, v any) {
		dst := target.FieldByIndex(f.index)
		if dst.Kind() == reflect.Pointer && !reflect.TypeOf(v).AssignableTo(dst.Type()) {
			dst.Set(reflect.New(dst.Type().Elem()))
			dst = dst.Elem()
		}
		dst.Set(reflect.ValueOf(v))
	}
	d.section(&n, root, root)
	return d.problems.err()
}
