// Package tune looks for good settings: it trains with settings that a study proposes, on little data first, and goes
// on with those that do well. A study lies in a SQLite file that several processes may work on.
//
// Settings are proposed by the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), and trials go from
// stage to stage by asynchronous successive halving (Li et al., MLSys 2020): whenever a worker is free, it takes the
// best trial of the highest stage that may go on, or else begins a new one.
package tune

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ctclass/ctclass/internal/config"
)

// Study says what is tried. It is read from a YAML file.
type Study struct {
	Base   string  `yaml:"base"`   // configuration; relative to the study's file
	Dir    string  `yaml:"dir"`    // folder of the study
	Trials int     `yaml:"trials"` // settings to try
	Seed   uint64  `yaml:"seed"`
	Stages []Stage `yaml:"stages"` // what a trial goes through; empty: one stage with everything
	Keep   float64 `yaml:"keep"`   // share of the trials of a stage that go on to the next
	Median bool    `yaml:"median"` // end a run that is worse than half of the others at the same epoch
	Space  []Param `yaml:"space"`
}

// Stage is one training of a trial.
type Stage struct {
	Fraction float64 `yaml:"fraction"` // share of the training patients; 0: as the base says
	Epochs   int     `yaml:"epochs"`   // 0: as the base says
}

// Param is a setting that is varied: a range, or a list of values.
type Param struct {
	Key    string      `yaml:"key"` // of the configuration, dotted
	Low    *float64    `yaml:"low"`
	High   *float64    `yaml:"high"`
	Log    bool        `yaml:"log"`  // equal ratios are equally likely
	Step   float64     `yaml:"step"` // 0: any number; 1: whole numbers
	Values []yaml.Node `yaml:"values"`
}

const (
	maxTrials = 100_000
	maxBytes  = 1 << 20
)

// Load reads and checks a study file. base loads the base configuration with settings over it.
func Load(path string) (*Study, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the study cannot be read: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("the study %s cannot be read: %w", path, err)
	}
	if len(raw) > maxBytes {
		return nil, fmt.Errorf("%s is larger than 1 MiB and no study", path)
	}
	s := &Study{Trials: 30, Seed: 1, Keep: 1.0 / 3, Median: true}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(s); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", path, strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", ""), "yaml: "))
	}
	if s.Base != "" && !filepath.IsAbs(s.Base) {
		s.Base = filepath.Join(filepath.Dir(path), s.Base)
	}
	if len(s.Stages) == 0 {
		s.Stages = []Stage{{}}
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// check returns everything that is wrong with the study itself.
func (s *Study) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Base == "" {
		bad("base is empty: name the configuration that the settings are tried on")
	}
	if s.Trials < 1 || s.Trials > maxTrials {
		bad("trials is %d, allowed: 1 to %d", s.Trials, maxTrials)
	}
	if !(s.Keep > 0 && s.Keep < 1) {
		bad("keep is %v, allowed: a share between 0 and 1, both excluded", s.Keep)
	}
	for i, st := range s.Stages {
		if !(st.Fraction >= 0 && st.Fraction <= 1) || st.Epochs < 0 {
			bad("stage %d: allowed are a fraction from 0 to 1 and epochs of 0 or more (0: as base says)", i+1)
		}
	}
	if len(s.Space) == 0 {
		bad("space is empty: list the settings to vary, each with a key and low and high, or values")
	}
	seen := map[string]bool{}
	for _, p := range s.Space {
		if seen[p.Key] {
			bad("space: %s is there twice", p.Key)
		}
		seen[p.Key] = true
		if err := p.check(); err != nil {
			bad("space: %w", err)
		}
	}
	return errors.Join(errs...)
}

func (p *Param) check() error {
	name := cmp.Or(p.Key, "a setting without key")
	switch {
	case p.Key == "":
		return errors.New("a setting has no key: name one of the configuration, such as train.optimizer.lr")
	case len(p.Values) > 0 && (p.Low != nil || p.High != nil || p.Log || p.Step != 0):
		return fmt.Errorf("%s has values and a range: give one of them", name)
	case len(p.Values) > 0:
		return nil
	case p.Low == nil || p.High == nil:
		return fmt.Errorf("%s needs low and high, or values", name)
	case !(*p.Low < *p.High) || math.IsInf(*p.Low, 0) || math.IsInf(*p.High, 0):
		return fmt.Errorf("%s: low %v is not below high %v", name, *p.Low, *p.High)
	case p.Log && !(*p.Low > 0):
		return fmt.Errorf("%s: low is %v, but with log it must be above 0", name, *p.Low)
	case !(p.Step >= 0) || p.Step > *p.High-*p.Low:
		return fmt.Errorf("%s: step is %v, allowed: 0 for any number, or up to high − low", name, p.Step)
	}
	return nil
}

// dimension is the parameter as the sampler sees it.
func (p *Param) dimension() dimension {
	if n := len(p.Values); n > 0 {
		return dimension{choices: n}
	}
	return dimension{low: *p.Low, high: *p.High, log: p.Log, step: p.Step}
}

// set returns the parameter's setting, key=value, for a value of the sampler.
func (p *Param) set(v float64) string { return p.Key + "=" + p.text(v) }

// text shows a value of the sampler as it stands in the configuration.
func (p *Param) text(v float64) string {
	if len(p.Values) > 0 {
		n := p.Values[int(v)]
		if n.Kind == yaml.ScalarNode {
			return n.Value
		}
		flow := n
		flow.Style = yaml.FlowStyle
		out, err := yaml.Marshal(&flow)
		if err != nil {
			return n.Value // a node that came from YAML goes back
		}
		return strings.TrimSpace(string(out))
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// settings returns the settings of a trial in a stage, in the order in which they are applied.
func (s *Study) settings(values []float64, stage int) []string {
	var sets []string
	for i := range s.Space {
		sets = append(sets, s.Space[i].set(values[i]))
	}
	st := s.Stages[stage]
	if st.Fraction > 0 {
		sets = append(sets, "data.fraction="+strconv.FormatFloat(st.Fraction, 'g', -1, 64))
	}
	if st.Epochs > 0 {
		sets = append(sets, "train.epochs="+strconv.Itoa(st.Epochs))
	}
	return sets
}

// Loader loads a configuration file with settings over it.
type Loader func(path string, sets []string) (*config.Config, error)

// Check loads the base with the ends and the values of every parameter: all of them must be allowed.
func (s *Study) Check(load Loader) error {
	middle := make([]float64, len(s.Space))
	for i := range s.Space {
		middle[i] = s.Space[i].dimension().round(s.Space[i].dimension().at(0.5))
	}
	for stage := range s.Stages {
		if _, err := load(s.Base, s.settings(middle, stage)); err != nil {
			return err
		}
	}
	for i := range s.Space {
		d := s.Space[i].dimension()
		ends := []float64{d.low, d.high}
		if d.choices > 0 {
			ends = ends[:0]
			for c := range d.choices {
				ends = append(ends, float64(c))
			}
		}
		for _, v := range ends {
			values := slices.Clone(middle)
			values[i] = v
			if _, err := load(s.Base, s.settings(values, 0)); err != nil {
				return fmt.Errorf("%s: %w", s.Space[i].set(v), err)
			}
		}
	}
	return nil
}
