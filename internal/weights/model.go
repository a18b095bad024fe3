package weights

import (
	"fmt"
	"path"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/nn"
)

// Import makes a model of a file's weights. Parameters that the options allow to be new get the first values
// that the seed gives them.
func Import(file *modelfile.File, target Target, task string, p config.Preprocess, seed uint64, opt Options) (*modelfile.Model, *Report, error) {
	target.ShapeDHW = p.ShapeDHW
	tensors, report, err := Fit(file, target, opt)
	if err != nil {
		return nil, report, err
	}
	params, err := target.Params()
	if err != nil {
		return nil, nil, err
	}
	fresh := map[string]bool{}
	for _, n := range report.New {
		fresh[n.Name] = true
	}
	for _, param := range params {
		if fresh[param.Value.Name] {
			tensors = append(tensors, modelfile.Tensor{
				Name: param.Value.Name, Shape: param.Value.Shape, F32: nn.Initialize(param, seed, nil),
			})
		}
	}
	options, err := target.Network.StoredOptions()
	if err != nil {
		return nil, nil, err
	}
	return &modelfile.Model{
		Arch: target.Network.Name, Options: options, Task: task, Labels: target.Labels, Preprocess: p,
		InputChannels: target.Network.InChannels, Tensors: tensors,
	}, report, nil
}

// Classes returns how many outputs the weights of a file have for a family of networks, 0 when they have no
// head of that family. It looks at the rows of the head's last layer.
func Classes(file *modelfile.File, family string) int {
	var names []string
	for _, t := range file.Tensors {
		names = append(names, t.Name)
	}
	prefix := unwrap(names)
	last := map[string]string{"ResNet3D": "fc.4.weight", "DenseNet3D": "classifier.6.weight", "ViT3D": "head.3.weight"}[family]
	for _, l := range Layouts(family) {
		for _, t := range file.Tensors {
			if l.in(strings.TrimPrefix(t.Name, prefix)) == last && len(t.Shape) == 2 {
				return t.Shape[0]
			}
		}
	}
	return 0
}

// Frozen returns the parameters that patterns name. In a pattern * stands for any text, ? for one character
// and [abc] for one of several.
func Frozen(patterns []string, params []nn.Param) (map[string]bool, error) {
	frozen := map[string]bool{}
	trainable := 0
	for _, p := range params {
		if p.Value.Role == graph.Parameter {
			trainable++
		}
	}
	for _, pattern := range patterns {
		hit := false
		for _, p := range params {
			ok, err := path.Match(pattern, p.Value.Name)
			if err != nil {
				return nil, fmt.Errorf("train.freeze: the pattern %q cannot be read: %w", pattern, err)
			}
			if ok && p.Value.Role == graph.Parameter {
				frozen[p.Value.Name] = true
				hit = true
			}
		}
		if !hit {
			return nil, fmt.Errorf("train.freeze: no parameter matches %q; the first ones are %s", pattern, firstNames(params, 8))
		}
	}
	if len(frozen) == trainable && len(patterns) > 0 {
		return nil, fmt.Errorf("train.freeze: all %d parameters are frozen, nothing is left to train", trainable)
	}
	return frozen, nil
}

func firstNames(params []nn.Param, n int) string {
	var names []string
	for _, p := range params {
		if p.Value.Role == graph.Parameter && len(names) < n {
			names = append(names, p.Value.Name)
		}
	}
	return strings.Join(names, ", ")
}
