// Package config holds the typed configuration of ctclass: its keys, defaults, validation and documentation.
package config

import (
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// Config is the whole configuration of a run, one section per stage.
type Config struct {
	Model      Model      `yaml:"model"`
	Data       Data       `yaml:"data"`
	Preprocess Preprocess `yaml:"preprocess"`
	Loss       Loss       `yaml:"loss"`
	Train      Train      `yaml:"train"`
	Memory     Memory     `yaml:"memory"`
	Eval       Eval       `yaml:"eval"`
	Output     Output     `yaml:"output"`
}

// Model chooses the architecture.
type Model struct {
	Name             string         `yaml:"name"`              // a name of `ctclass models`
	UseCheckpointing *bool          `yaml:"use_checkpointing"` // nil: the architecture's default
	MemoryEfficient  *bool          `yaml:"memory_efficient"`  // nil: the architecture's default
	Dropout          *float64       `yaml:"dropout"`           // head dropout; nil: the architecture's default
	Options          map[string]any `yaml:"options"`           // decoded by the model registry into the family's own type

	Pretrained            string `yaml:"pretrained"` // model file, .safetensors or .pth; empty: start afresh
	PretrainedInflate     bool   `yaml:"pretrained_inflate"`
	PretrainedInterpolate bool   `yaml:"pretrained_interpolate"`
	PretrainedShapeDHW    [3]int `yaml:"pretrained_shape_dhw"` // zeros: the file says it, or it is a cube
}

// Data names the data set.
type Data struct {
	Format       string   `yaml:"format"`       // auto|table|folder|medmnist|ctrate
	Table        string   `yaml:"table"`        // CSV/TSV table (or a pattern of several), folder, .npz, or CT-RATE's label CSV
	Root         string   `yaml:"root"`         // folder that relative paths start from; empty: the table's folder
	Index        string   `yaml:"index"`        // table of scans that the labels are joined with; empty: the table has the paths itself
	JoinKey      string   `yaml:"join_key"`     // column of both, or label column=index column
	Metadata     string   `yaml:"metadata"`     // CSV with slope, intercept and spacing by VolumeName; empty: none
	Task         string   `yaml:"task"`         // binary|multilabel|multiclass
	Labels       []string `yaml:"labels"`       // label columns (binary: one; multiclass: the class names)
	LabelColumn  string   `yaml:"label_column"` // multiclass: the column that holds the class index or name
	PathColumn   string   `yaml:"path_column"`
	SeriesColumn string   `yaml:"series_column"` // series of the path; empty: chosen by rule
	GroupColumn  string   `yaml:"group_column"`  // patient; no group may be in two splits
	GroupPattern string   `yaml:"group_pattern"` // regular expression that finds the patient in the path
	SplitColumn  string   `yaml:"split_column"`
	SplitFile    string   `yaml:"split_file"`   // CSV of `ctclass split`; before the split column and val_fraction
	Fold         int      `yaml:"fold"`         // of a split file with folds: the one for validation, from 1
	ValFraction  float64  `yaml:"val_fraction"` // share split off by group when there is no split column
	Fraction     float64  `yaml:"fraction"`     // share of the training patients that is used; 0: all
	Flip         []string `yaml:"flip"`         // axes flipped at random in training: d, h, w
	Workers      int      `yaml:"workers"`      // 0: as many as threads
	OnError      string   `yaml:"on_error"`     // stop|skip
	Strict       bool     `yaml:"strict"`
	Cache        Cache    `yaml:"cache"`
	Augment      Augment  `yaml:"augment"`
}

// Cache keeps preprocessed scans on disk.
type Cache struct {
	Dir     string `yaml:"dir"`     // empty: none
	Size    string `yaml:"size"`    // bytes with a unit (50GiB); empty: no limit
	Storage string `yaml:"storage"` // int16|float16|float32
}

// Preprocess turns a volume into the network's input; the model file carries it.
type Preprocess struct {
	Orientation string     `yaml:"orientation"` // LPS | stored
	SpacingMM   Spacing    `yaml:"spacing_mm"`  // [d, h, w] or keep
	Intensity   string     `yaml:"intensity"`   // window | raw
	HUWindow    [2]float64 `yaml:"hu_window"`   // lower and upper HU
	ScaleTo     [2]float64 `yaml:"scale_to"`    // what the window is mapped to
	ShapeDHW    [3]int     `yaml:"shape_dhw"`
	Fit         string     `yaml:"fit"` // resize | crop_pad

	// The keys below were added later; their zero values stand for the defaults.
	HUWindows     [][2]float64 `yaml:"hu_windows"`     // a channel each, in place of HUWindow
	Interpolation string       `yaml:"interpolation"`  // linear | nearest
	Antialias     string       `yaml:"antialias"`      // triangle | gaussian | none
	Crop          string       `yaml:"crop"`           // none | body
	CropMarginMM  float64      `yaml:"crop_margin_mm"` // around the body
	Recipe        string       `yaml:"recipe"`         // standard | ct_rate_classifier
}

// Windows returns the HU windows, one for each channel of the network's input; with intensity raw it is one
// that is not used.
func (p Preprocess) Windows() [][2]float64 {
	if p.Intensity == "window" && len(p.HUWindows) > 0 {
		return p.HUWindows
	}
	return [][2]float64{p.HUWindow}
}

// Spacing is a target spacing in mm along d, h, w. In YAML it is the word keep or a list of three numbers.
type Spacing struct {
	Keep bool       // do not resample; MM is zero
	MM   [3]float64 // d, h, w
}

// MarshalYAML returns the YAML form of s.
func (s Spacing) MarshalYAML() (any, error) {
	if s.Keep {
		return "keep", nil
	}
	return s.MM, nil
}

// UnmarshalYAML reads the YAML form of a Spacing.
func (s *Spacing) UnmarshalYAML(n *yaml.Node) error {
	v, ok := decodeAs(n, reflect.TypeFor[Spacing]())
	if !ok || !spacingRule().ok(v) {
		return fmt.Errorf("got %s, allowed: %s", show(n), spacingRule().text)
	}
	*s = v.(Spacing)
	return nil
}

// PosWeight weighs the positives of each label. In YAML it is the word auto or a list of numbers.
type PosWeight struct {
	Auto   bool      // from the training split; Values is empty
	Values []float64 // one a label; empty: 1
}

// MarshalYAML returns the YAML form of w.
func (w PosWeight) MarshalYAML() (any, error) {
	if w.Auto {
		return "auto", nil
	}
	return w.Values, nil
}

// UnmarshalYAML reads the YAML form of a PosWeight.
func (w *PosWeight) UnmarshalYAML(n *yaml.Node) error {
	v, ok := decodeAs(n, reflect.TypeFor[PosWeight]())
	if !ok || !posWeightRule().ok(v) {
		return fmt.Errorf("got %s, allowed: %s", show(n), posWeightRule().text)
	}
	*w = v.(PosWeight)
	return nil
}

// Loss chooses the training loss.
type Loss struct {
	Name           string    `yaml:"name"` // a name of the losses registry
	Alpha          float64   `yaml:"alpha"`
	Gamma          float64   `yaml:"gamma"`
	GammaPos       float64   `yaml:"gamma_pos"` // asymmetric
	GammaNeg       float64   `yaml:"gamma_neg"`
	Clip           float64   `yaml:"clip"`
	PosWeight      PosWeight `yaml:"pos_weight"` // bce
	ClassWeight    []float64 `yaml:"class_weight"`
	LabelSmoothing float64   `yaml:"label_smoothing"`
	Reduction      string    `yaml:"reduction"` // mean | sum
}

// The values of train.precision.
const (
	FP32 = "fp32" // float32 throughout
	BF16 = "bf16" // hybrid: activations in bfloat16
)

// Train sets the training loop.
type Train struct {
	Epochs        int       `yaml:"epochs"`
	BatchSize     int       `yaml:"batch_size"` // samples per forward pass (micro-batch)
	Accumulate    int       `yaml:"accumulate"` // micro-batches per optimiser step
	DropLast      bool      `yaml:"drop_last"`
	Sampler       string    `yaml:"sampler"` // shuffle | balanced | class_aware
	Mixup         float64   `yaml:"mixup"`   // 0: off
	Seed          uint64    `yaml:"seed"`
	Threads       int       `yaml:"threads"`   // 0: all cores
	Kernels       string    `yaml:"kernels"`   // default | tuned | path of a table
	Precision     string    `yaml:"precision"` // fp32 | bf16
	Optimizer     Optimizer `yaml:"optimizer"`
	LayerDecay    float64   `yaml:"layer_decay"` // 1: all layers learn at the same rate
	Schedule      Schedule  `yaml:"schedule"`
	ClipNorm      float64   `yaml:"clip_norm"` // 0: off
	EMA           float64   `yaml:"ema"`       // 0: off
	OnNaN         string    `yaml:"on_nan"`    // stop | skip
	EarlyStop     EarlyStop `yaml:"early_stop"`
	Monitor       string    `yaml:"monitor"` // metric that picks best: loss, or one of the evaluation's
	ValidateEvery int       `yaml:"validate_every"`
	SaveMinutes   float64   `yaml:"save_every_minutes"` // 0: at the end of epochs only
	Freeze        []string  `yaml:"freeze"`             // patterns of parameter names
}

// Optimizer sets the optimiser.
type Optimizer struct {
	Name        string     `yaml:"name"` // adamw | sgd | lion
	LR          float64    `yaml:"lr"`
	Betas       [2]float64 `yaml:"betas"`    // adamw, lion
	Momentum    float64    `yaml:"momentum"` // sgd
	Eps         float64    `yaml:"eps"`      // adamw
	WeightDecay float64    `yaml:"weight_decay"`
	DecayOn     string     `yaml:"decay_on"` // matrices | all
}

// Schedule sets the learning rate over the optimiser steps.
type Schedule struct {
	Name        string  `yaml:"name"`         // constant | cosine | one_cycle | multistep | plateau
	WarmupSteps int     `yaml:"warmup_steps"` // all but one_cycle: linear warm-up
	MinLR       float64 `yaml:"min_lr"`       // cosine: final learning rate; plateau: lowest one
	PctStart    float64 `yaml:"pct_start"`    // one_cycle: share of steps rising
	DivFactor   float64 `yaml:"div_factor"`   // one_cycle: lr/div_factor at the start
	FinalDiv    float64 `yaml:"final_div_factor"`
	Milestones  []int   `yaml:"milestones"` // multistep: epochs after which the rate falls
	Factor      float64 `yaml:"factor"`     // multistep, plateau: of the rate at each fall
	Patience    int     `yaml:"patience"`   // plateau: validations without improvement before a fall
	Threshold   float64 `yaml:"threshold"`  // plateau: relative change that is an improvement
	Cooldown    int     `yaml:"cooldown"`   // plateau: validations after a fall that do not count
}

// EarlyStop ends training when the monitored metric stops improving.
type EarlyStop struct {
	Patience int     `yaml:"patience"` // epochs without improvement; 0: off
	MinDelta float64 `yaml:"min_delta"`
}

// Memory bounds what a run may use.
type Memory struct {
	Budget string `yaml:"budget"` // see ParseBudget
}

// Eval sets evaluation.
type Eval struct {
	Split     string  `yaml:"split"`
	BatchSize int     `yaml:"batch_size"` // 0: train.batch_size
	Threshold float64 `yaml:"threshold"`

	Flip            []string `yaml:"flip"`             // axes of test-time augmentation: d, h, w
	Ensemble        string   `yaml:"ensemble"`         // probabilities | logits: what the mean over several models is of
	Resamples       int      `yaml:"resamples"`        // of the patients, for intervals; 0: none
	Subgroups       []string `yaml:"subgroups"`        // columns of the table
	Calibration     string   `yaml:"calibration"`      // none | temperature | isotonic, at the end of training
	OperatingPoints []string `yaml:"operating_points"` // rules, at the end of training
}

// Output says where a run writes.
type Output struct {
	Dir         string `yaml:"dir"`
	Save        string `yaml:"save"` // which model eval and predict use from the run folder: best | last
	TensorBoard bool   `yaml:"tensorboard"`
	MLflow      MLflow `yaml:"mlflow"`
}

// MLflow names a tracking server that follows the run.
type MLflow struct {
	URI        string `yaml:"uri"` // empty: none
	Experiment string `yaml:"experiment"`
	RunName    string `yaml:"run_name"` // empty: the run folder's name
}
