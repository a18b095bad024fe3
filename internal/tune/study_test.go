package tune

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
)

func writeStudy(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "study.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	path := writeStudy(t, `
base: my.yaml
stages: [{fraction: 0.25, epochs: 2}, {}]
space:
  - {key: train.optimizer.lr, low: 1.0e-4, high: 1.0e-2, log: true}
  - {key: train.batch_size, values: [2, 4]}
  - {key: model.options.widths, values: [[8, 16], [16, 32]]}
  - {key: train.epochs, low: 1, high: 9, step: 2}
`)
	s, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if s.Base != filepath.Join(filepath.Dir(path), "my.yaml") || s.Trials != 30 || !s.Median || len(s.Stages) != 2 {
		t.Errorf("%+v", s)
	}
	want := []string{"train.optimizer.lr=0.00123457", "train.batch_size=4", "model.options.widths=[16, 32]", "train.epochs=5", "data.fraction=0.25", "train.epochs=2"}
	if got := s.settings([]float64{0.001234567, 1, 1, 5}, 0); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := s.settings([]float64{0.001234567, 1, 1, 5}, 1); !slices.Equal(got, want[:4]) {
		t.Errorf("last stage: %q", got)
	}
	var asked []string
	err = s.Check(func(_ string, sets []string) (*config.Config, error) {
		asked = append(asked, sets...)
		if slices.Contains(sets, "train.epochs=9") {
			return nil, errors.New("too many")
		}
		return nil, nil
	})
	if err == nil || err.Error() != "train.epochs=9: too many" {
		t.Error(err)
	}
	for _, set := range []string{"train.optimizer.lr=0.0001", "train.optimizer.lr=0.01", "train.batch_size=2", "model.options.widths=[8, 16]", "train.epochs=1"} {
		if !slices.Contains(asked, set) {
			t.Errorf("%s is not checked", set)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "base is empty",
		"base: a\nspce: []":                   "field spce not found",
		"base: a":                             "space is empty",
		"base: a\ntrials: 0":                  "trials is 0",
		"base: a\nkeep: 1":                    "keep is 1",
		"base: a\nstages: [{fraction: 2}]":    "stage 1",
		"base: a\nspace: [{low: 1, high: 2}]": "has no key",
		"base: a\nspace: [{key: x, low: 1}]":  "x needs low and high, or values",
		"base: a\nspace: [{key: x, low: 2, high: 1}]":                    "low 2 is not below high 1",
		"base: a\nspace: [{key: x, low: 0, high: 1, log: true}]":         "with log it must be above 0",
		"base: a\nspace: [{key: x, low: 0, high: 1, step: 3}]":           "step is 3",
		"base: a\nspace: [{key: x, low: 0, high: 1, values: [1]}]":       "has values and a range",
		"base: a\nspace: [{key: x, values: [1]}, {key: x, values: [2]}]": "x is there twice",
		"base: [": "study.yaml",
	} {
		if _, err := Load(writeStudy(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Load("nowhere.yaml"); err == nil {
		t.Error("no error")
	}
}
