// Package configs holds the ready configurations. The demo's is part of the program.
package configs

import _ "embed"

// Quickstart is the configuration that the demo trains with.
//
//go:embed quickstart.yaml
var Quickstart []byte
