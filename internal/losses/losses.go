// Package losses holds the training losses: each as a function of one sample's logits and targets in
// float64, with its derivative, and the registry of their names.
package losses

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/ops"
)

// Loss is a loss that the registry made. A target that is NaN or negative is a missing label: it adds
// nothing to the loss, the gradient or the count.
type Loss interface {
	ops.LossFunc
	// Count is what the sum over a batch is divided by for a mean: the number of valid targets, or the sum of
	// their class weights.
	Count(targets []float32) float64
}

// elementwise is a loss of each logit by itself.
type elementwise struct {
	name string
	f    element
}

// element returns the loss and its derivative with respect to the logit z for target y in [0, 1].
type element func(z, y float64, class int) (value, slope float64)

func (l elementwise) Name() string            { return l.name }
func (l elementwise) Targets(classes int) int { return classes }

func (l elementwise) Row(logits, targets, grad []float64) float64 {
	var sum float64
	for c, z := range logits {
		var value, slope float64
		if targets[c] >= 0 {
			value, slope = l.f(z, targets[c], c)
		}
		sum += value
		if grad != nil {
			grad[c] = slope
		}
	}
	return sum
}

func (l elementwise) Count(targets []float32) float64 {
	var n float64
	for _, t := range targets {
		if t >= 0 {
			n++
		}
	}
	return n
}

// row is one line of the registry.
type row struct {
	name  string
	tasks string // the tasks that the loss is for
	make  func(c config.Loss, classes int) (Loss, error)
}

func registry() []row {
	return []row{
		{"focal", "binary multilabel", newFocal},
		{"focal_balanced", "binary multilabel", newFocalBalanced},
		{"bce", "binary multilabel", newBCE},
		{"asymmetric", "binary multilabel", newAsymmetric},
		{"cross_entropy", "multiclass", newCrossEntropy},
		{"focal_softmax", "multiclass", newFocalSoftmax},
	}
}

// Names lists the losses' names.
func Names() []string {
	var names []string
	for _, r := range registry() {
		names = append(names, r.name)
	}
	return names
}

// New makes the loss that c names for a task and a number of logits.
func New(c config.Loss, task string, classes int) (Loss, error) {
	for _, r := range registry() {
		if r.name != c.Name {
			continue
		}
		if !strings.Contains(r.tasks, task) {
			return nil, fmt.Errorf("loss.name: %s is for %s, not for data.task %s", r.name, strings.ReplaceAll(r.tasks, " ", " and "), task)
		}
		l, err := r.make(c, classes)
		if err = errors.Join(err, unused(c)); err != nil {
			return nil, fmt.Errorf("loss %s: %w", r.name, err)
		}
		return l, nil
	}
	return nil, fmt.Errorf("unknown loss %q%s; there are %s", c.Name, config.DidYouMean(c.Name, Names()), strings.Join(Names(), ", "))
}

// unused refuses settings that the loss would ignore. Only those are checked whose defaults do nothing.
func unused(c config.Loss) error {
	switch {
	case c.Name != "bce" && (c.PosWeight.Auto || len(c.PosWeight.Values) > 0):
		return errors.New("loss.pos_weight is only for bce")
	case c.Name != "cross_entropy" && c.Name != "focal_softmax" && len(c.ClassWeight) > 0:
		return errors.New("loss.class_weight is only for cross_entropy and focal_softmax")
	case c.Name != "cross_entropy" && c.LabelSmoothing != 0:
		return errors.New("loss.label_smoothing is only for cross_entropy")
	}
	return nil
}

func perClass(key string, values []float64, classes int) error {
	if len(values) != 0 && len(values) != classes {
		return fmt.Errorf("%s has %d numbers, want one for each of %d labels", key, len(values), classes)
	}
	for _, v := range values {
		if !(v > 0) || math.IsInf(v, 0) {
			return fmt.Errorf("%s contains %v, want positive numbers", key, v)
		}
	}
	return nil
}

func gammaInRange(key string, g float64) error {
	if g == 0 || g >= 1 && !math.IsInf(g, 0) {
		return nil
	}
	return fmt.Errorf("%s is %v, want 0 or at least 1: between them the derivative is infinite at probability 1", key, g)
}
