package modelfile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/eval"
)

// FormatVersion is the newest version of the metadata that this build reads. Version 2 added ways of
// preprocessing; a model that uses none of them is written as version 1, which every ctclass reads.
const FormatVersion = 2

// modelKey is the metadata key that makes a safetensors file a model of ctclass.
const modelKey = "ctclass"

// Model is a trained network with everything needed to apply it to a scan.
type Model struct {
	Arch          string            // a name of the model registry
	Options       map[string]any    // the architecture's options; JSON values only
	Task          string            // binary, multilabel or multiclass
	Labels        []string          // one name an output, in the order of the outputs
	Preprocess    config.Preprocess // how a volume becomes the network's input
	InputChannels int

	Metrics         json.RawMessage // metrics of the saved weights, any JSON; empty: none
	History         json.RawMessage // metrics over the training, any JSON; empty: none
	DataFingerprint string          // identifies the training data; empty: unknown

	// How logits become probabilities and answers. Every threshold is one of the calibrated probability.
	Calibration     *eval.Calibration     // nil: the model's own probabilities
	OperatingPoints []eval.OperatingPoint // the first of a label decides, unless another one is asked for

	Tensors []Tensor // sorted by name after Load
}

// modelJSON is the metadata as stored. Its keys are the file format: they do not follow renames
// in the configuration.
type modelJSON struct {
	FormatVersion   int             `json:"format_version"`
	Arch            string          `json:"arch"`
	Options         json.RawMessage `json:"options"`
	Task            string          `json:"task"`
	Labels          []string        `json:"labels"`
	Preprocess      preprocessJSON  `json:"preprocess"`
	InputChannels   int             `json:"input_channels"`
	Metrics         json.RawMessage `json:"metrics,omitempty"`
	History         json.RawMessage `json:"history,omitempty"`
	DataFingerprint string          `json:"data_fingerprint,omitempty"`

	Calibration     *eval.Calibration     `json:"calibration,omitempty"`
	OperatingPoints []eval.OperatingPoint `json:"operating_points,omitempty"`
}

// preprocessJSON is config.Preprocess as stored; a nil spacing keeps the scan's own.
type preprocessJSON struct {
	Orientation string      `json:"orientation"`
	SpacingMM   *[3]float64 `json:"spacing_mm"`
	Intensity   string      `json:"intensity"`
	HUWindow    [2]float64  `json:"hu_window"`
	ScaleTo     [2]float64  `json:"scale_to"`
	ShapeDHW    [3]int      `json:"shape_dhw"`
	Fit         string      `json:"fit"`
	addedPreprocessJSON
}

// addedPreprocessJSON is the settings of version 2, absent where they are the default.
type addedPreprocessJSON struct {
	HUWindows     [][2]float64 `json:"hu_windows,omitempty"`
	Interpolation string       `json:"interpolation,omitempty"`
	Antialias     string       `json:"antialias,omitempty"`
	Crop          string       `json:"crop,omitempty"`
	CropMarginMM  *float64     `json:"crop_margin_mm,omitempty"`
	Recipe        string       `json:"recipe,omitempty"`
}

// added returns the settings of version 2 that p differs from the defaults in.
func added(p config.Preprocess) addedPreprocessJSON {
	usual := config.Default().Preprocess
	other := func(value, usual string) string {
		if value == usual {
			return ""
		}
		return value
	}
	a := addedPreprocessJSON{
		HUWindows:     p.HUWindows,
		Interpolation: other(p.Interpolation, usual.Interpolation),
		Antialias:     other(p.Antialias, usual.Antialias),
		Crop:          other(p.Crop, usual.Crop),
		Recipe:        other(p.Recipe, usual.Recipe),
	}
	if a.Crop != "" { // without it the margin says nothing
		a.CropMarginMM = &p.CropMarginMM
	}
	return a
}

