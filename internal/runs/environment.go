// Package runs keeps what a run folder says about a run besides its results: where and with what it was made, and
// how far it is. It also compares the run folders below a folder.
package runs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/procmem"
)

// EnvironmentFile and StatusFile are the files of a run folder that this package writes.
const (
	EnvironmentFile = "environment.json"
	StatusFile      = "status.json"
)

// Environment says what made a run.
type Environment struct {
	// ConfigID and DataID are SHA-256 in hex: of everything in the configuration that decides the result, and of
	// the data set's names, splits and labels.
	ConfigID string    `json:"config_id"`
	DataID   string    `json:"data_id"`
	Sessions []Session `json:"sessions"` // one, and one more for each time that the run was resumed
}

// Session is one process that worked on a run.
type Session struct {
	Started   time.Time `json:"started"`
	FromStep  int       `json:"from_step"` // optimiser steps that were done before
	Version   string    `json:"ctclass"`
	Go        string    `json:"go"`
	System    string    `json:"system"`        // linux/amd64
	CPU       string    `json:"cpu,omitempty"` // as the system names it
	Cores     int       `json:"cores"`
	Device    string    `json:"device"`            // of ctclass: its instruction set
	Kernels   string    `json:"kernels,omitempty"` // default, or the SHA-256 of the choices in the run's kernels.json
	Threads   int       `json:"threads"`
	Available int64     `json:"memory_available_bytes,omitempty"`
	Planned   int64     `json:"memory_planned_bytes"`
	Host      string    `json:"host,omitempty"`
	PID       int       `json:"pid"`
}

// ShortID is the form of an ID for people.
func ShortID(id string) string { return id[:min(8, len(id))] }

// NewSession describes this process.
func NewSession(device string, threads int, planned int64, fromStep int) Session {
	s := Session{
		Started: time.Now().UTC().Truncate(time.Second), FromStep: fromStep, Version: Version(), Go: runtime.Version(),
		System: runtime.GOOS + "/" + runtime.GOARCH, CPU: CPUName(), Cores: runtime.NumCPU(), Device: device,
		Threads: threads, Planned: planned, PID: os.Getpid(),
	}
	s.Available, _ = procmem.Available()
	s.Host, _ = os.Hostname() // a system without a name has none to record
	return s
}

// Version is the version that the program was built from.
func Version() string {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && version == "(devel)" {
				version = "devel " + s.Value
			}
		}
	}
	return version
}

// CPUName returns the processor's name on Linux, "" elsewhere.
func CPUName() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// AddSession notes in a run folder that a process begins to work on the run. A resumed run keeps its earlier
// sessions.
func AddSession(dir, configID, dataID string, s Session) error {
	var e Environment
	if s.FromStep > 0 {
		if err := readJSON(dir, EnvironmentFile, &e); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	e.ConfigID, e.DataID = configID, dataID
	e.Sessions = append(e.Sessions, s)
	return writeJSON(dir, EnvironmentFile, e)
}

func writeJSON(dir, name string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, name), append(raw, '\n'))
}

func readJSON(dir, name string, v any) error {
	path := filepath.Join(dir, name)
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
