package goldens

import "fmt"

// ModelGolden holds the reference results of one classifier at one size: a forward and backward pass in
// evaluation mode and one in training mode, dropout off, no optimiser step.
type ModelGolden struct {
	Model        string `json:"model"`      // registry name, e.g. "resnet18_3d"
	Classes      int    `json:"classes"`    // logits a sample
	Volume       [3]int `json:"volume_dhw"` // D, H, W
	Batch        int    `json:"batch"`
	InputStream  string `json:"input_stream"`  // (Batch, 1, D, H, W), for Input
	TargetStream string `json:"target_stream"` // (Batch, Classes), for Targets
	Loss         Loss   `json:"loss"`
	Parameters   int    `json:"parameters"` // number of trainable values

	// EvalLogitScale divides the evaluation logits before the loss; gradients are of that loss.
	EvalLogitScale float64           `json:"eval_logit_scale"`
	EvalLogits     [][]float64       `json:"eval_logits"` // (Batch, Classes), undivided
	EvalLoss       float64           `json:"eval_loss"`
	EvalGrads      map[string]Tensor `json:"eval_grads"` // by state_dict name

	TrainLogits      [][]float64       `json:"train_logits"`
	TrainLoss        float64           `json:"train_loss"`
	TrainGrads       map[string]Tensor `json:"train_grads"`
	RunningAfterStep map[string]Tensor `json:"running_after_step"` // running_mean and running_var after training mode

	Noise struct {
		Eval  Noise `json:"eval"`
		Train Noise `json:"train"`
	} `json:"pytorch_fp32_noise"`
}

// Loss names the loss of a golden: "focal" with Alpha (a multiplier) and Gamma, or "bce"; the mean over all
// logits.
type Loss struct {
	Name  string  `json:"name"`
	Alpha float64 `json:"alpha"`
	Gamma float64 `json:"gamma"`
}

// Tensor is a sampled tensor: its shape, norm and sum and some of its elements.
type Tensor struct {
	Shape   []int    `json:"shape"`
	L2      float64  `json:"l2"`
	Sum     float64  `json:"sum"`
	Samples []Sample `json:"samples"`
}

// Noise is the distance of PyTorch's own float32 run from the golden: relative l2 error of the logits, median
// and maximum over the gradients.
type Noise struct {
	Logits     float64 `json:"logits"`
	GradMedian float64 `json:"grad_median"`
	GradMax    float64 `json:"grad_max"`
}

// Len returns the number of elements.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// InputLen returns the number of input voxels of the batch.
func (m *ModelGolden) InputLen() int { return m.Batch * m.Volume[0] * m.Volume[1] * m.Volume[2] }

// Model reads the file as the golden of a classifier and checks that it is consistent.
func (f File) Model() (*ModelGolden, error) {
	m := &ModelGolden{}
	if err := f.decode(m); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("goldens: %s: %w", f.path, err)
	}
	return m, nil
}

// maxVoxels bounds the input that a golden may ask for.
const maxVoxels = 1 << 30

func (m *ModelGolden) check() error {
	voxels := 1
	for _, n := range append([]int{m.Batch}, m.Volume[:]...) {
		if n < 1 || n > maxVoxels/voxels {
			return fmt.Errorf("batch %d of volume %v is not a usable input size", m.Batch, m.Volume)
		}
		voxels *= n
	}
	switch {
	case m.Model == "":
		return fmt.Errorf("the field model is missing")
	case m.Classes < 1:
		return fmt.Errorf("classes is %d, want at least 1", m.Classes)
	case m.EvalLogitScale <= 0:
		return fmt.Errorf("eval_logit_scale is %g, want more than 0", m.EvalLogitScale)
	case len(m.EvalGrads) == 0 || len(m.TrainGrads) == 0:
		return fmt.Errorf("eval_grads or train_grads is empty")
	}
	for key, logits := range map[string][][]float64{"eval_logits": m.EvalLogits, "train_logits": m.TrainLogits} {
		if len(logits) != m.Batch {
			return fmt.Errorf("%s has %d rows, want %d", key, len(logits), m.Batch)
		}
		for _, row := range logits {
			if len(row) != m.Classes {
				return fmt.Errorf("%s has a row of %d, want %d", key, len(row), m.Classes)
			}
		}
	}
	for key, tensors := range map[string]map[string]Tensor{
		"eval_grads": m.EvalGrads, "train_grads": m.TrainGrads, "running_after_step": m.RunningAfterStep,
	} {
		for name, t := range tensors {
			if err := t.check(); err != nil {
				return fmt.Errorf("%s: %s: %w", key, name, err)
			}
		}
	}
	return nil
}

func (t Tensor) check() error {
	if len(t.Samples) == 0 {
		return fmt.Errorf("it has no samples")
	}
	n := t.Len()
	for _, s := range t.Samples {
		if s.Index < 0 || s.Index >= n {
			return fmt.Errorf("sample %d lies outside shape %v", s.Index, t.Shape)
		}
	}
	return nil
}
