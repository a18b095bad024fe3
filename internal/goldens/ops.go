package goldens

import (
	"encoding/json"
	"fmt"
)

// Op is one case of ops.json: an operation with its inputs, its output and its gradients in full.
type Op struct {
	Index          int                  `json:"-"` // position in the file
	Op             string               `json:"op"`
	Attrs          OpAttrs              `json:"attrs"`
	Inputs         map[string]OpInput   `json:"inputs"`
	Output         OpOutput             `json:"output"`
	UpstreamStream string               `json:"upstream"` // of the output's gradient; "one" for a scalar; see Upstream
	Grads          map[string][]float64 `json:"grads"`    // gradient of each input
	After          map[string][]float64 `json:"after"`    // running_mean and running_var after batch_norm_train

	// Optimisers only: the stream of each step's gradient, for Input, and the weights after each step.
	GradientStreams []string    `json:"gradient_streams"`
	WeightsAfter    [][]float64 `json:"weights_after_each_step"`
}

// OpAttrs are the attributes of an operation; those that it does not have are zero.
type OpAttrs struct {
	Kernel         Triple    `json:"kernel"`
	Stride         Triple    `json:"stride"`
	Pad            Triple    `json:"pad"`
	Eps            float64   `json:"eps"`
	Momentum       float64   `json:"momentum"`       // of the running statistics or of SGD
	RunningBefore  string    `json:"running_before"` // in words
	Heads          int       `json:"heads"`
	Input          string    `json:"input"`       // attention: the layout, in words
	Approximate    string    `json:"approximate"` // GELU: "none"
	Alpha          float64   `json:"alpha"`
	Gamma          float64   `json:"gamma"`
	PosWeight      []float64 `json:"pos_weight"`
	ClassWeight    []float64 `json:"class_weight"`
	LabelSmoothing float64   `json:"label_smoothing"`
	Targets        OpTargets `json:"targets"`
	LR             float64   `json:"lr"`
	WeightDecay    float64   `json:"weight_decay"`
	Nesterov       bool      `json:"nesterov"`
}

// Triple is a size per axis (D, H, W); a single number in the file means the same on all three.
type Triple [3]int

// UnmarshalJSON reads a number or a list of three.
func (t *Triple) UnmarshalJSON(raw []byte) error {
	var n int
	if json.Unmarshal(raw, &n) == nil {
		*t = Triple{n, n, n}
		return nil
	}
	var list []int
	if err := json.Unmarshal(raw, &list); err != nil || len(list) != 3 {
		return fmt.Errorf("%s is neither a number nor three numbers", raw)
	}
	*t = Triple(list)
	return nil
}

// OpTargets are the targets of a loss: Classes where the file lists one class a row, else the Rule in
// words, which for every case is Targets(OpTargetStream, n).
type OpTargets struct {
	Rule    string
	Classes []int
}

// OpTargetStream is the stream of the binary targets of ops.json, for Targets.
const OpTargetStream = "ops/targets"

// UnmarshalJSON reads a text or a list of classes.
func (t *OpTargets) UnmarshalJSON(raw []byte) error {
	if json.Unmarshal(raw, &t.Rule) == nil {
		return nil
	}
	return json.Unmarshal(raw, &t.Classes)
}

// OpInput says how an input is made: scale*uniform(stream) + shift, rounded to float32.
type OpInput struct {
	Stream string  `json:"stream"`
	Shape  []int   `json:"shape"`
	Scale  float64 `json:"scale"`
	Shift  float64 `json:"shift"`
}

// OpOutput is the output in full, with 12 significant digits; a scalar has an empty shape.
type OpOutput struct {
	Shape  []int     `json:"shape"`
	Values []float64 `json:"values"`
}

// Ops reads the file as ops.json.
func (f File) Ops() ([]Op, error) {
	var ops []Op
	if err := f.decode(&ops); err != nil {
		return nil, err
	}
	for i := range ops {
		ops[i].Index = i
	}
	return ops, nil
}

// LoadOps returns the stored cases of ops.json.
func LoadOps() ([]Op, error) {
	f, err := Open(opsName)
	if err != nil {
		return nil, err
	}
	return f.Ops()
}

// Name names the case, e.g. "12_batch_norm_train".
func (o Op) Name() string { return fmt.Sprintf("%02d_%s", o.Index, o.Op) }

// Values returns the values of the input.
func (in OpInput) Values() []float32 {
	n := 1
	for _, d := range in.Shape {
		n *= d
	}
	values := make([]float32, n)
	for i, u := range Uniform(in.Stream, n) {
		values[i] = affine(u, in.Scale, in.Shift)
	}
	return values
}

// Upstream returns the gradient of the output.
func (o Op) Upstream() []float32 {
	if o.UpstreamStream == "one" {
		return []float32{1}
	}
	return Input(o.UpstreamStream, len(o.Output.Values))
}
