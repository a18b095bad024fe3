// Package kerneltable keeps tables of the convolution algorithms that were measured to be the fastest on a machine:
// as files, and in the user's cache folder.
package kerneltable

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/runs"
)

// The values of train.kernels that are no path.
const (
	Default = "default" // what ctclass chooses by itself
	Tuned   = "tuned"   // the table of this machine in the user's cache folder
)

// version is that of the file's form and of what the names of algorithms stand for.
const version = 1

// Table says which algorithms serve the convolutions of a machine.
type Table struct {
	Version int    `json:"version"`
	ISA     string `json:"isa"`           // instruction set that it was measured on
	CPU     string `json:"cpu,omitempty"` // as the system names it
	// Convolutions holds by per-sample shape the algorithms forward, by the input and by the weights.
	Convolutions kernels.Tuning `json:"convolutions"`
}

// New returns an empty table of this machine.
func New(isa kernels.ISA) *Table {
	return &Table{Version: version, ISA: isa.String(), CPU: runs.CPUName(), Convolutions: kernels.Tuning{}}
}

// Read reads a table; the error is that of fs.ErrNotExist where there is none.
func Read(path string) (*Table, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var t Table
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return nil, exitcode.Errorf(exitcode.Usage, "%s is no table of kernels (%w): make one with ctclass tune-kernels", path, err)
	}
	if t.Version != version {
		return nil, exitcode.Errorf(exitcode.Usage, "%s is a table of kernels of version %d, this ctclass knows version %d: make one with ctclass tune-kernels", path, t.Version, version)
	}
	return &t, nil
}

// Write writes the table.
func (t *Table) Write(path string) error {
	raw, err := json.MarshalIndent(t, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot make the folder of the table: %w", err)
	}
	return atomicfile.WriteBytes(path, append(raw, '\n'))
}

// ID identifies the choices of a table, in hex; that of no table is Default.
func (t *Table) ID() string {
	if t == nil {
		return Default
	}
	raw, err := json.Marshal(t.Convolutions)
	if err != nil {
		panic(err) // it holds names only
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Tuning returns the choices; those of no table are none.
func (t *Table) Tuning() kernels.Tuning {
	if t == nil {
		return nil
	}
	return t.Convolutions
}

// CachePath is where the table of this machine lies. Machines with other processors that share the folder have others.
func CachePath(isa kernels.ISA) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", exitcode.Errorf(exitcode.Usage, "the user has no cache folder (%w): name a file for the table", err)
	}
	words := strings.FieldsFunc(strings.ToLower(runs.CPUName()), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	name := strings.Join(append([]string{"kernels", isa.String()}, words...), "-") + ".json"
	return filepath.Join(dir, "ctclass", name), nil
}

// Open returns the table that a value of train.kernels names, nil for Default. It must have been measured on the
// instruction set isa.
func Open(name string, isa kernels.ISA) (*Table, error) {
	if name == Default {
		return nil, nil
	}
	path := name
	if name == Tuned {
		var err error
		if path, err = CachePath(isa); err != nil {
			return nil, err
		}
	}
	t, err := Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && name == Tuned:
		return nil, exitcode.Errorf(exitcode.Usage, "train.kernels is tuned, and this machine has no table of kernels (%s): run ctclass tune-kernels with this configuration first", path)
	case err != nil:
		return nil, exitcode.Wrap(exitcode.Usage, fmt.Errorf("train.kernels: %w", err))
	case t.ISA != isa.String():
		return nil, exitcode.Errorf(exitcode.Usage, "train.kernels: %s was measured with %s, this machine runs %s: make a table for it with ctclass tune-kernels --out", path, t.ISA, isa)
	}
	return t, nil
}
