package runs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ctclass/ctclass/internal/config"
)

// Run is a run folder in a comparison.
type Run struct {
	Dir      string    `json:"dir"`
	Started  time.Time `json:"started,omitzero"`
	ConfigID string    `json:"config_id,omitempty"`
	DataID   string    `json:"data_id,omitempty"`
	Version  string    `json:"ctclass,omitempty"` // of the last session
	Status
	// Differs holds the settings that are not the same in all compared runs, by their dotted keys.
	Differs map[string]string `json:"differs"`
}

const configFile = "config.yaml"

// maxDepth bounds how deep run folders are looked for.
const maxDepth = 4

// Find lists the run folders at and below dir, the oldest first, and says how their configurations differ. Links to
// folders are not followed.
func Find(dir string) ([]Run, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("cannot look for runs: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is no folder: name the folder that holds the run folders", dir)
	}
	var list []Run
	var settings []map[string]string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if e != nil && e.IsDir() && path != dir {
				return fs.SkipDir // a folder that may not be read holds no run of ours
			}
			return err
		}
		if !e.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if strings.Count(rel, string(filepath.Separator)) >= maxDepth {
			return fs.SkipDir
		}
		r, ok, err := read(path)
		if err != nil || !ok {
			return err
		}
		raw, err := os.ReadFile(filepath.Join(path, configFile))
		if err != nil {
			return err
		}
		flat, err := config.Flatten(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(path, configFile), err)
		}
		list, settings = append(list, r), append(settings, flat)
		return nil
	})
	if err != nil {
		return nil, err
	}
	keys := differing(settings)
	for i := range list {
		list[i].Differs = map[string]string{}
		for _, k := range keys {
			list[i].Differs[k] = settings[i][k]
		}
	}
	slices.SortStableFunc(list, func(a, b Run) int { return a.Started.Compare(b.Started) })
	return list, nil
}

// read reads a run folder; ok is false for a folder that is none.
func read(dir string) (r Run, ok bool, err error) {
	r.Dir = dir
	if _, err := os.Stat(filepath.Join(dir, configFile)); err != nil {
		return r, false, nil
	}
	r.Status, err = ReadStatus(dir)
	if errors.Is(err, fs.ErrNotExist) { // a run of an earlier version, or none
		r.Status, ok, err = fromHistory(dir)
		return r, ok, err
	}
	if err != nil {
		return r, false, err
	}
	var e Environment
	if err := readJSON(dir, EnvironmentFile, &e); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, false, err
	}
	r.ConfigID, r.DataID = e.ConfigID, e.DataID
	if n := len(e.Sessions); n > 0 {
		r.Started, r.Version = e.Sessions[0].Started, e.Sessions[n-1].Version
	}
	return r, true, nil
}

// fromHistory tells from the history how far a run without a status is.
func fromHistory(dir string) (s Status, ok bool, err error) {
	f, err := os.Open(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return s, false, nil
	}
	defer f.Close()
	s.State = Unknown
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var at struct {
			Kind      string   `json:"kind"`
			Step      int      `json:"step"`
			Epoch     int      `json:"epoch"`
			TrainLoss *float64 `json:"train_loss"`
			Best      bool     `json:"best"`
		}
		if json.Unmarshal(lines.Bytes(), &at) != nil {
			continue // cut off
		}
		s.Step = max(s.Step, at.Step)
		if at.Kind == "epoch" {
			s.Epoch, s.TrainLoss = at.Epoch, at.TrainLoss
			if at.Best {
				s.BestEpoch = at.Epoch
			}
		}
	}
	return s, true, lines.Err()
}

// differing lists the keys whose values are not the same in all settings. Where a run writes to is no difference.
func differing(settings []map[string]string) []string {
	all := map[string]bool{}
	for _, s := range settings {
		for k := range s {
			all[k] = true
		}
	}
	var keys []string
	for k := range all {
		if k == "output.dir" || k == "output.mlflow.run_name" {
			continue
		}
		for _, s := range settings[1:] {
			if s[k] != settings[0][k] {
				keys = append(keys, k)
				break
			}
		}
	}
	slices.Sort(keys)
	return keys
}