// addTo sets the settings of version 2, the default where they are absent.
func (a addedPreprocessJSON) addTo(p *config.Preprocess) {
	usual := config.Default().Preprocess
	p.HUWindows = a.HUWindows
	p.Interpolation = cmp.Or(a.Interpolation, usual.Interpolation)
	p.Antialias = cmp.Or(a.Antialias, usual.Antialias)
	p.Crop = cmp.Or(a.Crop, usual.Crop)
	p.Recipe = cmp.Or(a.Recipe, usual.Recipe)
	p.CropMarginMM = usual.CropMarginMM
	if a.CropMarginMM != nil {
		p.CropMarginMM = *a.CropMarginMM
	}
}

// Save writes the model to path, replacing an older file in one step. The same model always gives
// the same bytes.
func Save(path string, m *Model) error {
	text, err := encodeModel(m)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return SaveTensors(path, m.Tensors, map[string]string{modelKey: text})
}

// Load reads a model that [Save] wrote. In Options whole numbers come back as int, other numbers
// as float64. The error of a plain safetensors file, or of one from a newer ctclass, says so.
func Load(path string) (*Model, error) {
	tensors, metadata, err := LoadTensors(path)
	if err != nil {
		return nil, err
	}
	text, ok := metadata[modelKey]
	if !ok {
		return nil, fmt.Errorf("%s holds tensors but no ctclass model: its metadata has no key %q", path, modelKey)
	}
	m, err := decodeModel(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m.Tensors = tensors
	return m, nil
}

// Describe returns the model's description, everything but the tensors, as the canonical JSON of the file.
func Describe(m *Model) (string, error) { return encodeModel(m) }

// encodeModel returns the canonical JSON of everything but the tensors.
func encodeModel(m *Model) (string, error) {
	if err := m.check(); err != nil {
		return "", err
	}
	p := m.Preprocess
	j := modelJSON{
		FormatVersion: 1,
		Arch:          m.Arch,
		Task:          m.Task,
		Labels:        m.Labels,
		Preprocess: preprocessJSON{
			Orientation: p.Orientation,
			Intensity:   p.Intensity,
			HUWindow:    p.HUWindow,
			ScaleTo:     p.ScaleTo,
			ShapeDHW:    p.ShapeDHW,
			Fit:         p.Fit,

			addedPreprocessJSON: added(p),
		},
		InputChannels:   m.InputChannels,
		DataFingerprint: m.DataFingerprint,
		Calibration:     m.Calibration,
		OperatingPoints: m.OperatingPoints,
	}
	if !reflect.DeepEqual(j.Preprocess.addedPreprocessJSON, addedPreprocessJSON{}) {
		j.FormatVersion = 2
	}
	if !p.SpacingMM.Keep {
		j.Preprocess.SpacingMM = &p.SpacingMM.MM
	}
	options := m.Options
	if options == nil {
		options = map[string]any{}
	}
	var err error
	if j.Options, err = marshal(options); err != nil {
		return "", fmt.Errorf("the model options are not JSON: %w", err)
	}
	if j.Metrics, err = canonical(m.Metrics); err != nil {
		return "", fmt.Errorf("the metrics are not JSON: %w", err)
	}
	if j.History, err = canonical(m.History); err != nil {
		return "", fmt.Errorf("the history is not JSON: %w", err)
	}
	text, err := marshal(j)
	return string(text), err
}

// decodeModel is the inverse of encodeModel; it checks what it reads.
func decodeModel(text string) (*Model, error) {
	var version struct {
		FormatVersion *int `json:"format_version"`
	}
	if err := json.Unmarshal([]byte(text), &version); err != nil {
		return nil, fmt.Errorf("the model's description is not valid: %w", err)
	}
	switch v := version.FormatVersion; {
	case v == nil || *v < 1:
		return nil, errors.New("the model's description has no valid format_version")
	case *v > FormatVersion:
		return nil, fmt.Errorf("the model was written in format version %d, this ctclass reads up to %d: use a newer ctclass", *v, FormatVersion)
	}
	var j modelJSON
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return nil, fmt.Errorf("the model's description is not valid: %w", err)
	}
	options, err := decodeOptions(j.Options)
	if err != nil {
		return nil, fmt.Errorf("the model's options are not valid: %w", err)
	}
	m := &Model{
		Arch:    j.Arch,
		Options: options,
		Task:    j.Task,
		Labels:  j.Labels,
		Preprocess: config.Preprocess{
			Orientation: j.Preprocess.Orientation,
			Intensity:   j.Preprocess.Intensity,
			HUWindow:    j.Preprocess.HUWindow,
			ScaleTo:     j.Preprocess.ScaleTo,
			ShapeDHW:    j.Preprocess.ShapeDHW,
			Fit:         j.Preprocess.Fit,
		},
		InputChannels:   j.InputChannels,
		Metrics:         j.Metrics,
		History:         j.History,
		DataFingerprint: j.DataFingerprint,
		Calibration:     j.Calibration,
		OperatingPoints: j.OperatingPoints,
	}
	if s := j.Preprocess.SpacingMM; s != nil {
		m.Preprocess.SpacingMM.MM = *s
	} else {
		m.Preprocess.SpacingMM.Keep = true
	}
	j.Preprocess.addTo(&m.Preprocess)
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("the model's description is not valid: %w", err)
	}
	return m, nil
}

