package session

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
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
	var tensors []modelfile.Tensor
	for _, p := range s.params {
		name := p.Value.Name
		tensors = append(tensors, modelfile.Tensor{Name: name, Shape: p.Value.Shape, F32: s.state.Get(name)})
	}
	for _, name := range s.tracked() {
		tensors = append(tensors, modelfile.Tensor{Name: name, I64: []int64{s.batches}})
	}
	return tensors
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
// what it takes to apply them. Metrics and the like are the caller's to add.
func (s *Session) Model(task string, labels []string, p config.Preprocess) (*modelfile.Model, error) {
	net := s.opt.Network
	raw, err := json.Marshal(net.Options)
	if err != nil {
		return nil, fmt.Errorf("the options of %s cannot be stored: %w", net.Name, err)
	}
	var options map[string]any
	if err := json.Unmarshal(raw, &options); err != nil {
		return nil, fmt.Errorf("the options of %s cannot be stored: %w", net.Name, err)
	}
	return &modelfile.Model{
		Arch: net.Name, Options: options, Task: task, Labels: labels, Preprocess: p,
		InputChannels: net.InChannels, Tensors: s.Tensors(),
	}, nil
}
