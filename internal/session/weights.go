package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/modelfile"
)

// Each batch norm of a PyTorch state_dict has the number of training batches that its running statistics
// have seen, beside them. Nothing here depends on it, but PyTorch expects it in the file.
const (
	runningMean    = "running_mean"
	batchesTracked = "num_batches_tracked"
)

// tracked returns the names of the batch counters.
func (s *Session) tracked() []string {
	var names []string
	for _, p := range s.params {
		if layer, ok := strings.CutSuffix(p.Value.Name, runningMean); ok {
			names = append(names, layer+batchesTracked)
		}
	}
	return names
}

// BatchesTracked returns how many micro-batches the running statistics have seen.
func (s *Session) BatchesTracked() int64 { return s.batches }

// SetBatchesTracked sets the count when a run is resumed.
func (s *Session) SetBatchesTracked(n int64) { s.batches = n }

// Tensors returns the parameters and buffers by their names in the state_dict, batch counters included.
func (s *Session) Tensors() []modelfile.Tensor {
	tensors := s.model()
	for i, t := range tensors {
		if t.Load != nil {
			tensors[i].F32, tensors[i].Load = slices.Clone(t.Load()), nil
		}
	}
	return tensors
}

// model returns the tensors of a model file, their values to be loaded one after the other.
func (s *Session) model() []modelfile.Tensor {
	var tensors []modelfile.Tensor
	buf := s.buffer()
	for _, p := range s.params {
		tensors = append(tensors, s.stored(p.Value.Name, buf))
	}
	for _, name := range s.tracked() {
		tensors = append(tensors, modelfile.Tensor{Name: name, I64: []int64{s.batches}})
	}
	return tensors
}

// stored returns a tensor of the state, whose values are taken out of it into buf when they are written.
func (s *Session) stored(name string, buf []float32) modelfile.Tensor {
	return modelfile.Tensor{Name: name, Shape: s.state.Shape(name), Load: func() []float32 { return s.state.GetInto(buf, name) }}
}

// SaveState writes parameters, buffers and the optimiser's state to a safetensors file.
func (s *Session) SaveState(path string, metadata map[string]string) error {
	var tensors []modelfile.Tensor
	buf := s.buffer()
	for _, name := range s.state.Names() {
		if !strings.HasPrefix(name, engine.GradientPrefix) { // accumulators are empty between steps
			tensors = append(tensors, s.stored(name, buf))
		}
	}
	return modelfile.SaveTensors(path, tensors, metadata)
}

// SavedBytes returns about how large the file of SaveState is.
func (s *Session) SavedBytes() int64 {
	n := int64(64 << 10) // names and metadata
	for _, name := range s.state.Names() {
		if !strings.HasPrefix(name, engine.GradientPrefix) {
			elements := 4
			for _, d := range s.state.Shape(name) {
				elements *= d
			}
			n += int64(elements)
		}
	}
	return n
}

// LoadState brings back what SaveState wrote. accept judges the metadata before anything is changed.
func (s *Session) LoadState(path string, accept func(metadata map[string]string) error) error {
	var want []modelfile.Spec
	for _, name := range s.state.Names() {
		if !strings.HasPrefix(name, engine.GradientPrefix) {
			want = append(want, modelfile.Spec{Name: name, Shape: s.state.Shape(name), DType: modelfile.F32})
		}
	}
	s.weight = nil // its memory is for the one that is read
	return modelfile.EachTensor(path,
		func(metadata map[string]string, tensors []modelfile.Tensor) error {
			if err := accept(metadata); err != nil {
				return err
			}
			if err := modelfile.MatchTensors(tensors, want); err != nil {
				return fmt.Errorf("%s does not fit this configuration: %w", path, err)
			}
			return nil
		},
		func(t modelfile.Tensor) error { return s.state.Set(t.Name, t.F32) })
}

// LoadTensors sets all parameters and buffers. Names and shapes must be exactly the network's, else nothing
// is changed and the error, a [*modelfile.MismatchError], lists every difference; batch counters may be
// missing, as in the files of old versions of PyTorch.
func (s *Session) LoadTensors(tensors []modelfile.Tensor) error {
	byName := make(map[string]modelfile.Tensor, len(tensors))
	for _, t := range tensors {
		byName[t.Name] = t
	}
	var want []modelfile.Spec
	for _, p := range s.params {
		want = append(want, modelfile.Spec{Name: p.Value.Name, Shape: p.Value.Shape, DType: modelfile.F32})
	}
	counters := s.tracked()
	for _, name := range counters {
		if _, ok := byName[name]; ok {
			want = append(want, modelfile.Spec{Name: name, DType: modelfile.I64})
		}
	}
	if err := modelfile.MatchTensors(tensors, want); err != nil {
		return err
	}
	for _, p := range s.params {
		if err := s.state.Set(p.Value.Name, byName[p.Value.Name].F32); err != nil {
			return err
		}
	}
	s.batches = 0
	for _, name := range counters {
		if t, ok := byName[name]; ok {
			s.batches = max(s.batches, t.I64[0])
		}
	}
	return nil
}

// Model returns the model file of the network as it stands: its architecture and options, its weights, and
// what it takes to apply them. Metrics and the like are the caller's to add. The weights are taken out of the session
// when the file is written, so it is to be written before the next step.
func (s *Session) Model(task string, labels []string, p config.Preprocess) (*modelfile.Model, error) {
	net := s.opt.Network
	options, err := net.StoredOptions()
	if err != nil {
		return nil, err
	}
	return &modelfile.Model{
		Arch: net.Name, Options: options, Task: task, Labels: labels, Preprocess: p,
		InputChannels: net.InChannels, Tensors: s.model(),
	}, nil
}
