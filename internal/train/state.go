package train

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/session"
)

// The files of a run folder.
const (
	ConfigFile  = "config.yaml"
	historyFile = "history.jsonl"
	bestFile    = "best.safetensors"
	lastFile    = "last/model.safetensors"
	stateFile   = "last/state.safetensors"
	logFile     = "log"
	lockFile    = ".lock" // held by the process that works on the run
)

// state is where a run stands: everything besides the tensors that resuming needs.
type state struct {
	Epoch    int     `json:"epoch"`    // the epoch under way, from 0
	Position int     `json:"position"` // samples of it that are done
	Step     int     `json:"step"`     // optimiser steps done
	LossSum  float64 `json:"loss_sum"` // over the steps of this epoch
	Steps    int     `json:"steps"`    // of this epoch, without those left out
	Skipped  int     `json:"skipped"`  // steps of the run that are left out, see train.on_nan

	Best      *float64          `json:"best,omitempty"` // monitored metric of the best model
	BestEpoch int               `json:"best_epoch"`
	Stale     int               `json:"stale"`  // validations without improvement
	Epochs    []json.RawMessage `json:"epochs"` // the epoch lines of the history
	Plateau   plateau           `json:"plateau"`
	Batches   int64             `json:"batches"` // micro-batches that the running statistics have seen
	Finished  bool              `json:"finished"`
	// Identity is what must not change between the parts of a run.
	Identity string `json:"identity"`
}

const progressKey = "ctclass.progress"

// saveState writes weights, buffers, optimiser state and progress in one atomic file.
func saveState(dir string, s *session.Session, p state) error {
	p.Batches = s.BatchesTracked()
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, stateFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return s.SaveState(path, map[string]string{progressKey: string(raw)})
}

// errOtherRun says that a state is that of another configuration or other data.
var errOtherRun = errors.New("the run was started with another configuration or other data")

// loadState brings back what saveState wrote, if it is of the run with the given identity. It reports
// fs.ErrNotExist where there is nothing.
func loadState(dir string, s *session.Session, identity string) (state, error) {
	var p state
	path := filepath.Join(dir, stateFile)
	err := s.LoadState(path, func(metadata map[string]string) error {
		if err := json.Unmarshal([]byte(metadata[progressKey]), &p); err != nil {
			return fmt.Errorf("%s holds no training state: %w", path, err)
		}
		if p.Identity != identity {
			return errOtherRun
		}
		return nil
	})
	s.SetBatchesTracked(p.Batches)
	return p, err
}

// history appends one JSON object a line.
type history struct{ f *os.File }

// openHistory opens the history for appending and drops what lies beyond the given number of steps and of
// finished epochs, which a run that was killed may have written after its last saved state.
func openHistory(dir string, steps, epochs int) (*history, error) {
	path := filepath.Join(dir, historyFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var kept bytes.Buffer
	lines := bufio.NewScanner(bytes.NewReader(old))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var at struct {
			Kind  string `json:"kind"`
			Step  int    `json:"step"`
			Epoch int    `json:"epoch"`
		}
		// A line that was cut off cannot be decoded.
		if json.Unmarshal(lines.Bytes(), &at) == nil && at.Step <= steps && (at.Kind != epochKind || at.Epoch <= epochs) {
			kept.Write(lines.Bytes())
			kept.WriteByte('\n')
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if err := atomicfile.Write(path, func(w io.Writer) error { _, err := kept.WriteTo(w); return err }); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o644)
	return &history{f}, err
}

func (h *history) add(v any) (json.RawMessage, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if _, err := h.f.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", h.f.Name(), err)
	}
	return line, nil
}

// sync puts the lines on the disk, so that no saved state is ahead of them.
func (h *history) sync() error { return h.f.Sync() }

func (h *history) close() error { return h.f.Close() }
