package config

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Flatten returns the settings of a YAML document, such as Marshal writes it, by their dotted keys. Lists are one
// value. Nothing is checked: a file of another version can be read too.
func Flatten(text []byte) (map[string]string, error) {
	top, err := parse(text)
	if err != nil {
		return nil, err
	}
	flat := map[string]string{}
	if top != nil {
		flatten(flat, "", top)
	}
	return flat, nil
}

func flatten(into map[string]string, key string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		into[key] = inline(n)
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		flatten(into, join(key, n.Content[i].Value), n.Content[i+1])
	}
}

// inline writes a value on one line.
func inline(n *yaml.Node) string {
	var parts []string
	switch n.Kind {
	case yaml.SequenceNode:
		for _, c := range n.Content {
			parts = append(parts, inline(c))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			parts = append(parts, inline(n.Content[i])+": "+inline(n.Content[i+1]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return n.Value
}
