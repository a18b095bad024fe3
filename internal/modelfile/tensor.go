// Package modelfile reads and writes the file a trained model lives in: one safetensors file whose
// tensors carry the public state_dict names and whose metadata holds, under the key "ctclass",
// everything needed to apply the model again. The same container, without that key, stores the
// state of an interrupted training.
//
// The safetensors codec is this package's own. The existing Go library works on the whole file in
// memory, next to a second copy for the decoded tensors, drops the metadata when it reads tensors,
// and accepts repeated names; the format is small enough to read straight into the final slices
// with every size checked first.
//
// Files hold no clock time, host or path: the same model always gives the same bytes.
package modelfile

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Tensor is a named array in row-major order. Exactly one of F32, I64 and Load holds the values, as
// many as the product of Shape; a nil or empty Shape is a scalar with one value. An empty tensor of
// integers has a non-nil I64 of length zero.
type Tensor struct {
	Name  string
	Shape []int
	F32   []float32
	I64   []int64
	// Load returns float values when they are about to be written to a file, and may use the
	// memory of an earlier call again: so that the values of a network never lie in memory twice.
	Load func() []float32
}

// DType is the element type of a tensor in memory.
type DType string

// The element types of a Tensor. Files may hold others; see [LoadTensors].
const (
	F32 DType = "F32"
	I64 DType = "I64"
)

// DType returns the element type of the tensor.
func (t Tensor) DType() DType {
	if t.I64 != nil {
		return I64
	}
	return F32
}

// check returns an error unless shape and values agree.
func (t Tensor) check() error {
	if t.Name == metadataKey {
		return fmt.Errorf("a tensor cannot be named %s: the format keeps that name for its metadata", metadataKey)
	}
	if t.F32 != nil && t.I64 != nil || t.Load != nil && (t.F32 != nil || t.I64 != nil) {
		return fmt.Errorf("tensor %q has values of two kinds", t.Name)
	}
	n, err := elements(t.Shape)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	if have := len(t.F32) + len(t.I64); t.Load == nil && have != n {
		return fmt.Errorf("tensor %q of shape %v needs %d values and has %d", t.Name, t.Shape, n, have)
	}
	return nil
}

// loaded returns the tensor with its values in place.
func (t Tensor) loaded() Tensor {
	if t.Load != nil {
		t.F32, t.Load = t.Load(), nil
	}
	return t
}

// elements returns the product of a shape, or an error when a size is negative or the bytes of
// such an array could not be counted in an int64.
func elements(shape []int) (int, error) {
	const most = math.MaxInt64 / 8
	n, zero := int64(1), false
	for _, s := range shape {
		switch {
		case s < 0:
			return 0, fmt.Errorf("shape %v has a negative size", shape)
		case s == 0:
			zero = true
		case n > most/int64(s):
			return 0, fmt.Errorf("shape %v has more elements than can be addressed", shape)
		default:
			n *= int64(s)
		}
	}
	if zero {
		return 0, nil
	}
	if n > math.MaxInt {
		return 0, fmt.Errorf("shape %v has more elements than can be addressed", shape)
	}
	return int(n), nil
}

// Spec is what a network expects of one tensor.
type Spec struct {
	Name  string
	Shape []int
	DType DType
}

// MismatchError lists every difference between the tensors of a file and those a network expects.
type MismatchError struct {
	Missing    []string // expected names that the file lacks
	Unexpected []string // names in the file that the network does not have
	Misshaped  []string // one sentence for each tensor of another shape or element type
}

func (e *MismatchError) Error() string {
	var parts []string
	add := func(what string, list []string) {
		if len(list) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s (%s)", len(list), what, strings.Join(list, ", ")))
		}
	}
	add("missing", e.Missing)
	add("unexpected", e.Unexpected)
	add("of another shape or type", e.Misshaped)
	return "the tensors do not fit the network: " + strings.Join(parts, "; ")
}

// MatchTensors compares tensors with what a network expects. It returns nil when names, shapes and
// element types agree, else a [*MismatchError] with every difference, each list sorted by name.
func MatchTensors(have []Tensor, want []Spec) error {
	byName := make(map[string]Tensor, len(have))
	for _, t := range have {
		byName[t.Name] = t
	}
	var diff MismatchError
	wanted := make(map[string]bool, len(want))
	for _, w := range want {
		wanted[w.Name] = true
		t, ok := byName[w.Name]
		switch {
		case !ok:
			diff.Missing = append(diff.Missing, w.Name)
		case !slices.Equal(t.Shape, w.Shape):
			diff.Misshaped = append(diff.Misshaped, fmt.Sprintf("%s is %v, expected %v", w.Name, t.Shape, w.Shape))
		case t.DType() != w.DType:
			diff.Misshaped = append(diff.Misshaped, fmt.Sprintf("%s is %s, expected %s", w.Name, t.DType(), w.DType))
		}
	}
	for name := range byName {
		if !wanted[name] {
			diff.Unexpected = append(diff.Unexpected, name)
		}
	}
	if len(diff.Missing)+len(diff.Unexpected)+len(diff.Misshaped) == 0 {
		return nil
	}
	slices.Sort(diff.Missing)
	slices.Sort(diff.Unexpected)
	slices.Sort(diff.Misshaped)
	return &diff
}