// check returns an error when the description cannot belong to a usable model. Names of
// architectures and options are the registry's to judge.
func (m *Model) check() error {
	if m.Arch == "" {
		return errors.New("the architecture has no name")
	}
	least := 1
	switch m.Task {
	case "binary", "multilabel":
	case "multiclass":
		least = 2
	default:
		return fmt.Errorf("task is %q, expected binary, multilabel or multiclass", m.Task)
	}
	if len(m.Labels) < least || m.Task == "binary" && len(m.Labels) != 1 {
		return fmt.Errorf("a %s model cannot have %d labels", m.Task, len(m.Labels))
	}
	seen := map[string]bool{}
	for _, name := range m.Labels {
		if name == "" || seen[name] {
			return fmt.Errorf("the label name %q is empty or there twice", name)
		}
		seen[name] = true
	}
	if m.InputChannels < 1 {
		return fmt.Errorf("the number of input channels is %d", m.InputChannels)
	}
	p := m.Preprocess
	if n := len(p.HUWindows); n > 0 && n != m.InputChannels {
		return fmt.Errorf("there are %d HU windows for %d input channels", n, m.InputChannels)
	}
	for _, n := range p.ShapeDHW {
		if n < 1 {
			return fmt.Errorf("the input shape is %v", p.ShapeDHW)
		}
	}
	if !p.SpacingMM.Keep {
		for _, s := range p.SpacingMM.MM {
			if !(s > 0) || math.IsInf(s, 0) {
				return fmt.Errorf("the spacing is %v mm", p.SpacingMM.MM)
			}
		}
	}
	if err := m.Calibration.Check(m.Task, len(m.Labels)); err != nil {
		return err
	}
	return eval.CheckPoints(m.OperatingPoints, m.Labels)
}

// canonical rewrites JSON without spaces and with sorted keys, numbers as they are written; empty
// input stays nil.
func canonical(raw json.RawMessage) (json.RawMessage, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("there is more than one value")
	}
	return marshal(v)
}

// decodeOptions reads the architecture's options, whole numbers as int; nothing gives an empty map.
func decodeOptions(raw json.RawMessage) (map[string]any, error) {
	options := map[string]any{}
	if len(raw) == 0 {
		return options, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&options); err != nil {
		return nil, err
	}
	if options == nil { // null
		return map[string]any{}, nil
	}
	_, err := plainNumbers(options) // a map is changed in place
	return options, err
}

// plainNumbers replaces every json.Number within v by an int or a float64, maps and slices in place.
func plainNumbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.Atoi(v.String()); err == nil {
			return n, nil
		}
		return v.Float64()
	case []any:
		for i := range v {
			if v[i], err = plainNumbers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = plainNumbers(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
